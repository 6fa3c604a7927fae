#include "dojo/system/timeline.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "dojo/base/check.h"
#include "dojo/cost/flow.h"
#include "dojo/cost/phase_cost.h"
#include "dojo/system/internal/sharing.h"
#include "dojo/system/pipeline.h"

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

// Every phase as soon as its lane and what it waits for allow.
class InTurn {
 public:
  InTurn(const Program& program, const machine::MachineModel& machine) : program_(program) {
    for (const Phase& phase : program.phases) {
      phases_.push_back(internal::alone(phase, program, machine));
    }
  }

  std::vector<PhaseTiming> run() {
    const program::MicroBatches& micro = program_.micro;
    const std::size_t first = micro.count > 1 ? micro.first.index : phases_.size();
    const std::size_t end = micro.count > 1 ? micro.end.index : phases_.size();
    walk(0, first);
    std::optional<Picoseconds> shift;  // of the micro-batch before, if it was one for all
    for (std::int64_t m = 0; m < micro.count && first < end; ++m) {
      before_ = m > 0 ? phases_ : std::vector<PhaseTiming>{};
      walk(first, end);
      const std::optional<Picoseconds> now = m > 0 ? common_shift(first, end) : std::nullopt;
      if (now.has_value() && now == shift) {
        skip(first, end, *now, micro.count - 1 - m);
        break;
      }
      shift = now;
    }
    before_.clear();
    walk(end, phases_.size());
    return std::move(phases_);
  }

 private:
  void walk(std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) {
      time(i);
    }
  }

  void time(std::size_t i) {
    const Phase& phase = program_.phases[i];
    PhaseTiming& timing = phases_[i];
    const auto* compute = std::get_if<Compute>(&phase.body);
    const std::vector<PhaseId> none;
    const std::vector<PhaseId>& feeds = compute != nullptr ? compute->pipelined : none;
    Picoseconds& lane = lane_free_[static_cast<std::size_t>(timing.lane)];
    Picoseconds begin = lane;
    for (const PhaseId before : before_.empty() ? none : phase.previous) {
      begin = std::max(begin, before_[before.index].end);
    }
    for (const PhaseId before : phase.after) {
      if (std::find(feeds.begin(), feeds.end(), before) == feeds.end()) {
        begin = std::max(begin, phases_[before.index].end);
      }
    }
    Picoseconds last_panel{};
    for (const PhaseId feed : feeds) {
      const PhaseTiming& transfer = phases_[feed.index];
      const std::int64_t panels = std::get<Transfer>(program_.phases[feed.index].body).panels;
      begin = std::max(begin, transfer.begin + transfer.first);
      last_panel = std::max(last_panel, transfer.end + internal::panel_work(timing.work, panels));
    }
    timing.begin = begin;
    timing.end = std::max(begin + timing.work, last_panel);
    lane = timing.end;
  }

  // By which all phases but the ingest, which depends on none, moved against those before.
  std::optional<Picoseconds> common_shift(std::size_t first, std::size_t end) const {
    std::optional<Picoseconds> shift;
    for (std::size_t i = first; i < end; ++i) {
      const PhaseTiming& now = phases_[i];
      const Picoseconds moved = now.end - before_[i].end;
      const bool is_alike = moved == shift.value_or(moved) && now.begin - before_[i].begin == moved;
      if (now.lane != Lane::Ingest && !is_alike) {
        return std::nullopt;
      }
      shift = now.lane == Lane::Ingest ? shift : moved;
    }
    return shift;
  }

  // As if they had run so many times more, by so much later each time.
  void skip(std::size_t first, std::size_t end, Picoseconds by, std::int64_t times) {
    std::array<Picoseconds, 3> shift{};
    Picoseconds& ingest = shift[static_cast<std::size_t>(Lane::Ingest)];
    for (std::size_t i = first; i < end; ++i) {
      const auto lane = static_cast<std::size_t>(phases_[i].lane);
      shift[lane] = phases_[i].lane == Lane::Ingest ? ingest + phases_[i].work * times : by * times;
    }
    for (std::size_t i = first; i < end; ++i) {
      const Picoseconds moved = shift[static_cast<std::size_t>(phases_[i].lane)];
      phases_[i].begin += moved;
      phases_[i].end += moved;
    }
    for (std::size_t lane = 0; lane < lane_free_.size(); ++lane) {
      lane_free_[lane] += shift[lane];
    }
  }

  const Program& program_;
  std::vector<PhaseTiming> phases_;
  std::array<Picoseconds, 3> lane_free_{};
  std::vector<PhaseTiming> before_;  // as they ran for the micro-batch before
};

// With max-min sharing three micro-batches are walked, and what the third takes more than two do,
// all others take as well.
constexpr std::int64_t kWalked = 3;

std::vector<PhaseTiming> last_runs(const Program& program, const program::WrittenOut& written,
                                   std::vector<PhaseTiming> phases) {
  std::vector<PhaseTiming> out(program.phases.size());
  for (std::size_t i = 0; i < phases.size(); ++i) {
    out[written.of[i].index] = std::move(phases[i]);
  }
  return out;
}

Picoseconds end_of(const std::vector<PhaseTiming>& phases) {
  Picoseconds end{};
  for (const PhaseTiming& timing : phases) {
    end = std::max(end, timing.lane == Lane::Ingest ? end : timing.end);
  }
  return end;
}

std::vector<PhaseTiming> beside_each_other(const Program& program,
                                           const machine::MachineModel& machine) {
  if (program.micro.count == 1) {
    return internal::side_by_side(program, machine).phases;
  }
  const std::int64_t walked = std::min(program.micro.count, kWalked);
  const program::WrittenOut written = program::write_out(program, walked);
  std::vector<PhaseTiming> phases =
      last_runs(program, written, internal::side_by_side(written.program, machine).phases);
  if (program.micro.count == walked) {
    return phases;
  }
  const program::WrittenOut fewer = program::write_out(program, walked - 1);
  const Picoseconds shift =
      (end_of(phases) - end_of(internal::side_by_side(fewer.program, machine).phases)) *
      (program.micro.count - walked);
  for (std::size_t i = program.micro.first.index; i < phases.size(); ++i) {
    const Picoseconds moved =
        phases[i].lane == Lane::Ingest ? phases[i].work * (program.micro.count - walked) : shift;
    phases[i].begin += moved;
    phases[i].end += moved;
  }
  return phases;
}

}  // namespace

namespace {

// Phases of a pipeline as they run last.
Timeline of_pipeline(const Program& program, const machine::MachineModel& machine,
                     Sharing sharing) {
  const PipelineTimes times = time_pipeline(program, machine, sharing);
  Timeline timeline;
  std::vector<Picoseconds> last(times.parts.size());
  for (const PartRun& run : times.runs) {
    last[run.stage * program::kPartCount + static_cast<std::size_t>(run.part)] = run.begin;
    timeline.computed = std::max(timeline.computed, run.end);
  }
  Picoseconds ingest{};
  for (std::size_t i = 0; i < times.parts.size(); ++i) {
    for (PhaseTiming timing : times.parts[i].timeline.phases) {
      if (timing.lane == Lane::Ingest) {
        ingest += timing.work * program.micro.count;
      }
      timing.begin += last[i];
      timing.end += last[i];
      timeline.phases.push_back(std::move(timing));
    }
  }
  timeline.step = std::max(timeline.computed + not_covered(ingest, machine), ingest);
  return timeline;
}

}  // namespace

Timeline time_program(const Program& program, const machine::MachineModel& machine,
                      Sharing sharing) {
  if (!program.stages.empty()) {
    return of_pipeline(program, machine, sharing);
  }
  Timeline timeline;
  timeline.phases = sharing == Sharing::Stated ? InTurn(program, machine).run()
                                               : beside_each_other(program, machine);
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
  struct Lanes {
    Picoseconds compute{};
    cost::FlowLoads network{};  // cycles of each class
  };
  std::vector<Lanes> of_stage(std::max<std::size_t>(1, program.stages.size()));
  double ingest_cycles = 0;
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    const Phase& phase = program.phases[i];
    const std::int64_t runs = program.runs(i);
    Lanes& lanes = of_stage[program.stages.empty() ? 0 : program.stage_of(i)];
    bounds.serial += internal::alone(phase, program, machine).work * runs;
    if (const auto* body = std::get_if<Compute>(&phase.body)) {
      const cost::NodeCost node = cost::compute_time(*body, machine).cost;
      const Cycles busiest(std::llround(std::floor(node.busiest())));
      lanes.compute += machine.clock.to_picoseconds(busiest) * runs;
    } else if (const auto* transfer = std::get_if<Transfer>(&phase.body)) {
      const double busy = cost::transfer_time(*transfer, program.replicas, machine).cost.busy;
      const cost::FlowLoads loads = cost::flow_loads(*transfer, program.replicas, machine);
      for (std::size_t c = 0; c < loads.size(); ++c) {
        lanes.network[c] += loads[c] * busy * static_cast<double>(runs);
      }
    } else {
      ingest_cycles +=
          cost::ingest_time(std::get<Ingest>(phase.body), program.replicas, phase.region, machine)
              .cost.busy *
          static_cast<double>(runs);
    }
  }
  const auto whole = [&](double cycles) {
    return machine.clock.to_picoseconds(Cycles(std::llround(std::floor(cycles))));
  };
  bounds.lower = whole(ingest_cycles);
  for (const Lanes& lanes : of_stage) {
    const double busiest = *std::max_element(lanes.network.begin(), lanes.network.end());
    bounds.lower = std::max({bounds.lower, lanes.compute, whole(busiest)});
  }
  return bounds;
}

}  // namespace dojo::system
