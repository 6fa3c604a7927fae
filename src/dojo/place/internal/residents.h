// Residents: which leaves lie in the DRAM of the interface processors, where a mesh has its states
// there, and come to SRAM for the ops that read them. An update's states; and with micro-batches
// weights that products read as codes of another format: codes are made before the first
// micro-batch and stay, the weight itself comes again for its update.
#pragma once

#include "dojo/graph/graph.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"

namespace dojo::place::internal {

// Sets in_memory of the plan (layout_plan.h), and the turn of what makes such codes: before the
// micro-batches.
void plan_residents(const graph::Graph& graph, const Mesh& mesh, LayoutPlan& plan);

}  // namespace dojo::place::internal
