// The rules of placement (docs/placement.md, "The rules"): which loops of an op go to which axes.
#pragma once

#include <optional>
#include <vector>

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/split_nest.h"

namespace dojo::place::internal {

// Fewest points of a matrix reduction that one part keeps: with fewer, the start of a panel, the
// transfer and the extra addition of its partial cost more than the part saves.
inline constexpr std::int64_t kLeastReducePoints = 128;

// What the rules see of an operand.
struct OperandView {
  int input = 0;  // number of the operand
  program::Layout layout{};
  graph::Shape shape{};
  bool is_fused = false;
  bool is_elsewhere = false;  // its producer waits for this op's choice
  bool is_weight = false;     // a weight or state, or made of one alone: its slices are no samples
};

struct OpView {
  const graph::OpInfo* info = nullptr;
  bool makes_weight_gradient = false;
  std::vector<OperandView> operands;
  // Where the output must lie at the end, if its reader decides (gradients of weights).
  std::optional<program::Layout> target;
};

// The split of one op. Deterministic; loops that no rule wants stay whole.
SplitNest choose_split(graph::LoopNest nest, const OpView& op, const Mesh& mesh);

// The split that makes output 0 lie as `layout` does, as far as its loops allow.
SplitNest split_for_output(graph::LoopNest nest, const program::Layout& layout);

}  // namespace dojo::place::internal
