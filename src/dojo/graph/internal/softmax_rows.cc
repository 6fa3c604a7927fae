// Softmax and its gradient: rows r (all other dimensions), columns j (the dimension).
#include <limits>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

Result<InferredTypes> infer_softmax(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), call.shape(0).size()));
  static_cast<void>(dim);
  if (call.info->name != "aten._safe_softmax" && bool_attr(call, "half_to_float")) {
    return unsupported("half_to_float=true is not supported: there is no half format");
  }
  return single(Format::F32, call.shape(0));
}

Result<InferredTypes> infer_softmax_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY_VOID(expect_float(call, 1));
  DOJO_TRY_VOID(expect_shape(call, 1, call.shape(0)));
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), call.shape(0).size()));
  static_cast<void>(dim);
  return single(Format::F32, call.shape(0));
}

struct RowLoops {
  std::vector<int> rows;
  std::vector<int> columns;  // one, none for a scalar
  std::vector<Access> element;
  Shape row_shape;
};

RowLoops row_loops(NestBuilder& nest, const OpCall& call) {
  const Shape& shape = call.shape(0);
  RowLoops out;
  if (shape.empty()) {
    return out;
  }
  const std::size_t dim = checked_dimension(int_attr(call, "dim"), shape.size());
  out.row_shape = shape;
  out.row_shape.erase(out.row_shape.begin() + static_cast<std::ptrdiff_t>(dim));
  out.rows = nest.loops("r", out.row_shape);
  out.columns = {nest.loop("j", shape[dim])};
  out.element = at_each(out.rows);
  out.element.insert(out.element.begin() + static_cast<std::ptrdiff_t>(dim), at(out.columns[0]));
  return out;
}

// The maximum m, the sum z of exp(x - m), then exp(x - m) / z or x - m - log z.
LoopNest softmax_nest(const OpCall& call) {
  const bool is_log = call.info->name == "aten._log_softmax";
  NestBuilder nest(call);
  const RowLoops loops = row_loops(nest, call);
  const TensorRef greatest = nest.scratch(loops.row_shape);
  const TensorRef total = nest.scratch(loops.row_shape);
  nest.stage("max", BodyClass::Vector).parallel(loops.rows).reduce(loops.columns, Combine::Max);
  nest.per_point({.vector_ops = 1});
  nest.read(0, loops.element, -std::numeric_limits<double>::infinity());
  nest.write(greatest, at_each(loops.rows));
  nest.stage("sum", BodyClass::Vector).parallel(loops.rows).reduce(loops.columns);
  nest.per_point({.vector_ops = 2, .special_ops = 1}).per_result({.special_ops = 1});
  nest.read(0, loops.element);
  nest.read(greatest, at_each(loops.rows));
  nest.write(total, at_each(loops.rows));
  nest.stage("apply", BodyClass::Vector).parallel(loops.rows).parallel(loops.columns);
  nest.per_point(is_log ? PointCost{.vector_ops = 2}
                        : PointCost{.vector_ops = 2, .special_ops = 1});
  nest.read(0, loops.element);
  nest.read(greatest, at_each(loops.rows));
  nest.read(total, at_each(loops.rows));
  nest.write(0, loops.element);
  return nest.finish();
}

// t = sum of y dy, dx = y (dy - t); of the logarithm t = sum of dy, dx = dy - exp(y) t.
LoopNest softmax_backward_nest(const OpCall& call) {
  const bool is_log = call.info->name == "aten._log_softmax_backward_data";
  NestBuilder nest(call);
  const RowLoops loops = row_loops(nest, call);
  const TensorRef total = nest.scratch(loops.row_shape);
  nest.stage("sum", BodyClass::Vector).parallel(loops.rows).reduce(loops.columns);
  nest.per_point({.vector_ops = is_log ? 1 : 2});
  nest.read(0, loops.element);
  if (!is_log) {
    nest.read(1, loops.element);
  }
  nest.write(total, at_each(loops.rows));
  nest.stage("apply", BodyClass::Vector).parallel(loops.rows).parallel(loops.columns);
  nest.per_point({.vector_ops = 2, .special_ops = is_log ? 1 : 0});
  nest.read(0, loops.element);
  nest.read(1, loops.element);
  nest.read(total, at_each(loops.rows));
  nest.write(0, loops.element);
  return nest.finish();
}

OpInfo softmax_row(std::string_view name, std::vector<OperandInfo> operands,
                   std::vector<AttributeInfo> attributes, std::string_view doc) {
  const bool is_backward = operands.size() == 2;
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Softmax;
  row.operands = std::move(operands);
  row.attributes = std::move(attributes);
  row.attributes.push_back(required("dim", AttributeType::Int));
  row.infer = is_backward ? infer_softmax_backward : infer_softmax;
  row.nest = is_backward ? softmax_backward_nest : softmax_nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_softmax_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo half = defaulted("half_to_float", false);
  const AttributeInfo dtype = optional("input_dtype", AttributeType::Dtype);
  rows.push_back(softmax_row("aten._softmax", {{"self"}}, {half},
                             "exp(self - max) divided by its sum over dim"));
  rows.push_back(softmax_row("aten._safe_softmax", {{"self"}},
                             {optional("dtype", AttributeType::Dtype)},
                             "softmax; a row of -inf gives zeros"));
  rows.push_back(
      softmax_row("aten._log_softmax", {{"self"}}, {half}, "logarithm of the softmax over dim"));
  rows.push_back(softmax_row("aten._softmax_backward_data", {{"grad_output"}, {"output"}}, {dtype},
                             "gradient of softmax from its output"));
  rows.push_back(softmax_row("aten._log_softmax_backward_data", {{"grad_output"}, {"output"}},
                             {dtype}, "gradient of log_softmax from its output"));
}

}  // namespace dojo::graph
