#include "dojo/system/losses.h"

#include <algorithm>
#include <numeric>

#include "dojo/cost/phase_cost.h"

namespace dojo::system {
namespace {

using program::Compute;

struct Interval {
  Picoseconds begin;
  Picoseconds end;
};

// The times between compute phases, up to the end of the last phase.
std::vector<Interval> gaps(const Timeline& timeline) {
  std::vector<Interval> gaps;
  Picoseconds reached{};
  for (const PhaseTiming& phase : timeline.phases) {  // compute phases follow one another
    if (phase.lane == Lane::Compute) {
      if (phase.begin > reached) {
        gaps.push_back({reached, phase.begin});
      }
      reached = std::max(reached, phase.end);
    }
  }
  if (timeline.computed > reached) {
    gaps.push_back({reached, timeline.computed});
  }
  return gaps;
}

// The part of each transfer's time that no earlier one has: together, without overlap, all the time
// in which something is under way. Transfers begin in Program order.
std::vector<Interval> own_times(const Timeline& timeline) {
  std::vector<Interval> own(timeline.phases.size());
  Picoseconds reached{};
  for (std::size_t i = 0; i < own.size(); ++i) {
    const PhaseTiming& timing = timeline.phases[i];
    if (timing.lane == Lane::Transfer) {
      own[i] = {std::max(timing.begin, reached), std::max(timing.end, reached)};
      reached = own[i].end;
    }
  }
  return own;
}

Picoseconds overlap(const Interval& a, const Interval& b) {
  return std::max(Picoseconds{}, std::min(a.end, b.end) - std::max(a.begin, b.begin));
}

// The gap that a time lies in, or the first after it; gaps are in order and do not touch.
std::vector<Interval>::const_iterator first_gap_after(const std::vector<Interval>& gaps,
                                                      Picoseconds time) {
  return std::upper_bound(gaps.begin(), gaps.end(), time,
                          [](Picoseconds t, const Interval& gap) { return t < gap.end; });
}

Picoseconds exposed(const std::vector<Interval>& gaps, const Interval& interval) {
  Picoseconds sum{};
  for (auto gap = first_gap_after(gaps, interval.begin);
       gap != gaps.end() && gap->begin < interval.end; ++gap) {
    sum += overlap(*gap, interval);
  }
  return sum;
}

// `runs`: of the phase in a step, which share its totals.
void add_compute(const Compute& compute, const PhaseTiming& timing,
                 const machine::MachineModel& machine, double runs, Losses& losses) {
  const double cycle = 1.0 / static_cast<double>(machine.clock.hertz());
  const cost::NodeCost node = cost::compute_time(compute, machine).cost;
  const auto live_nodes = static_cast<double>(machine.live_nodes());
  const program::NodeWork& work = compute.work;
  const double launch = static_cast<double>(node.launch.count()) * cycle;
  double left = to_seconds(timing.end - timing.begin);
  const auto take = [&](double seconds) {
    const double taken = std::clamp(seconds, 0.0, left);
    left -= taken;
    return taken;
  };

  const double ideal = static_cast<double>(work.total_macs) / runs /
                       (static_cast<double>(machine.node.macs_per_cycle()) * live_nodes) * cycle;
  if (node.matrix.total > 0) {
    losses.ideal_seconds += take(ideal);
    losses[Cause::IdleNodes] += take(node.matrix.ideal * cycle - ideal);
    losses[Cause::ShapeRounding] += take((node.matrix.shape - node.matrix.ideal) * cycle);
    losses[Cause::OperandFeed] += take((node.matrix.operands - node.matrix.shape) * cycle);
    losses[Cause::PanelLoop] += take((node.matrix.total - node.matrix.operands) * cycle);
  } else {
    losses.ideal_seconds += take(ideal);  // FP32 products, which run on the vector pipe
  }
  // What the busiest of the other parts adds beyond the matrix unit. Of that, the share that evenly
  // spread work would not have needed belongs to idle nodes.
  const double beyond = (node.busiest() - node.matrix.total) * cycle;
  const double spread = work.points > 0
                            ? std::min(1.0, static_cast<double>(work.total_points) / runs /
                                                (static_cast<double>(work.points) * live_nodes))
                            : 1.0;
  const Cause cause =
      node.bound == cost::NodePart::Vector ? Cause::VectorBound : Cause::OperandFeed;
  losses[Cause::IdleNodes] += take(beyond * (1 - spread));
  losses[cause] += take(beyond * spread);
  losses[Cause::FillDrain] += take(launch + cycle);  // the body is rounded up to a whole cycle
  losses[Cause::Transfer] += left;                   // a pipelined phase that waits for its panels
}

}  // namespace

std::string_view name(Cause cause) {
  constexpr std::array<std::string_view, kCauseCount> kNames{
      "idle_nodes",   "shape_rounding", "panel_loop", "fill_drain",
      "operand_feed", "vector_bound",   "transfer",   "waiting"};
  return kNames[static_cast<std::size_t>(cause)];
}

double Losses::total() const {
  return std::accumulate(seconds.begin(), seconds.end(), ideal_seconds);
}

Losses& Losses::operator+=(const Losses& other) {
  ideal_seconds += other.ideal_seconds;
  for (std::size_t i = 0; i < seconds.size(); ++i) {
    seconds[i] += other.seconds[i];
  }
  return *this;
}

Losses Losses::operator*(double times) const {
  Losses out = *this;
  out.ideal_seconds *= times;
  for (double& one : out.seconds) {
    one *= times;
  }
  return out;
}

Cause Losses::largest() const {
  return static_cast<Cause>(std::max_element(seconds.begin(), seconds.end()) - seconds.begin());
}

std::vector<Losses> phase_losses(const program::Program& program, const Timeline& timeline,
                                 const machine::MachineModel& machine,
                                 const std::vector<double>& runs) {
  const std::vector<Interval> open = gaps(timeline);
  const std::vector<Interval> own = own_times(timeline);
  std::vector<Losses> losses(timeline.phases.size());
  std::vector<bool> is_feed(timeline.phases.size(), false);
  for (std::size_t i = timeline.phases.size(); i-- > 0;) {
    const PhaseTiming& timing = timeline.phases[i];
    if (timing.lane == Lane::Compute) {
      const auto& compute = std::get<Compute>(program.phases[i].body);
      add_compute(compute, timing, machine, runs.empty() ? 1.0 : runs[i], losses[i]);
      for (const PhaseId feed : compute.pipelined) {
        is_feed[feed.index] = true;
      }
    } else if (timing.lane == Lane::Transfer) {
      const Picoseconds first_end = is_feed[i] ? timing.begin + timing.first : Picoseconds{};
      const Interval first{own[i].begin, std::min(std::max(first_end, own[i].begin), own[i].end)};
      const Picoseconds filling = exposed(open, first);
      losses[i][Cause::FillDrain] = to_seconds(filling);
      losses[i][Cause::Transfer] = to_seconds(exposed(open, own[i]) - filling);
    }
  }
  return losses;
}

Losses losses_of(const program::Program& program, const Timeline& timeline,
                 const machine::MachineModel& machine) {
  Losses losses;
  for (const Losses& each : phase_losses(program, timeline, machine)) {
    losses += each;
  }
  const std::vector<Interval> open = gaps(timeline);
  Picoseconds idle{};
  for (const Interval& gap : open) {
    idle += gap.end - gap.begin;
  }
  for (const Interval& own : own_times(timeline)) {
    idle = idle - exposed(open, own);
  }
  losses[Cause::Transfer] += to_seconds(timeline.step - timeline.computed);
  losses[Cause::Waiting] += to_seconds(idle);
  return losses;
}

std::vector<Picoseconds> exposed_times(const Timeline& timeline) {
  const std::vector<Interval> open = gaps(timeline);
  const std::vector<Interval> own = own_times(timeline);
  std::vector<Picoseconds> times;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const PhaseTiming& timing = timeline.phases[i];
    Picoseconds time{};
    if (timing.lane == Lane::Compute) {
      time = timing.end - timing.begin;
    } else if (timing.lane == Lane::Transfer) {
      time = exposed(open, own[i]);
    }
    times.push_back(time);
  }
  return times;
}

std::vector<std::size_t> payers(const program::Program& program) {
  std::vector<std::size_t> payer(program.phases.size());
  std::size_t last_compute = 0;
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    if (std::holds_alternative<program::Compute>(program.phases[i].body)) {
      last_compute = i;
    }
    payer[i] = last_compute;
  }
  for (std::size_t i = program.phases.size(); i-- > 0;) {
    if (std::holds_alternative<program::Compute>(program.phases[i].body)) {
      for (const PhaseId before : program.phases[i].after) {
        if (!std::holds_alternative<program::Compute>(program.phases[before.index].body)) {
          payer[before.index] = i;
        }
      }
    }
  }
  return payer;
}

}  // namespace dojo::system
