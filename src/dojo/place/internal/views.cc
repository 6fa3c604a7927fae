#include "dojo/place/internal/views.h"

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/layout_plan.h"

namespace dojo::place::internal {

using graph::LoopNest;
using graph::Op;
using graph::Operand;
using program::Axis;
using program::AxisState;
using program::kAxes;
using program::Layout;
using program::Sharing;

bool is_view(const Op& op) { return op.info->is_reshape || op.info->is_strided_view; }

namespace {

bool is_offset(const graph::Access& access) {
  const auto* map = std::get_if<graph::Affine>(&access);
  return map == nullptr || map->offset != 0;
}

}  // namespace

std::optional<SplitNest> keep_in_place(const LoopNest& nest, const Layout& layout) {
  SplitNest split(nest);
  const Operand* const operand = reading_of(nest, 0);
  if (operand == nullptr) {
    return std::nullopt;
  }
  for (const Axis axis : kAxes) {
    const AxisState& state = layout[axis];
    if (state.sharing != Sharing::Sliced) {
      continue;
    }
    const graph::Access& access = operand->access[static_cast<std::size_t>(state.dimension)];
    const auto found = loop_of_slice(split, access, axis, state.block);
    if (is_offset(access) || !found.has_value() || !split.assign(axis, found->loop, found->block) ||
        split.read(*operand)[axis] != state) {
      return std::nullopt;
    }
  }
  return split;
}

std::optional<Layout> through_view(const graph::Graph& graph, const Op& op, const Layout& layout) {
  if (layout.has(Sharing::Flat) && !op.info->is_reshape) {
    return std::nullopt;
  }
  const SplitNest split = split_for_output(graph::nest_of(graph, op), layout);
  const Operand* const operand = reading_of(split.nest(), 0);
  const auto writing = writing_of(split.nest(), 0);
  if (operand == nullptr || !writing.has_value()) {
    return std::nullopt;
  }
  Layout back = split.read(*operand);
  Layout forth = split.written(*writing->stage, *writing->operand);
  for (const Axis axis : kAxes) {
    if (layout[axis].sharing == Sharing::Flat) {
      back[axis] = forth[axis] = layout[axis];
    }
  }
  return forth == layout ? std::optional(back) : std::nullopt;
}

}  // namespace dojo::place::internal
