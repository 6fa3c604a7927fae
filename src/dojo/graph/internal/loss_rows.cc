// Losses and their gradients. reduction: 0 none, 1 mean, 2 sum.
#include <algorithm>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

Result<void> expect_reduction(const OpCall& call) {
  const std::int64_t reduction = int_attr(call, "reduction");
  if (reduction < 0 || reduction > 2) {
    return invalid("reduction is {}, expected 0 (none), 1 (mean) or 2 (sum)", reduction);
  }
  return {};
}

// --- element by element against a target: operands self, target [, weight, pos_weight] ---
Result<InferredTypes> infer_distance(const OpCall& call) {
  DOJO_TRY_VOID(expect_reduction(call));
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY(Shape shape, broadcast(call));
  return single(Format::F32, int_attr(call, "reduction") == 0 ? std::move(shape) : Shape{});
}

PointCost distance_cost(const OpCall& call) {
  const std::string_view name = call.info->name;
  if (name == "aten.smooth_l1_loss") {
    return {.vector_ops = 6};
  }
  if (name == "aten.binary_cross_entropy_with_logits") {
    return {.vector_ops = 6, .special_ops = 2};
  }
  return {.vector_ops = 2};
}

LoopNest distance_nest(const OpCall& call) {
  const std::int64_t reduction = int_attr(call, "reduction");
  if (reduction == 0) {
    return elementwise_nest(call, distance_cost(call));
  }
  const Shape shape = *broadcast(call);
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", shape);
  PointCost cost = distance_cost(call);
  cost.vector_ops += 1;
  nest.stage("", BodyClass::Vector).reduce(loops).per_point(cost);
  nest.per_result({.vector_ops = reduction == 1 ? 1 : 0});
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    if (call.has_input(i)) {
      nest.read(i, broadcast_access(call.shape(i), loops, shape));
    }
  }
  nest.write(0, {});
  return nest.finish();
}

// Operands grad_output, self, target: the gradient of self.
Result<InferredTypes> infer_distance_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_reduction(call));
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY_VOID(expect_float(call, 1));
  DOJO_TRY(Shape shape, broadcast(call));
  return single(Format::F32, std::move(shape));
}

// --- negative log likelihood: self [N, C, positions...], target [N, positions...] ---
Shape class_shape(const Shape& self) {  // without the classes
  Shape shape = self;
  shape.erase(shape.begin() + 1);
  return shape;
}

Result<void> expect_classes(const OpCall& call, std::size_t self) {
  DOJO_TRY_VOID(expect_reduction(call));
  DOJO_TRY_VOID(expect_float(call, self));
  DOJO_TRY_VOID(expect_rank(call, self, 2, 5));
  DOJO_TRY_VOID(expect_integer(call, self + 1));
  DOJO_TRY_VOID(expect_shape(call, self + 1, class_shape(call.shape(self))));
  if (call.has_input(self + 2)) {
    DOJO_TRY_VOID(expect_shape(call, self + 2, {call.shape(self)[1]}));
  }
  return {};
}

Result<InferredTypes> infer_nll(const OpCall& call) {
  DOJO_TRY_VOID(expect_classes(call, 0));
  const bool is_reduced = int_attr(call, "reduction") != 0;
  return InferredTypes{TensorType{Format::F32, is_reduced ? Shape{} : class_shape(call.shape(0))},
                       TensorType{Format::F32, {}}};
}

// self at [n, label, positions...]; `index` is the label's position among the operands.
std::vector<Access> picked(std::span<const int> rows, int index) {
  std::vector<Access> map = at_each(rows);
  map.insert(map.begin() + 1, Indexed{index});
  return map;
}

LoopNest nll_nest(const OpCall& call) {
  const bool is_reduced = int_attr(call, "reduction") != 0;
  NestBuilder nest(call);
  const std::vector<int> rows = nest.loops("r", class_shape(call.shape(0)));
  const auto read_all = [&] {
    const int target = nest.read(1, at_each(rows));
    nest.read(0, picked(rows, target));
    if (call.has_input(2)) {
      nest.read(2, {Indexed{target}});
    }
  };
  if (!is_reduced) {
    nest.stage("loss", BodyClass::Vector).parallel(rows).per_point({.vector_ops = 2});
    read_all();
    nest.write(0, at_each(rows));
  }
  nest.stage(is_reduced ? "loss" : "weight", BodyClass::Vector).reduce(rows);
  nest.per_point({.vector_ops = 3}).per_result({.vector_ops = 1});
  read_all();
  if (is_reduced) {
    nest.write(0, {});
  }
  nest.write(1, {});
  return nest.finish();
}

// Operands grad_output, self, target, weight, total_weight.
Result<InferredTypes> infer_nll_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_classes(call, 1));
  DOJO_TRY_VOID(expect_float(call, 0));
  const bool is_reduced = int_attr(call, "reduction") != 0;
  DOJO_TRY_VOID(expect_shape(call, 0, is_reduced ? Shape{} : class_shape(call.shape(1))));
  if (!call.has_input(4)) {
    return invalid("total_weight is missing");
  }
  DOJO_TRY_VOID(expect_shape(call, 4, {}));
  return single(Format::F32, call.shape(1));
}

// Zero but at the label: the loop j over classes is compared with it.
LoopNest nll_backward_nest(const OpCall& call) {
  const Shape& self = call.shape(1);
  NestBuilder nest(call);
  const std::vector<int> rows = nest.loops("r", class_shape(self));
  const int j = nest.loop("j", self[1]);
  nest.stage("", BodyClass::Vector).parallel(rows).parallel({j}).per_point({.vector_ops = 2});
  nest.read(0, call.shape(0).empty() ? std::vector<Access>{} : at_each(rows));
  nest.read(2, at_each(rows));
  if (call.has_input(3)) {
    nest.read(3, {at(j)});
  }
  nest.read(4, {});
  std::vector<Access> map = at_each(rows);
  map.insert(map.begin() + 1, at(j));
  nest.write(0, std::move(map));
  return nest.finish();
}

OpInfo loss_row(std::string_view name, std::vector<OperandInfo> operands, AttributeInfo reduction,
                std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Reduction;
  row.operands = std::move(operands);
  row.attributes = std::move(attributes);
  row.attributes.push_back(std::move(reduction));
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

void add_distances(std::vector<OpInfo>& rows) {
  const AttributeInfo mean = defaulted("reduction", std::int64_t{1});
  const AttributeInfo given = required("reduction", AttributeType::Int);
  const std::vector<OperandInfo> pair{{"self"}, {"target"}};
  const std::vector<OperandInfo> gradient{{"grad_output"}, {"self"}, {"target"}};
  rows.push_back(loss_row("aten.mse_loss", pair, mean, {}, infer_distance, distance_nest,
                          "(self - target)^2; reduction: 0 none, 1 mean, 2 sum"));
  rows.push_back(loss_row("aten.l1_loss", pair, mean, {}, infer_distance, distance_nest,
                          "absolute difference of self and target"));
  rows.push_back(loss_row(
      "aten.smooth_l1_loss", pair, mean, {defaulted("beta", 1.0)}, infer_distance, distance_nest,
      "d^2 / (2 beta) where the absolute difference d is below beta, else d - beta / "
      "2"));
  rows.push_back(loss_row("aten.binary_cross_entropy_with_logits",
                          {{"self"}, {"target"}, {"weight", true}, {"pos_weight", true}}, mean, {},
                          infer_distance, distance_nest,
                          "-(target log s + (1 - target) log(1 - s)) with s = sigmoid(self)"));
  rows.push_back(loss_row("aten.mse_loss_backward", gradient, given, {}, infer_distance_backward,
                          elementwise_nest, "gradient of mse_loss"));
  rows.back().group = OpGroup::Elementwise;
  rows.back().cost = {.vector_ops = 3};
  rows.push_back(loss_row("aten.smooth_l1_loss_backward", gradient, given,
                          {required("beta", AttributeType::Float)}, infer_distance_backward,
                          elementwise_nest, "gradient of smooth_l1_loss"));
  rows.back().group = OpGroup::Elementwise;
  rows.back().cost = {.vector_ops = 6};
}

}  // namespace

void add_loss_rows(std::vector<OpInfo>& rows) {
  add_distances(rows);
  const AttributeInfo given = required("reduction", AttributeType::Int);
  const AttributeInfo ignored = required("ignore_index", AttributeType::Int);
  const std::vector<OperandInfo> forward{{"self"}, {"target"}, {"weight", true}};
  const std::vector<OperandInfo> backward{
      {"grad_output"}, {"self", false, true}, {"target"}, {"weight", true}, {"total_weight"}};
  for (const std::string_view name : {"aten.nll_loss_forward", "aten.nll_loss2d_forward"}) {
    rows.push_back(loss_row(name, forward, given, {ignored}, infer_nll, nll_nest,
                            "-weight self at the label, and the sum of weights; labels "
                            "ignore_index count nothing"));
    rows.back().outputs = 2;
    rows.back().early = {.output = 1, .operands = {1, 2}};
  }
  for (const std::string_view name : {"aten.nll_loss_backward", "aten.nll_loss2d_backward"}) {
    rows.push_back(loss_row(name, backward, given, {ignored}, infer_nll_backward, nll_backward_nest,
                            "gradient of nll_loss"));
  }
}

}  // namespace dojo::graph
