// lower: from a Graph as captured to one that says everything that affects values. Passes, in
// order, each a function in lower_passes.h:
//   give_masks_a_site            dropout masks draw the same bits wherever they are drawn
//   number_pool_winners_by_tap   a byte each, for the gradient of a maximum pooling
//   assign_roles                 what each tensor is for
//   choose_formats               recipe: role -> format; dojo.convert where a reader wants another
//   recompute_in_backward        what one pass makes of what is there anyway is made again
//   mark_fused                   which FP32 values are never stored
//   remove_dead_ops
// Cuts of reductions (`k_parts`) depend on a machine and are added by place::lower_for_machine.
#pragma once

#include <string_view>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/recipe.h"

namespace dojo::graph {

// The Graph lowered with the recipe; `machine` is the name that the head will carry. Errors: the
// Graph is lowered already; an override matches no tensor.
Result<Graph> lower(const Graph& graph, const Recipe& recipe, std::string_view machine);

}  // namespace dojo::graph
