#include "dojo/system/timeline.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "dojo/base/check.h"
#include "dojo/cost/flow.h"
#include "dojo/cost/phase_cost.h"
#include "dojo/system/internal/sharing.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Ingest;
using program::Phase;
using program::Program;
using program::Transfer;

// What the step waits for inputs before it computes.
Picoseconds not_covered(Picoseconds ingest, const machine::MachineModel& machine) {
  const double share = machine.dram.has_value() ? 1 - machine.dram->overlap : 0;
  return Picoseconds(std::llround(share * static_cast<double>(ingest.count())));
}

}  // namespace

std::string_view name(Sharing sharing) { return sharing == Sharing::Stated ? "stated" : "max-min"; }

std::string_view name(Lane lane) {
  constexpr std::array<std::string_view, 3> kNames{"compute", "transfer", "ingest"};
  return kNames[static_cast<std::size_t>(lane)];
}

namespace {

Timeline in_turn(const Program& program, const machine::MachineModel& machine) {
  Timeline timeline;
  std::array<Picoseconds, 3> lane_free{};
  for (const Phase& phase : program.phases) {
    PhaseTiming timing = internal::alone(phase, program, machine);
    const auto* compute = std::get_if<Compute>(&phase.body);
    const std::vector<PhaseId> feeds =
        compute != nullptr ? compute->pipelined : std::vector<PhaseId>{};
    Picoseconds& lane = lane_free[static_cast<std::size_t>(timing.lane)];
    timing.begin = lane;
    for (const PhaseId before : phase.after) {
      if (std::find(feeds.begin(), feeds.end(), before) == feeds.end()) {
        timing.begin = std::max(timing.begin, timeline.phases[before.index].end);
      }
    }
    Picoseconds last_panel{};
    for (const PhaseId feed : feeds) {
      const PhaseTiming& transfer = timeline.phases[feed.index];
      const std::int64_t panels = std::get<Transfer>(program.phases[feed.index].body).panels;
      timing.begin = std::max(timing.begin, transfer.begin + transfer.first);
      last_panel = std::max(last_panel, transfer.end + internal::panel_work(timing.work, panels));
    }
    timing.end = std::max(timing.begin + timing.work, last_panel);
    lane = timing.end;
    timeline.phases.push_back(std::move(timing));
  }
  return timeline;
}

}  // namespace

Timeline time_program(const Program& program, const machine::MachineModel& machine,
                      Sharing sharing) {
  Timeline timeline = sharing == Sharing::Stated ? in_turn(program, machine)
                                                 : internal::side_by_side(program, machine);
  Picoseconds ingest{};
  for (const PhaseTiming& timing : timeline.phases) {
    Picoseconds& last = timing.lane == Lane::Ingest ? ingest : timeline.computed;
    last = std::max(last, timing.end);
  }
  timeline.step = std::max(timeline.computed + not_covered(ingest, machine), ingest);
  return timeline;
}

Bounds bounds_of(const Program& program, const machine::MachineModel& machine) {
  Bounds bounds;
  Picoseconds compute{};
  cost::FlowLoads network{};  // cycles of each class
  double ingest_cycles = 0;
  for (const Phase& phase : program.phases) {
    bounds.serial += internal::alone(phase, program, machine).work;
    if (const auto* body = std::get_if<Compute>(&phase.body)) {
      const cost::NodeCost node = cost::compute_time(*body, machine).cost;
      compute += machine.clock.to_picoseconds(Cycles(std::llround(std::floor(node.busiest()))));
    } else if (const auto* transfer = std::get_if<Transfer>(&phase.body)) {
      const double busy = cost::transfer_time(*transfer, program.replicas, machine).cost.busy;
      const cost::FlowLoads loads = cost::flow_loads(*transfer, program.replicas, machine);
      for (std::size_t c = 0; c < loads.size(); ++c) {
        network[c] += loads[c] * busy;
      }
    } else {
      ingest_cycles +=
          cost::ingest_time(std::get<Ingest>(phase.body), program.replicas, phase.region, machine)
              .cost.busy;
    }
  }
  const auto whole = [&](double cycles) {
    return machine.clock.to_picoseconds(Cycles(std::llround(std::floor(cycles))));
  };
  bounds.lower = std::max(
      {compute, whole(*std::max_element(network.begin(), network.end())), whole(ingest_cycles)});
  return bounds;
}

}  // namespace dojo::system
