// A step with micro-batches for whatever looks at each phase's part of the step: its first, a
// middle and its last micro-batch written out, of which the middle one stands for all but two. Of a
// pipeline one micro-batch on its way through all stages, one part after the other, each of which
// stands for as many of the whole machine's as it runs, divided by the stages.
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/system/losses.h"
#include "dojo/system/timeline.h"

namespace dojo::system {

struct ShownStep {
  program::WrittenOut written;
  Timeline timeline;          // of what is written out
  std::vector<double> times;  // by phase of it: how many micro-batches it stands for
  std::vector<double> runs;   // by phase of it: of how many runs its totals are
};

// Without micro-batches: the Program itself, every phase once. `times` and `runs` of a pipeline
// count runs in which all of the machine's nodes would do the same.
ShownStep shown_step(const program::Program& program, const machine::MachineModel& machine,
                     Sharing sharing);

// Of the whole step of `step` length, whose rest nobody pays for: waiting.
Losses losses_of(const ShownStep& shown, Picoseconds step, const machine::MachineModel& machine);

}  // namespace dojo::system
