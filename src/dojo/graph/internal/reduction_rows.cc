// Reductions over dimensions, and running sums.
#include <algorithm>
#include <limits>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

// Which dimensions go: attribute `dim`, an integer or a list; absent or empty: all.
Result<std::vector<std::size_t>> reduced_dimensions(const OpCall& call) {
  const auto dims = optional_ints_attr(call, "dim").value_or(std::vector<std::int64_t>{});
  return dimensions(dims, call.shape(0).size());
}

bool is_in(const std::vector<std::size_t>& dims, std::size_t dim) {
  return std::find(dims.begin(), dims.end(), dim) != dims.end();
}

Result<InferredTypes> infer_reduced(const OpCall& call, Format format) {
  DOJO_TRY(const std::vector<std::size_t> dims, reduced_dimensions(call));
  const bool keeps = bool_attr(call, "keepdim");
  Shape shape;
  for (std::size_t i = 0; i < call.shape(0).size(); ++i) {
    if (!is_in(dims, i)) {
      shape.push_back(call.shape(0)[i]);
    } else if (keeps) {
      shape.push_back(1);
    }
  }
  return single(format, std::move(shape));
}

Result<InferredTypes> infer_sum(const OpCall& call) {
  const Format format = float_class(call.input(0).format);
  return infer_reduced(
      call, dtype_attr(call, "dtype").value_or(format == Format::F32 ? format : Format::I64));
}

Result<InferredTypes> infer_mean(const OpCall& call) {
  const Format format = dtype_attr(call, "dtype").value_or(float_class(call.input(0).format));
  if (format != Format::F32) {
    return invalid("the mean of {} is not defined: convert it to a float first",
                   info(call.input(0).format).name);
  }
  return infer_reduced(call, format);
}

Result<InferredTypes> infer_extremum(const OpCall& call) {
  return infer_reduced(call, float_class(call.input(0).format));
}

Result<InferredTypes> infer_bool(const OpCall& call) { return infer_reduced(call, Format::Bool); }

Result<InferredTypes> infer_index(const OpCall& call) { return infer_reduced(call, Format::I64); }

Result<InferredTypes> infer_var(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  return infer_reduced(call, Format::F32);
}

// Loops d0, d1, ... over the operand; those of `dims` are reduced, in ascending order.
struct ReducedLoops {
  std::vector<int> all;
  std::vector<int> kept;
  std::vector<int> reduced;
  std::vector<Access> result;  // of the output
};

ReducedLoops reduced_loops(NestBuilder& nest, const OpCall& call,
                           const std::vector<std::size_t>& dims) {
  ReducedLoops out;
  out.all = nest.loops("d", call.shape(0));
  const bool keeps = bool_attr(call, "keepdim");
  for (std::size_t i = 0; i < out.all.size(); ++i) {
    if (!is_in(dims, i)) {
      out.kept.push_back(out.all[i]);
      out.result.push_back(at(out.all[i]));
    } else {
      out.reduced.push_back(out.all[i]);
      if (keeps) {
        out.result.push_back(fixed(0));
      }
    }
  }
  return out;
}

LoopNest reduction_nest(const OpCall& call, Combine combine, PointCost per_point,
                        PointCost per_result) {
  NestBuilder nest(call);
  const auto dims = reduced_dimensions(call);
  const ReducedLoops loops = reduced_loops(nest, call, *dims);
  nest.stage("", BodyClass::Vector).parallel(loops.kept).reduce(loops.reduced, combine);
  nest.per_point(per_point).per_result(per_result);
  const double lowest = -std::numeric_limits<double>::infinity();
  nest.read(0, at_each(loops.all),
            combine == Combine::Max   ? lowest
            : combine == Combine::Min ? -lowest
                                      : 0);
  nest.write(0, loops.result);
  return nest.finish();
}

constexpr PointCost kOneOp{.vector_ops = 1};

LoopNest sum_nest(const OpCall& call) { return reduction_nest(call, Combine::Sum, kOneOp, {}); }
LoopNest mean_nest(const OpCall& call) {
  return reduction_nest(call, Combine::Sum, kOneOp, kOneOp);
}
LoopNest max_nest(const OpCall& call) { return reduction_nest(call, Combine::Max, kOneOp, {}); }
LoopNest min_nest(const OpCall& call) { return reduction_nest(call, Combine::Min, kOneOp, {}); }
LoopNest argmax_nest(const OpCall& call) {
  return reduction_nest(call, Combine::Max, {.vector_ops = 2}, {});
}

// First the mean, then the squares of what differs from it.
LoopNest var_nest(const OpCall& call) {
  NestBuilder nest(call);
  const auto dims = reduced_dimensions(call);
  const ReducedLoops loops = reduced_loops(nest, call, *dims);
  Shape kept;
  for (std::size_t i = 0; i < call.shape(0).size(); ++i) {
    if (!is_in(*dims, i)) {
      kept.push_back(call.shape(0)[i]);
    }
  }
  const TensorRef mean = nest.scratch(kept);
  nest.stage("mean", BodyClass::Vector).parallel(loops.kept).reduce(loops.reduced);
  nest.per_point(kOneOp).per_result(kOneOp);
  nest.read(0, at_each(loops.all));
  nest.write(mean, at_each(loops.kept));
  nest.stage("squares", BodyClass::Vector).parallel(loops.kept).reduce(loops.reduced);
  nest.per_point({.vector_ops = 3}).per_result(kOneOp);
  nest.read(0, at_each(loops.all));
  nest.read(mean, at_each(loops.kept));
  nest.write(0, loops.result);
  return nest.finish();
}

Result<InferredTypes> infer_cumsum(const OpCall& call) {
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), call.shape(0).size()));
  static_cast<void>(dim);
  const Format format = float_class(call.input(0).format);
  return single(dtype_attr(call, "dtype").value_or(format == Format::F32 ? format : Format::I64),
                call.shape(0));
}

LoopNest cumsum_nest(const OpCall& call) {
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", call.shape(0));
  const std::size_t dim = checked_dimension(int_attr(call, "dim"), loops.size());
  nest.stage("", BodyClass::Vector);
  for (std::size_t i = 0; i < loops.size(); ++i) {
    if (i != dim) {
      nest.parallel({loops[i]});
    }
  }
  if (!loops.empty()) {
    nest.scan(loops[dim]);
  }
  nest.per_point(kOneOp);
  nest.read(0, at_each(loops));
  nest.write(0, at_each(loops));
  return nest.finish();
}

// --- topk ---
Result<InferredTypes> infer_topk(const OpCall& call) {
  const Shape& self = call.shape(0);
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), self.size()));
  const std::int64_t k = int_attr(call, "k");
  const std::int64_t extent = self.empty() ? 1 : self[dim];
  if (k < 1 || k > extent) {
    return invalid("k is {}, expected 1 to {}, the extent of dim {}", k, extent, dim);
  }
  if (!bool_attr(call, "largest")) {
    return unsupported("the least k are not supported: take the greatest of the negative");
  }
  Shape shape = self;
  if (!shape.empty()) {
    shape[dim] = k;
  }
  return InferredTypes{TensorType{float_class(call.input(0).format), shape},
                       TensorType{Format::I64, shape}};
}

// The j-th greatest along dim, each by a pass of its own.
LoopNest topk_nest(const OpCall& call) {
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", call.shape(0));
  std::vector<Access> result = at_each(loops);
  nest.stage("", BodyClass::Vector);
  if (!loops.empty()) {
    const std::size_t dim = checked_dimension(int_attr(call, "dim"), loops.size());
    const int j = nest.loop("j", int_attr(call, "k"));
    std::vector<int> kept = loops;
    kept[dim] = j;
    result[dim] = at(j);
    nest.parallel(kept).reduce({loops[dim]}, Combine::Max);
  }
  nest.per_point({.vector_ops = 2});
  nest.read(0, at_each(loops), -std::numeric_limits<double>::infinity());
  nest.write(0, result);
  nest.write(1, result);
  return nest.finish();
}

OpInfo reduction_row(std::string_view name, std::vector<AttributeInfo> more, InferFunction infer,
                     NestFunction nest, std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Reduction;
  row.operands = {{"self"}};
  row.attributes = std::move(more);
  row.attributes.push_back(optional("dim", AttributeType::Ints));
  row.attributes.push_back(defaulted("keepdim", false));
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_reduction_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo dtype = optional("dtype", AttributeType::Dtype);
  rows.push_back(reduction_row("aten.sum", {dtype}, infer_sum, sum_nest,
                               "sum over dim (all if absent), first index first"));
  rows.push_back(reduction_row("aten.mean", {dtype}, infer_mean, mean_nest,
                               "sum over dim, divided by the count"));
  rows.push_back(reduction_row("aten.amax", {}, infer_extremum, max_nest, "greatest over dim"));
  rows.push_back(reduction_row("aten.amin", {}, infer_extremum, min_nest, "least over dim"));
  rows.push_back(reduction_row("aten.any", {}, infer_bool, max_nest, "whether one is not zero"));
  rows.push_back(reduction_row("aten.all", {}, infer_bool, min_nest, "whether none is zero"));
  rows.push_back(reduction_row("aten.argmax", {}, infer_index, argmax_nest,
                               "index of the greatest over dim; the lowest of equals"));
  rows.push_back(reduction_row(
      "aten.var", {optional("correction", AttributeType::Scalar)}, infer_var, var_nest,
      "sum of squared differences from the mean over dim, divided by count - correction (1 if "
      "absent)"));
  OpInfo topk;
  topk.name = "aten.topk";
  topk.group = OpGroup::Reduction;
  topk.operands = {{"self"}};
  topk.outputs = 2;
  topk.attributes = {defaulted("dim", std::int64_t{-1}), required("k", AttributeType::Int),
                     defaulted("largest", true), defaulted("sorted", true)};
  topk.infer = infer_topk;
  topk.nest = topk_nest;
  topk.doc =
      "the k greatest along dim, greatest first, and their indices; the lowest of equals "
      "first";
  rows.push_back(topk);
  OpInfo cumsum;
  cumsum.name = "aten.cumsum";
  cumsum.group = OpGroup::Reduction;
  cumsum.operands = {{"self"}};
  cumsum.attributes = {required("dim", AttributeType::Int), dtype};
  cumsum.infer = infer_cumsum;
  cumsum.nest = cumsum_nest;
  cumsum.doc = "running sum along dim";
  rows.push_back(cumsum);
}

}  // namespace dojo::graph
