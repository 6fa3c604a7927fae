#include "dojo/system/micro_batches.h"

#include <algorithm>

namespace dojo::system {
namespace {

constexpr std::int64_t kShown = 3;

// A phase that no loop splits in time does all its work anew in each run, and its totals say so.
std::vector<std::int64_t> runs_of(const program::Program& program,
                                  const program::WrittenOut& written) {
  std::vector<std::int64_t> runs;
  for (const PhaseId of : written.of) {
    runs.push_back(program.runs(of.index));
  }
  return runs;
}

}  // namespace

ShownStep shown_step(const program::Program& program, const machine::MachineModel& machine,
                     Sharing sharing) {
  const std::int64_t count = program.micro.count;
  const std::int64_t shown = std::min(count, kShown);
  ShownStep out{
      .written = program::write_out(program, shown), .timeline = {}, .times = {}, .runs = {}};
  out.timeline = time_program(out.written.program, machine, sharing);
  out.runs = runs_of(program, out.written);
  for (std::size_t i = 0; i < out.runs.size(); ++i) {
    const bool stands_for_others = out.runs[i] > 1 && out.written.micro_batch[i] == 1 && shown > 2;
    out.times.push_back(stands_for_others ? static_cast<double>(count - shown + 1) : 1.0);
  }
  return out;
}

Losses losses_of(const ShownStep& shown, Picoseconds step, const machine::MachineModel& machine) {
  const program::Program& program = shown.written.program;
  if (std::all_of(shown.runs.begin(), shown.runs.end(), [](auto runs) { return runs == 1; })) {
    return losses_of(program, shown.timeline, machine);
  }
  const std::vector<Losses> each = phase_losses(program, shown.timeline, machine, shown.runs);
  Losses losses;
  for (std::size_t i = 0; i < each.size(); ++i) {
    losses += each[i] * shown.times[i];
  }
  losses[Cause::Transfer] += to_seconds(shown.timeline.step - shown.timeline.computed);
  losses[Cause::Waiting] += std::max(0.0, to_seconds(step) - losses.total());
  return losses;
}

}  // namespace dojo::system
