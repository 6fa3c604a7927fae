// The rules of placement (docs/placement.md, "The rules"): where leaves lie, and which loops of an
// op go to which axes.
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
// Buffers up to this size are the same on every node.
inline constexpr std::int64_t kReplicatedBufferBytes = 4096;

// Weights, states and large buffers: dimension 0 over node.x, dimension 1 over node.y in blocks of
// 8, or the other way round where only that fills both axes; an axis that this would leave half
// empty takes even shares instead. Embedding tables that only
// look-ups read: dimension 0 over node.y, 1 over node.x.
program::Layout weight_layout(const graph::Shape& shape, Format format, const Mesh& mesh,
                              bool is_looked_up);

// Inputs that carry the batch: samples over replicas; images have rows over node.y and columns over
// node.x, sequences their positions over node.y and features over node.x, tables of features their
// samples and features. Other inputs are the same everywhere. `is_whole`: all samples of a replica
// are there at once, and not those of a micro-batch.
program::Layout input_layout(const graph::Shape& shape, Format format, const Mesh& mesh,
                             bool is_whole = false);

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
