#include "dojo/system/timeline.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "dojo/base/check.h"
#include "dojo/cost/phase_cost.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Ingest;
using program::Phase;
using program::Program;
using program::Transfer;

PhaseTiming alone(const Phase& phase, const Program& program,
                  const machine::MachineModel& machine) {
  PhaseTiming timing;
  if (const auto* compute = std::get_if<Compute>(&phase.body)) {
    const cost::ComputeTime time = cost::compute_time(*compute, machine);
    timing.lane = Lane::Compute;
    timing.work = time.total;
    timing.bound_by = cost::bound_of(time);
    return timing;
  }
  const auto* transfer = std::get_if<Transfer>(&phase.body);
  const cost::TransferTime time = transfer != nullptr
                                      ? cost::transfer_time(*transfer, program.replicas, machine)
                                      : cost::ingest_time(std::get<Ingest>(phase.body),
                                                          program.replicas, phase.region, machine);
  timing.lane = transfer != nullptr ? Lane::Transfer : Lane::Ingest;
  timing.work = time.total;
  timing.first = time.first;
  timing.bound_by = cost::bound_of(time, machine);
  timing.bytes = time.cost.bytes;
  return timing;
}

// One panel's share of a compute phase, rounded up.
Picoseconds panel_work(Picoseconds work, std::int64_t panels) {
  return Picoseconds((work.count() + panels - 1) / panels);
}

// What the step waits for inputs before it computes.
Picoseconds not_covered(Picoseconds ingest, const machine::MachineModel& machine) {
  const double share = machine.dram.has_value() ? 1 - machine.dram->overlap : 0;
  return Picoseconds(std::llround(share * static_cast<double>(ingest.count())));
}

}  // namespace

std::string_view name(Lane lane) {
  constexpr std::array<std::string_view, 3> kNames{"compute", "transfer", "ingest"};
  return kNames[static_cast<std::size_t>(lane)];
}

Timeline time_program(const Program& program, const machine::MachineModel& machine) {
  Timeline timeline;
  std::array<Picoseconds, 3> lane_free{};
  for (const Phase& phase : program.phases) {
    PhaseTiming timing = alone(phase, program, machine);
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
      last_panel = std::max(last_panel, transfer.end + panel_work(timing.work, panels));
    }
    timing.end = std::max(timing.begin + timing.work, last_panel);
    lane = timing.end;
    if (timing.lane != Lane::Ingest) {
      timeline.computed = std::max(timeline.computed, timing.end);
    }
    timeline.phases.push_back(std::move(timing));
  }
  const Picoseconds ingest = lane_free[static_cast<std::size_t>(Lane::Ingest)];
  timeline.step = std::max(timeline.computed + not_covered(ingest, machine), ingest);
  return timeline;
}

std::vector<PhaseId> critical_path(const Program& program, const Timeline& timeline) {
  std::vector<PhaseId> path;
  if (timeline.phases.empty()) {
    return path;
  }
  const auto later_end = [](const PhaseTiming& a, const PhaseTiming& b) { return a.end < b.end; };
  auto at = static_cast<std::uint32_t>(
      std::max_element(timeline.phases.begin(), timeline.phases.end(), later_end) -
      timeline.phases.begin());
  while (true) {
    path.push_back(PhaseId{at});
    const PhaseTiming& timing = timeline.phases[at];
    std::optional<std::uint32_t> cause;
    const auto consider = [&](std::uint32_t candidate) {
      const bool ends_later =
          !cause.has_value() || timeline.phases[candidate].end > timeline.phases[*cause].end;
      if (ends_later) {
        cause = candidate;
      }
    };
    for (const PhaseId before : program.phases[at].after) {
      consider(before.index);
    }
    const auto* compute = std::get_if<Compute>(&program.phases[at].body);
    if (compute != nullptr) {
      for (const PhaseId feed : compute->pipelined) {
        consider(feed.index);
      }
    }
    for (std::uint32_t i = at; i-- > 0;) {
      if (timeline.phases[i].lane == timing.lane) {
        consider(i);
        break;
      }
    }
    if (!cause.has_value() || timeline.phases[*cause].end.count() == 0) {
      break;
    }
    at = *cause;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

Bounds bounds_of(const Program& program, const machine::MachineModel& machine) {
  Bounds bounds;
  Picoseconds compute{};
  double network_cycles = 0;
  double ingest_cycles = 0;
  for (const Phase& phase : program.phases) {
    bounds.serial += alone(phase, program, machine).work;
    if (const auto* body = std::get_if<Compute>(&phase.body)) {
      const cost::NodeCost node = cost::compute_time(*body, machine).cost;
      compute += machine.clock.to_picoseconds(Cycles(std::llround(std::floor(node.busiest()))));
    } else if (const auto* transfer = std::get_if<Transfer>(&phase.body)) {
      network_cycles += cost::transfer_time(*transfer, program.replicas, machine).cost.busy;
    } else {
      ingest_cycles +=
          cost::ingest_time(std::get<Ingest>(phase.body), program.replicas, phase.region, machine)
              .cost.busy;
    }
  }
  const auto whole = [&](double cycles) {
    return machine.clock.to_picoseconds(Cycles(std::llround(std::floor(cycles))));
  };
  bounds.lower = std::max({compute, whole(network_cycles), whole(ingest_cycles)});
  return bounds;
}

}  // namespace dojo::system
