// Pipeline: when the halves of its stages run, by the rules at the head of program.h, and what its
// phases take each by itself.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/system/timeline.h"

namespace dojo::system {

// What a part of a stage takes, once.
using PartTimes = std::array<Picoseconds, program::kPartCount>;

// One part of one stage, for one micro-batch (0 before and behind them).
struct PartRun {
  std::size_t stage = 0;
  program::Part part = program::Part::Before;
  std::int64_t micro_batch = 0;
  Picoseconds begin{};
  Picoseconds end{};
  std::optional<std::size_t> released_by{};  // the run at whose end it begins
};

// All runs of a step; the last of a chain of `released_by` begins at zero.
std::vector<PartRun> schedule(const std::vector<program::Stage>& stages, std::int64_t micro_batches,
                              const std::vector<PartTimes>& times);

// A pipeline's parts, each timed by itself.
struct PartTimeline {
  std::size_t stage = 0;
  program::Part part = program::Part::Before;
  std::size_t first_phase = 0;  // of the Program
  program::Program program{};   // of its phases alone
  Timeline timeline{};          // of that
};
struct PipelineTimes {
  std::vector<PartTimeline> parts{};  // by stage, then part
  std::vector<PartRun> runs{};
};
PipelineTimes time_pipeline(const program::Program& program, const machine::MachineModel& machine,
                            Sharing sharing);

}  // namespace dojo::system
