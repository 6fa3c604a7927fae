#include "dojo/system/micro_batches.h"

#include <algorithm>

#include "dojo/system/pipeline.h"

namespace dojo::system {
namespace {

constexpr std::int64_t kShown = 3;

// A phase that no loop splits in time does all its work anew in each run, and its totals say so.
std::vector<double> runs_of(const program::Program& program, const program::WrittenOut& written) {
  std::vector<double> runs;
  for (const PhaseId of : written.of) {
    runs.push_back(static_cast<double>(program.runs(of.index)));
  }
  return runs;
}

ShownStep shown_pipeline(const program::Program& program, const machine::MachineModel& machine,
                         Sharing sharing) {
  const auto size = static_cast<std::uint32_t>(program.phases.size());
  ShownStep out{
      .written = {.program = program::only(program, {0}, {size}), .of = {}, .micro_batch = {}},
      .timeline = {},
      .times = {},
      .runs = {}};
  for (const PartTimeline& part : time_pipeline(program, machine, sharing).parts) {
    const Picoseconds before = out.timeline.computed;
    for (PhaseTiming timing : part.timeline.phases) {
      timing.begin += before;
      timing.end += before;
      out.timeline.phases.push_back(std::move(timing));
    }
    out.timeline.computed = out.timeline.step = before + part.timeline.computed;
  }
  for (std::uint32_t i = 0; i < size; ++i) {
    out.written.of.push_back({i});
    out.written.micro_batch.push_back(0);
    out.runs.push_back(static_cast<double>(program.runs(i)) /
                       static_cast<double>(program.stages.size()));
  }
  out.times = out.runs;
  return out;
}

}  // namespace

ShownStep shown_step(const program::Program& program, const machine::MachineModel& machine,
                     Sharing sharing) {
  if (!program.stages.empty()) {
    return shown_pipeline(program, machine, sharing);
  }
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
  if (std::all_of(shown.runs.begin(), shown.runs.end(), [](double runs) { return runs == 1; })) {
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
