// Elements chosen by index operands. An index out of range ends the step with an error that names
// the op and the index; nothing is read or written out of bounds.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::int_attr;
using graph::Shape;

// Contiguous elements that are moved as they are: FP32 for floats, their own format for integers.
View elements_of(Builder& b, const View& x) {
  return is_float(b.format_of(x)) ? b.dense(x) : b.packed(x);
}

View indices_of(Builder& b, const View& x) {
  const View copy = b.temporary(x.shape, Format::I64);
  b.map(kernels::copy_int, {x}, {copy});
  return copy;
}

// Where a kernel writes moved elements, and their way into output 0.
View moved_target(Builder& b, const View& like) {
  return b.temporary(b.out_value(0).shape, b.format_of(like));
}

void finish_moved(Builder& b, const View& made) {
  b.map(is_float(b.format_of(made)) ? kernels::copy : kernels::copy_int, {made}, {b.out(0)});
}

Error out_of_range(const std::string& where, std::int64_t index, std::int64_t extent,
                   std::string_view lowest) {
  return Error{ErrorKind::InvalidInput, fmt::format("{}: index {} is out of range {} to {}", where,
                                                    index, lowest, extent - 1)};
}

// Index `i` of `extent`; nullopt: out of range.
std::optional<std::int64_t> wrapped(std::int64_t index, std::int64_t extent) {
  if (index < -extent || index >= extent) {
    return std::nullopt;
  }
  return index < 0 ? index + extent : index;
}

Result<void> embedding(Builder& b) {
  const View table = elements_of(b, b.in(0));
  const View indices = indices_of(b, b.in(1));
  const View made = moved_target(b, table);
  const std::int64_t rows = table.shape[0];
  const std::int64_t bytes = table.shape[1] * bytes_of(b.format_of(table));
  const std::string where = b.where();
  b.whole(
      {table, indices}, {made},
      [=](const StepContext& context) -> Result<void> {
        const auto* from = context.data[table.buffer.index] + table.offset * bytes / table.shape[1];
        auto* to = context.at<std::byte>(made);
        const std::int64_t* at = context.at<const std::int64_t>(indices);
        for (std::int64_t t = 0; t < indices.elements(); ++t) {
          if (at[t] < 0 || at[t] >= rows) {
            return out_of_range(where, at[t], rows, "0");
          }
          std::memcpy(to + t * bytes, from + at[t] * bytes, static_cast<std::size_t>(bytes));
        }
        return {};
      },
      true);
  finish_moved(b, made);
  return {};
}

// dW[v, e] = the sum of dY[t, e] over the t with index v, ascending; padding_idx gets none.
Result<void> embedding_backward(Builder& b) {
  const View dy = b.dense(b.in(0));
  const View indices = indices_of(b, b.in(1));
  const View made = b.target(0);
  const std::int64_t rows = int_attr(b.op(), "num_weights");
  const std::int64_t padding = int_attr(b.op(), "padding_idx");
  const std::int64_t columns = made.shape[1];
  const std::string where = b.where();
  b.whole(
      {dy, indices}, {made},
      [=](const StepContext& context) -> Result<void> {
        const float* gradient = context.at<const float>(dy);
        const std::int64_t* at = context.at<const std::int64_t>(indices);
        float* out = context.at<float>(made);
        for (std::int64_t t = 0; t < indices.elements(); ++t) {
          if (at[t] < 0 || at[t] >= rows) {
            return out_of_range(where, at[t], rows, "0");
          }
        }
        std::fill(out, out + rows * columns, 0.0F);
        const auto some_columns = [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t t = 0; t < indices.elements(); ++t) {
            if (at[t] == padding) {
              continue;
            }
            const float* from = gradient + t * columns;
            float* to = out + at[t] * columns;
            for (std::int64_t e = begin; e < end; ++e) {
              to[e] = to[e] + from[e];
            }
          }
        };
        context.pool->parallel_for(columns, 64, std::ref(some_columns));
        return {};
      },
      true);
  b.finish(0, made);
  return {};
}

// --- gather and scatter along one dimension ---
// Walks the elements of `shape` in row-major order; gives the offset each has in a contiguous
// tensor of extents `outer`, with dimension dim left out, and its coordinates' part of that.
class Walk {
 public:
  Walk(Shape shape, const Shape& outer, std::size_t dim)
      : shape_(std::move(shape)), strides_(contiguous_strides(outer)), dim_(dim) {}

  std::int64_t elements() const { return graph::element_count(shape_); }
  std::int64_t stride() const { return shape_.empty() ? 0 : strides_[dim_]; }
  std::int64_t base(std::int64_t element) const {
    std::int64_t offset = 0;
    for (std::size_t i = shape_.size(); i-- > 0;) {
      offset += i == dim_ ? 0 : element % shape_[i] * strides_[i];
      element /= shape_[i];
    }
    return offset;
  }

 private:
  Shape shape_;
  std::vector<std::int64_t> strides_;
  std::size_t dim_;
};

Walk walk_along_dim(const Builder& b, const Shape& index, const Shape& outer) {
  const std::size_t rank = outer.size();
  return {index, outer,
          rank == 0 ? 0 : static_cast<std::size_t>(dim_of(int_attr(b.op(), "dim"), rank))};
}

std::int64_t extent_along_dim(const Builder& b, const Shape& shape) {
  return shape.empty()
             ? 1
             : shape[static_cast<std::size_t>(dim_of(int_attr(b.op(), "dim"), shape.size()))];
}

Result<void> gather(Builder& b) {
  const View x = elements_of(b, b.in(0));
  const View indices = indices_of(b, b.in(1));
  const View made = moved_target(b, x);
  const Walk walk = walk_along_dim(b, indices.shape, x.shape);
  const std::int64_t extent = extent_along_dim(b, x.shape);
  const std::int64_t width = bytes_of(b.format_of(x));
  const std::string where = b.where();
  b.whole(
      {x, indices}, {made},
      [=](const StepContext& context) -> Result<void> {
        const std::byte* from = context.data[x.buffer.index] + x.offset * width;
        auto* to = context.at<std::byte>(made);
        const std::int64_t* at = context.at<const std::int64_t>(indices);
        for (std::int64_t i = 0; i < walk.elements(); ++i) {
          if (at[i] < 0 || at[i] >= extent) {
            return out_of_range(where, at[i], extent, "0");
          }
          std::memcpy(to + i * width, from + (walk.base(i) + at[i] * walk.stride()) * width,
                      static_cast<std::size_t>(width));
        }
        return {};
      },
      true);
  finish_moved(b, made);
  return {};
}

// to[at] = to[at] + from, for the types that are added.
void add_element(Format format, std::byte* to, const std::byte* from) {
  const auto add_as = [&](auto zero) {
    decltype(zero) a;
    decltype(zero) c;
    std::memcpy(&a, to, sizeof a);
    std::memcpy(&c, from, sizeof c);
    a = static_cast<decltype(zero)>(a + c);
    std::memcpy(to, &a, sizeof a);
  };
  switch (format) {
    case Format::F32:
      return add_as(0.0F);
    case Format::I64:
      return add_as(std::uint64_t{0});
    case Format::I32:
      return add_as(std::uint32_t{0});
    case Format::U8:
      return add_as(std::uint8_t{0});
    default:  // bool: or
      *to = *to | *from;
  }
}

// A copy of self, then each point of the index, ascending.
template <bool adds>
Result<void> scatter(Builder& b) {
  const View self = elements_of(b, b.in(0));
  const Format format = b.format_of(self);
  const View indices = indices_of(b, b.in(1));
  View source;
  if (b.has_in(2)) {
    source = elements_of(b, b.in(2));
  } else {
    const bool is_float_op = is_float(format);
    source = b.temporary(indices.shape, format);
    View value = is_float_op
                     ? b.constant(graph::float_attr(b.op(), "value"))
                     : b.constant(static_cast<std::int64_t>(graph::float_attr(b.op(), "value")));
    b.map(is_float_op ? kernels::copy : kernels::copy_int, {value}, {source});
  }
  DOJO_CHECK(b.format_of(source) == format);
  const View made = moved_target(b, self);
  const Walk walk = walk_along_dim(b, indices.shape, self.shape);
  const Walk in_source = walk_along_dim(b, indices.shape, source.shape);
  const std::int64_t extent = extent_along_dim(b, self.shape);
  const std::int64_t dim_stride = in_source.stride();
  const std::int64_t index_stride = walk_along_dim(b, indices.shape, indices.shape).stride();
  const std::int64_t index_extent = extent_along_dim(b, indices.shape);
  const std::int64_t width = bytes_of(format);
  const std::string where = b.where();
  b.whole(
      {self, indices, source}, {made},
      [=](const StepContext& context) -> Result<void> {
        auto* to = context.at<std::byte>(made);
        const std::byte* from = context.data[source.buffer.index] + source.offset * width;
        const std::int64_t* at = context.at<const std::int64_t>(indices);
        std::memcpy(to, context.data[self.buffer.index] + self.offset * width,
                    static_cast<std::size_t>(self.elements() * width));
        for (std::int64_t i = 0; i < walk.elements(); ++i) {
          if (at[i] < 0 || at[i] >= extent) {
            return out_of_range(where, at[i], extent, "0");
          }
          const std::int64_t along = index_stride == 0 ? 0 : i / index_stride % index_extent;
          const std::byte* read = from + (in_source.base(i) + along * dim_stride) * width;
          std::byte* written = to + (walk.base(i) + at[i] * walk.stride()) * width;
          if (adds) {
            add_element(format, written, read);
          } else {
            std::memcpy(written, read, static_cast<std::size_t>(width));
          }
        }
        return {};
      },
      true);
  finish_moved(b, made);
  return {};
}

// --- index and index_put: index tensors for some dimensions, whole ones for the others ---
// Result dimensions: those of the broadcast index where the indexed ones stand if they are
// adjacent, else in front; then the whole ones in order.
struct IndexPlan {
  Shape index;                    // broadcast shape of the index tensors
  std::vector<std::size_t> dims;  // of self, indexed
  std::vector<View> tensors;      // int64, broadcast to `index`, contiguous
  std::size_t position = 0;       // of the index dimensions in the result
  Shape result;
  std::vector<std::int64_t> strides;  // of self
  Shape shape;                        // of self
};

IndexPlan index_plan(Builder& b, std::size_t first) {
  IndexPlan plan;
  plan.shape = b.in_shape(0);
  plan.strides = contiguous_strides(plan.shape);
  for (std::size_t i = first; i < b.op().inputs.size(); ++i) {
    if (!b.has_in(i)) {
      continue;
    }
    plan.dims.push_back(i - first);
    const Shape& shape = b.in_shape(i);
    plan.index.insert(plan.index.begin(),
                      shape.size() > plan.index.size() ? shape.size() - plan.index.size() : 0, 1);
    for (std::size_t d = 0; d < shape.size(); ++d) {
      std::int64_t& extent = plan.index[plan.index.size() - shape.size() + d];
      extent = std::max(extent, shape[d]);
    }
  }
  for (const std::size_t dim : plan.dims) {
    plan.tensors.push_back(indices_of(b, broadcast_to(b.in(first + dim), plan.index)));
  }
  for (std::size_t dim = 0; dim < plan.shape.size(); ++dim) {
    if (std::find(plan.dims.begin(), plan.dims.end(), dim) == plan.dims.end()) {
      plan.result.push_back(plan.shape[dim]);
    }
  }
  const bool are_adjacent = plan.dims.back() - plan.dims.front() + 1 == plan.dims.size();
  plan.position = are_adjacent ? plan.dims.front() : 0;
  plan.result.insert(plan.result.begin() + static_cast<std::ptrdiff_t>(plan.position),
                     plan.index.begin(), plan.index.end());
  return plan;
}

// The offset in self of element `i` of the result.
Result<std::int64_t> offset_in_self(const StepContext& context, const IndexPlan& plan,
                                    const std::string& where, std::int64_t i) {
  const std::size_t index_rank = plan.index.size();
  std::int64_t offset = 0;
  std::int64_t point = 0;  // of the index tensors
  std::int64_t point_stride = 1;
  std::size_t whole = plan.shape.size();  // the next whole dimension, from the last
  for (std::size_t d = plan.result.size(); d-- > 0;) {
    const std::int64_t at = i % plan.result[d];
    i /= plan.result[d];
    if (d >= plan.position && d < plan.position + index_rank) {
      point += at * point_stride;
      point_stride *= plan.result[d];
      continue;
    }
    do {
      --whole;
    } while (std::find(plan.dims.begin(), plan.dims.end(), whole) != plan.dims.end());
    offset += at * plan.strides[whole];
  }
  for (std::size_t k = 0; k < plan.dims.size(); ++k) {
    const std::int64_t extent = plan.shape[plan.dims[k]];
    const std::int64_t index = context.at<const std::int64_t>(plan.tensors[k])[point];
    const std::optional<std::int64_t> at = wrapped(index, extent);
    if (!at.has_value()) {
      return out_of_range(where, index, extent, fmt::format("{}", -extent));
    }
    offset += *at * plan.strides[plan.dims[k]];
  }
  return offset;
}

Result<void> index(Builder& b) {
  const View self = elements_of(b, b.in(0));
  const IndexPlan plan = index_plan(b, 1);
  const View made = moved_target(b, self);
  const std::int64_t width = bytes_of(b.format_of(self));
  const std::string where = b.where();
  std::vector<View> inputs = plan.tensors;
  inputs.push_back(self);
  b.whole(
      inputs, {made},
      [=](const StepContext& context) -> Result<void> {
        const std::byte* from = context.data[self.buffer.index] + self.offset * width;
        auto* to = context.at<std::byte>(made);
        for (std::int64_t i = 0; i < made.elements(); ++i) {
          DOJO_TRY(const std::int64_t at, offset_in_self(context, plan, where, i));
          std::memcpy(to + i * width, from + at * width, static_cast<std::size_t>(width));
        }
        return {};
      },
      true);
  finish_moved(b, made);
  return {};
}

// A copy of self, then the values in order of the result's elements.
Result<void> index_put(Builder& b) {
  const View self = elements_of(b, b.in(0));
  const Format format = b.format_of(self);
  const IndexPlan plan = index_plan(b, 2);
  const View values = elements_of(b, broadcast_to(b.in(1), plan.result));
  DOJO_CHECK(b.format_of(values) == format);
  const View made = moved_target(b, self);
  const bool adds = graph::bool_attr(b.op(), "accumulate");
  const std::int64_t width = bytes_of(format);
  const std::string where = b.where();
  std::vector<View> inputs = plan.tensors;
  inputs.push_back(self);
  inputs.push_back(values);
  b.whole(
      inputs, {made},
      [=](const StepContext& context) -> Result<void> {
        auto* to = context.at<std::byte>(made);
        const std::byte* from = context.data[values.buffer.index] + values.offset * width;
        std::memcpy(to, context.data[self.buffer.index] + self.offset * width,
                    static_cast<std::size_t>(self.elements() * width));
        for (std::int64_t i = 0; i < values.elements(); ++i) {
          DOJO_TRY(const std::int64_t at, offset_in_self(context, plan, where, i));
          if (adds) {
            add_element(format, to + at * width, from + i * width);
          } else {
            std::memcpy(to + at * width, from + i * width, static_cast<std::size_t>(width));
          }
        }
        return {};
      },
      true);
  finish_moved(b, made);
  return {};
}

}  // namespace

void add_indexing_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.embedding", embedding},       {"aten.embedding_dense_backward", embedding_backward},
      {"aten.gather", internal::gather},   {"aten.scatter", scatter<false>},
      {"aten.scatter_add", scatter<true>}, {"aten.index", internal::index},
      {"aten.index_put", index_put},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
