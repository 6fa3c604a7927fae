// The passes of lower(); see lower.h for what each is for.
#pragma once

#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/graph/recipe.h"

namespace dojo::graph {

void give_masks_a_site(Graph& graph);
void assign_roles(Graph& graph);
Result<void> choose_formats(Graph& graph, const Recipe& recipe);
void mark_fused(Graph& graph);
void remove_dead_ops(Graph& graph);

}  // namespace dojo::graph
