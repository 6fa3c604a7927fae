// Views: ops whose result is the operand in another shape, and what that does to layouts.
#pragma once

#include <optional>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/split_nest.h"
#include "dojo/program/split.h"

namespace dojo::place::internal {

bool is_view(const graph::Op& op);

// A view's split that keeps every slice where it is; nullopt if some slice would have to move.
std::optional<SplitNest> keep_in_place(const graph::LoopNest& nest, const program::Layout& layout);

// The layout of a view's operand that makes its output lie as `layout` does.
std::optional<program::Layout> through_view(const graph::Graph& graph, const graph::Op& op,
                                            const program::Layout& layout);

}  // namespace dojo::place::internal
