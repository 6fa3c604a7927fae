// A step with micro-batches for whatever looks at each phase's part of the step: its first, a
// middle and its last micro-batch written out, of which the middle one stands for all but two.
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/system/losses.h"
#include "dojo/system/timeline.h"

namespace dojo::system {

struct ShownStep {
  program::WrittenOut written;
  Timeline timeline;               // of what is written out
  std::vector<double> times;       // by phase of it: how many micro-batches it stands for
  std::vector<std::int64_t> runs;  // by phase of it: of how many runs its totals are
};

// Without micro-batches: the Program itself, every phase once.
ShownStep shown_step(const program::Program& program, const machine::MachineModel& machine,
                     Sharing sharing);

// Of the whole step of `step` length, whose rest nobody pays for: waiting.
Losses losses_of(const ShownStep& shown, Picoseconds step, const machine::MachineModel& machine);

}  // namespace dojo::system
