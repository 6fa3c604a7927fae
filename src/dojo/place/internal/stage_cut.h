// The cut of a step into the stages of its mesh: where the longest of them takes least.
#pragma once

#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/place/internal/stages.h"

namespace dojo::place::internal {

// What stands in the way, too few blocks among it, is said in the plan.
StagePlan cut_step(const graph::Graph& graph, const machine::MachineModel& machine,
                   const LayoutPlan& layouts, const Mesh& mesh);

}  // namespace dojo::place::internal
