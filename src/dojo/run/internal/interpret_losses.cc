// The interpreter's losses, tensors made from attributes, and optimisers.
#include <fmt/format.h>

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
  const float v_scale = attr(e.op, "v_scale");
  const float sign = graph::bool_attr(e.op, "maximize") ? -1.0F : 1.0F;
  for (std::int64_t i = 0; i < e.in[0]->elements(); ++i) {
    const float w = e.in[0]->number(i);
    const float gradient = is_decoupled ? sign * e.in[1]->number(i) : decayed_gradient(e, i);
    const float kept = is_decoupled ? w * (1 - lr * attr(e.op, "weight_decay")) : w;
    const float m =
        e.in[2]->number(i) + static_cast<float>(1 - beta1) * (gradient - e.in[2]->number(i));
    const float v = static_cast<float>(beta2) * (e.in[3]->number(i) / v_scale) +
                    static_cast<float>(1 - beta2) * (gradient * gradient);
    const float scale = std::sqrt(v) / correction2 + attr(e.op, "eps");
    e.out[0].floats.push_back(kept - (lr / correction1) * (m / scale));
    e.out[1].floats.push_back(m);
    e.out[2].floats.push_back(v * v_scale);
  }
  return {};
}

}  // namespace

void add_loss_interpreters(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
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
