// Element-wise ops: each output element from the elements at its own (broadcast) index.
#include <cmath>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

// Each optional operand is given as a tensor or as the attribute of its name, not both.
Result<void> expect_tensor_or_attribute(const OpCall& call) {
  bool has_tensor = false;
  for (std::size_t i = 0; i < call.info->operands.size(); ++i) {
    has_tensor = has_tensor || call.has_input(i);
    const OperandInfo& operand = call.info->operands[i];
    if (operand.is_optional && call.has_input(i) == has_attribute(call, operand.name)) {
      return invalid("{} must be given, as an operand or as an attribute, and not as both",
                     operand.name);
    }
  }
  if (!has_tensor) {
    return invalid("one operand at least must be a tensor");
  }
  return {};
}

Result<InferredTypes> infer_promoted(const OpCall& call) {
  DOJO_TRY_VOID(expect_tensor_or_attribute(call));
  DOJO_TRY(Shape shape, broadcast(call));
  return single(promoted(call), std::move(shape));
}

// Integers become floats: division, roots, transcendental functions.
Result<InferredTypes> infer_float(const OpCall& call) {
  DOJO_TRY_VOID(expect_tensor_or_attribute(call));
  DOJO_TRY(Shape shape, broadcast(call));
  return single(Format::F32, std::move(shape));
}

Result<InferredTypes> infer_bool(const OpCall& call) {
  DOJO_TRY_VOID(expect_tensor_or_attribute(call));
  DOJO_TRY(Shape shape, broadcast(call));
  return single(Format::Bool, std::move(shape));
}

Result<InferredTypes> infer_bitwise(const OpCall& call) {
  DOJO_TRY(InferredTypes types, infer_promoted(call));
  if (is_float(types[0]->format)) {
    return invalid("needs integers or bools");
  }
  return types;
}

Result<InferredTypes> infer_div(const OpCall& call) {
  if (!has_attribute(call, "rounding_mode")) {
    return infer_float(call);
  }
  const std::string& mode = string_attr(call, "rounding_mode");
  if (mode != "floor" && mode != "trunc") {
    return invalid("rounding_mode is \"{}\", expected \"floor\" or \"trunc\"", mode);
  }
  return infer_promoted(call);
}

Result<InferredTypes> infer_where(const OpCall& call) {
  if (call.input(0).format != Format::Bool) {
    return invalid("condition is {}, expected bool", info(call.input(0).format).name);
  }
  return infer_promoted(call);
}

Result<InferredTypes> infer_clamp(const OpCall& call) {
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
    const std::string_view name = call.info->operands[i].name;
    if (call.has_input(i) && has_attribute(call, name)) {
      return invalid("{} is given both as an operand and as an attribute", name);
    }
  }
  const bool has_bound = call.has_input(1) || call.has_input(2) || has_attribute(call, "min") ||
                         has_attribute(call, "max");
  if (!has_bound) {
    return invalid("needs min or max");
  }
  DOJO_TRY(Shape shape, broadcast(call));
  return single(promoted(call), std::move(shape));
}

Result<InferredTypes> infer_gelu(const OpCall& call) {
  const std::string& approximate = string_attr(call, "approximate");
  if (approximate != "none" && approximate != "tanh") {
    return invalid("approximate is \"{}\", expected \"none\" or \"tanh\"", approximate);
  }
  return infer_float(call);
}

Result<InferredTypes> infer_to_copy(const OpCall& call) {
  return single(dtype_attr(call, "dtype").value_or(float_class(call.input(0).format)),
                call.shape(0));
}

Result<InferredTypes> infer_convert(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  return single(Format::F32, call.shape(0));
}

// A mask keeps the type of what it masks.
Result<InferredTypes> infer_masked_fill(const OpCall& call) {
  if (call.input(1).format != Format::Bool) {
    return invalid("mask is {}, expected bool", info(call.input(1).format).name);
  }
  if (call.has_input(2) == has_attribute(call, "value")) {
    return invalid("value must be given, as an operand or as an attribute, and not as both");
  }
  DOJO_TRY(Shape shape, broadcast(call));
  return single(float_class(call.input(0).format), std::move(shape));
}

Result<InferredTypes> infer_triangle(const OpCall& call) {
  DOJO_TRY_VOID(expect_rank(call, 0, 2, 16));
  return infer_like_first(call);
}

LoopNest pow_nest(const OpCall& call) {
  PointCost cost{.special_ops = 2};  // exp(exponent * log(self))
  if (!call.has_input(1)) {
    const double exponent = std::abs(float_attr(call, "exponent"));
    if (exponent == 2 || exponent == 3) {
      cost = {.vector_ops = exponent == 2 ? 1 : 2};
    } else if (exponent == 0.5 || exponent == 1) {
      cost = {.special_ops = 1};
    }
  }
  return elementwise_nest(call, cost);
}

LoopNest gelu_nest(const OpCall& call) {
  const bool is_tanh = string_attr(call, "approximate") == "tanh";
  if (call.info->name == "aten.gelu") {
    return elementwise_nest(call, is_tanh ? PointCost{.vector_ops = 8, .special_ops = 1}
                                          : PointCost{.vector_ops = 4, .special_ops = 1});
  }
  return elementwise_nest(call, is_tanh ? PointCost{.vector_ops = 14, .special_ops = 1}
                                        : PointCost{.vector_ops = 7, .special_ops = 2});
}

LoopNest copy_nest(const OpCall& call) { return elementwise_nest(call, {}); }

constexpr PointCost vector_cost(std::int64_t vector_ops, std::int64_t special_ops = 0) {
  return {.vector_ops = vector_ops, .special_ops = special_ops};
}

class Adder {
 public:
  explicit Adder(std::vector<OpInfo>& rows) : rows_(rows) {}

  OpInfo& add(std::string_view name, std::vector<OperandInfo> operands,
              std::vector<AttributeInfo> attributes, InferFunction infer, PointCost cost,
              std::string_view doc) {
    OpInfo row;
    row.name = name;
    row.group = OpGroup::Elementwise;
    row.operands = std::move(operands);
    row.attributes = std::move(attributes);
    row.infer = infer;
    row.nest = elementwise_nest;
    row.cost = cost;
    row.doc = doc;
    rows_.push_back(std::move(row));
    return rows_.back();
  }
  OpInfo& unary(std::string_view name, InferFunction infer, PointCost cost, std::string_view doc,
                std::vector<AttributeInfo> attributes = {}) {
    return add(name, {{"self"}}, std::move(attributes), infer, cost, doc);
  }
  // The second operand may be the attribute `other`.
  OpInfo& binary(std::string_view name, InferFunction infer, PointCost cost, std::string_view doc,
                 std::vector<AttributeInfo> attributes = {}) {
    attributes.push_back(optional("other", AttributeType::Scalar));
    return add(name, {{"self"}, {"other", true}}, std::move(attributes), infer, cost, doc);
  }
  // The gradient of an activation: grad_output and what the forward op kept.
  OpInfo& gradient(std::string_view name, std::string_view kept, PointCost cost,
                   std::string_view doc, std::vector<AttributeInfo> attributes = {}) {
    return add(name, {{"grad_output"}, {kept}}, std::move(attributes), infer_float, cost, doc);
  }

 private:
  std::vector<OpInfo>& rows_;
};

void add_arithmetic(Adder& rows) {
  const AttributeInfo alpha = defaulted_scalar("alpha", 1);
  rows.binary("aten.add", infer_promoted, vector_cost(1), "self + alpha other", {alpha});
  rows.binary("aten.sub", infer_promoted, vector_cost(1), "self - alpha other", {alpha});
  rows.binary("aten.rsub", infer_promoted, vector_cost(1), "other - alpha self", {alpha});
  rows.binary("aten.mul", infer_promoted, vector_cost(1), "self * other");
  rows.binary("aten.div", infer_div, vector_cost(0, 1),
              "self / other; rounding_mode \"floor\" or \"trunc\" rounds the quotient",
              {optional("rounding_mode", AttributeType::String)});
  rows.binary("aten.remainder", infer_promoted, vector_cost(2, 1),
              "self - floor(self / other) other");
  rows.binary("aten.maximum", infer_promoted, vector_cost(1), "the greater of the two");
  rows.binary("aten.minimum", infer_promoted, vector_cost(1), "the lesser of the two");
  rows.add("aten.pow", {{"self", true}, {"exponent", true}},
           {optional("self", AttributeType::Scalar), optional("exponent", AttributeType::Scalar)},
           infer_promoted, {}, "self to the power exponent; either may be a number")
      .nest = pow_nest;
  rows.add("aten.clamp", {{"self"}, {"min", true}, {"max", true}},
           {optional("min", AttributeType::Scalar), optional("max", AttributeType::Scalar)},
           infer_clamp, vector_cost(2), "self kept between min and max; one may be absent");
  rows.unary("aten.neg", infer_promoted, vector_cost(1), "-self");
  rows.unary("aten.abs", infer_promoted, vector_cost(1), "absolute value");
  rows.unary("aten.sign", infer_promoted, vector_cost(2), "-1, 0 or 1");
  rows.unary("aten.floor", infer_promoted, vector_cost(1), "largest integer not above self");
  rows.unary("aten.ceil", infer_promoted, vector_cost(1), "least integer not below self");
  rows.unary("aten.round", infer_promoted, vector_cost(1), "nearest integer, ties to even");
  rows.unary("aten.sqrt", infer_float, vector_cost(0, 1), "square root");
  rows.unary("aten.rsqrt", infer_float, vector_cost(0, 2), "1 / square root");
  rows.unary("aten.reciprocal", infer_float, vector_cost(0, 1), "1 / self");
  rows.unary("aten.exp", infer_float, vector_cost(0, 1), "e to the power self");
  rows.unary("aten.expm1", infer_float, vector_cost(1, 1), "exp(self) - 1");
  rows.unary("aten.log", infer_float, vector_cost(0, 1), "natural logarithm");
  rows.unary("aten.log1p", infer_float, vector_cost(1, 1), "log(1 + self)");
  rows.unary("aten.erf", infer_float, vector_cost(0, 1), "error function");
  rows.unary("aten.sin", infer_float, vector_cost(0, 1), "sine");
  rows.unary("aten.cos", infer_float, vector_cost(0, 1), "cosine");
}

void add_logic(Adder& rows) {
  rows.binary("aten.eq", infer_bool, vector_cost(1), "self == other");
  rows.binary("aten.ne", infer_bool, vector_cost(1), "self != other");
  rows.binary("aten.lt", infer_bool, vector_cost(1), "self < other");
  rows.binary("aten.le", infer_bool, vector_cost(1), "self <= other");
  rows.binary("aten.gt", infer_bool, vector_cost(1), "self > other");
  rows.binary("aten.ge", infer_bool, vector_cost(1), "self >= other");
  rows.binary("aten.logical_and", infer_bool, vector_cost(1), "both are not zero");
  rows.binary("aten.logical_or", infer_bool, vector_cost(1), "one is not zero");
  rows.unary("aten.logical_not", infer_bool, vector_cost(1), "self is zero");
  rows.binary("aten.bitwise_and", infer_bitwise, vector_cost(1), "bits of both");
  rows.binary("aten.bitwise_or", infer_bitwise, vector_cost(1), "bits of either");
  rows.unary("aten.bitwise_not", infer_bitwise, vector_cost(1),
             "all bits flipped; of a bool, the other one");
  rows.add("aten.where", {{"condition"}, {"self", true}, {"other", true}},
           {optional("self", AttributeType::Scalar), optional("other", AttributeType::Scalar)},
           infer_where, vector_cost(1), "self where condition holds, else other");
  rows.add("aten.masked_fill", {{"self"}, {"mask"}, {"value", true}},
           {optional("value", AttributeType::Scalar)}, infer_masked_fill, vector_cost(1),
           "value where mask holds, else self");
  const AttributeInfo diagonal = defaulted("diagonal", std::int64_t{0});
  rows.unary("aten.tril", infer_triangle, vector_cost(1),
             "zeros above the diagonal of the last two dimensions", {diagonal});
  rows.unary("aten.triu", infer_triangle, vector_cost(1),
             "zeros below the diagonal of the last two dimensions", {diagonal});
}

void add_conversions(Adder& rows) {
  rows.unary("aten._to_copy", infer_to_copy, vector_cost(1),
             "self in the format dtype (in a lowered Graph any float stands for a float)",
             {optional("dtype", AttributeType::Dtype)});
  rows.unary("dojo.convert", infer_convert, {}, "self in another float format; nothing else").nest =
      copy_nest;
}

void add_activations(Adder& rows) {
  const AttributeInfo approximate = defaulted("approximate", std::string_view("none"));
  rows.unary("aten.relu", infer_promoted, vector_cost(1), "max(self, 0)");
  rows.gradient("aten.threshold_backward", "self", vector_cost(2),
                "grad_output where self > threshold, else 0: the gradient of relu; self may be "
                "relu's output",
                {required("threshold", AttributeType::Scalar)});
  rows.unary("aten.gelu", infer_gelu, {},
             "self Phi(self); approximate \"tanh\": the usual formula by tanh", {approximate})
      .nest = gelu_nest;
  OpInfo& gelu = rows.gradient("aten.gelu_backward", "self", {}, "gradient of gelu", {approximate});
  gelu.infer = infer_gelu;
  gelu.nest = gelu_nest;
  rows.unary("aten.silu", infer_float, vector_cost(2, 2), "self sigmoid(self)");
  rows.gradient("aten.silu_backward", "self", vector_cost(5, 2), "gradient of silu");
  rows.unary("aten.sigmoid", infer_float, vector_cost(2, 2), "1 / (1 + exp(-self))");
  rows.gradient("aten.sigmoid_backward", "output", vector_cost(3),
                "grad_output output (1 - output)");
  rows.unary("aten.tanh", infer_float, vector_cost(0, 1), "hyperbolic tangent");
  rows.gradient("aten.tanh_backward", "output", vector_cost(3), "grad_output (1 - output^2)");
  rows.unary("aten.hardswish", infer_float, vector_cost(5), "self min(max(self + 3, 0), 6) / 6");
  rows.gradient("aten.hardswish_backward", "self", vector_cost(6), "gradient of hardswish");
  rows.unary("aten.hardsigmoid", infer_float, vector_cost(4), "min(max(self + 3, 0), 6) / 6");
  rows.gradient("aten.hardsigmoid_backward", "self", vector_cost(3), "gradient of hardsigmoid");
  rows.unary("aten.hardtanh", infer_promoted, vector_cost(2),
             "self kept between min_val and max_val",
             {defaulted_scalar("min_val", -1), defaulted_scalar("max_val", 1)});
  rows.gradient(
      "aten.hardtanh_backward", "self", vector_cost(3), "gradient of hardtanh",
      {required("min_val", AttributeType::Scalar), required("max_val", AttributeType::Scalar)});
  AttributeInfo slope = defaulted_scalar("negative_slope", 0);
  slope.value = 0.01;
  rows.unary("aten.leaky_relu", infer_float, vector_cost(3),
             "self where it is above 0, else negative_slope self", {slope});
  rows.gradient("aten.leaky_relu_backward", "self", vector_cost(3), "gradient of leaky_relu",
                {required("negative_slope", AttributeType::Scalar),
                 required("self_is_result", AttributeType::Bool)});
  rows.unary("aten.elu", infer_float, vector_cost(5, 1),
             "scale self where it is above 0, else scale alpha (exp(input_scale self) - 1)",
             {defaulted_scalar("alpha", 1), defaulted_scalar("scale", 1),
              defaulted_scalar("input_scale", 1)});
  rows.gradient(
      "aten.elu_backward", "self_or_result", vector_cost(6, 1), "gradient of elu",
      {required("alpha", AttributeType::Scalar), required("scale", AttributeType::Scalar),
       required("input_scale", AttributeType::Scalar), required("is_result", AttributeType::Bool)});
  rows.unary("aten.softplus", infer_float, vector_cost(4, 2),
             "log(1 + exp(beta self)) / beta; self where beta self > threshold",
             {defaulted_scalar("beta", 1), defaulted_scalar("threshold", 20)});
  rows.gradient(
      "aten.softplus_backward", "self", vector_cost(4, 2), "gradient of softplus",
      {required("beta", AttributeType::Scalar), required("threshold", AttributeType::Scalar)});
}

}  // namespace

void add_elementwise_rows(std::vector<OpInfo>& rows) {
  Adder adder(rows);
  add_arithmetic(adder);
  add_logic(adder);
  add_conversions(adder);
  add_activations(adder);
}

}  // namespace dojo::graph
