#include "dojo/place/lower_for_machine.h"

#include "dojo/graph/lower.h"
#include "dojo/graph/verify.h"
#include "dojo/place/place.h"

namespace dojo::place {

Result<graph::Graph> lower_for_machine(const graph::Graph& captured, const graph::Recipe& recipe,
                                       const machine::MachineModel& machine) {
  DOJO_TRY(graph::Graph lowered, graph::lower(captured, recipe, machine.name));
  DOJO_TRY_VOID(cut_reductions(lowered, machine));
  DOJO_TRY_VOID(graph::verify(lowered));
  return lowered;
}

}  // namespace dojo::place
