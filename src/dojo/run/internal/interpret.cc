#include "dojo/run/internal/interpret.h"

#include <fmt/format.h>

#include "dojo/base/text.h"

namespace dojo::run::internal {

using graph::Shape;

std::string Evaluation::where() const {
  return fmt::format("{} @{}", op.info->name, quoted(op.module));
}

const graph::Stage& Evaluation::stage(std::string_view name) const {
  for (const graph::Stage& each : nest.stages) {
    if (each.name == name) {
      return each;
    }
  }
  DOJO_CHECK(false);
}

std::vector<std::size_t> Evaluation::parallel_loops(const graph::Stage& stage) const {
  std::vector<std::size_t> loops;
  for (const graph::StageLoop& each : stage.loops) {
    if (each.kind == graph::LoopKind::Parallel) {
      loops.push_back(size_of(each.loop));
    }
  }
  return loops;
}

Evaluation::FoldedLoops Evaluation::folded_loops(const graph::Stage& stage) const {
  FoldedLoops folded;
  for (const graph::StageLoop& each : stage.loops) {
    if (each.kind == graph::LoopKind::Parallel) {
      continue;
    }
    const graph::Loop& loop = nest.loops[size_of(each.loop)];
    folded.loops.push_back(size_of(each.loop));
    folded.extents.push_back(loop.extent);
    folded.cuts.block.push_back(loop.extent);
    folded.cuts.run.push_back(std::max<std::int64_t>(loop.extent, 1));
    for (const graph::ReduceCut& cut : op.k_parts) {
      if (cut.loop == loop.name) {
        folded.cuts.block.back() = cut.block;
        folded.cuts.run.back() = cut.run.value_or(cut.parts);
      }
    }
  }
  return folded;
}

std::int64_t Evaluation::results(const graph::Stage& stage) const {
  std::int64_t count = 1;
  for (const std::size_t loop : parallel_loops(stage)) {
    count *= nest.loops[loop].extent;
  }
  return count;
}

Point Evaluation::point_at(const graph::Stage& stage, std::int64_t i) const {
  Point point(nest.loops.size(), 0);
  const std::vector<std::size_t> loops = parallel_loops(stage);
  for (std::size_t k = loops.size(); k-- > 0;) {
    point[loops[k]] = i % nest.loops[loops[k]].extent;
    i /= nest.loops[loops[k]].extent;
  }
  return point;
}

void Evaluation::advance(const graph::Stage& stage, Point& point) const {
  advance(parallel_loops(stage), point);
}

bool Evaluation::advance(const std::vector<std::size_t>& loops, Point& point) const {
  for (std::size_t i = loops.size(); i-- > 0;) {
    if (++point[loops[i]] < nest.loops[loops[i]].extent) {
      return true;
    }
    point[loops[i]] = 0;
  }
  return false;
}

std::vector<bool> Evaluation::is_folded(const graph::Stage& stage) const {
  std::vector<bool> folded(nest.loops.size(), false);
  for (const std::size_t loop : folded_loops(stage).loops) {
    folded[loop] = true;
  }
  return folded;
}

std::int64_t Evaluation::folded_points(const graph::Stage& stage) const {
  std::int64_t points = 1;
  for (const graph::StageLoop& each : stage.loops) {
    if (each.kind != graph::LoopKind::Parallel) {
      points *= nest.loops[static_cast<std::size_t>(each.loop)].extent;
    }
  }
  return points;
}

namespace {

const graph::Operand& find_operand(const graph::Stage& stage, graph::TensorRef tensor,
                                   graph::OperandUse use) {
  for (const graph::Operand& operand : stage.operands) {
    if (operand.tensor == tensor && operand.use == use) {
      return operand;
    }
  }
  DOJO_CHECK(false);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

}  // namespace

const graph::Operand& Evaluation::reading(const graph::Stage& stage, int input) const {
  return find_operand(stage, {graph::TensorKind::Input, input}, graph::OperandUse::Read);
}

const graph::Operand& Evaluation::writing(const graph::Stage& stage, int output) const {
  return find_operand(stage, {graph::TensorKind::Output, output}, graph::OperandUse::Write);
}

std::optional<Position> Evaluation::position(const graph::Operand& operand, const Point& point) {
  Position at;
  for (const graph::Access& access : operand.access) {
    const auto* map = std::get_if<graph::Affine>(&access);
    DOJO_CHECK(map != nullptr);  // ops with other accesses are written without their nest
    std::int64_t index = map->offset;
    for (const graph::Term& term : map->terms) {
      index += term.stride * point[size_of(term.loop)];
    }
    if (map->ratio.has_value()) {
      const graph::Ratio& ratio = *map->ratio;
      index +=
          floor_divide(ratio.multiplier * point[size_of(ratio.loop)] + ratio.addend, ratio.divisor);
    }
    if (map->divisor != 1) {
      if (index % map->divisor != 0) {
        return std::nullopt;
      }
      index /= map->divisor;
    }
    at.push_back(index);
  }
  return at;
}

std::optional<std::int64_t> Evaluation::element(const graph::Operand& operand,
                                                const Position& position) {
  std::int64_t number = 0;
  for (std::size_t i = 0; i < position.size(); ++i) {
    if (position[i] < 0 || position[i] >= operand.shape[i]) {
      return std::nullopt;
    }
    number = number * operand.shape[i] + position[i];
  }
  return number;
}

std::int64_t Evaluation::element_at(const graph::Operand& operand, const Point& point) {
  return *element(operand, *position(operand, point));
}

std::optional<float> value_at(const Evaluation& e, const graph::Operand& operand,
                              const Point& point) {
  const auto position = e.position(operand, point);
  if (!position.has_value()) {
    return std::nullopt;
  }
  const auto element = Evaluation::element(operand, *position);
  return element.has_value() ? e.in[size_of(operand.tensor.index)]->number(*element)
                             : static_cast<float>(operand.pad_value);
}

void resize_out(Evaluation& e, std::size_t i) {
  e.out[i].floats.resize(size_of(graph::element_count(e.out_value(i).shape)));
}

const std::vector<InterpretRow>& all_interpreters() {
  static const std::vector<InterpretRow> rows = [] {
    std::vector<InterpretRow> made;
    add_elementwise_interpreters(made);
    add_nest_interpreters(made);
    add_pool_interpreters(made);
    add_norm_interpreters(made);
    add_moving_interpreters(made);
    add_loss_interpreters(made);
    return made;
  }();
  return rows;
}

bool keeps_codes(const graph::Graph& graph, const graph::Op& op) {
  if (op.info->group != graph::OpGroup::Movement || op.info->name == "aten.cat" ||
      !op.outputs.front().has_value()) {
    return false;
  }
  if (op.info->name == "aten.constant_pad_nd" && graph::float_attr(op, "value") != 0) {
    return false;
  }
  const std::size_t read = op.info->name == "aten.copy" ? 1 : 0;
  return graph.value(*op.inputs[read]).format == graph.value(*op.outputs.front()).format;
}

std::vector<std::int64_t> coordinates(const Shape& shape, std::int64_t i) {
  std::vector<std::int64_t> at(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    at[d] = i % shape[d];
    i /= shape[d];
  }
  return at;
}
std::int64_t number_of(const Shape& shape, const std::vector<std::int64_t>& at) {
  std::int64_t number = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    number = number * shape[d] + at[d];
  }
  return number;
}

std::int64_t broadcast_element(const Shape& from, const Shape& shape, std::int64_t i) {
  std::int64_t number = 0;
  std::int64_t stride = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const std::size_t dim = shape.size() - 1 - d;
    const std::int64_t at = i % shape[dim];
    i /= shape[dim];
    if (d < from.size()) {
      const std::int64_t extent = from[from.size() - 1 - d];
      number += extent == 1 ? 0 : at * stride;
      stride *= extent;
    }
  }
  return number;
}

}  // namespace dojo::run::internal
