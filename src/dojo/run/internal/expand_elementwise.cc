// Element-wise ops and conversions: one block kernel each, chosen by the class of the numbers.
#include <array>
#include <cstdint>
#include <limits>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::bool_attr;
using graph::float_attr;
using graph::has_attribute;
using graph::int_attr;

bool is_float_out(const Builder& b) { return is_float(b.out_value(0).format); }

// Operand i, or the attribute of that name as a constant of the class the op computes in.
View operand(Builder& b, std::size_t i, std::string_view name, bool computes_in_float) {
  if (b.has_in(i)) {
    return b.in(i);
  }
  if (computes_in_float) {
    return b.constant(float_attr(b.op(), name));
  }
  return b.constant(graph::is_int_attr(b.op(), name)
                        ? int_attr(b.op(), name)
                        : static_cast<std::int64_t>(float_attr(b.op(), name)));
}

// Comparisons and logic: in float if any operand is one.
bool reads_float(const Builder& b, std::string_view attribute) {
  bool any = has_attribute(b.op(), attribute) && !graph::is_int_attr(b.op(), attribute);
  for (std::size_t i = 0; i < b.op().inputs.size(); ++i) {
    any = any || (b.has_in(i) && is_float(b.in_format(i)));
  }
  return any;
}

template <const BlockKernel& kernel>
Result<void> unary(Builder& b) {
  b.map(kernel, {b.in(0)}, {b.out(0)});
  return {};
}

template <const BlockKernel& of_floats, const BlockKernel& of_ints>
Result<void> unary_of_either(Builder& b) {
  b.map(is_float_out(b) ? of_floats : of_ints, {b.in(0)}, {b.out(0)});
  return {};
}

template <const BlockKernel& of_floats, const BlockKernel& of_ints>
Result<void> binary(Builder& b) {
  const bool is_float_op = is_float_out(b);
  b.map(is_float_op ? of_floats : of_ints, {b.in(0), operand(b, 1, "other", is_float_op)},
        {b.out(0)});
  return {};
}

// a + alpha b and a - alpha b; rsub exchanges the two.
template <const BlockKernel& plain, const BlockKernel& scaled, const BlockKernel& plain_int,
          const BlockKernel& scaled_int, bool is_swapped>
Result<void> sum_or_difference(Builder& b) {
  const bool is_float_op = is_float_out(b);
  View first = b.in(0);
  View second = operand(b, 1, "other", is_float_op);
  if (is_swapped) {
    std::swap(first, second);
  }
  Params params;
  const double alpha = float_attr(b.op(), "alpha");
  params.f[0] = static_cast<float>(alpha);
  params.i[0] = static_cast<std::int64_t>(alpha);
  const bool is_plain = alpha == 1;
  const BlockKernel& kernel =
      is_float_op ? (is_plain ? plain : scaled) : (is_plain ? plain_int : scaled_int);
  b.map(kernel, {first, second}, {b.out(0)}, params);
  return {};
}

Result<void> divide(Builder& b) {
  const bool is_float_op = is_float_out(b);
  const View other = operand(b, 1, "other", is_float_op);
  if (!has_attribute(b.op(), "rounding_mode")) {
    b.map(kernels::div, {b.in(0), other}, {b.out(0)});
    return {};
  }
  const bool is_floor = graph::string_attr(b.op(), "rounding_mode") == "floor";
  const BlockKernel& kernel = is_float_op
                                  ? (is_floor ? kernels::div_floor : kernels::div_trunc)
                                  : (is_floor ? kernels::div_floor_int : kernels::div_trunc_int);
  b.map(kernel, {b.in(0), other}, {b.out(0)});
  return {};
}

// The kernel of a constant exponent that stands for other operations, as kernels::pow has it.
const BlockKernel* kernel_of_exponent(double exponent) {
  struct Row {
    double exponent;
    const BlockKernel* kernel;
  };
  const std::array rows{Row{1, &kernels::copy},
                        Row{2, &kernels::square},
                        Row{3, &kernels::cube},
                        Row{-1, &kernels::reciprocal},
                        Row{0.5, &kernels::sqrt},
                        Row{-0.5, &kernels::rsqrt},
                        Row{-2, &kernels::reciprocal_square}};
  for (const Row& row : rows) {
    if (row.exponent == exponent) {
      return row.kernel;
    }
  }
  return nullptr;
}

Result<void> power(Builder& b) {
  const bool is_float_op = is_float_out(b);
  if (is_float_op && b.has_in(0) && !b.has_in(1)) {
    if (const BlockKernel* kernel = kernel_of_exponent(float_attr(b.op(), "exponent"))) {
      b.map(*kernel, {b.in(0)}, {b.out(0)});
      return {};
    }
  }
  b.map(is_float_op ? kernels::pow : kernels::pow_int,
        {operand(b, 0, "self", is_float_op), operand(b, 1, "exponent", is_float_op)}, {b.out(0)});
  return {};
}

template <const BlockKernel& of_floats, const BlockKernel& of_ints>
Result<void> compare(Builder& b) {
  const bool is_float_op = reads_float(b, "other");
  b.map(is_float_op ? of_floats : of_ints, {b.in(0), operand(b, 1, "other", is_float_op)},
        {b.out(0)});
  return {};
}

Result<void> logical_not(Builder& b) {
  b.map(is_float(b.in_format(0)) ? kernels::logical_not : kernels::logical_not_int, {b.in(0)},
        {b.out(0)});
  return {};
}

Result<void> bitwise_not(Builder& b) {
  b.map(b.in_format(0) == Format::Bool ? kernels::logical_not_int : kernels::bitwise_not, {b.in(0)},
        {b.out(0)});
  return {};
}

Result<void> where(Builder& b) {
  const bool is_float_op = is_float_out(b);
  b.map(is_float_op ? kernels::where : kernels::where_int,
        {b.in(0), operand(b, 1, "self", is_float_op), operand(b, 2, "other", is_float_op)},
        {b.out(0)});
  return {};
}

Result<void> masked_fill(Builder& b) {
  const bool is_float_op = is_float_out(b);
  b.map(is_float_op ? kernels::where : kernels::where_int,
        {b.in(1), operand(b, 2, "value", is_float_op), b.in(0)}, {b.out(0)});
  return {};
}

View bound(Builder& b, std::size_t i, std::string_view name, bool is_float_op, bool is_low) {
  if (b.has_in(i) || has_attribute(b.op(), name)) {
    return operand(b, i, name, is_float_op);
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (is_float_op) {
    return b.constant(is_low ? -kInfinity : kInfinity);
  }
  return b.constant(is_low ? INT64_MIN : INT64_MAX);
}

Result<void> clamp(Builder& b) {
  const bool is_float_op = is_float_out(b);
  b.map(is_float_op ? kernels::clamp : kernels::clamp_int,
        {b.in(0), bound(b, 1, "min", is_float_op, true), bound(b, 2, "max", is_float_op, false)},
        {b.out(0)});
  return {};
}

template <bool is_upper>
Result<void> triangle(Builder& b) {
  const graph::Shape& shape = b.in_shape(0);
  const std::int64_t diagonal = int_attr(b.op(), "diagonal");
  Params params;
  params.i = {shape[shape.size() - 2], shape[shape.size() - 1], is_upper ? diagonal : INT64_MIN,
              is_upper ? INT64_MAX : diagonal};
  b.map(is_float_out(b) ? kernels::triangle : kernels::triangle_int, {b.in(0)}, {b.out(0)}, params);
  return {};
}

Result<void> to_copy(Builder& b) {
  const bool from_float = is_float(b.in_format(0));
  const Format to = b.out_value(0).format;
  const BlockKernel& kernel = is_float(to)         ? kernels::copy
                              : !from_float        ? kernels::copy_int
                              : to == Format::Bool ? kernels::is_nonzero
                                                   : kernels::truncate;
  b.map(kernel, {b.in(0)}, {b.out(0)});
  return {};
}

template <const BlockKernel& kernel>
Result<void> gradient(Builder& b) {
  b.map(kernel, {b.in(0), b.in(1)}, {b.out(0)});
  return {};
}

// Kernels with attributes, in the order of Params::f.
Params floats_of(const Builder& b, std::initializer_list<std::string_view> names) {
  Params params;
  std::size_t next = 0;
  for (const std::string_view name : names) {
    params.f[next++] = static_cast<float>(float_attr(b.op(), name));
  }
  return params;
}

Result<void> threshold_backward(Builder& b) {
  b.map(kernels::threshold_backward, {b.in(0), b.in(1)}, {b.out(0)}, floats_of(b, {"threshold"}));
  return {};
}

bool is_tanh_gelu(const Builder& b) { return graph::string_attr(b.op(), "approximate") == "tanh"; }

Result<void> gelu(Builder& b) {
  b.map(is_tanh_gelu(b) ? kernels::gelu_tanh : kernels::gelu, {b.in(0)}, {b.out(0)});
  return {};
}

Result<void> gelu_backward(Builder& b) {
  b.map(is_tanh_gelu(b) ? kernels::gelu_tanh_backward : kernels::gelu_backward, {b.in(0), b.in(1)},
        {b.out(0)});
  return {};
}

Result<void> hardtanh(Builder& b) {
  const bool is_float_op = is_float_out(b);
  b.map(is_float_op ? kernels::clamp : kernels::clamp_int,
        {b.in(0), operand(b, 1, "min_val", is_float_op), operand(b, 1, "max_val", is_float_op)},
        {b.out(0)});
  return {};
}

Result<void> hardtanh_backward(Builder& b) {
  b.map(kernels::hardtanh_backward, {b.in(0), b.in(1)}, {b.out(0)},
        floats_of(b, {"min_val", "max_val"}));
  return {};
}

Result<void> leaky_relu(Builder& b) {
  b.map(kernels::leaky_relu, {b.in(0)}, {b.out(0)}, floats_of(b, {"negative_slope"}));
  return {};
}

Result<void> leaky_relu_backward(Builder& b) {
  b.map(kernels::leaky_relu_backward, {b.in(0), b.in(1)}, {b.out(0)},
        floats_of(b, {"negative_slope"}));
  return {};
}

Params elu_params(const Builder& b) {
  Params params;
  const double scale = float_attr(b.op(), "scale");
  params.f = {static_cast<float>(float_attr(b.op(), "alpha") * scale), static_cast<float>(scale),
              static_cast<float>(float_attr(b.op(), "input_scale"))};
  return params;
}

Result<void> elu(Builder& b) {
  b.map(kernels::elu, {b.in(0)}, {b.out(0)}, elu_params(b));
  return {};
}

Result<void> elu_backward(Builder& b) {
  b.map(bool_attr(b.op(), "is_result") ? kernels::elu_backward_of_result : kernels::elu_backward,
        {b.in(0), b.in(1)}, {b.out(0)}, elu_params(b));
  return {};
}

Result<void> softplus(Builder& b) {
  b.map(kernels::softplus, {b.in(0)}, {b.out(0)}, floats_of(b, {"beta", "threshold"}));
  return {};
}

Result<void> softplus_backward(Builder& b) {
  b.map(kernels::softplus_backward, {b.in(0), b.in(1)}, {b.out(0)},
        floats_of(b, {"beta", "threshold"}));
  return {};
}

void add_arithmetic(std::vector<ExpansionRow>& rows) {
  using namespace kernels;  // NOLINT(google-build-using-namespace): a table of them
  const std::vector<ExpansionRow> made{
      {"aten.add", sum_or_difference<add, add_scaled, add_int, add_scaled_int, false>},
      {"aten.sub", sum_or_difference<sub, sub_scaled, sub_int, sub_scaled_int, false>},
      {"aten.rsub", sum_or_difference<sub, sub_scaled, sub_int, sub_scaled_int, true>},
      {"aten.mul", binary<mul, mul_int>},
      {"aten.div", divide},
      {"aten.remainder", binary<remainder, remainder_int>},
      {"aten.maximum", binary<maximum, maximum_int>},
      {"aten.minimum", binary<minimum, minimum_int>},
      {"aten.pow", power},
      {"aten.clamp", internal::clamp},
      {"aten.neg", unary_of_either<neg, neg_int>},
      {"aten.abs", unary_of_either<abs, abs_int>},
      {"aten.sign", unary_of_either<sign, sign_int>},
      {"aten.floor", unary_of_either<floor, copy_int>},
      {"aten.ceil", unary_of_either<ceil, copy_int>},
      {"aten.round", unary_of_either<round, copy_int>},
      {"aten.sqrt", unary<sqrt>},
      {"aten.rsqrt", unary<rsqrt>},
      {"aten.reciprocal", unary<reciprocal>},
      {"aten.exp", unary<exp>},
      {"aten.expm1", unary<expm1>},
      {"aten.log", unary<log>},
      {"aten.log1p", unary<log1p>},
      {"aten.erf", unary<erf>},
      {"aten.sin", unary<sin>},
      {"aten.cos", unary<cos>},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

void add_logic(std::vector<ExpansionRow>& rows) {
  using namespace kernels;  // NOLINT(google-build-using-namespace): a table of them
  const std::vector<ExpansionRow> made{
      {"aten.eq", compare<eq, eq_int>},
      {"aten.ne", compare<ne, ne_int>},
      {"aten.lt", compare<lt, lt_int>},
      {"aten.le", compare<le, le_int>},
      {"aten.gt", compare<gt, gt_int>},
      {"aten.ge", compare<ge, ge_int>},
      {"aten.logical_and", compare<logical_and, logical_and_int>},
      {"aten.logical_or", compare<logical_or, logical_or_int>},
      {"aten.logical_not", internal::logical_not},
      {"aten.bitwise_and", binary<bitwise_and, bitwise_and>},
      {"aten.bitwise_or", binary<bitwise_or, bitwise_or>},
      {"aten.bitwise_not", internal::bitwise_not},
      {"aten.where", internal::where},
      {"aten.masked_fill", masked_fill},
      {"aten.tril", internal::triangle<false>},
      {"aten.triu", internal::triangle<true>},
      {"aten._to_copy", to_copy},
      {"dojo.convert", unary<copy>},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

void add_activations(std::vector<ExpansionRow>& rows) {
  using namespace kernels;  // NOLINT(google-build-using-namespace): a table of them
  const std::vector<ExpansionRow> made{
      {"aten.relu", unary_of_either<relu, relu_int>},
      {"aten.threshold_backward", internal::threshold_backward},
      {"aten.gelu", internal::gelu},
      {"aten.gelu_backward", internal::gelu_backward},
      {"aten.silu", unary<silu>},
      {"aten.silu_backward", gradient<silu_backward>},
      {"aten.sigmoid", unary<sigmoid>},
      {"aten.sigmoid_backward", gradient<sigmoid_backward>},
      {"aten.tanh", unary<tanh>},
      {"aten.tanh_backward", gradient<tanh_backward>},
      {"aten.hardswish", unary<hardswish>},
      {"aten.hardswish_backward", gradient<hardswish_backward>},
      {"aten.hardsigmoid", unary<hardsigmoid>},
      {"aten.hardsigmoid_backward", gradient<hardsigmoid_backward>},
      {"aten.hardtanh", hardtanh},
      {"aten.hardtanh_backward", internal::hardtanh_backward},
      {"aten.leaky_relu", internal::leaky_relu},
      {"aten.leaky_relu_backward", internal::leaky_relu_backward},
      {"aten.elu", internal::elu},
      {"aten.elu_backward", internal::elu_backward},
      {"aten.softplus", internal::softplus},
      {"aten.softplus_backward", internal::softplus_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace

void add_elementwise_expansions(std::vector<ExpansionRow>& rows) {
  add_arithmetic(rows);
  add_logic(rows);
  add_activations(rows);
}

}  // namespace dojo::run::internal
