// The interpreter's ops that move elements, or choose them by an index.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "dojo/base/philox.h"
#include "dojo/numerics/special.h"
#include "dojo/run/internal/interpret.h"

namespace dojo::run::internal {
namespace {

using graph::float_attr;
using graph::int_attr;
using graph::Operand;
using graph::Shape;
using graph::Stage;

// --- movement ---
// Output i, element by element: put(element, from array, from element), or fill(element, number).
class Moved {
 public:
  Moved(Evaluation& e, std::size_t output) : made_(e.out[output]) {
    const graph::Value& value = e.out_value(output);
    const std::size_t count = size_of(graph::element_count(value.shape));
    is_float_ = is_float(value.format);
    made_.keeps_codes = keeps_codes(e.graph, e.op);
    (is_float_ ? made_.floats.resize(count) : made_.ints.resize(count));
    made_.codes.resize(made_.keeps_codes && value.format != Format::F32 ? count : 0);
  }

  void put(std::int64_t to, const Array& from, std::int64_t element) {
    if (!is_float_) {
      made_.ints[size_of(to)] = from.integer(element);
      return;
    }
    made_.floats[size_of(to)] = from.number(element);
    made_.bias = from.bias;
    if (!made_.codes.empty() && !from.codes.empty()) {
      made_.codes[size_of(to)] = from.codes[size_of(element)];
    }
  }
  void fill(std::int64_t to, double number) {
    if (is_float_) {
      made_.floats[size_of(to)] = static_cast<float>(number);
    } else {
      made_.ints[size_of(to)] = static_cast<std::int64_t>(number);
    }
  }

 private:
  Made& made_;
  bool is_float_ = true;
};

Result<void> reshape(Evaluation& e) {
  Moved moved(e, 0);
  for (std::int64_t i = 0; i < e.in[0]->elements(); ++i) {
    moved.put(i, *e.in[0], i);
  }
  return {};
}

// By the nest: each point writes one element, from the operand that has one there.
Result<void> move(Evaluation& e) {
  for (const Stage& stage : e.nest.stages) {
    const Operand& result = stage.operands.back();
    const std::size_t output = size_of(result.tensor.index);
    if (!e.has_out(output)) {
      continue;
    }
    Moved moved(e, output);
    e.each(stage, [&](Point& point) {
      const std::int64_t to = Evaluation::element_at(result, point);
      for (const Operand& operand : stage.operands) {
        if (operand.use == graph::OperandUse::Write) {
          continue;
        }
        const auto position = Evaluation::position(operand, point);
        const auto from =
            position.has_value() ? Evaluation::element(operand, *position) : std::nullopt;
        if (from.has_value()) {
          moved.put(to, *e.in[size_of(operand.tensor.index)], *from);
          return;
        }
        moved.fill(to, operand.pad_value);
      }
    });
  }
  return {};
}

// Which coordinate of the output is the selected one is no matter of the nest.
Result<void> select_backward(Evaluation& e) {
  const Shape& shape = e.out_value(0).shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::int64_t dim = int_attr(e.op, "dim");
  dim = dim < 0 ? dim + rank : dim;
  std::int64_t index = int_attr(e.op, "index");
  index = index < 0 ? index + shape[size_of(dim)] : index;
  std::int64_t stride = 1;
  for (std::int64_t i = rank - 1; i > dim; --i) {
    stride *= shape[size_of(i)];
  }
  Moved moved(e, 0);
  std::int64_t next = 0;
  for (std::int64_t i = 0; i < graph::element_count(shape); ++i) {
    if (i / stride % shape[size_of(dim)] == index) {
      moved.put(i, *e.in[0], next++);
    } else {
      moved.fill(i, 0);
    }
  }
  return {};
}

// --- indexing ---
Error out_of_range(const Evaluation& e, std::int64_t index, std::int64_t lowest,
                   std::int64_t extent) {
  return Error{ErrorKind::InvalidInput, fmt::format("{}: index {} is out of range {} to {}",
                                                    e.where(), index, lowest, extent - 1)};
}

Result<void> check_indices(const Evaluation& e, const Array& indices, std::int64_t extent) {
  for (const std::int64_t index : indices.ints) {
    if (index < 0 || index >= extent) {
      return out_of_range(e, index, 0, extent);
    }
  }
  return {};
}

Result<void> embedding(Evaluation& e) {
  DOJO_TRY_VOID(check_indices(e, *e.in[1], e.in[0]->shape[0]));
  Moved moved(e, 0);
  const std::int64_t columns = e.in[0]->shape[1];
  for (std::int64_t i = 0; i < graph::element_count(e.out_value(0).shape); ++i) {
    moved.put(i, *e.in[0], e.in[1]->integer(i / columns) * columns + i % columns);
  }
  return {};
}

Result<void> embedding_backward(Evaluation& e) {
  const std::int64_t rows = int_attr(e.op, "num_weights");
  DOJO_TRY_VOID(check_indices(e, *e.in[1], rows));
  const std::int64_t columns = e.in[0]->shape.back();
  e.out[0].floats.assign(size_of(rows * columns), 0.0F);
  for (std::int64_t t = 0; t < e.in[1]->elements(); ++t) {
    const std::int64_t row = e.in[1]->integer(t);
    for (std::int64_t c = 0; c < columns && row != int_attr(e.op, "padding_idx"); ++c) {
      float& sum = e.out[0].floats[size_of(row * columns + c)];
      sum = sum + e.in[0]->number(t * columns + c);
    }
  }
  return {};
}

std::int64_t indexed_extent(const Evaluation& e, const Shape& shape) {
  const std::int64_t dim = int_attr(e.op, "dim");
  return shape.empty()
             ? 1
             : shape[size_of(dim < 0 ? dim + static_cast<std::int64_t>(shape.size()) : dim)];
}
// Element i of the index, with its coordinate along dim replaced.
std::int64_t along_dim(const Evaluation& e, std::int64_t i, const Shape& outer,
                       std::int64_t index) {
  if (outer.empty()) {
    return 0;
  }
  std::vector<std::int64_t> at = coordinates(e.in[1]->shape, i);
  const std::int64_t dim = int_attr(e.op, "dim");
  at[size_of(dim < 0 ? dim + static_cast<std::int64_t>(outer.size()) : dim)] = index;
  return number_of(outer, at);
}

Result<void> gather(Evaluation& e) {
  DOJO_TRY_VOID(check_indices(e, *e.in[1], indexed_extent(e, e.in[0]->shape)));
  Moved moved(e, 0);
  for (std::int64_t i = 0; i < e.in[1]->elements(); ++i) {
    moved.put(i, *e.in[0], along_dim(e, i, e.in[0]->shape, e.in[1]->integer(i)));
  }
  return {};
}

// Puts or adds a number into an output that began as a copy of self.
void put_into(Evaluation& e, std::int64_t to, float x, std::int64_t n, bool adds) {
  if (e.in[0]->has_floats()) {
    float& value = e.out[0].floats[size_of(to)];
    value = adds ? value + x : x;
  } else {
    std::int64_t& value = e.out[0].ints[size_of(to)];
    const bool is_bool = e.in[0]->format == Format::Bool;
    const auto sum = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) +
                                               static_cast<std::uint64_t>(n));
    value = !adds ? n : (is_bool ? value | n : sum);
  }
}

template <bool adds>
Result<void> scatter(Evaluation& e) {
  DOJO_TRY_VOID(check_indices(e, *e.in[1], indexed_extent(e, e.in[0]->shape)));
  e.out[0].floats = e.in[0]->floats;
  e.out[0].ints = e.in[0]->ints;
  for (std::int64_t i = 0; i < e.in[1]->elements(); ++i) {
    const std::int64_t to = along_dim(e, i, e.in[0]->shape, e.in[1]->integer(i));
    float x = 0;
    std::int64_t n = 0;
    if (!e.has_in(2)) {
      x = static_cast<float>(float_attr(e.op, "value"));
      n = static_cast<std::int64_t>(float_attr(e.op, "value"));
    } else {
      const Array& source = *e.in[2];
      const std::int64_t from =
          source.shape.empty() ? 0 : number_of(source.shape, coordinates(e.in[1]->shape, i));
      (source.has_floats() ? static_cast<void>(x = source.number(from))
                           : static_cast<void>(n = source.integer(from)));
    }
    put_into(e, to, x, n, adds);
  }
  return {};
}

// self[indices...]: index tensors are the operands from `first` on.
struct Indexing {
  std::vector<bool> is_indexed;  // by dimension of self
  Shape index_shape;             // what the index tensors broadcast to
  std::size_t position = 0;      // of its dimensions in the result
  Shape result;
};

Indexing indexing_of(const Evaluation& e, std::size_t first) {
  const Shape& self = e.in[0]->shape;
  Indexing made;
  std::vector<bool>& is_indexed = made.is_indexed;
  Shape& index_shape = made.index_shape;
  is_indexed.assign(self.size(), false);
  std::optional<std::size_t> lowest;
  std::size_t highest = 0;
  std::size_t indexed = 0;
  for (std::size_t i = first; i < e.in.size(); ++i) {
    if (!e.has_in(i)) {
      continue;
    }
    is_indexed[i - first] = true;
    lowest = lowest.value_or(i - first);
    highest = i - first;
    ++indexed;
    const Shape& shape = e.in[i]->shape;
    while (index_shape.size() < shape.size()) {
      index_shape.insert(index_shape.begin(), 1);
    }
    for (std::size_t d = 0; d < shape.size(); ++d) {
      std::int64_t& extent = index_shape[index_shape.size() - shape.size() + d];
      extent = extent == 1 ? shape[d] : extent;
    }
  }
  const bool are_adjacent = highest - *lowest + 1 == indexed;
  made.position = are_adjacent ? *lowest : 0;
  for (std::size_t d = 0; d < self.size(); ++d) {
    if (!is_indexed[d]) {
      made.result.push_back(self[d]);
    }
  }
  made.result.insert(made.result.begin() + static_cast<std::ptrdiff_t>(made.position),
                     index_shape.begin(), index_shape.end());
  return made;
}

// body(element of the result, element of self), in the result's order.
Result<void> each_indexed(Evaluation& e, std::size_t first,
                          const std::function<void(std::int64_t, std::int64_t)>& body) {
  const Shape& self = e.in[0]->shape;
  const auto [is_indexed, index_shape, position, result] = indexing_of(e, first);
  for (std::int64_t i = 0; i < graph::element_count(result); ++i) {
    std::vector<std::int64_t> at = coordinates(result, i);
    const auto index_begin = at.begin() + static_cast<std::ptrdiff_t>(position);
    const std::vector<std::int64_t> index_at(
        index_begin, index_begin + static_cast<std::ptrdiff_t>(index_shape.size()));
    at.erase(index_begin, index_begin + static_cast<std::ptrdiff_t>(index_shape.size()));
    const std::int64_t index_number = number_of(index_shape, index_at);
    std::vector<std::int64_t> in_self;
    std::size_t next = 0;
    for (std::size_t d = 0; d < self.size(); ++d) {
      if (!is_indexed[d]) {
        in_self.push_back(at[next++]);
        continue;
      }
      const Array& tensor = *e.in[first + d];
      const std::int64_t index =
          tensor.integer(broadcast_element(tensor.shape, index_shape, index_number));
      if (index < -self[d] || index >= self[d]) {
        return out_of_range(e, index, -self[d], self[d]);
      }
      in_self.push_back(index < 0 ? index + self[d] : index);
    }
    body(i, number_of(self, in_self));
  }
  return {};
}

Result<void> index(Evaluation& e) {
  Moved moved(e, 0);
  return each_indexed(e, 1,
                      [&](std::int64_t to, std::int64_t from) { moved.put(to, *e.in[0], from); });
}

Result<void> index_put(Evaluation& e) {
  e.out[0].floats = e.in[0]->floats;
  e.out[0].ints = e.in[0]->ints;
  const Array& values = *e.in[1];
  const Shape result = indexing_of(e, 2).result;
  return each_indexed(e, 2, [&](std::int64_t i, std::int64_t to) {
    const std::int64_t from = broadcast_element(values.shape, result, i);
    put_into(e, to, values.number(from), values.has_floats() ? 0 : values.integer(from),
             graph::bool_attr(e.op, "accumulate"));
  });
}

}  // namespace

void add_moving_interpreters(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.view", reshape},
      {"aten._unsafe_view", reshape},
      {"aten.reshape", reshape},
      {"aten.squeeze", reshape},
      {"aten.unsqueeze", reshape},
      {"aten.alias", reshape},
      {"aten.detach", reshape},
      {"aten.clone", reshape},
      {"aten.permute", move},
      {"aten.t", move},
      {"aten.transpose", move},
      {"aten.expand", move},
      {"aten.copy", move},
      {"aten.slice", move},
      {"aten.select", move},
      {"aten.split_with_sizes", move},
      {"aten.flip", move},
      {"aten.repeat", move},
      {"aten.constant_pad_nd", move},
      {"aten.slice_backward", move},
      {"aten.select_backward", select_backward},
      {"aten.cat", move},
      {"aten.embedding", embedding},
      {"aten.embedding_dense_backward", embedding_backward},
      {"aten.gather", gather},
      {"aten.scatter", scatter<false>},
      {"aten.scatter_add", scatter<true>},
      {"aten.index", index},
      {"aten.index_put", index_put},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
