// Weights on a mesh with free groups: each lies over groups, rows and columns as the first forward
// product that multiplies with it reads it, so that only what several nodes need alike moves.
#pragma once

#include <optional>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/layout_plan.h"

namespace dojo::place::internal {

// By value: the slices in which a forward product reads the weight, through views and conversions;
// nullopt: none does, or in none.
std::vector<std::optional<program::Layout>> weights_as_read(const graph::Graph& graph,
                                                            const LayoutPlan& plan);

}  // namespace dojo::place::internal
