// The passes of lower(); see lower.h for what each is for.
#pragma once

#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/graph/recipe.h"

namespace dojo::graph {

// A mask is a pure function of (seed, step, site, element): its op can be repeated anywhere.
void give_masks_a_site(Graph& graph);
// Which element of its window a maximum pooling took, as a byte for its gradient.
void number_pool_winners_by_tap(Graph& graph);
void assign_roles(Graph& graph);
Result<void> choose_formats(Graph& graph, const Recipe& recipe);
// What one pass makes of inputs alone (scaled pixels, masks), or of what the backward part keeps
// for another reason (a GELU whose operand its gradient reads), is made again there and not saved.
void recompute_in_backward(Graph& graph);
void mark_fused(Graph& graph);
void remove_dead_ops(Graph& graph);

}  // namespace dojo::graph
