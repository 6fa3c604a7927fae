// The Program of a Plan: its phases numbered, with the waits that the memory plan makes; where
// nothing has a place in memory (sketches), without those. The Graph's hash is left empty.
#pragma once

#include "dojo/place/internal/plan.h"

namespace dojo::place::internal {

program::Program program_of(const graph::Graph& graph, const machine::MachineModel& machine,
                            const Plan& plan);

}  // namespace dojo::place::internal
