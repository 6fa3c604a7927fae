// The parts of time_program (timeline.h).
#pragma once

#include "dojo/system/timeline.h"

namespace dojo::system::internal {

// A phase by itself: its lane, its own duration and what bounds it; no begin and end yet.
PhaseTiming alone(const program::Phase& phase, const program::Program& program,
                  const machine::MachineModel& machine);

// One panel's share of a compute phase, rounded up.
Picoseconds panel_work(Picoseconds work, std::int64_t panels);

// Begin and end of every phase with max-min sharing; `computed` and `step` are left at zero.
Timeline side_by_side(const program::Program& program, const machine::MachineModel& machine);

}  // namespace dojo::system::internal
