// Lowering for a machine: the recipe's formats (graph::lower), then the reduction cuts that this
// machine's placement makes. After this nothing changes the Graph any more.
#pragma once

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/recipe.h"
#include "dojo/machine/machine_model.h"

namespace dojo::place {

// Errors: those of graph::lower and of place().
Result<graph::Graph> lower_for_machine(const graph::Graph& captured, const graph::Recipe& recipe,
                                       const machine::MachineModel& machine);

}  // namespace dojo::place
