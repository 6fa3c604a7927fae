// The interpreter's ops that move elements, choose them by an index, make them from nothing, or
// update parameters; and the losses.
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

// Coordinates of element i of a shape, and back.
std::vector<std::int64_t> coordinates(const Shape& shape, std::int64_t i) {
  std::vector<std::int64_t> at(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    at[d] = i % shape[d];
    i /= shape[d];
  }
  return at;
}
std::int64_t number_of(const Shape& shape, const std::vector<std::int64_t>& at) {
  std::int64_t number = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    number = number * shape[d] + at[d];
  }
  return number;
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

// --- losses ---
constexpr std::int64_t kMean = 1;

float attr(const graph::Op& op, std::string_view name) {
  return static_cast<float>(float_attr(op, name));
}

using Loss = float (*)(const Evaluation&, const std::function<float(std::size_t)>& operand);

template <Loss loss>
Result<void> distance(Evaluation& e) {
  if (int_attr(e.op, "reduction") == 0) {
    const Shape& shape = e.out_value(0).shape;
    for (std::int64_t i = 0; i < graph::element_count(shape); ++i) {
      e.out[0].floats.push_back(loss(e, [&](std::size_t k) {
        return e.in[k]->number(broadcast_element(e.in[k]->shape, shape, i));
      }));
    }
    return {};
  }
  const Stage& stage = e.stage();
  Point point(e.nest.loops.size(), 0);
  const float sum = e.sum(stage, point, [&](float acc, const Point& at) {
    return acc + loss(e, [&](std::size_t k) {
             return e.in[k]->number(
                 Evaluation::element_at(e.reading(stage, static_cast<int>(k)), at));
           });
  });
  const auto count = static_cast<float>(e.folded_points(stage));
  e.out[0].floats = {int_attr(e.op, "reduction") == kMean ? sum / count : sum};
  return {};
}

float mse(const Evaluation&, const std::function<float(std::size_t)>& x) {
  return (x(0) - x(1)) * (x(0) - x(1));
}
float l1(const Evaluation&, const std::function<float(std::size_t)>& x) {
  return std::fabs(x(0) - x(1));
}
float smooth_l1(const Evaluation& e, const std::function<float(std::size_t)>& x) {
  const float beta = attr(e.op, "beta");
  const float d = std::fabs(x(0) - x(1));
  return d < beta ? 0.5F * d * d / beta : d - 0.5F * beta;
}
float bce_with_logits(const Evaluation& e, const std::function<float(std::size_t)>& operand) {
  const float x = operand(0);
  const float t = operand(1);
  const float positive = e.has_in(3) ? operand(3) : 1.0F;
  const float below = x < 0 ? -x : 0.0F;
  const float l = numerics::log(1 + numerics::exp(-std::fabs(x)));
  const float loss = (1 - t) * x + (1 + (positive - 1) * t) * (l + below);
  return e.has_in(2) ? loss * operand(2) : loss;
}

// The label of each row, checked, and the element of self that it picks.
Result<void> check_labels(const Evaluation& e, const Array& labels, std::int64_t classes) {
  for (const std::int64_t label : labels.ints) {
    if (label != int_attr(e.op, "ignore_index") && (label < 0 || label >= classes)) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("{}: label {} is out of range 0 to {} (and not ignore_index {})",
                               e.where(), label, classes - 1, int_attr(e.op, "ignore_index"))};
    }
  }
  return {};
}

std::int64_t picked(const Shape& self, const Shape& rows, std::int64_t row, std::int64_t label) {
  std::vector<std::int64_t> at = coordinates(rows, row);
  at.insert(at.begin() + 1, label);
  return number_of(self, at);
}

Result<void> nll(Evaluation& e) {
  const Array& self = *e.in[0];
  const Array& labels = *e.in[1];
  DOJO_TRY_VOID(check_labels(e, labels, self.shape[1]));
  const auto weight_of = [&](std::int64_t row) {
    const std::int64_t label = labels.integer(row);
    if (label == int_attr(e.op, "ignore_index")) {
      return 0.0F;
    }
    return e.has_in(2) ? e.in[2]->number(label) : 1.0F;
  };
  const auto loss_of = [&](std::int64_t row) {
    const std::int64_t label = labels.integer(row);
    return label == int_attr(e.op, "ignore_index")
               ? 0.0F
               : -(weight_of(row) * self.number(picked(self.shape, labels.shape, row, label)));
  };
  const bool is_reduced = int_attr(e.op, "reduction") != 0;
  const Stage& stage = e.stage(is_reduced ? "loss" : "weight");
  const Operand& rows = e.reading(stage, 1);
  Point point(e.nest.loops.size(), 0);
  const float total = e.sum(stage, point, [&](float acc, const Point& at) {
    return acc + weight_of(Evaluation::element_at(rows, at));
  });
  if (is_reduced) {
    const float sum = e.sum(stage, point, [&](float acc, const Point& at) {
      return acc + loss_of(Evaluation::element_at(rows, at));
    });
    e.out[0].floats = {int_attr(e.op, "reduction") == kMean ? sum / total : sum};
  } else {
    for (std::int64_t row = 0; row < labels.elements(); ++row) {
      e.out[0].floats.push_back(loss_of(row));
    }
  }
  e.out[1].floats = {total};
  return {};
}

Result<void> nll_backward(Evaluation& e) {
  const Shape& self = e.in[1]->shape;
  const Array& labels = *e.in[2];
  DOJO_TRY_VOID(check_labels(e, labels, self[1]));
  const std::int64_t reduction = int_attr(e.op, "reduction");
  e.out[0].floats.assign(size_of(graph::element_count(self)), 0.0F);
  for (std::int64_t row = 0; row < labels.elements(); ++row) {
    const std::int64_t label = labels.integer(row);
    if (label == int_attr(e.op, "ignore_index")) {
      continue;
    }
    const float weight = e.has_in(3) ? e.in[3]->number(label) : 1.0F;
    const float share = -(weight * e.in[0]->number(reduction == 0 ? row : 0));
    e.out[0].floats[size_of(picked(self, labels.shape, row, label))] =
        reduction == kMean ? share / e.in[4]->number(0) : share;
  }
  return {};
}

// --- made from attributes ---
Result<void> constant(Evaluation& e, std::string_view name) {
  const std::size_t count = size_of(graph::element_count(e.out_value(0).shape));
  const Format format = e.out_value(0).format;
  if (is_float(format)) {
    e.out[0].floats.assign(count, attr(e.op, name));
  } else {
    const double number = float_attr(e.op, name);
    const std::int64_t integer =
        graph::is_int_attr(e.op, name) ? int_attr(e.op, name) : static_cast<std::int64_t>(number);
    e.out[0].ints.assign(count, format == Format::Bool ? std::int64_t{number != 0} : integer);
  }
  return {};
}
Result<void> full(Evaluation& e) { return constant(e, "fill_value"); }
Result<void> scalar_tensor(Evaluation& e) { return constant(e, "s"); }

Result<void> arange(Evaluation& e) {
  for (std::int64_t i = 0; i < graph::element_count(e.out_value(0).shape); ++i) {
    if (is_float(e.out_value(0).format)) {
      e.out[0].floats.push_back(attr(e.op, "start") + static_cast<float>(i) * attr(e.op, "step"));
    } else {
      e.out[0].ints.push_back(static_cast<std::int64_t>(float_attr(e.op, "start")) +
                              i * static_cast<std::int64_t>(float_attr(e.op, "step")));
    }
  }
  return {};
}

Result<void> mask(Evaluation& e) {
  const double p = float_attr(e.op, "p");
  const std::int64_t dropped_below = std::lround(p * 65536);
  const std::int64_t site =
      graph::optional_int_attr(e.op, "site").value_or(std::int64_t{e.tensor_ids[0]});
  const RandomStream stream{e.seed, static_cast<std::uint32_t>(site), e.step};
  for (std::int64_t i = 0; i < graph::element_count(e.out_value(0).shape); ++i) {
    const bool is_dropped = stream.bits16(static_cast<std::uint64_t>(i)) < dropped_below;
    e.out[0].floats.push_back(is_dropped ? 0.0F : static_cast<float>(1 / (1 - p)));
  }
  return {};
}

// --- optimisers ---
float decayed_gradient(const Evaluation& e, std::int64_t i) {
  const float sign = graph::bool_attr(e.op, "maximize") ? -1.0F : 1.0F;
  return sign * e.in[1]->number(i) + attr(e.op, "weight_decay") * e.in[0]->number(i);
}

Result<void> sgd(Evaluation& e) {
  const float lr = e.in[3]->number(0);
  const float momentum = attr(e.op, "momentum");
  const auto damped = static_cast<float>(1 - float_attr(e.op, "dampening"));
  for (std::int64_t i = 0; i < e.in[0]->elements(); ++i) {
    const float gradient = decayed_gradient(e, i);
    float direction = gradient;
    if (e.has_in(2)) {
      const float moved = momentum * e.in[2]->number(i) + damped * gradient;
      direction = graph::bool_attr(e.op, "nesterov") ? gradient + momentum * moved : moved;
      e.out[1].floats.push_back(moved);
    }
    e.out[0].floats.push_back(e.in[0]->number(i) - lr * direction);
  }
  return {};
}

double power(double base, std::int64_t exponent) {
  if (exponent == 0) {
    return 1;
  }
  double result = 1;
  double square = base;
  while (exponent > 0) {
    if (exponent % 2 == 1) {
      result = result * square;
    }
    square = square * square;
    exponent /= 2;
  }
  return result;
}

Result<void> adamw(Evaluation& e) {
  const float lr = e.in[4]->number(0);
  const std::int64_t step =
      e.in[5]->has_floats() ? static_cast<std::int64_t>(e.in[5]->number(0)) : e.in[5]->integer(0);
  const double beta1 = float_attr(e.op, "beta1");
  const double beta2 = float_attr(e.op, "beta2");
  const auto correction1 = static_cast<float>(1 - power(beta1, step));
  const auto correction2 = static_cast<float>(std::sqrt(1 - power(beta2, step)));
  const bool is_decoupled = graph::bool_attr(e.op, "decoupled");
  const float sign = graph::bool_attr(e.op, "maximize") ? -1.0F : 1.0F;
  for (std::int64_t i = 0; i < e.in[0]->elements(); ++i) {
    const float w = e.in[0]->number(i);
    const float gradient = is_decoupled ? sign * e.in[1]->number(i) : decayed_gradient(e, i);
    const float kept = is_decoupled ? w * (1 - lr * attr(e.op, "weight_decay")) : w;
    const float m =
        e.in[2]->number(i) + static_cast<float>(1 - beta1) * (gradient - e.in[2]->number(i));
    const float v = static_cast<float>(beta2) * e.in[3]->number(i) +
                    static_cast<float>(1 - beta2) * (gradient * gradient);
    const float scale = std::sqrt(v) / correction2 + attr(e.op, "eps");
    e.out[0].floats.push_back(kept - (lr / correction1) * (m / scale));
    e.out[1].floats.push_back(m);
    e.out[2].floats.push_back(v);
  }
  return {};
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
      {"aten.mse_loss", distance<mse>},
      {"aten.l1_loss", distance<l1>},
      {"aten.smooth_l1_loss", distance<smooth_l1>},
      {"aten.binary_cross_entropy_with_logits", distance<bce_with_logits>},
      {"aten.nll_loss_forward", nll},
      {"aten.nll_loss2d_forward", nll},
      {"aten.nll_loss_backward", nll_backward},
      {"aten.nll_loss2d_backward", nll_backward},
      {"aten.full", full},
      {"aten.scalar_tensor", scalar_tensor},
      {"aten.arange", arange},
      {"dojo.mask", mask},
      {"dojo.sgd", sgd},
      {"dojo.adamw", adamw},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
