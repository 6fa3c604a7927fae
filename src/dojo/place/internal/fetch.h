// Fetch: what has to move so that an op finds its operand as its split needs it: the resharding
// table of docs/placement.md, axis by axis, one step each; two where a dimension changes its axis
// and the axis it goes to has to be freed first. Where no step fits: all-gather and slice.
#pragma once

#include <optional>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

struct Fetch {
  std::vector<program::Move> moves;  // empty: everything is in place
  Bytes landing{};                   // per node: what arrives and is kept until the op is done
  bool is_gathered = false;          // the operand arrives whole, in pieces that can be panels
  bool is_fallback = false;
  bool is_empty() const { return moves.empty(); }
};

// Operand `input` of the op, which lies as `held`.
Fetch fetch(const graph::Graph& graph, OpId op, int input, const LayoutPlan& plan, const Mesh& mesh,
            const machine::MachineModel& machine);

// Whether nodes along the axis hold different parts.
inline bool is_spread(const program::AxisState& state) {
  return state.sharing == program::Sharing::Sliced || state.sharing == program::Sharing::Flat;
}

// What combines the partial results in output `slot` (or in a scratch tensor of that shape) and
// brings them from `raw` to `stored`: innermost cut loop first, ascending along each, as k_parts
// say. `loops`: the loop on each partial axis; none for masked look-ups.
struct Combine {
  std::string tensor;
  graph::Shape shape;
  Format format = Format::F32;  // what is sent: FP32 partials, or stored codes of looked-up rows
  program::Layout raw;
  program::Layout stored;
};
std::vector<program::Move> combine(const Combine& what, const SplitNest& split, const Mesh& mesh,
                                   const machine::MachineModel& machine);

}  // namespace dojo::place::internal
