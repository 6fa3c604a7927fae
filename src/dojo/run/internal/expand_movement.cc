// Movement. Views, permutations and slices are strides on the same buffer and cost nothing; codes
// and bias stay. What no strides can say is copied.
#include <algorithm>
#include <cstring>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"
#include "dojo/run/internal/move_elements.h"

namespace dojo::run::internal {
namespace {

using graph::int_attr;
using graph::ints_attr;
using graph::Shape;

// Output i is the view, rounded if its format is another.
void hand_over(Builder& b, std::size_t i, const View& view) {
  if (!b.has_out(i)) {
    return;
  }
  if (b.format_of(view) == b.out_value(i).format) {
    b.set_out(i, view);
    return;
  }
  const bool is_int = !is_float(b.format_of(view));
  b.map(is_int ? kernels::copy_int : kernels::copy, {view}, {b.out(i)});
}

Result<void> reshape(Builder& b) {
  const Shape& shape = b.out_value(0).shape;
  std::optional<View> view = reshaped(b.in(0), shape);
  if (!view.has_value()) {
    view = reshaped(b.packed(b.in(0)), shape);
  }
  hand_over(b, 0, *view);
  return {};
}

Result<void> permute(Builder& b) {
  const std::size_t rank = b.in_shape(0).size();
  std::vector<std::int64_t> order = other_dims(rank, {});
  if (b.op().info->name == "aten.t") {
    std::reverse(order.begin(), order.end());
  } else if (b.op().info->name == "aten.transpose") {
    if (rank > 0) {
      std::swap(order[static_cast<std::size_t>(dim_of(int_attr(b.op(), "dim0"), rank))],
                order[static_cast<std::size_t>(dim_of(int_attr(b.op(), "dim1"), rank))]);
    }
  } else {
    order = ints_attr(b.op(), "dims");
    for (std::int64_t& dim : order) {
      dim = dim_of(dim, rank);
    }
  }
  hand_over(b, 0, permuted(b.in(0), order));
  return {};
}

Result<void> expand(Builder& b) {
  hand_over(b, 0, broadcast_to(b.in(0), b.out_value(0).shape));
  return {};
}

Result<void> copy_of(Builder& b) {
  hand_over(b, 0, broadcast_to(b.in(1), b.out_value(0).shape));
  return {};
}

// Where a slice begins, as PyTorch clamps it.
std::int64_t slice_start(const graph::Op& op, std::int64_t extent) {
  const std::int64_t start = graph::optional_int_attr(op, "start").value_or(0);
  return std::clamp<std::int64_t>(start < 0 ? start + extent : start, 0, extent);
}

Result<void> slice(Builder& b) {
  const std::int64_t dim = dim_of(int_attr(b.op(), "dim"), b.in_shape(0).size());
  const auto at = static_cast<std::size_t>(dim);
  hand_over(b, 0,
            sliced(b.in(0), dim, slice_start(b.op(), b.in_shape(0)[at]), b.out_value(0).shape[at],
                   int_attr(b.op(), "step")));
  return {};
}

Result<void> select(Builder& b) {
  const std::int64_t dim = dim_of(int_attr(b.op(), "dim"), b.in_shape(0).size());
  const std::int64_t index = int_attr(b.op(), "index");
  const std::int64_t extent = b.in_shape(0)[static_cast<std::size_t>(dim)];
  hand_over(b, 0, selected(b.in(0), dim, index < 0 ? index + extent : index));
  return {};
}

Result<void> split(Builder& b) {
  const std::int64_t dim = dim_of(int_attr(b.op(), "dim"), b.in_shape(0).size());
  std::int64_t start = 0;
  const std::vector<std::int64_t> sizes = ints_attr(b.op(), "split_sizes");
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    hand_over(b, i, sliced(b.in(0), dim, start, sizes[i], 1));
    start += sizes[i];
  }
  return {};
}

Result<void> flip(Builder& b) {
  View view = b.in(0);
  const std::size_t rank = view.shape.size();
  for (const std::int64_t dim : ints_attr(b.op(), "dims")) {
    if (rank > 0) {
      view = reversed(view, dim_of(dim, rank));
    }
  }
  hand_over(b, 0, view);
  return {};
}

// [r0 d0, r1 d1, ...] as [r0, d0, r1, d1, ...] with strides of 0 for the repetitions.
Result<void> repeat(Builder& b) {
  const std::vector<std::int64_t> repeats = ints_attr(b.op(), "repeats");
  View from = b.in(0);
  while (from.shape.size() < repeats.size()) {
    from = unsqueezed(from, 0);
  }
  View view{from.buffer, from.offset, {}, {}};
  for (std::size_t i = 0; i < repeats.size(); ++i) {
    view.shape.insert(view.shape.end(), {repeats[i], from.shape[i]});
    view.strides.insert(view.strides.end(), {0, from.strides[i]});
  }
  hand_over(b, 0, *reshaped(b.packed(view), b.out_value(0).shape));
  return {};
}

// --- pieces placed into an output ---
// An output assembled of pieces; a float one that is no copy of codes in FP32, then rounded as a
// whole.
class Assembly {
 public:
  // Codes are copied as they are if `keeps_codes`: then every piece has the output's format, and
  // there is one bias to keep.
  Assembly(Builder& b, bool keeps_codes) : b_(b), keeps_codes_(keeps_codes) {
    const graph::Value& value = b.out_value(0);
    const bool is_direct = keeps_codes || !is_float(value.format) || value.format == Format::F32;
    target_ = is_direct ? b.temporary(value.shape, value.format) : b.temporary(value.shape);
  }

  const View& target() const { return target_; }

  void fill(double value) {
    const Format format = b_.format_of(target_);
    const View target = target_;
    const auto number = static_cast<float>(value);
    const auto integer = static_cast<std::int64_t>(value);
    DOJO_CHECK(value == 0 || format == Format::F32 || !is_float(format));
    b_.whole({}, {target}, [=](const StepContext& context) -> Result<void> {
      const std::int64_t width = bytes_of(format);
      auto* out = context.at<std::byte>(target);
      const void* element = format == Format::F32 ? static_cast<const void*>(&number) : &integer;
      for (std::int64_t i = 0; i < target.elements(); ++i) {  // integers: little endian
        std::memcpy(out + i * width, element, static_cast<std::size_t>(width));
      }
      return {};
    });
  }

  void place(const View& piece, const View& to) {
    View from = piece;
    if (!keeps_codes_ && is_float(b_.format_of(from))) {
      from = b_.dense(from);
    }
    DOJO_CHECK(b_.format_of(from) == b_.format_of(to) && from.shape == to.shape);
    const std::int64_t width = bytes_of(b_.format_of(to));
    const bool keeps_bias = keeps_codes_;
    b_.whole({from}, {to}, [=](const StepContext& context) -> Result<void> {
      if (keeps_bias) {
        context.bias[to.buffer.index] = context.bias[from.buffer.index];
      }
      scatter_elements(*context.pool, width, context.data[from.buffer.index], from,
                       context.data[to.buffer.index], to);
      return {};
    });
  }

  void finish() {
    if (b_.format_of(target_) == b_.out_value(0).format) {
      b_.set_out(0, target_);
    } else {
      b_.map(kernels::copy, {target_}, {b_.out(0)});
    }
  }

 private:
  Builder& b_;
  bool keeps_codes_;
  View target_;
};

bool has_format_of_output(const Builder& b, std::size_t i) {
  return b.in_format(i) == b.out_value(0).format;
}

Result<void> constant_pad(Builder& b) {
  const std::vector<std::int64_t> pad = ints_attr(b.op(), "pad");
  const double value = graph::float_attr(b.op(), "value");
  Assembly assembly(b, has_format_of_output(b, 0) && value == 0);
  assembly.fill(value);
  View from = b.in(0);
  View to = assembly.target();
  const auto rank = static_cast<std::int64_t>(from.shape.size());
  for (std::size_t i = 0; i < pad.size(); i += 2) {
    const std::int64_t dim = rank - 1 - static_cast<std::int64_t>(i / 2);
    const std::int64_t extent = from.shape[static_cast<std::size_t>(dim)];
    const std::int64_t cropped_low = std::max<std::int64_t>(-pad[i], 0);
    const std::int64_t cropped_high = std::max<std::int64_t>(-pad[i + 1], 0);
    const std::int64_t kept = std::max<std::int64_t>(extent - cropped_low - cropped_high, 0);
    from = sliced(from, dim, cropped_low, kept, 1);
    to = sliced(to, dim, std::max<std::int64_t>(pad[i], 0), kept, 1);
  }
  if (from.elements() > 0) {
    assembly.place(from, to);
  }
  assembly.finish();
  return {};
}

Result<void> slice_backward(Builder& b) {
  Assembly assembly(b, has_format_of_output(b, 0));
  assembly.fill(0);
  const Shape sizes = ints_attr(b.op(), "input_sizes");
  const std::int64_t dim = dim_of(int_attr(b.op(), "dim"), sizes.size());
  const auto at = static_cast<std::size_t>(dim);
  assembly.place(b.in(0), sliced(assembly.target(), dim, slice_start(b.op(), sizes[at]),
                                 b.in_shape(0)[at], int_attr(b.op(), "step")));
  assembly.finish();
  return {};
}

Result<void> select_backward(Builder& b) {
  Assembly assembly(b, has_format_of_output(b, 0));
  assembly.fill(0);
  const Shape sizes = ints_attr(b.op(), "input_sizes");
  const std::int64_t dim = dim_of(int_attr(b.op(), "dim"), sizes.size());
  const std::int64_t index = int_attr(b.op(), "index");
  assembly.place(b.in(0),
                 selected(assembly.target(), dim,
                          index < 0 ? index + sizes[static_cast<std::size_t>(dim)] : index));
  assembly.finish();
  return {};
}

Result<void> concatenate(Builder& b) {
  const std::int64_t dim = dim_of(int_attr(b.op(), "dim"), b.out_value(0).shape.size());
  Assembly assembly(b, false);
  std::int64_t start = 0;
  for (std::size_t i = 0; i < b.op().inputs.size(); ++i) {
    const std::int64_t extent = b.in_shape(i)[static_cast<std::size_t>(dim)];
    assembly.place(b.in(i), sliced(assembly.target(), dim, start, extent, 1));
    start += extent;
  }
  assembly.finish();
  return {};
}

}  // namespace

void add_movement_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.view", reshape},
      {"aten._unsafe_view", reshape},
      {"aten.reshape", reshape},
      {"aten.squeeze", reshape},
      {"aten.unsqueeze", reshape},
      {"aten.alias", reshape},
      {"aten.detach", reshape},
      {"aten.clone", reshape},
      {"aten.permute", permute},
      {"aten.t", permute},
      {"aten.transpose", permute},
      {"aten.expand", expand},
      {"aten.copy", copy_of},
      {"aten.slice", slice},
      {"aten.select", select},
      {"aten.split_with_sizes", split},
      {"aten.flip", flip},
      {"aten.repeat", repeat},
      {"aten.constant_pad_nd", constant_pad},
      {"aten.slice_backward", slice_backward},
      {"aten.select_backward", select_backward},
      {"aten.cat", concatenate},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
