#include "dojo/run/internal/builder.h"

#include <fmt/format.h>

#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/move_elements.h"

namespace dojo::run::internal {

using graph::Shape;

Builder::Builder(const graph::Graph& graph, Plan& plan, std::span<const std::uint32_t> ids)
    : graph_(graph), plan_(plan), ids_(ids) {
  plan_.views.assign(graph.values.size(), std::nullopt);
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    const graph::Value& value = graph.values[i];
    if (value.kind == graph::ValueKind::Op) {
      continue;
    }
    const Place place = value.kind == graph::ValueKind::Input ? Place::Input : Place::Leaf;
    const BufferId buffer =
        add_buffer({value.format, graph::element_count(value.shape), place, ValueId{i}, false, {}});
    plan_.views[i] = contiguous_view(buffer, value.shape);
  }
}

void Builder::begin(OpId op) {
  op_ = op;
  nest_ = graph::nest_of(graph_, graph_.ops[op.index]);
}

bool Builder::has_in(std::size_t i) const {
  return i < op().inputs.size() && op().inputs[i].has_value();
}

const View& Builder::in(std::size_t i) const {
  DOJO_CHECK(has_in(i));
  const std::optional<View>& view = plan_.views[op().inputs[i]->index];
  DOJO_CHECK(view.has_value());
  return *view;
}

Format Builder::in_format(std::size_t i) const { return graph_.value(*op().inputs[i]).format; }

const Shape& Builder::in_shape(std::size_t i) const { return graph_.value(*op().inputs[i]).shape; }

bool Builder::has_out(std::size_t i) const {
  return i < op().outputs.size() && op().outputs[i].has_value();
}

const graph::Value& Builder::out_value(std::size_t i) const {
  return graph_.value(*op().outputs[i]);
}

std::uint32_t Builder::tensor_id(std::size_t i) const { return ids_[op().outputs[i]->index]; }

std::string Builder::where() const {
  return fmt::format("{} @{}", op().info->name, quoted(op().module));
}

const graph::Stage& Builder::stage(std::string_view name) const {
  for (const graph::Stage& stage : nest_.stages) {
    if (stage.name == name) {
      return stage;
    }
  }
  DOJO_CHECK(false);
}

std::int64_t Builder::loop_extent(std::string_view name) const {
  const std::optional<int> loop = nest_.loop_named(name);
  DOJO_CHECK(loop.has_value());
  return nest_.loops[static_cast<std::size_t>(*loop)].extent;
}

std::optional<graph::Ratio> Builder::read_ratio(int input, std::size_t dim) const {
  for (const graph::Operand& operand : stage().operands) {
    if (operand.tensor == graph::TensorRef{graph::TensorKind::Input, input}) {
      const auto* map = std::get_if<graph::Affine>(&operand.access[dim]);
      DOJO_CHECK(map != nullptr);
      return map->ratio;
    }
  }
  DOJO_CHECK(false);
}

numerics::ReduceCuts Builder::cuts(const graph::Stage& stage, const Shape& extents) const {
  numerics::ReduceCuts cuts;
  bool is_cut = false;
  for (const graph::StageLoop& each : stage.loops) {
    if (each.kind == graph::LoopKind::Parallel) {
      continue;
    }
    const graph::Loop& loop = nest_.loops[static_cast<std::size_t>(each.loop)];
    DOJO_CHECK(cuts.block.size() < extents.size() && loop.extent == extents[cuts.block.size()]);
    cuts.block.push_back(std::max<std::int64_t>(loop.extent, 1));
    cuts.run.push_back(cuts.block.back());
    for (const graph::ReduceCut& cut : op().k_parts) {
      if (cut.loop == loop.name) {
        cuts.block.back() = cut.block;
        cuts.run.back() = cut.run.value_or(cut.parts);
        is_cut = true;
      }
    }
  }
  DOJO_CHECK(cuts.block.size() == extents.size());
  if (!is_cut) {
    cuts.block.clear();
    cuts.run.clear();
  }
  if (op().info->group == graph::OpGroup::Matrix) {
    cuts.order = graph_.lowering->sum_order;
  }
  return cuts;
}

BufferId Builder::add_buffer(Buffer buffer) {
  plan_.buffers.push_back(buffer);
  return BufferId{static_cast<std::uint32_t>(plan_.buffers.size() - 1)};
}

View Builder::out(std::size_t i) {
  DOJO_CHECK(has_out(i));
  const ValueId id = *op().outputs[i];
  std::optional<View>& view = plan_.views[id.index];
  if (!view.has_value()) {
    const graph::Value& value = graph_.value(id);
    const BufferId buffer = add_buffer({value.format,
                                        graph::element_count(value.shape),
                                        Place::Arena,
                                        id,
                                        value.is_stochastic,
                                        {}});
    view = contiguous_view(buffer, value.shape);
  }
  return *view;
}

View Builder::temporary(Shape shape, Format format) {
  const BufferId buffer =
      add_buffer({format, graph::element_count(shape), Place::Arena, std::nullopt, false, {}});
  return contiguous_view(buffer, std::move(shape));
}

View Builder::unread(Shape shape, Format format) {
  const View view = temporary(std::move(shape), format);
  plan_.buffers[view.buffer.index].place = Place::Nowhere;
  return view;
}

View Builder::constant(double value) {
  const View view = temporary({}, Format::F32);
  Buffer& buffer = plan_.buffers[view.buffer.index];
  buffer.place = Place::Constant;
  buffer.constant = static_cast<float>(value);
  return view;
}

View Builder::constant(std::int64_t value) {
  const View view = temporary({}, Format::I64);
  Buffer& buffer = plan_.buffers[view.buffer.index];
  buffer.place = Place::Constant;
  buffer.constant = value;
  return view;
}

void Builder::set_out(std::size_t i, View view) {
  if (!has_out(i)) {
    return;
  }
  DOJO_CHECK(format_of(view) == out_value(i).format && view.shape == out_value(i).shape);
  plan_.views[op().outputs[i]->index] = std::move(view);
}

void Builder::map(const BlockKernel& kernel, const std::vector<View>& in,
                  const std::vector<View>& out, const Params& params) {
  DOJO_CHECK(!out.empty() && in.size() == kernel.in.size() && out.size() == kernel.out.size());
  MapStep step{&kernel, params, {}, out};
  for (const View& view : in) {
    step.in.push_back(broadcast_to(view, out.front().shape));
  }
  Task task;
  task.op = op_;
  task.steps.push_back(std::move(step));
  plan_.tasks.push_back(std::move(task));
}

void Builder::whole(const std::vector<View>& in, const std::vector<View>& out,
                    std::function<Result<void>(const StepContext&)> run, bool can_fail) {
  Task task;
  task.op = op_;
  task.run = std::move(run);
  task.can_fail = can_fail;
  for (const View& view : in) {
    task.reads.push_back(view.buffer);
  }
  for (const View& view : out) {
    task.writes.push_back(view.buffer);
  }
  plan_.tasks.push_back(std::move(task));
}

void Builder::rows(const std::vector<View>& in, const View& out, RowProducer producer,
                   const std::vector<View>& further) {
  DOJO_CHECK(format_of(out) == Format::F32 && out.is_contiguous() &&
             producer.rows * producer.row_elements == out.elements());
  std::vector<View> written{out};
  written.insert(written.end(), further.begin(), further.end());
  whole(in, written, nullptr);
  plan_.tasks.back().rows = std::move(producer);
}

Builder::Reducible Builder::reducible(const View& x, const std::vector<std::int64_t>& reduced,
                                      std::string_view stage_name) const {
  numerics::ReduceSpace space;
  Shape shape;
  Shape extents;
  for (const std::int64_t dim : other_dims(x.shape.size(), reduced)) {
    const auto d = static_cast<std::size_t>(dim);
    space.parallel.push_back({x.shape[d], x.strides[d]});
    shape.push_back(x.shape[d]);
  }
  for (const std::int64_t dim : reduced) {
    const auto d = static_cast<std::size_t>(dim);
    space.reduce.push_back({x.shape[d], x.strides[d]});
    extents.push_back(x.shape[d]);
  }
  return {{space, cuts(stage(stage_name), extents)}, shape, extents};
}

View Builder::reduce(numerics::Reduction reduction, const View& x,
                     const std::vector<std::int64_t>& reduced, std::string_view stage_name,
                     const View* center) {
  const View source = is_reducible(x) ? x : dense(x);
  const Reducible how = reducible(source, reduced, stage_name);
  const View result = temporary(how.shape);
  std::vector<View> inputs{source};
  std::optional<View> middle;
  if (center != nullptr) {
    DOJO_CHECK(center->is_contiguous() && format_of(*center) == Format::F32 &&
               center->elements() == result.elements());
    middle = *center;
    inputs.push_back(*center);
  }
  whole(inputs, {result}, [=](const StepContext& context) -> Result<void> {
    how.prepared.run(*context.pool, reduction, context.storage(source), context.at<float>(result),
                     middle ? context.at<const float>(*middle) : nullptr, context.isa);
    return {};
  });
  return result;
}

Builder::GradientSums Builder::reduce_norm_gradient(const View& dy, const View& x,
                                                    const GradientConstants& constants,
                                                    const std::vector<std::int64_t>& reduced,
                                                    std::string_view stage_name) {
  DOJO_CHECK(is_reducible(dy) && is_reducible(x) && dy.strides == x.strides);
  const Reducible how = reducible(x, reduced, stage_name);
  // As many numbers as the shape has elements, in its order.
  const auto numbers = [&](const View& given, const Shape& shape) {
    const bool are_there = given.elements() == graph::element_count(shape);
    return dense(are_there ? *reshaped(packed(given), shape) : broadcast_to(given, shape));
  };
  const Shape& of_stats = constants.has_point_stats ? how.extents : how.shape;
  const Shape& of_weight = constants.has_point_weight ? how.extents : how.shape;
  const View mean = numbers(constants.mean, of_stats);
  const View rstd = numbers(constants.rstd, of_stats);
  const View weight = numbers(constants.weight, of_weight);
  const GradientSums sums{temporary(how.shape), temporary(how.shape), temporary(how.shape),
                          temporary(how.shape)};
  const bool of_points = constants.has_point_stats;
  const bool weight_of_points = constants.has_point_weight;
  whole({dy, x, mean, rstd, weight}, {sums.g, sums.g_h, sums.dy_h, sums.dy},
        [=](const StepContext& context) -> Result<void> {
          const auto constant = [&](const View& view, bool is_of_points) {
            return numerics::NormConstant{context.at<const float>(view), is_of_points};
          };
          how.prepared.run_norm_gradient(*context.pool, context.storage(dy), context.storage(x),
                                         {constant(mean, of_points), constant(rstd, of_points),
                                          constant(weight, weight_of_points)},
                                         {context.at<float>(sums.g), context.at<float>(sums.g_h),
                                          context.at<float>(sums.dy_h), context.at<float>(sums.dy)},
                                         context.isa);
          return {};
        });
  return sums;
}

bool Builder::is_reducible(const View& x) const {
  return is_float(format_of(x)) || format_of(x) == Format::U8;
}

View Builder::dense(const View& x) {
  if (format_of(x) == Format::F32 && x.is_contiguous()) {
    return x;
  }
  const View copy = temporary(x.shape);
  map(kernels::copy, {x}, {copy});
  return copy;
}

View Builder::packed(const View& x) { return x.is_contiguous() ? x : copied(x); }

View Builder::copied(const View& x) {
  const Format format = format_of(x);
  const View copy = temporary(x.shape, format);
  const std::vector<Run> runs = runs_of(x);
  whole({x}, {copy}, [=](const StepContext& context) -> Result<void> {
    context.bias[copy.buffer.index] = context.bias[x.buffer.index];
    copy_elements(*context.pool, bytes_of(format), context.data[x.buffer.index], x.offset, runs,
                  x.elements(), context.at<std::byte>(copy));
    return {};
  });
  return copy;
}

View Builder::target(std::size_t i) {
  if (has_out(i) && out_value(i).format == Format::F32) {
    return out(i);
  }
  DOJO_CHECK(has_out(i));
  return temporary(out_value(i).shape);
}

void Builder::finish(std::size_t i, const View& made) {
  const View result = out(i);
  if (result.buffer != made.buffer) {
    map(kernels::copy, {made}, {result});
  }
}

std::vector<std::int64_t> other_dims(std::size_t rank, const std::vector<std::int64_t>& dims) {
  std::vector<std::int64_t> others;
  for (std::int64_t dim = 0; dim < static_cast<std::int64_t>(rank); ++dim) {
    if (std::find(dims.begin(), dims.end(), dim) == dims.end()) {
      others.push_back(dim);
    }
  }
  return others;
}

View keep_dims(const View& reduced, const std::vector<std::int64_t>& dims) {
  std::vector<std::int64_t> sorted = dims;
  std::sort(sorted.begin(), sorted.end());
  View view = reduced;
  for (const std::int64_t dim : sorted) {
    view = unsqueezed(view, dim);
  }
  return view;
}

Expansion find_expansion(std::string_view op) {
  for (const ExpansionRow& row : all_expansions()) {
    if (row.op == op) {
      return row.expand;
    }
  }
  return nullptr;
}

}  // namespace dojo::run::internal
