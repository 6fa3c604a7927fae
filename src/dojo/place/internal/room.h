// Room: an op whose part of its tensors would take too much of a node's memory is split otherwise
// than the rules say (docs/placement.md, "The rules", 8).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/split_nest.h"

namespace dojo::place::internal {

// Bytes on the busiest node of what the op reads and writes: results in FP32 where they are parts
// of sums, factors of matrix products not at all (they come in panels).
std::int64_t bytes_at_hand(const graph::Graph& graph, const graph::Op& op, const SplitNest& split);

// The same samples with the loops that the deal says. nullopt: the nest cannot be split so.
std::optional<SplitNest> dealt(const SplitNest& chosen, const Deal& deal, const Mesh& mesh);

// The split itself if it leaves room, or if none needs half of it. Else, with the same samples, the
// cheapest pair of loops on node.y and node.x that leaves room; if none does, the one that needs
// least.
SplitNest with_room(SplitNest split, const graph::Graph& graph, const graph::Op& op,
                    const Mesh& mesh);

}  // namespace dojo::place::internal
