// The interpreter's element-wise ops: one function of numbers each. A number is a float if the op
// computes in floats, else an int64.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "dojo/numerics/gemm.h"
#include "dojo/numerics/special.h"
#include "dojo/run/internal/interpret.h"

namespace dojo::run::internal {
namespace {

using graph::float_attr;
using graph::has_attribute;
using graph::int_attr;
using graph::Op;
using graph::Shape;

using Floats = std::span<const float>;
using Ints = std::span<const std::int64_t>;
using FloatFunction = float (*)(Floats, const Op&);
using IntFunction = std::int64_t (*)(Ints, const Op&);

float attr(const Op& op, std::string_view name) { return static_cast<float>(float_attr(op, name)); }

// Operand i as the op sees it: a tensor, or the attribute of that operand's name.
float float_operand(const Evaluation& e, std::size_t i, std::int64_t element) {
  if (e.has_in(i)) {
    return e.in[i]->number(broadcast_element(e.in[i]->shape, e.out_value(0).shape, element));
  }
  return attr(e.op, e.op.info->operands[i].name);
}

std::int64_t int_operand(const Evaluation& e, std::size_t i, std::int64_t element) {
  if (e.has_in(i)) {
    return e.in[i]->integer(broadcast_element(e.in[i]->shape, e.out_value(0).shape, element));
  }
  const std::string_view name = e.op.info->operands[i].name;
  return graph::is_int_attr(e.op, name) ? int_attr(e.op, name)
                                        : static_cast<std::int64_t>(float_attr(e.op, name));
}

template <class T, class Operand, class Function>
std::vector<T> evaluate(const Evaluation& e, const Operand& operand, const Function& function) {
  std::vector<T> made;
  const std::size_t operands = e.op.info->operands.size();
  std::vector<std::remove_cvref_t<decltype(operand(e, 0, 0))>> values(operands);
  for (std::int64_t i = 0; i < graph::element_count(e.out_value(0).shape); ++i) {
    for (std::size_t k = 0; k < operands; ++k) {
      values[k] = operand(e, k, i);
    }
    made.push_back(function(values, e.op));
  }
  return made;
}

// An op whose result has the class it computes in.
template <FloatFunction of_floats, IntFunction of_ints>
Result<void> by_output(Evaluation& e) {
  if (is_float(e.out_value(0).format)) {
    e.out[0].floats = evaluate<float>(e, float_operand, of_floats);
  } else {
    e.out[0].ints = evaluate<std::int64_t>(e, int_operand, of_ints);
  }
  return {};
}

template <FloatFunction function>
Result<void> in_float(Evaluation& e) {
  e.out[0].floats = evaluate<float>(e, float_operand, function);
  return {};
}

// Comparisons: in float if any operand is one; the result is a bool.
using FloatTest = bool (*)(Floats);
using IntTest = bool (*)(Ints);

bool reads_float(const Evaluation& e) {
  bool any = false;
  for (std::size_t i = 0; i < e.op.info->operands.size(); ++i) {
    const std::string_view name = e.op.info->operands[i].name;
    any = any || (e.has_in(i) ? e.in[i]->has_floats()
                              : has_attribute(e.op, name) && !graph::is_int_attr(e.op, name));
  }
  return any;
}

template <FloatTest of_floats, IntTest of_ints>
Result<void> test(Evaluation& e) {
  if (reads_float(e)) {
    e.out[0].ints = evaluate<std::int64_t>(
        e, float_operand, [](Floats x, const Op&) { return std::int64_t{of_floats(x)}; });
  } else {
    e.out[0].ints = evaluate<std::int64_t>(
        e, int_operand, [](Ints x, const Op&) { return std::int64_t{of_ints(x)}; });
  }
  return {};
}

// --- arithmetic ---
float scaled(float x, const Op& op) {
  const double alpha = float_attr(op, "alpha");
  return alpha == 1 ? x : static_cast<float>(alpha) * x;
}
std::int64_t wrap(std::uint64_t x) { return static_cast<std::int64_t>(x); }
std::uint64_t bits(std::int64_t x) { return static_cast<std::uint64_t>(x); }
std::uint64_t scaled(std::int64_t x, const Op& op) {
  return bits(static_cast<std::int64_t>(float_attr(op, "alpha"))) * bits(x);
}
float add(Floats x, const Op& op) { return x[0] + scaled(x[1], op); }
std::int64_t add_int(Ints x, const Op& op) { return wrap(bits(x[0]) + scaled(x[1], op)); }
float sub(Floats x, const Op& op) { return x[0] - scaled(x[1], op); }
std::int64_t sub_int(Ints x, const Op& op) { return wrap(bits(x[0]) - scaled(x[1], op)); }
float rsub(Floats x, const Op& op) { return x[1] - scaled(x[0], op); }
std::int64_t rsub_int(Ints x, const Op& op) { return wrap(bits(x[1]) - scaled(x[0], op)); }
float mul(Floats x, const Op&) { return x[0] * x[1]; }
std::int64_t mul_int(Ints x, const Op&) { return wrap(bits(x[0]) * bits(x[1])); }

std::int64_t divided(std::int64_t a, std::int64_t b, bool to_floor) {
  if (b == 0) {
    return 0;
  }
  if (b == -1) {
    return wrap(0 - bits(a));
  }
  const std::int64_t quotient = a / b;
  return to_floor && quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
bool rounds_to(const Op& op, std::string_view mode) {
  return has_attribute(op, "rounding_mode") && graph::string_attr(op, "rounding_mode") == mode;
}
float div(Floats x, const Op& op) {
  const float quotient = x[0] / x[1];
  return rounds_to(op, "floor")   ? std::floor(quotient)
         : rounds_to(op, "trunc") ? std::trunc(quotient)
                                  : quotient;
}
std::int64_t div_int(Ints x, const Op& op) { return divided(x[0], x[1], rounds_to(op, "floor")); }
float remainder(Floats x, const Op&) {
  const float rest = std::fmod(x[0], x[1]);
  return rest != 0 && std::signbit(rest) != std::signbit(x[1]) ? rest + x[1] : rest;
}
std::int64_t remainder_int(Ints x, const Op&) {
  return x[1] == 0 || x[1] == -1 ? 0 : x[0] - divided(x[0], x[1], true) * x[1];
}
float maximum(Floats x, const Op&) { return std::isnan(x[0]) || x[0] > x[1] ? x[0] : x[1]; }
std::int64_t maximum_int(Ints x, const Op&) { return std::max(x[0], x[1]); }
float minimum(Floats x, const Op&) { return std::isnan(x[0]) || x[0] < x[1] ? x[0] : x[1]; }
std::int64_t minimum_int(Ints x, const Op&) { return std::min(x[0], x[1]); }

float pow(Floats x, const Op&) {
  const float base = x[0];
  const float exponent = x[1];
  if (exponent == 0 || base == 1) {
    return 1;
  }
  if (exponent == 1) {
    return base;
  }
  if (exponent == 2) {
    return base * base;
  }
  if (exponent == 3) {
    return base * base * base;
  }
  if (exponent == -1) {
    return 1 / base;
  }
  if (exponent == -2) {
    return 1 / (base * base);
  }
  if (exponent == 0.5F) {
    return std::sqrt(base);
  }
  if (exponent == -0.5F) {
    return 1 / std::sqrt(base);
  }
  if (base == 0) {
    return exponent > 0 ? 0.0F : std::numeric_limits<float>::infinity();
  }
  const bool is_integer = std::floor(exponent) == exponent;
  if (base < 0 && !is_integer) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float power = numerics::exp(exponent * numerics::log(std::fabs(base)));
  return base < 0 && std::floor(exponent / 2) != exponent / 2 ? -power : power;
}
std::int64_t pow_int(Ints x, const Op&) {
  if (x[1] < 0) {
    const std::int64_t of_minus_one = x[1] % 2 == 0 ? 1 : -1;
    return x[0] == 1 ? 1 : (x[0] == -1 ? of_minus_one : 0);
  }
  std::uint64_t power = 1;
  for (std::int64_t i = 0; i < x[1] && power != 0; ++i) {
    power *= bits(x[0]);
    if (x[0] == 1 || x[0] == 0 || (x[0] == -1 && i > 64)) {  // long exponents of short cycles
      return x[0] == -1 ? (x[1] % 2 == 0 ? 1 : -1) : x[0];
    }
  }
  return wrap(power);
}

float neg(Floats x, const Op&) { return -x[0]; }
std::int64_t neg_int(Ints x, const Op&) { return wrap(0 - bits(x[0])); }
float abs(Floats x, const Op&) { return std::fabs(x[0]); }
std::int64_t abs_int(Ints x, const Op&) { return x[0] < 0 ? wrap(0 - bits(x[0])) : x[0]; }
float sign(Floats x, const Op&) { return static_cast<float>((x[0] > 0) - (x[0] < 0)); }
std::int64_t sign_int(Ints x, const Op&) { return (x[0] > 0) - (x[0] < 0); }
float floor(Floats x, const Op&) { return std::floor(x[0]); }
float ceil(Floats x, const Op&) { return std::ceil(x[0]); }
float round(Floats x, const Op&) { return std::nearbyint(x[0]); }
std::int64_t same_int(Ints x, const Op&) { return x[0]; }
float same(Floats x, const Op&) { return x[0]; }
float sqrt(Floats x, const Op&) { return std::sqrt(x[0]); }
float rsqrt(Floats x, const Op&) { return numerics::rsqrt(x[0]); }
float reciprocal(Floats x, const Op&) { return 1 / x[0]; }
float exp(Floats x, const Op&) { return numerics::exp(x[0]); }
float expm1(Floats x, const Op&) { return numerics::exp(x[0]) - 1; }
float log(Floats x, const Op&) { return numerics::log(x[0]); }
float log1p(Floats x, const Op&) { return numerics::log(1 + x[0]); }
float erf(Floats x, const Op&) { return numerics::erf(x[0]); }
float sin(Floats x, const Op&) { return numerics::sin(x[0]); }
float cos(Floats x, const Op&) { return numerics::cos(x[0]); }

std::int64_t bitwise_and(Ints x, const Op&) { return x[0] & x[1]; }
std::int64_t bitwise_or(Ints x, const Op&) { return x[0] | x[1]; }
Result<void> bitwise_not(Evaluation& e) {
  const bool is_bool = e.in[0]->format == Format::Bool;
  for (const std::int64_t x : e.in[0]->ints) {
    e.out[0].ints.push_back(is_bool ? std::int64_t{x == 0} : ~x);
  }
  return {};
}

// --- comparisons ---
template <class T>
bool eq(T x) {
  return x[0] == x[1];
}
template <class T>
bool ne(T x) {
  return x[0] != x[1];
}
template <class T>
bool lt(T x) {
  return x[0] < x[1];
}
template <class T>
bool le(T x) {
  return x[0] <= x[1];
}
template <class T>
bool gt(T x) {
  return x[0] > x[1];
}
template <class T>
bool ge(T x) {
  return x[0] >= x[1];
}
template <class T>
bool logical_and(T x) {
  return x[0] != 0 && x[1] != 0;
}
template <class T>
bool logical_or(T x) {
  return x[0] != 0 || x[1] != 0;
}
template <class T>
bool logical_not(T x) {
  return x[0] == 0;
}

// --- selection ---
// Element i of operand `chosen` where the bool operand `condition` holds, else of `other`.
Result<void> choose(Evaluation& e, std::size_t condition, std::size_t chosen, std::size_t other) {
  const Shape& shape = e.out_value(0).shape;
  for (std::int64_t i = 0; i < graph::element_count(shape); ++i) {
    const bool holds =
        e.in[condition]->integer(broadcast_element(e.in[condition]->shape, shape, i)) != 0;
    const std::size_t from = holds ? chosen : other;
    if (is_float(e.out_value(0).format)) {
      e.out[0].floats.push_back(float_operand(e, from, i));
    } else {
      e.out[0].ints.push_back(int_operand(e, from, i));
    }
  }
  return {};
}
Result<void> where(Evaluation& e) { return choose(e, 0, 1, 2); }
Result<void> masked_fill(Evaluation& e) { return choose(e, 1, 2, 0); }

// Bounds: operands 1 and 2, or attributes of the given names, or none.
template <class T>
T clamped(T x, std::optional<T> low, std::optional<T> high) {
  if (low.has_value() && x < *low) {
    x = *low;
  }
  return high.has_value() && x > *high ? *high : x;
}
Result<void> clamp_between(Evaluation& e, std::string_view low, std::string_view high) {
  const auto bound = [&](auto zero, std::size_t i, std::string_view name,
                         std::int64_t element) -> std::optional<decltype(zero)> {
    using T = decltype(zero);
    if (e.has_in(i)) {
      return std::is_same_v<T, float> ? static_cast<T>(float_operand(e, i, element))
                                      : static_cast<T>(int_operand(e, i, element));
    }
    if (!has_attribute(e.op, name)) {
      return std::nullopt;
    }
    return static_cast<T>(float_attr(e.op, name));
  };
  for (std::int64_t i = 0; i < graph::element_count(e.out_value(0).shape); ++i) {
    if (is_float(e.out_value(0).format)) {
      e.out[0].floats.push_back(
          clamped(float_operand(e, 0, i), bound(0.0F, 1, low, i), bound(0.0F, 2, high, i)));
    } else {
      const std::int64_t zero = 0;
      e.out[0].ints.push_back(
          clamped(int_operand(e, 0, i), bound(zero, 1, low, i), bound(zero, 2, high, i)));
    }
  }
  return {};
}
Result<void> clamp(Evaluation& e) { return clamp_between(e, "min", "max"); }
Result<void> hardtanh(Evaluation& e) { return clamp_between(e, "min_val", "max_val"); }

template <bool is_upper>
Result<void> triangle(Evaluation& e) {
  const Shape& shape = e.out_value(0).shape;
  const std::int64_t columns = shape.back();
  const std::int64_t rows = shape[shape.size() - 2];
  const std::int64_t diagonal = int_attr(e.op, "diagonal");
  for (std::int64_t i = 0; i < graph::element_count(shape); ++i) {
    const std::int64_t distance = i % columns - i / columns % rows;
    const bool is_kept = is_upper ? distance >= diagonal : distance <= diagonal;
    if (is_float(e.out_value(0).format)) {
      e.out[0].floats.push_back(is_kept ? e.in[0]->number(i) : 0.0F);
    } else {
      e.out[0].ints.push_back(is_kept ? e.in[0]->integer(i) : 0);
    }
  }
  return {};
}

// Floats to integers: towards zero, at most the ends of int64, 0 for a NaN.
std::int64_t truncated(float x) {
  if (std::isnan(x)) {
    return 0;
  }
  if (x >= 0x1p63F) {
    return std::numeric_limits<std::int64_t>::max();
  }
  return x <= -0x1p63F ? std::numeric_limits<std::int64_t>::min() : static_cast<std::int64_t>(x);
}
Result<void> to_copy(Evaluation& e) {
  const Format to = e.out_value(0).format;
  for (std::int64_t i = 0; i < e.in[0]->elements(); ++i) {
    if (is_float(to)) {
      e.out[0].floats.push_back(e.in[0]->number(i));
    } else if (!e.in[0]->has_floats()) {
      e.out[0].ints.push_back(e.in[0]->integer(i));
    } else {
      const float x = e.in[0]->number(i);
      e.out[0].ints.push_back(to == Format::Bool ? std::int64_t{x != 0} : truncated(x));
    }
  }
  return {};
}

// --- activations: x[0] is the operand; of a gradient x[0] is dY and x[1] what was kept ---
constexpr float kSqrtHalf = 0.70710678118654752440F;
constexpr float kNormalDensity = 0.39894228040143267794F;
constexpr float kSqrtTwoOverPi = 0.79788456080286535588F;

float relu(Floats x, const Op&) { return numerics::relu(x[0]); }
std::int64_t relu_int(Ints x, const Op&) { return std::max<std::int64_t>(x[0], 0); }
float threshold_backward(Floats x, const Op& op) {
  return x[1] > attr(op, "threshold") ? x[0] : 0.0F;
}
bool uses_tanh(const Op& op) { return graph::string_attr(op, "approximate") == "tanh"; }
float gelu_argument(float x) { return kSqrtTwoOverPi * (x + 0.044715F * (x * x * x)); }
float gelu(Floats x, const Op& op) {
  const float bell =
      uses_tanh(op) ? numerics::tanh(gelu_argument(x[0])) : numerics::erf(x[0] * kSqrtHalf);
  return (x[0] * 0.5F) * (1 + bell);
}
float gelu_backward(Floats v, const Op& op) {
  const float dy = v[0];
  const float x = v[1];
  if (!uses_tanh(op)) {
    const float phi = 0.5F * (1 + numerics::erf(x * kSqrtHalf));
    const float density = numerics::exp(-0.5F * x * x) * kNormalDensity;
    return dy * (phi + x * density);
  }
  const float t = numerics::tanh(gelu_argument(x));
  const float slope = kSqrtTwoOverPi * (1 + (3 * 0.044715F) * (x * x));
  return dy * (0.5F * (1 + t) + (x * 0.5F) * (1 - t * t) * slope);
}
float silu(Floats x, const Op&) { return x[0] * numerics::sigmoid(x[0]); }
float silu_backward(Floats x, const Op&) {
  const float s = numerics::sigmoid(x[1]);
  return x[0] * (s * (1 + x[1] * (1 - s)));
}
float sigmoid(Floats x, const Op&) { return numerics::sigmoid(x[0]); }
float sigmoid_backward(Floats x, const Op&) { return x[0] * (1 - x[1]) * x[1]; }
float tanh(Floats x, const Op&) { return numerics::tanh(x[0]); }
float tanh_backward(Floats x, const Op&) { return x[0] * (1 - x[1] * x[1]); }
float relu6(float x) { return x > 6 ? 6 : (x < 0 ? 0 : x); }
float hardswish(Floats x, const Op&) { return x[0] * relu6(x[0] + 3) / 6; }
float hardswish_backward(Floats x, const Op&) {
  if (x[1] <= -3) {
    return 0;
  }
  return x[1] < 3 ? x[0] * (x[1] / 3 + 0.5F) : x[0];
}
float hardsigmoid(Floats x, const Op&) { return relu6(x[0] + 3) / 6; }
float hardsigmoid_backward(Floats x, const Op&) { return x[1] > -3 && x[1] < 3 ? x[0] / 6 : 0; }
float hardtanh_backward(Floats x, const Op& op) {
  return x[1] > attr(op, "min_val") && x[1] < attr(op, "max_val") ? x[0] : 0;
}
float leaky_relu(Floats x, const Op& op) {
  return x[0] > 0 ? x[0] : attr(op, "negative_slope") * x[0];
}
float leaky_relu_backward(Floats x, const Op& op) {
  return x[1] > 0 ? x[0] : attr(op, "negative_slope") * x[0];
}
float negative_scale(const Op& op) {
  return static_cast<float>(float_attr(op, "alpha") * float_attr(op, "scale"));
}
float elu(Floats x, const Op& op) {
  return x[0] > 0 ? attr(op, "scale") * x[0]
                  : negative_scale(op) * (numerics::exp(attr(op, "input_scale") * x[0]) - 1);
}
float elu_backward(Floats x, const Op& op) {
  if (x[1] > 0) {
    return x[0] * attr(op, "scale");
  }
  const float inner = attr(op, "input_scale");
  return graph::bool_attr(op, "is_result")
             ? x[0] * inner * (x[1] + negative_scale(op))
             : x[0] * inner * negative_scale(op) * numerics::exp(inner * x[1]);
}
float softplus(Floats x, const Op& op) {
  const float scaled_x = attr(op, "beta") * x[0];
  return scaled_x > attr(op, "threshold")
             ? x[0]
             : numerics::log(1 + numerics::exp(scaled_x)) / attr(op, "beta");
}
float softplus_backward(Floats x, const Op& op) {
  const float scaled_x = attr(op, "beta") * x[1];
  const float e = numerics::exp(scaled_x);
  return scaled_x > attr(op, "threshold") ? x[0] : x[0] * e / (e + 1);
}

// --- gradients of losses that are element-wise: dY, self, target ---
float loss_scale(const Op& op, const Evaluation& e, double factor) {
  const auto count = static_cast<double>(graph::element_count(e.out_value(0).shape));
  return static_cast<float>(int_attr(op, "reduction") == 1 ? factor / count : factor);
}
Result<void> mse_backward(Evaluation& e) {
  const float factor = loss_scale(e.op, e, 2);
  e.out[0].floats = evaluate<float>(
      e, float_operand, [factor](Floats x, const Op&) { return (factor * (x[1] - x[2])) * x[0]; });
  return {};
}
Result<void> smooth_l1_backward(Evaluation& e) {
  const float factor = loss_scale(e.op, e, 1);
  e.out[0].floats = evaluate<float>(e, float_operand, [factor](Floats x, const Op& op) {
    const float beta = attr(op, "beta");
    const float d = x[1] - x[2];
    if (d <= -beta) {
      return -factor * x[0];
    }
    return d >= beta ? factor * x[0] : factor * d * x[0] / beta;
  });
  return {};
}

void add_arithmetic(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.add", by_output<add, add_int>},
      {"aten.sub", by_output<sub, sub_int>},
      {"aten.rsub", by_output<rsub, rsub_int>},
      {"aten.mul", by_output<mul, mul_int>},
      {"aten.div", by_output<div, div_int>},
      {"aten.remainder", by_output<remainder, remainder_int>},
      {"aten.maximum", by_output<maximum, maximum_int>},
      {"aten.minimum", by_output<minimum, minimum_int>},
      {"aten.pow", by_output<pow, pow_int>},
      {"aten.clamp", clamp},
      {"aten.neg", by_output<neg, neg_int>},
      {"aten.abs", by_output<abs, abs_int>},
      {"aten.sign", by_output<sign, sign_int>},
      {"aten.floor", by_output<floor, same_int>},
      {"aten.ceil", by_output<ceil, same_int>},
      {"aten.round", by_output<round, same_int>},
      {"aten.sqrt", in_float<sqrt>},
      {"aten.rsqrt", in_float<rsqrt>},
      {"aten.reciprocal", in_float<reciprocal>},
      {"aten.exp", in_float<exp>},
      {"aten.expm1", in_float<expm1>},
      {"aten.log", in_float<log>},
      {"aten.log1p", in_float<log1p>},
      {"aten.erf", in_float<erf>},
      {"aten.sin", in_float<sin>},
      {"aten.cos", in_float<cos>},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

void add_logic(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.eq", test<eq<Floats>, eq<Ints>>},
      {"aten.ne", test<ne<Floats>, ne<Ints>>},
      {"aten.lt", test<lt<Floats>, lt<Ints>>},
      {"aten.le", test<le<Floats>, le<Ints>>},
      {"aten.gt", test<gt<Floats>, gt<Ints>>},
      {"aten.ge", test<ge<Floats>, ge<Ints>>},
      {"aten.logical_and", test<logical_and<Floats>, logical_and<Ints>>},
      {"aten.logical_or", test<logical_or<Floats>, logical_or<Ints>>},
      {"aten.logical_not", test<logical_not<Floats>, logical_not<Ints>>},
      {"aten.bitwise_and", by_output<mul, bitwise_and>},
      {"aten.bitwise_or", by_output<mul, bitwise_or>},
      {"aten.bitwise_not", bitwise_not},
      {"aten.where", where},
      {"aten.masked_fill", masked_fill},
      {"aten.tril", triangle<false>},
      {"aten.triu", triangle<true>},
      {"aten._to_copy", to_copy},
      {"dojo.convert", in_float<same>},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

void add_activations(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.relu", by_output<relu, relu_int>},
      {"aten.threshold_backward", in_float<threshold_backward>},
      {"aten.gelu", in_float<gelu>},
      {"aten.gelu_backward", in_float<gelu_backward>},
      {"aten.silu", in_float<silu>},
      {"aten.silu_backward", in_float<silu_backward>},
      {"aten.sigmoid", in_float<sigmoid>},
      {"aten.sigmoid_backward", in_float<sigmoid_backward>},
      {"aten.tanh", in_float<tanh>},
      {"aten.tanh_backward", in_float<tanh_backward>},
      {"aten.hardswish", in_float<hardswish>},
      {"aten.hardswish_backward", in_float<hardswish_backward>},
      {"aten.hardsigmoid", in_float<hardsigmoid>},
      {"aten.hardsigmoid_backward", in_float<hardsigmoid_backward>},
      {"aten.hardtanh", hardtanh},
      {"aten.hardtanh_backward", in_float<hardtanh_backward>},
      {"aten.leaky_relu", in_float<leaky_relu>},
      {"aten.leaky_relu_backward", in_float<leaky_relu_backward>},
      {"aten.elu", in_float<elu>},
      {"aten.elu_backward", in_float<elu_backward>},
      {"aten.softplus", in_float<softplus>},
      {"aten.softplus_backward", in_float<softplus_backward>},
      {"aten.mse_loss_backward", mse_backward},
      {"aten.smooth_l1_loss_backward", smooth_l1_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace

void add_elementwise_interpreters(std::vector<InterpretRow>& rows) {
  add_arithmetic(rows);
  add_logic(rows);
  add_activations(rows);
}

}  // namespace dojo::run::internal
