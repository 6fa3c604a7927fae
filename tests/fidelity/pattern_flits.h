// For tests: the time of a pattern by library cost's formula and by flits of the mesh.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "dojo/cost/pattern_cost.h"
#include "dojo/machine/description.h"
#include "dojo/mesh/pattern_messages.h"
#include "dojo/mesh/run_messages.h"

namespace dojo::mesh {

inline Bytes packets(std::int64_t count) { return Bytes(64 * count); }

// d1 or a tile without a vector add per stage, as the formulas' check was run: alpha 20 alone.
inline machine::MachineModel model_without_adds(const std::string& name) {
  machine::MachineModel machine = machine::load_machine(name).value();
  machine.network.reduce_stage = Cycles{0};
  return machine;
}

// A rectangle of nodes, all alive, of one die or several, under the d1 router.
class Flits {
 public:
  explicit Flits(TopologySpec spec, const std::string& machine = "d1", int vcs = 3)
      : machine_(model_without_adds(machine)),
        topology_(*Topology::make(std::move(spec))),
        routing_(*RoutingTable::make(topology_, RoutingKind::XFirst, vcs)),
        grid_(*NodeGrid::of_sites(topology_)) {
    config_.vcs = vcs;
    machine_.logical = grid_.per_die();
  }
  // The logical grid of a machine with its dead nodes.
  explicit Flits(const machine::MachineModel& machine, int vcs = 3)
      : machine_(machine),
        topology_(*topology_of(machine)),
        routing_(*RoutingTable::make(topology_, RoutingKind::XFirst, vcs)),
        grid_(*NodeGrid::of_region(machine::whole_machine(machine), machine, topology_)) {
    config_.vcs = vcs;
  }
  Flits(const Flits&) = delete;

  // Formulas: what one row or column has of a die's edge, in flits per cycle, and its latency.
  void set_die_edge(FlitRate rate, Cycles latency) {
    machine::LinkModel& edge =
        *machine_.links[static_cast<std::size_t>(machine::LinkClass::DieEdge)];
    edge.per_row = edge.per_column = BytesPerCycle(64.0 * rate.num / rate.den);
    edge.latency = latency;
  }

  const NodeGrid& grid() const { return grid_; }
  const Topology& topology() const { return topology_; }
  const RoutingTable& routing() const { return routing_; }

  MessageTrace trace(const machine::Pattern& pattern, std::optional<double> pace,
                     Multicast multicast = Multicast::Forward) const {
    PatternTiming timing = pattern_timing(machine_);
    timing.pace = pace;
    timing.multicast = multicast;
    return pattern_messages(pattern, {topology_, routing_, grid_}, timing).value();
  }
  // Cycles until the last flit arrived, phases one after the other.
  double run(const MessageTrace& trace) const {
    const MessagesOutcome outcome = run_messages(topology_, routing_, config_, trace).value();
    EXPECT_EQ(outcome.trap, "");
    EXPECT_EQ(outcome.flits, trace.flits());
    std::int64_t cycles = 0;
    for (const Cycles phase : outcome.phases) {
      cycles += phase.count();
    }
    return static_cast<double>(cycles);
  }
  double run(const machine::Pattern& pattern, std::optional<double> pace) const {
    return run(trace(pattern, pace));
  }
  cost::TransferCost formula(const machine::Pattern& pattern) const {
    const machine::Region region{
        .first_die = {}, .dies = grid_.dies(), .nodes_of_die = grid_.per_die()};
    return cost::pattern_cost(pattern, region, machine_);
  }

 private:
  machine::MachineModel machine_;
  Topology topology_;
  RoutingTable routing_;
  NodeGrid grid_;
  RouterConfig config_ = *router_preset("d1");
};

inline double paced(const Flits& flits, const machine::Pattern& pattern, double pace = 0.9) {
  return static_cast<double>(flits.formula(pattern).total(pace).count());
}
inline double unpaced(const Flits& flits, const machine::Pattern& pattern) {
  return static_cast<double>(flits.formula(pattern).total(1).count() - 1);
}

// Fails unless formula / flits - 1 is from `low` to `high`, in percent.
inline void expect_error(const std::string& what, double formula, double flits, double low,
                         double high) {
  const double percent = 100 * (formula / flits - 1);
  EXPECT_TRUE(percent >= low - 0.05 && percent <= high + 0.05) << fmt::format(
      "{}: formula {:.0f}, flits {:.0f}, error {:+.1f} %, expected {:+.1f} .. {:+.1f}", what,
      formula, flits, percent, low, high);
}

}  // namespace dojo::mesh
