// Layer, group and batch norm, and their gradients. All have one shape: sums over some loops, then
// an element-wise pass; the gradient: two sums, the gradient of the input, then sums for weight and
// bias.
#include <algorithm>
#include <array>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

// How a norm sees its input: the loops that keep a statistic, those it runs over, and the maps.
struct NormLoops {
  std::vector<int> rows;          // one statistic per point
  std::vector<int> columns;       // summed, in this order
  std::vector<Access> element;    // of the input
  std::vector<Access> statistic;  // of mean and rstd
  std::vector<Access> parameter;  // of weight and bias
  std::vector<int> parameter_loops;
  std::vector<int> sample_loops;  // all others: summed for the gradients of weight and bias
};

std::vector<int> parameter_order(const NormLoops& loops) {
  std::vector<int> all = loops.rows;
  all.insert(all.end(), loops.columns.begin(), loops.columns.end());
  return all;
}

// Where the operands of a gradient row stand.
struct GradientOperands {
  std::size_t gradient = 0;
  std::size_t input = 1;
  std::size_t mean = 2;
  std::size_t rstd = 3;
  std::size_t weight = 4;
};

void add_forward(NestBuilder& nest, const OpCall& call, const NormLoops& loops) {
  nest.stage("mean", BodyClass::Vector).parallel(loops.rows).reduce(loops.columns);
  nest.per_point({.vector_ops = 1}).per_result({.vector_ops = 1});
  nest.read(0, loops.element);
  nest.write(1, loops.statistic);
  nest.stage("variance", BodyClass::Vector).parallel(loops.rows).reduce(loops.columns);
  nest.per_point({.vector_ops = 3}).per_result({.vector_ops = 2, .special_ops = 2});
  nest.read(0, loops.element);
  nest.read(TensorRef{TensorKind::Output, 1}, loops.statistic);
  nest.write(2, loops.statistic);
  nest.stage("apply", BodyClass::Vector).parallel(parameter_order(loops));
  nest.read(0, loops.element);
  nest.read(TensorRef{TensorKind::Output, 1}, loops.statistic);
  nest.read(TensorRef{TensorKind::Output, 2}, loops.statistic);
  std::int64_t ops = 2;
  for (const std::size_t parameter : {std::size_t{1}, std::size_t{2}}) {
    if (call.has_input(parameter)) {
      nest.read(parameter, loops.parameter);
      ++ops;
    }
  }
  nest.per_point({.vector_ops = ops});
  nest.write(0, loops.element);
}

// Outputs: gradients of input, weight and bias, those that output_mask asks for. Without `sums` the
// statistics were constants (batch norm that is not training).
enum class Statistics : std::uint8_t { OfThisInput, Given };

void add_backward(NestBuilder& nest, const OpCall& call, const NormLoops& loops,
                  const GradientOperands& at_operand, const Shape& row_shape,
                  Statistics statistics) {
  const std::vector<bool> mask = mask_attr(call, "output_mask", 3);
  const bool has_weight = call.has_input(at_operand.weight);
  const bool has_sums = statistics == Statistics::OfThisInput;
  const auto read_weight = [&] {
    if (has_weight) {
      nest.read(at_operand.weight, loops.parameter);
    }
  };
  if (mask[0]) {
    std::array<TensorRef, 2> sums{};
    std::vector<Access> row = at_each(loops.rows);
    if (has_sums) {
      sums = {nest.scratch(row_shape), nest.scratch(row_shape)};
      nest.stage("sums", BodyClass::Vector).parallel(loops.rows).reduce(loops.columns);
      nest.per_point({.vector_ops = has_weight ? 6 : 5});
      nest.read(at_operand.gradient, loops.element);
      nest.read(at_operand.input, loops.element);
      nest.read(at_operand.mean, loops.statistic);
      nest.read(at_operand.rstd, loops.statistic);
      read_weight();
      nest.write(sums[0], row);
      nest.write(sums[1], row);
    }
    nest.stage("input", BodyClass::Vector).parallel(parameter_order(loops));
    nest.read(at_operand.gradient, loops.element);
    if (has_sums) {
      nest.read(at_operand.input, loops.element);
      nest.read(at_operand.mean, loops.statistic);
    }
    nest.read(at_operand.rstd, loops.statistic);
    read_weight();
    if (has_sums) {
      nest.read(sums[0], row);
      nest.read(sums[1], row);
    }
    nest.per_point({.vector_ops = (has_sums ? 6 : 1) + (has_weight ? 1 : 0)});
    nest.write(0, loops.element);
  }
  if (mask[1]) {
    nest.stage("weight", BodyClass::Vector).parallel(loops.parameter_loops);
    nest.reduce(loops.sample_loops).per_point({.vector_ops = 4});
    nest.read(at_operand.gradient, loops.element);
    nest.read(at_operand.input, loops.element);
    nest.read(at_operand.mean, loops.statistic);
    nest.read(at_operand.rstd, loops.statistic);
    nest.write(1, loops.parameter);
  }
  if (mask[2]) {
    nest.stage("bias", BodyClass::Vector).parallel(loops.parameter_loops);
    nest.reduce(loops.sample_loops).per_point({.vector_ops = 1});
    nest.read(at_operand.gradient, loops.element);
    nest.write(2, loops.parameter);
  }
}

// Types of the gradients of input, weight and bias under the mask.
Result<InferredTypes> gradients(const OpCall& call, const Shape& input, const Shape& parameter) {
  DOJO_TRY_VOID(expect_mask(call, "output_mask", 3));
  const std::vector<bool> mask = mask_attr(call, "output_mask", 3);
  InferredTypes types(3);
  for (std::size_t i = 0; i < 3; ++i) {
    if (mask[i]) {
      types[i] = TensorType{Format::F32, i == 0 ? input : parameter};
    }
  }
  return types;
}

Result<void> expect_floats(const OpCall& call) {
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    if (call.has_input(i)) {
      DOJO_TRY_VOID(expect_float(call, i));
    }
  }
  return {};
}

Result<void> expect_shape_if_given(const OpCall& call, std::size_t index, const Shape& shape) {
  return call.has_input(index) ? expect_shape(call, index, shape) : Result<void>{};
}

// --- layer norm: rows r, columns j ---
Result<Shape> normalized_shape(const OpCall& call, std::size_t input) {
  const Shape& shape = call.shape(input);
  Shape tail = ints_attr(call, "normalized_shape");
  if (tail.empty() || tail.size() > shape.size() ||
      !std::equal(tail.rbegin(), tail.rend(), shape.rbegin())) {
    return invalid("normalized_shape {} must be the last dimensions of {}", show(tail),
                   show(shape));
  }
  return tail;
}

Shape layer_statistic_shape(Shape shape, std::size_t columns) {
  std::fill(shape.end() - static_cast<std::ptrdiff_t>(columns), shape.end(), 1);
  return shape;
}

Result<InferredTypes> infer_layer_norm(const OpCall& call) {
  DOJO_TRY_VOID(expect_floats(call));
  DOJO_TRY(const Shape tail, normalized_shape(call, 0));
  DOJO_TRY_VOID(expect_shape_if_given(call, 1, tail));
  DOJO_TRY_VOID(expect_shape_if_given(call, 2, tail));
  const TensorType statistic{Format::F32, layer_statistic_shape(call.shape(0), tail.size())};
  return InferredTypes{TensorType{Format::F32, call.shape(0)}, statistic, statistic};
}

Result<InferredTypes> infer_layer_norm_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_floats(call));
  DOJO_TRY(const Shape tail, normalized_shape(call, 1));
  DOJO_TRY_VOID(expect_shape(call, 0, call.shape(1)));
  const Shape statistic = layer_statistic_shape(call.shape(1), tail.size());
  DOJO_TRY_VOID(expect_shape(call, 2, statistic));
  DOJO_TRY_VOID(expect_shape(call, 3, statistic));
  DOJO_TRY_VOID(expect_shape_if_given(call, 4, tail));
  DOJO_TRY_VOID(expect_shape_if_given(call, 5, tail));
  return gradients(call, call.shape(1), tail);
}

NormLoops layer_loops(NestBuilder& nest, const Shape& shape, std::size_t columns) {
  const auto cut = shape.end() - static_cast<std::ptrdiff_t>(columns);
  NormLoops loops;
  loops.rows = nest.loops("r", Shape(shape.begin(), cut));
  loops.columns = nest.loops("j", Shape(cut, shape.end()));
  loops.element = at_each(parameter_order(loops));
  loops.statistic = at_each(loops.rows);
  loops.statistic.resize(shape.size(), fixed(0));
  loops.parameter = at_each(loops.columns);
  loops.parameter_loops = loops.columns;
  loops.sample_loops = loops.rows;
  return loops;
}

LoopNest layer_norm_nest(const OpCall& call) {
  NestBuilder nest(call);
  add_forward(nest, call,
              layer_loops(nest, call.shape(0), ints_attr(call, "normalized_shape").size()));
  return nest.finish();
}

LoopNest layer_norm_backward_nest(const OpCall& call) {
  NestBuilder nest(call);
  const Shape& shape = call.shape(1);
  const std::size_t columns = ints_attr(call, "normalized_shape").size();
  const NormLoops loops = layer_loops(nest, shape, columns);
  add_backward(nest, call, loops, {},
               Shape(shape.begin(), shape.end() - static_cast<std::ptrdiff_t>(columns)),
               Statistics::OfThisInput);
  return nest.finish();
}

// --- group norm: rows (n, g), columns (c within the group, positions) ---
struct Groups {
  std::int64_t count = 1;
  std::int64_t channels = 1;  // per group
};

Result<Groups> groups_of(const OpCall& call, const Shape& shape) {
  const std::int64_t count = int_attr(call, "group");
  if (shape.size() < 2 || shape.size() > 5 || count < 1 || shape[1] % count != 0) {
    return invalid("group={} does not divide the channels of {}", count, show(shape));
  }
  const std::int64_t positions = element_count(Shape(shape.begin() + 2, shape.end()));
  if (int_attr(call, "N") != shape[0] || int_attr(call, "C") != shape[1] ||
      int_attr(call, "HxW") != positions) {
    return invalid("N, C and HxW must be {}, {} and {} for {}", shape[0], shape[1], positions,
                   show(shape));
  }
  return Groups{count, shape[1] / count};
}

Result<InferredTypes> infer_group_norm(const OpCall& call) {
  DOJO_TRY_VOID(expect_floats(call));
  const Shape& shape = call.shape(0);
  DOJO_TRY(const Groups groups, groups_of(call, shape));
  DOJO_TRY_VOID(expect_shape_if_given(call, 1, {shape[1]}));
  DOJO_TRY_VOID(expect_shape_if_given(call, 2, {shape[1]}));
  const TensorType statistic{Format::F32, {shape[0], groups.count}};
  return InferredTypes{TensorType{Format::F32, shape}, statistic, statistic};
}

Result<InferredTypes> infer_group_norm_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_floats(call));
  const Shape& shape = call.shape(1);
  DOJO_TRY(const Groups groups, groups_of(call, shape));
  DOJO_TRY_VOID(expect_shape(call, 0, shape));
  DOJO_TRY_VOID(expect_shape(call, 2, {shape[0], groups.count}));
  DOJO_TRY_VOID(expect_shape(call, 3, {shape[0], groups.count}));
  DOJO_TRY_VOID(expect_shape_if_given(call, 4, {shape[1]}));
  return gradients(call, shape, {shape[1]});
}

// Positions are called [z] y x.
std::vector<int> position_loops(NestBuilder& nest, const Shape& shape) {
  static constexpr std::array<std::string_view, 3> kNames{"z", "y", "x"};
  std::vector<int> loops;
  for (std::size_t i = 2; i < shape.size(); ++i) {
    loops.push_back(nest.loop(std::string(kNames[3 - (shape.size() - i)]), shape[i]));
  }
  return loops;
}

NormLoops group_loops(NestBuilder& nest, const Shape& shape, const Groups& groups) {
  NormLoops loops;
  const int n = nest.loop("n", shape[0]);
  const int g = nest.loop("g", groups.count);
  const int c = nest.loop("c", groups.channels);
  const std::vector<int> positions = position_loops(nest, shape);
  const Access channel = affine(0, {{g, groups.channels}, {c, 1}});
  loops.rows = {n, g};
  loops.columns = {c};
  loops.columns.insert(loops.columns.end(), positions.begin(), positions.end());
  loops.element = {at(n), channel};
  for (const int position : positions) {
    loops.element.push_back(at(position));
  }
  loops.statistic = {at(n), at(g)};
  loops.parameter = {channel};
  loops.parameter_loops = {g, c};
  loops.sample_loops = {n};
  loops.sample_loops.insert(loops.sample_loops.end(), positions.begin(), positions.end());
  return loops;
}

LoopNest group_norm_nest(const OpCall& call) {
  NestBuilder nest(call);
  const auto groups = groups_of(call, call.shape(0));
  add_forward(nest, call, group_loops(nest, call.shape(0), *groups));
  return nest.finish();
}

LoopNest group_norm_backward_nest(const OpCall& call) {
  NestBuilder nest(call);
  const Shape& shape = call.shape(1);
  const auto groups = groups_of(call, shape);
  const NormLoops loops = group_loops(nest, shape, *groups);
  add_backward(nest, call, loops, {}, {shape[0], groups->count}, Statistics::OfThisInput);
  return nest.finish();
}

// --- batch norm: rows c, columns (n, positions) ---
Result<void> expect_channels(const OpCall& call, std::size_t input,
                             std::initializer_list<std::size_t> parameters) {
  DOJO_TRY_VOID(expect_rank(call, input, 2, 5));
  for (const std::size_t parameter : parameters) {
    DOJO_TRY_VOID(expect_shape_if_given(call, parameter, {call.shape(input)[1]}));
  }
  return {};
}

Result<InferredTypes> infer_batch_norm(const OpCall& call) {
  DOJO_TRY_VOID(expect_floats(call));
  DOJO_TRY_VOID(expect_channels(call, 0, {1, 2, 3, 4}));
  const TensorType channels{Format::F32, {call.shape(0)[1]}};
  const bool is_training = bool_attr(call, "training");
  const std::optional<TensorType> saved = is_training ? std::optional(channels) : std::nullopt;
  return InferredTypes{TensorType{Format::F32, call.shape(0)}, saved, saved, channels, channels};
}

Result<InferredTypes> infer_batch_norm_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_floats(call));
  DOJO_TRY_VOID(expect_shape(call, 0, call.shape(1)));
  DOJO_TRY_VOID(expect_channels(call, 1, {2, 3, 4, 5, 6}));
  const bool is_training = bool_attr(call, "train");
  const std::size_t mean = is_training ? 5 : 3;
  if (!call.has_input(mean) || !call.has_input(mean + 1)) {
    return invalid("needs {}", is_training ? "save_mean and save_invstd with train=true"
                                           : "running_mean and running_var with train=false");
  }
  return gradients(call, call.shape(1), {call.shape(1)[1]});
}

NormLoops batch_loops(NestBuilder& nest, const Shape& shape) {
  NormLoops loops;
  const int n = nest.loop("n", shape[0]);
  const int c = nest.loop("c", shape[1]);
  const std::vector<int> positions = position_loops(nest, shape);
  loops.rows = {c};
  loops.columns = {n};
  loops.columns.insert(loops.columns.end(), positions.begin(), positions.end());
  loops.element = {at(n), at(c)};
  for (const int position : positions) {
    loops.element.push_back(at(position));
  }
  loops.statistic = {at(c)};
  loops.parameter = {at(c)};
  loops.parameter_loops = {c};
  loops.sample_loops = loops.columns;
  return loops;
}

LoopNest batch_norm_nest(const OpCall& call) {
  NestBuilder nest(call);
  const NormLoops loops = batch_loops(nest, call.shape(0));
  const bool is_training = bool_attr(call, "training");
  if (is_training) {
    add_forward(nest, call, loops);
  } else {
    nest.stage("apply", BodyClass::Vector).parallel(parameter_order(loops));
    nest.per_point({.vector_ops = 4});
    nest.read(0, loops.element);
    for (std::size_t i = 1; i < 5; ++i) {
      if (call.has_input(i)) {
        nest.read(i, loops.parameter);
      }
    }
    nest.write(0, loops.element);
  }
  nest.stage("running", BodyClass::Vector).parallel(loops.rows);
  nest.per_point({.vector_ops = is_training ? 7 : 0});
  nest.read(3, loops.statistic);
  nest.read(4, loops.statistic);
  if (is_training) {
    nest.read(TensorRef{TensorKind::Output, 1}, loops.statistic);
    nest.read(TensorRef{TensorKind::Output, 2}, loops.statistic);
  }
  nest.write(3, loops.statistic);
  nest.write(4, loops.statistic);
  return nest.finish();
}

LoopNest batch_norm_backward_nest(const OpCall& call) {
  NestBuilder nest(call);
  const Shape& shape = call.shape(1);
  const NormLoops loops = batch_loops(nest, shape);
  const bool is_training = bool_attr(call, "train");
  const GradientOperands operands{0, 1, is_training ? 5u : 3u, is_training ? 6u : 4u, 2};
  add_backward(nest, call, loops, operands, {shape[1]},
               is_training ? Statistics::OfThisInput : Statistics::Given);
  return nest.finish();
}

OpInfo norm_row(std::string_view name, std::vector<OperandInfo> operands, int outputs,
                std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Normalisation;
  row.operands = std::move(operands);
  row.outputs = outputs;
  row.attributes = std::move(attributes);
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_norm_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo eps = required("eps", AttributeType::Float);
  const AttributeInfo mask = required("output_mask", AttributeType::Ints);
  const AttributeInfo tail = required("normalized_shape", AttributeType::Ints);
  const std::vector<AttributeInfo> group{
      required("N", AttributeType::Int), required("C", AttributeType::Int),
      required("HxW", AttributeType::Int), required("group", AttributeType::Int)};
  std::vector<AttributeInfo> group_forward = group;
  group_forward.push_back(eps);
  std::vector<AttributeInfo> group_backward = group;
  group_backward.push_back(mask);

  rows.push_back(norm_row("aten.native_layer_norm", {{"input"}, {"weight", true}, {"bias", true}},
                          3, {tail, eps}, infer_layer_norm, layer_norm_nest,
                          "y, mean and 1 / standard deviation over the last dimensions"));
  rows.push_back(norm_row(
      "aten.native_layer_norm_backward",
      {{"grad_out"}, {"input"}, {"mean"}, {"rstd"}, {"weight", true}, {"bias", true, true}}, 3,
      {tail, mask}, infer_layer_norm_backward, layer_norm_backward_nest,
      "gradients of input, weight and bias"));
  rows.push_back(norm_row("aten.native_group_norm", {{"input"}, {"weight", true}, {"bias", true}},
                          3, group_forward, infer_group_norm, group_norm_nest,
                          "y, mean and 1 / standard deviation over each group of channels"));
  rows.push_back(norm_row("aten.native_group_norm_backward",
                          {{"grad_out"}, {"input"}, {"mean"}, {"rstd"}, {"weight", true}}, 3,
                          group_backward, infer_group_norm_backward, group_norm_backward_nest,
                          "gradients of input, weight and bias"));
  rows.push_back(norm_row(
      "aten._native_batch_norm_legit_functional",
      {{"input"}, {"weight", true}, {"bias", true}, {"running_mean"}, {"running_var"}}, 5,
      {required("training", AttributeType::Bool), required("momentum", AttributeType::Float), eps},
      infer_batch_norm, batch_norm_nest,
      "y, mean and 1 / standard deviation of the batch (none unless training), new running mean "
      "and variance"));
  rows.push_back(norm_row("aten.native_batch_norm_backward",
                          {{"grad_out"},
                           {"input"},
                           {"weight", true},
                           {"running_mean", true},
                           {"running_var", true},
                           {"save_mean", true},
                           {"save_invstd", true}},
                          3, {required("train", AttributeType::Bool), eps, mask},
                          infer_batch_norm_backward, batch_norm_backward_nest,
                          "gradients of input, weight and bias"));
}

}  // namespace dojo::graph
