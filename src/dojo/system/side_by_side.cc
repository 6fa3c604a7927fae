// Max-min sharing as a run of events: a transfer has sent everything, its last byte or its first
// panel has arrived, a computation or the ingest has ended. Between two events nothing changes, so
// cost does not grow with time or nodes, only with phases.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "dojo/base/check.h"
#include "dojo/cost/flow.h"
#include "dojo/cost/phase_cost.h"
#include "dojo/system/internal/sharing.h"

namespace dojo::system::internal {
namespace {

using program::Compute;
using program::Phase;
using program::Program;
using program::Transfer;

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr std::size_t kLanes = 3;

struct Flight {
  std::size_t phase = 0;
  cost::FlowLoads loads{};
  double left = 0;         // busy cycles still to be sent
  double until_first = 0;  // of them, those up to the end of the first panel
  double rate = 0;         // busy cycles per cycle
};

class Run {
 public:
  Run(const Program& program, const machine::MachineModel& machine)
      : program_(program),
        machine_(machine),
        cycle_(1e12 / static_cast<double>(machine.clock.hertz())),
        latency_(program.phases.size(), 0),
        first_(program.phases.size(), kNever),
        end_(program.phases.size(), kNever),
        is_over_(program.phases.size(), false),
        barrier_(barriers(program)) {
    for (std::size_t i = 0; i < program.phases.size(); ++i) {
      timeline_.phases.push_back(alone(program.phases[i], program, machine));
      lanes_[lane_of(i)].push_back(i);
    }
  }

  Timeline run() {
    while (true) {
      settle();
      const double next = next_event();
      if (next == kNever) {
        break;
      }
      const double cycles = (next - now_) / cycle_;
      for (Flight& flight : flights_) {
        flight.left -= flight.rate * cycles;
        flight.until_first -= flight.rate * cycles;
      }
      now_ = next;
    }
    for (const bool is_over : is_over_) {
      DOJO_CHECK(is_over);
    }
    return std::move(timeline_);
  }

 private:
  std::size_t lane_of(std::size_t i) const {
    return static_cast<std::size_t>(timeline_.phases[i].lane);
  }

  // The last phase that used bytes which a phase is the first to use for something else.
  static std::vector<std::optional<std::size_t>> barriers(const Program& program) {
    std::vector<std::optional<std::size_t>> barriers(program.phases.size());
    for (const program::MemoryEntry& entry : program.memory) {
      for (const program::MemoryEntry& other : program.memory) {
        if (other.last < entry.first && other.offset < entry.offset + entry.bytes &&
            entry.offset < other.offset + other.bytes) {
          auto& barrier = barriers[entry.first.index];
          barrier = std::max<std::size_t>(barrier.value_or(0), other.last.index);
        }
      }
    }
    return barriers;
  }

  // All phases of the lane up to phase i have ended.
  bool is_over_up_to(std::size_t lane, std::size_t i) const {
    const std::size_t at = over_[lane];
    return at == lanes_[lane].size() || lanes_[lane][at] > i;
  }

  bool is_ready(std::size_t i) const {
    const auto* compute = std::get_if<Compute>(&program_.phases[i].body);
    const auto is_feed = [&](PhaseId id) {
      return compute != nullptr && std::find(compute->pipelined.begin(), compute->pipelined.end(),
                                             id) != compute->pipelined.end();
    };
    for (const PhaseId before : program_.phases[i].after) {
      const bool is_there = is_feed(before) ? first_[before.index] <= now_
                                            : is_over_up_to(lane_of(before.index), before.index);
      if (!is_there) {
        return false;
      }
    }
    if (barrier_[i].has_value()) {
      // What ingest writes has bytes of its own through the whole step.
      for (const Lane lane : {Lane::Compute, Lane::Transfer}) {
        if (!is_over_up_to(static_cast<std::size_t>(lane), *barrier_[i])) {
          return false;
        }
      }
    }
    return true;
  }

  // Ends and begins all that ends and begins now.
  void settle() {
    bool has_changed = true;
    while (has_changed) {
      has_changed = end_flights();
      has_changed = end_phases() || has_changed;
      has_changed = begin_phases() || has_changed;
    }
    std::vector<cost::FlowLoads> loads;
    for (const Flight& flight : flights_) {
      loads.push_back(flight.loads);
    }
    const std::vector<double> rates = cost::max_min_rates(loads, machine_.network.pace);
    for (std::size_t i = 0; i < flights_.size(); ++i) {
      flights_[i].rate = rates[i];
    }
  }

  // Transfers that have sent their first panel, or everything: it arrives a latency later.
  bool end_flights() {
    const auto is_sent = [](double left) { return left <= 1e-3; };
    for (const Flight& flight : flights_) {
      if (is_sent(flight.until_first) && first_[flight.phase] == kNever) {
        first_[flight.phase] = now_ + latency_[flight.phase];
      }
    }
    return std::erase_if(flights_, [&](const Flight& flight) {
             if (is_sent(flight.left)) {
               end_[flight.phase] = now_ + latency_[flight.phase];
             }
             return is_sent(flight.left);
           }) > 0;
  }

  bool end_phases() {
    bool has_changed = false;
    for (const std::size_t i : running_) {
      const auto* compute = std::get_if<Compute>(&program_.phases[i].body);
      if (compute == nullptr || end_[i] != kNever) {
        continue;
      }
      // Its end is known once its feeds' are.
      const PhaseTiming& timing = timeline_.phases[i];
      double end = static_cast<double>((timing.begin + timing.work).count());
      for (const PhaseId feed : compute->pipelined) {
        const std::int64_t panels = std::get<Transfer>(program_.phases[feed.index].body).panels;
        end = std::max(
            end, end_[feed.index] + static_cast<double>(panel_work(timing.work, panels).count()));
      }
      end_[i] = end;
    }
    std::erase_if(running_, [&](std::size_t i) {
      if (end_[i] > now_) {
        return false;
      }
      timeline_.phases[i].end = Picoseconds(std::llround(end_[i]));
      if (first_[i] != kNever) {
        timeline_.phases[i].first =
            Picoseconds(std::llround(first_[i])) - timeline_.phases[i].begin;
      }
      is_over_[i] = true;
      has_changed = true;
      return true;
    });
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      while (over_[lane] < lanes_[lane].size() && is_over_[lanes_[lane][over_[lane]]]) {
        ++over_[lane];
      }
    }
    return has_changed;
  }

  bool begin_phases() {
    bool has_changed = false;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const std::size_t at_once = lane == static_cast<std::size_t>(Lane::Transfer) ? kInFlight : 1;
      while (begun_[lane] < lanes_[lane].size() && begun_[lane] - over_[lane] < at_once &&
             is_ready(lanes_[lane][begun_[lane]])) {
        begin(lanes_[lane][begun_[lane]]);
        ++begun_[lane];
        has_changed = true;
      }
    }
    return has_changed;
  }

  void begin(std::size_t i) {
    PhaseTiming& timing = timeline_.phases[i];
    timing.begin = Picoseconds(std::llround(now_));
    running_.push_back(i);
    if (const auto* transfer = std::get_if<Transfer>(&program_.phases[i].body)) {
      const cost::TransferCost cost =
          cost::transfer_time(*transfer, program_.replicas, machine_).cost;
      latency_[i] = static_cast<double>(cost.latency.count()) * cycle_;
      flights_.push_back({.phase = i,
                          .loads = cost::flow_loads(*transfer, program_.replicas, machine_),
                          .left = cost.busy,
                          .until_first = cost.busy / static_cast<double>(transfer->panels)});
    } else if (timing.lane == Lane::Ingest) {
      end_[i] = now_ + static_cast<double>(timing.work.count());
    }
  }

  double next_event() const {
    double next = kNever;
    const auto consider = [&](double time) { next = time > now_ ? std::min(next, time) : next; };
    for (const Flight& flight : flights_) {
      consider(now_ + std::max(flight.left, 0.0) / flight.rate * cycle_);
      if (first_[flight.phase] == kNever) {
        consider(now_ + std::max(flight.until_first, 0.0) / flight.rate * cycle_);
      }
    }
    for (const std::size_t i : running_) {
      consider(end_[i]);
      consider(first_[i]);
    }
    return next;
  }

  const Program& program_;
  const machine::MachineModel& machine_;
  double cycle_;  // in picoseconds, as all times here
  Timeline timeline_;
  std::array<std::vector<std::size_t>, kLanes> lanes_{};
  std::array<std::size_t, kLanes> begun_{};  // of each lane
  std::array<std::size_t, kLanes> over_{};   // the first so many of each lane have all ended
  std::vector<double> latency_;
  std::vector<double> first_;  // when the first panel is there
  std::vector<double> end_;
  std::vector<bool> is_over_;
  std::vector<std::optional<std::size_t>> barrier_;
  std::vector<Flight> flights_;
  std::vector<std::size_t> running_;
  double now_ = 0;
};

}  // namespace

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
                                      : cost::ingest_time(std::get<program::Ingest>(phase.body),
                                                          program.replicas, phase.region, machine);
  timing.lane = transfer != nullptr ? Lane::Transfer : Lane::Ingest;
  timing.work = time.total;
  timing.first = time.first;
  timing.bound_by = cost::bound_of(time, machine);
  timing.bytes = time.cost.bytes;
  return timing;
}

Picoseconds panel_work(Picoseconds work, std::int64_t panels) {
  return Picoseconds((work.count() + panels - 1) / panels);
}

Timeline side_by_side(const Program& program, const machine::MachineModel& machine) {
  return Run(program, machine).run();
}

}  // namespace dojo::system::internal
