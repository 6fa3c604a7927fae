#include "dojo/place/internal/room.h"

#include <algorithm>
#include <map>
#include <optional>

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/leaf_layouts.h"
#include "dojo/place/internal/rules.h"

namespace dojo::place::internal {

using graph::BodyClass;
using graph::LoopKind;
using graph::Operand;
using graph::OperandUse;
using graph::Stage;
using graph::TensorKind;
using program::Axis;

namespace {

std::int64_t element_bytes(const graph::Graph& graph, const graph::Op& op,
                           const graph::TensorRef& tensor) {
  const auto index = static_cast<std::size_t>(tensor.index);
  if (tensor.kind == TensorKind::Scratch) {
    return bytes_of(Format::F32);
  }
  const auto& slot = tensor.kind == TensorKind::Input ? op.inputs[index] : op.outputs[index];
  return slot.has_value() ? bytes_of(graph.value(*slot).format) : 0;
}

bool is_summed(const SplitNest& split, int loop) {
  return std::any_of(
      split.nest().stages.begin(), split.nest().stages.end(),
      [loop](const Stage& stage) { return graph::kind_of(stage, loop) == LoopKind::Reduce; });
}

// What a split costs, roughly: what the busiest node reads and the partial results it writes go
// through its port, while it computes.
double cycles(const graph::Graph& graph, const graph::Op& op, const SplitNest& split) {
  const graph::Slice slice = split.busiest();
  double port = 0;
  double pipes = 0;
  for (const Stage& stage : split.nest().stages) {
    const graph::Work work = graph::work(split.nest(), stage, slice);
    pipes += static_cast<double>(work.total.macs) / 256 +
             static_cast<double>(work.total.vector_ops + work.total.special_ops * 8) / 16;
    for (const Operand& operand : stage.operands) {
      const std::int64_t codes = graph::bytes(stage, operand, slice, Format::U8).count();
      const auto elements = static_cast<double>(codes);  // of a byte each
      const auto each = static_cast<double>(element_bytes(graph, op, operand.tensor));
      if (operand.use == OperandUse::Read) {
        port += elements * each / 64;
      } else if (split.written(stage, operand).has(program::Sharing::Partial)) {
        port += 2 * elements * 4 / 64;
      }
    }
  }
  return port + pipes;
}

// With these axes of the split alone.
SplitNest only(const SplitNest& chosen, std::initializer_list<Axis> axes) {
  SplitNest out(chosen.nest());
  for (const Axis axis : axes) {
    if (chosen.on(axis).has_value()) {
      out.assign(axis, chosen.on(axis)->loop, chosen.on(axis)->cut.block);
    }
  }
  return out;
}

// Whether a result lies with one dimension over rows and columns both (two loops of it). Free
// groups may share a dimension with columns.
bool has_dimension_twice(const SplitNest& split, const Mesh& mesh) {
  for (const Stage& stage : split.nest().stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use == OperandUse::Read) {
        continue;
      }
      const program::Layout layout = split.written(stage, operand);
      const program::AxisState& x = layout[Axis::NodeX];
      for (const Axis axis : {Axis::Group, Axis::NodeY}) {
        if (axis == Axis::Group && mesh.has_free_groups()) {
          continue;
        }
        if (x.sharing == program::Sharing::Sliced &&
            layout[axis].sharing == program::Sharing::Sliced &&
            layout[axis].dimension == x.dimension) {
          return true;
        }
      }
    }
  }
  return false;
}

// One loop more on the axis; the number of loops stands for none.
std::optional<SplitNest> with_loop(const SplitNest& from, Axis axis, int loop, const Mesh& mesh) {
  if (loop == static_cast<int>(from.nest().loops.size())) {
    return from;
  }
  const std::int64_t extent = from.extent_at(axis, loop);
  const bool is_long = extent >= kMatrixQuantum * mesh.places(axis);
  std::int64_t block =
      program::cut(axis, extent, mesh.places(axis), is_long ? kMatrixQuantum : 1).block;
  const auto& groups = from.on(Axis::Group);
  const bool goes_on = axis == Axis::NodeX && groups.has_value() && groups->loop == loop;
  if (goes_on && (!mesh.has_free_groups() || is_summed(from, loop))) {
    return std::nullopt;  // columns do not go on through groups of samples, nor do sums
  }
  if (is_summed(from, loop) && from.nest().stages.size() > 1) {
    return std::nullopt;  // stages that wait for each other's sums stay as the rules say
  }
  if (is_summed(from, loop)) {  // in equal parts, each long enough to be worth its transfer
    block = std::max(block, std::min(extent, kLeastReducePoints));
    while (block < extent && extent % block != 0) {
      ++block;
    }
  }
  SplitNest out = from;
  if (!out.assign(axis, loop, block) || has_dimension_twice(out, mesh)) {
    return std::nullopt;
  }
  return out;
}

// Of all pairs of loops that leave room the cheapest; if none does, that which needs least.
SplitNest roomiest(const SplitNest& chosen, const graph::Graph& graph, const graph::Op& op,
                   const Mesh& mesh) {
  const auto rank = [&](const SplitNest& split) {
    const std::int64_t bytes = bytes_at_hand(graph, op, split);
    return std::pair(std::max(bytes, mesh.room.count()), cycles(graph, op, split));
  };
  const SplitNest base = only(chosen, {Axis::Replica, Axis::Group, Axis::Micro});
  SplitNest best = base;
  auto least = rank(base);
  const int loops = static_cast<int>(base.nest().loops.size());
  for (int y = 0; y <= loops; ++y) {
    const auto rows = with_loop(base, Axis::NodeY, y, mesh);
    for (int x = 0; rows.has_value() && x <= loops; ++x) {
      const auto both = with_loop(*rows, Axis::NodeX, x, mesh);
      if (both.has_value() && rank(*both) < least) {
        least = rank(*both);
        best = *both;
      }
    }
  }
  return best;
}

}  // namespace

std::optional<SplitNest> dealt(const SplitNest& chosen, const Deal& deal, const Mesh& mesh) {
  const SplitNest base = mesh.has_free_groups()
                             ? only(chosen, {Axis::Replica, Axis::Micro})
                             : only(chosen, {Axis::Replica, Axis::Group, Axis::Micro});
  auto split = with_loop(base, Axis::Group, deal.group_loop, mesh);
  split = split.has_value() ? with_loop(*split, Axis::NodeY, deal.row_loop, mesh) : split;
  return split.has_value() ? with_loop(*split, Axis::NodeX, deal.column_loop, mesh) : split;
}

std::int64_t bytes_at_hand(const graph::Graph& graph, const graph::Op& op, const SplitNest& split) {
  std::map<std::pair<TensorKind, int>, std::int64_t> largest;
  const graph::Slice slice = split.busiest();
  for (const Stage& stage : split.nest().stages) {
    for (std::size_t i = 0; i < stage.operands.size(); ++i) {
      const Operand& operand = stage.operands[i];
      if (stage.body == BodyClass::Matrix && i < 2) {
        continue;
      }
      std::int64_t each = element_bytes(graph, op, operand.tensor);
      if (each > 0 && operand.use == OperandUse::Write &&
          split.written(stage, operand).has(program::Sharing::Partial)) {
        each = bytes_of(Format::F32);
      }
      const std::int64_t bytes = graph::bytes(stage, operand, slice, Format::U8).count() * each;
      std::int64_t& most = largest[{operand.tensor.kind, operand.tensor.index}];
      most = std::max(most, bytes);
    }
  }
  std::int64_t sum = 0;
  for (const auto& [tensor, bytes] : largest) {
    sum += bytes;
  }
  return sum;
}

SplitNest with_room(SplitNest split, const graph::Graph& graph, const graph::Op& op,
                    const Mesh& mesh) {
  const bool is_whole =
      std::any_of(split.nest().stages.begin(), split.nest().stages.end(),
                  [](const Stage& stage) { return stage.body == BodyClass::Whole; });
  if (is_whole || split.has_flat() || op.info->group == graph::OpGroup::Update) {
    return split;
  }
  const std::int64_t now = bytes_at_hand(graph, op, split);
  if (now <= mesh.room.count()) {
    return split;
  }
  SplitNest best = roomiest(split, graph, op, mesh);
  return 2 * bytes_at_hand(graph, op, best) <= now ? best : split;
}

}  // namespace dojo::place::internal
