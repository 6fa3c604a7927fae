// Optimisers: one op per parameter, new values of the parameter and its state.
#include <cmath>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

// Operands: `tensors` of the parameter's shape (absent ones stay absent), then scalars.
Result<void> expect_update(const OpCall& call, std::size_t tensors) {
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    if (call.has_input(i)) {
      const bool is_step = call.info->operands[i].name == "step";
      if (!is_step || call.input(i).format == Format::Bool) {  // a step may be an integer, too
        DOJO_TRY_VOID(expect_float(call, i));
      }
      DOJO_TRY_VOID(expect_shape(call, i, i < tensors ? call.shape(0) : Shape{}));
    }
  }
  return {};
}

Result<InferredTypes> infer_sgd(const OpCall& call) {
  DOJO_TRY_VOID(expect_update(call, 3));
  const TensorType type{Format::F32, call.shape(0)};
  const bool has_momentum = float_attr(call, "momentum") != 0;
  if (has_momentum != call.has_input(2)) {
    return invalid("{}", has_momentum ? "momentum needs the operand m"
                                      : "operand m needs a momentum other than 0");
  }
  return InferredTypes{type, has_momentum ? std::optional(type) : std::nullopt};
}

Result<InferredTypes> infer_adamw(const OpCall& call) {
  DOJO_TRY_VOID(expect_update(call, 4));
  int exponent = 0;
  const double scale = float_attr(call, "v_scale");
  if (!(scale > 0) || std::frexp(scale, &exponent) != 0.5 || std::abs(exponent) > 64) {
    return invalid("v_scale is {}, expected a power of two from 2^-64 to 2^63", scale);
  }
  const TensorType type{Format::F32, call.shape(0)};
  return InferredTypes{type, type, type};
}

LoopNest update_nest(const OpCall& call, PointCost cost) {
  NestBuilder nest(call);
  const Shape& shape = call.shape(0);
  const std::vector<int> loops = nest.loops("d", shape);
  nest.stage("", BodyClass::Vector).parallel(loops).per_point(cost);
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    if (call.has_input(i)) {
      nest.read(i, broadcast_access(call.shape(i), loops, shape));
    }
  }
  for (std::size_t i = 0; i < call.outputs.size(); ++i) {
    if (call.outputs[i].has_value()) {
      nest.write(i, at_each(loops));
    }
  }
  return nest.finish();
}

LoopNest sgd_nest(const OpCall& call) {
  std::int64_t ops = 2;
  ops += float_attr(call, "weight_decay") != 0 ? 2 : 0;
  ops += call.has_input(2) ? 2 : 0;
  ops += bool_attr(call, "nesterov") ? 2 : 0;
  return update_nest(call, {.vector_ops = ops});
}

LoopNest adamw_nest(const OpCall& call) {
  const std::int64_t decay = float_attr(call, "weight_decay") != 0 ? 2 : 0;
  const std::int64_t scaling = float_attr(call, "v_scale") != 1 ? 2 : 0;
  return update_nest(call, {.vector_ops = 10 + decay + scaling, .special_ops = 2});
}

OpInfo update_row(std::string_view name, std::vector<OperandInfo> operands, int outputs,
                  std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                  std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Update;
  row.operands = std::move(operands);
  row.outputs = outputs;
  row.attributes = std::move(attributes);
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_update_rows(std::vector<OpInfo>& rows) {
  rows.push_back(update_row(
      "dojo.sgd", {{"w"}, {"g"}, {"m", true}, {"lr"}}, 2,
      {defaulted("momentum", 0.0), defaulted("dampening", 0.0), defaulted("nesterov", false),
       defaulted("weight_decay", 0.0), defaulted("maximize", false)},
      infer_sgd, sgd_nest,
      "torch.optim.SGD: new w and m; g += weight_decay w, m = momentum m + (1 - dampening) g, w -= "
      "lr m (nesterov: lr (g + momentum m))"));
  rows.push_back(update_row(
      "dojo.adamw", {{"w"}, {"g"}, {"m"}, {"v"}, {"lr"}, {"step"}}, 3,
      {defaulted("beta1", 0.9), defaulted("beta2", 0.999), defaulted("eps", 1e-8),
       defaulted("weight_decay", 0.0), defaulted("decoupled", true), defaulted("maximize", false),
       defaulted("v_scale", 1.0)},
      infer_adamw, adamw_nest,
      "torch.optim.AdamW (Adam unless decoupled): new w, m and v; step is the number of this step, "
      "1 for the first; v is kept multiplied by v_scale, a power of two"));
}

}  // namespace dojo::graph
