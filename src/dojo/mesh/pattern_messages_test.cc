#include "dojo/mesh/pattern_messages.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "dojo/machine/description.h"
#include "dojo/mesh/traffic_load.h"

namespace dojo::mesh {
namespace {

using machine::Association;
using machine::Axis;
using machine::Pattern;

constexpr std::int64_t kS = 22;  // a store-and-forward stage: 2 + alpha

Bytes packets(std::int64_t count) { return Bytes(64 * count); }

// A network with its table and the grid of all its nodes.
struct Network {
  Topology topology;
  RoutingTable routing;
  NodeGrid grid;

  explicit Network(TopologySpec spec)
      : topology(*Topology::make(std::move(spec))),
        routing(*RoutingTable::make(topology, RoutingKind::XFirst, 3)),
        grid(*NodeGrid::of_sites(topology)) {}
  Network(const Network&) = delete;

  MessageTrace trace(const Pattern& pattern, const PatternTiming& timing = {}) const {
    auto made = pattern_messages(pattern, {topology, routing, grid}, timing);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    EXPECT_TRUE(check_trace(*made, topology).has_value())
        << check_trace(*made, topology).error().message;
    return *std::move(made);
  }
  std::string error(const Pattern& pattern) const {
    const auto made = pattern_messages(pattern, {topology, routing, grid}, {});
    return made.has_value() ? "no error" : made.error().message;
  }
  RouterId at(int row, int column) const { return *grid.at(row, column); }
  TrafficLoad load(const MessageTrace& trace) const { return load_of(trace, topology, routing); }
  std::int64_t on_link(const TrafficLoad& load, int row, int column, Port out) const {
    return load.links[topology.link_from(at(row, column), out)->index];
  }
};

// When the last packet arrives if packets never meet: zero-load latency and what messages say.
std::int64_t end_without_contention(const Network& network, const MessageTrace& trace) {
  std::vector<std::vector<std::int64_t>> arrived(trace.messages.size());
  std::int64_t phase_start = 0;
  std::int64_t end = -1;
  std::int32_t phase = 0;
  for (std::uint32_t m = 0; m < trace.messages.size(); ++m) {
    const Message& message = trace.messages[m];
    phase_start = message.phase == phase ? phase_start : end + 1;
    phase = message.phase;
    std::int64_t latency = 1;
    for (const LinkId link : network.routing.path(message.source, message.target)) {
      const auto link_class = static_cast<std::size_t>(network.topology.link(link).link_class);
      latency += network.topology.link_classes()[link_class].latency.count();
    }
    double next = static_cast<double>(phase_start + message.start.count());
    for (std::int64_t k = 0; k < message.flits; ++k) {
      auto at = static_cast<std::int64_t>(next + 1 - 1e-9);
      at = std::max(at, phase_start);
      for (const Dependency& after : trace.dependencies_of({m})) {
        const std::int64_t need = after.first + after.stride * k;
        if (need > 0) {
          at = std::max(at, arrived[after.on.index][static_cast<std::size_t>(need - 1)] +
                                after.delay.count());
        }
      }
      next = static_cast<double>(at) + static_cast<double>(message.pace.den) / message.pace.num;
      arrived[m].push_back(at + latency);
      end = std::max(end, at + latency);
    }
  }
  return end;
}

std::map<std::pair<std::uint32_t, std::uint32_t>, std::int64_t> flits_by_pair(
    const MessageTrace& trace) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::int64_t> flits;
  for (const Message& message : trace.messages) {
    flits[{message.source.index, message.target.index}] += message.flits;
  }
  return flits;
}

constexpr PatternTiming kUnpaced{.pace = std::nullopt};

TEST(MulticastMessages, TakeAPlusLMinusOne) {
  const Network network({.die = {8, 8}});
  const MessageTrace end = network.trace(machine::multicast(Axis::Rows, packets(50)), kUnpaced);
  EXPECT_EQ(end.messages.size(), 8U * 7);
  EXPECT_EQ(end_without_contention(network, end), 6 * kS + 2 + 50 - 1);
  const TrafficLoad load = network.load(end);
  EXPECT_EQ(load.busy_cycles(network.topology), 50);
  EXPECT_EQ(network.on_link(load, 3, 6, Port::East), 50);
  EXPECT_EQ(network.on_link(load, 3, 6, Port::West), 0);
  // From inside, the source sends twice.
  const MessageTrace inside =
      network.trace(machine::multicast(Axis::Columns, packets(50), 3), kUnpaced);
  EXPECT_EQ(network.load(inside).busy_cycles(network.topology), 100);
  // Node 1,2: down column 2, then all rows.
  const MessageTrace both = network.trace(machine::multicast(Axis::Both, packets(5), 10), kUnpaced);
  EXPECT_EQ(both.phases(), 2);
  EXPECT_EQ(both.flits(), 5 * 63);
  EXPECT_EQ(network.error(machine::multicast(Axis::Rows, packets(5), 8)),
            "multicast from node 8 of 8, expected 0..7");
}

TEST(ReplicatedMessages, CrossEachLinkOnce) {
  constexpr PatternTiming kCopied{.multicast = Multicast::Replicate};
  const Network network({.die = {6, 8}});
  // From inside, the source sends once.
  const MessageTrace rows = network.trace(machine::multicast(Axis::Rows, packets(50), 3), kCopied);
  EXPECT_EQ(rows.messages.size(), 6U);
  EXPECT_EQ(rows.flits(), 6 * 7 * 50);
  EXPECT_EQ(network.load(rows).busy_cycles(network.topology), 50);
  const MessageTrace both = network.trace(machine::multicast(Axis::Both, packets(5), 10), kCopied);
  EXPECT_EQ(both.messages.size(), 1U);
  EXPECT_EQ(both.flits(), 5 * 47);
  const TrafficLoad tree = network.load(both);
  EXPECT_EQ(std::accumulate(tree.links.begin(), tree.links.end(), std::int64_t{0}), 5 * 47);
  // Everybody's block to all others: a port takes all but its own.
  const MessageTrace gather = network.trace(machine::all_gather(Axis::Rows, packets(80)), kCopied);
  EXPECT_EQ(gather.messages.size(), 6U * 8);
  EXPECT_EQ(network.load(gather).busy_cycles(network.topology), 70);
  EXPECT_EQ(network.on_link(network.load(gather), 2, 2, Port::East), 30);
  // To the middle and back: each row's middle tells its row at once.
  const MessageTrace sum =
      network.trace(machine::all_reduce(Axis::Both, Association::Centre, packets(1)), kCopied);
  EXPECT_EQ(sum.messages.size(), 6U * 7 + 5 + 6 + 1);
  EXPECT_EQ(sum.flits(), 2 * 47);
}

TEST(AllGatherMessages, LoadLinksAndPortsAsTheFormula) {
  const Network network({.die = {6, 8}});
  const std::int64_t v = 80;
  const MessageTrace trace = network.trace(machine::all_gather(Axis::Rows, packets(v)));
  const TrafficLoad load = network.load(trace);
  for (int c = 0; c < 7; ++c) {
    EXPECT_EQ(network.on_link(load, 2, c, Port::East), v / 8 * (c + 1));
    EXPECT_EQ(network.on_link(load, 2, c + 1, Port::West), v / 8 * (7 - c));
  }
  EXPECT_EQ(load.busy_cycles(network.topology), v * 9 / 8);
  for (int c = 0; c < 8; ++c) {
    EXPECT_EQ(load.ports_in[network.at(4, c).index], v - v / 8);
    EXPECT_EQ(load.ports_out[network.at(4, c).index], c % 7 == 0 ? v / 8 : v / 8 * 9);
  }
  // Column first, each of them 1/8 of it.
  const MessageTrace both = network.trace(machine::all_gather(Axis::Both, packets(480)));
  EXPECT_EQ(both.phases(), 2);
  EXPECT_EQ(both.flits(), 6 * 8 * (480 - 10));
}

TEST(AllGatherMessages, ShareUnevenBlocks) {
  const Network network({.die = {3, 5}});
  for (std::int64_t v = 1; v <= 23; ++v) {
    for (const Axis axis : {Axis::Rows, Axis::Columns, Axis::Both}) {
      const MessageTrace trace = network.trace(machine::all_gather(axis, packets(v)));
      const std::int64_t lines = axis == Axis::Rows ? 3 : axis == Axis::Columns ? 5 : 1;
      const std::int64_t nodes = 15 / lines;
      EXPECT_EQ(trace.flits(), lines * (nodes - 1) * v);
      EXPECT_GT(end_without_contention(network, trace), 0);
    }
  }
}

TEST(ReduceMessages, ChainToTheLastNode) {
  const Network network({.die = {8, 8}});
  const PatternTiming timing{.add = Cycles{8}, .pace = std::nullopt};
  const MessageTrace trace =
      network.trace(machine::reduce(Axis::Rows, Association::Chain, packets(50)), timing);
  EXPECT_EQ(end_without_contention(network, trace), 6 * kS + 2 + 6 * 8 + 50 - 1);
  const MessageTrace both =
      network.trace(machine::reduce(Axis::Both, Association::Chain, packets(50)), timing);
  EXPECT_EQ(both.flits(), (8 * 7 + 7) * 50);
  EXPECT_EQ(network.error(machine::reduce(Axis::Both, Association::Centre, packets(1))),
            "reduce order=centre: only all_reduce goes to the middle and back");
}

TEST(ReduceMessages, NestedChainsRunInAllDiesAtOnce) {
  const Network network({.die = {1, 4}, .dies = {1, 3}, .column_boundaries = {0, 0}});
  const MessageTrace chain =
      network.trace(machine::reduce(Axis::Rows, Association::Chain, packets(1)), kUnpaced);
  EXPECT_EQ(end_without_contention(network, chain), 10 * kS + 2);
  const MessageTrace nested =
      network.trace(machine::reduce(Axis::Rows, Association::Nested, packets(1)), kUnpaced);
  // Three stages in the die, then twice four hops.
  EXPECT_EQ(end_without_contention(network, nested), 3 * kS + (kS + 3) + 2 + 3);
  EXPECT_EQ(nested.messages.size(), 11U);
}

TEST(ReduceScatterMessages, ReturnResultsThroughTheRouters) {
  const Network network({.die = {2, 8}});
  const MessageTrace trace =
      network.trace(machine::reduce_scatter(Axis::Rows, Association::Chain, packets(80)));
  const TrafficLoad load = network.load(trace);
  EXPECT_EQ(load.busy_cycles(network.topology), 80 * 9 / 8);  // into node 6
  EXPECT_EQ(network.on_link(load, 0, 3, Port::East), 80);
  EXPECT_EQ(network.on_link(load, 0, 7, Port::West), 80 * 7 / 8);
  EXPECT_EQ(network.on_link(load, 0, 1, Port::West), 10);
  EXPECT_EQ(load.ports_in[network.at(0, 3).index], 90);
  EXPECT_EQ(load.ports_in[network.at(0, 7).index], 80);
  // One packet each: 7 stages to the end, and 7 hops back for owner 0.
  const MessageTrace one =
      network.trace(machine::reduce_scatter(Axis::Rows, Association::Chain, packets(1)), kUnpaced);
  EXPECT_EQ(end_without_contention(network, one), 7 * kS + 8);
}

TEST(AllReduceMessages, AreFourPhases) {
  const Network network({.die = {4, 6}});
  const std::int64_t v = 24 * 5;
  const MessageTrace trace =
      network.trace(machine::all_reduce(Axis::Both, Association::Chain, packets(v)));
  EXPECT_EQ(trace.phases(), 4);
  const std::int64_t rows = 4 * (5 * v + v * 5 / 6);  // chain and results
  const std::int64_t columns = 6 * (3 * v / 6 + v / 6 * 3 / 4);
  const std::int64_t gather = 6 * 3 * v / 6 + 4 * 5 * v;
  EXPECT_EQ(trace.flits(), rows + columns + gather);
}

TEST(SmallAllReduce, TakesWhatTheFormulaSays) {
  const Network die({.die = {18, 20}});
  const Pattern small = machine::all_reduce(Axis::Both, Association::Centre, Bytes(4));
  EXPECT_EQ(end_without_contention(die, die.trace(small, kUnpaced)), 2 * 19 * kS - kS + 2);
  EXPECT_EQ(die.trace(small).messages.size(), 2U * 359);
  const Network square({.die = {8, 8}});
  EXPECT_EQ(end_without_contention(square, square.trace(small)), 2 * 8 * kS - kS + 2);
  // One row alone.
  EXPECT_EQ(end_without_contention(square, square.trace(machine::all_reduce(
                                               Axis::Rows, Association::Centre, Bytes(4)))),
            2 * 4 * kS - kS + 2);
}

TEST(SmallAllReduce, GoesOverTheDiesMiddles) {
  TopologySpec spec{.die = {18, 20}, .dies = {5, 5}};
  spec.link_classes.push_back({.name = "die edge", .latency = Cycles{200}, .rate = {7, 8}});
  spec.row_boundaries.assign(4, 1);
  spec.column_boundaries.assign(4, 1);
  const Network tile(spec);
  const Pattern small = machine::all_reduce(Axis::Both, Association::Centre, Bytes(4));
  const MessageTrace trace = tile.trace(small, kUnpaced);
  EXPECT_EQ(trace.messages.size(), 2U * 8999);
  // The formula of placement: 2 [(10 + 9) s + 2 (19 + 17 + 2 (200 + 20 + 1))] = 2,748; the last
  // stage has no one to hand on to.
  EXPECT_EQ(end_without_contention(tile, trace), 2748 - 20);
}

TEST(HaloMessages, GoToNeighbours) {
  const Network network({.die = {3, 4}});
  const MessageTrace trace =
      network.trace(machine::halo({.north = packets(3), .east = packets(1), .south = packets(2)}));
  EXPECT_EQ(trace.flits(), 2 * 4 * 3 + 3 * 3 * 1 + 2 * 4 * 2);
  EXPECT_EQ(network.load(trace).busy_cycles(network.topology), 6);
  EXPECT_EQ(network.on_link(network.load(trace), 0, 0, Port::South), 3);
}

TEST(ShiftMessages, LoadLinksByTheShorterWayRound) {
  const Network network({.die = {3, 8}});
  for (const int distance : {1, 3, 5, -2, 8 + 3}) {
    const MessageTrace trace = network.trace(machine::shift(Axis::Rows, distance, packets(10)));
    const int d = ((distance % 8) + 8) % 8;
    const TrafficLoad load = network.load(trace);
    EXPECT_EQ(load.busy_cycles(network.topology), 10 * std::min(d, 8 - d));
    for (int c = 0; c < 7; ++c) {
      EXPECT_EQ(network.on_link(load, 1, c, Port::East), 10 * std::min({d, c + 1, 7 - c, 8 - d}));
    }
  }
  EXPECT_TRUE(network.trace(machine::shift(Axis::Rows, 8, packets(10))).messages.empty());
}

TEST(AllToAllMessages, OfALineSendEveryPairItsPackets) {
  const Network network({.die = {2, 7}});
  const MessageTrace trace = network.trace(machine::all_to_all(Axis::Rows, packets(3)));
  const auto pairs = flits_by_pair(trace);
  EXPECT_EQ(pairs.size(), 2U * 7 * 6);
  for (const auto& [pair, flits] : pairs) {
    EXPECT_EQ(flits, 3);
  }
  const TrafficLoad load = network.load(trace);
  for (int c = 0; c < 6; ++c) {
    EXPECT_EQ(network.on_link(load, 0, c, Port::East), 3 * (c + 1) * (6 - c));
  }
  // Slots begin by time: 1 + 2 m / pace after the first, and so on.
  EXPECT_EQ(trace.messages[0].start, Cycles{0});
  const auto second = std::find_if(trace.messages.begin(), trace.messages.end(),
                                   [](const Message& each) { return each.start.count() > 0; });
  EXPECT_EQ(second->start, Cycles{1 + 7});
}

TEST(AllToAllMessages, OfARegionSendEveryPairItsPackets) {
  const Network network({.die = {4, 6}});
  const std::int64_t m = 3;
  const MessageTrace trace = network.trace(machine::all_to_all(Axis::Both, packets(m)));
  EXPECT_EQ(trace.phases(), 2);
  // Rows carry all that is for another column, columns all that is for another row.
  EXPECT_EQ(trace.flits(), m * 24 * (4 * 5 + 6 * 3));
  const TrafficLoad load = network.load(trace);
  for (int c = 0; c < 5; ++c) {
    EXPECT_EQ(network.on_link(load, 2, c, Port::East), m * 4 * (c + 1) * (5 - c));
  }
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ(network.on_link(load, r, 1, Port::South), m * 6 * (r + 1) * (3 - r));
  }
}

TEST(EdgeMessages, EndAtTheLineOrAtItsPort) {
  const Network plain({.die = {2, 5}});
  const MessageTrace gather = plain.trace(machine::gather_to_edge(machine::Side::West, packets(3)));
  EXPECT_EQ(gather.flits(), 2 * 4 * 3);
  EXPECT_EQ(plain.on_link(plain.load(gather), 1, 1, Port::West), 4 * 3);
  TopologySpec spec{.die = {2, 5}};
  spec.edge_ports = {{.site = {0, 0}}, {.site = {1, 0}}};
  const Network ports(spec);
  const MessageTrace scatter =
      ports.trace(machine::scatter_from_edge(machine::Side::West, packets(3)));
  EXPECT_EQ(scatter.flits(), 2 * 5 * 3);
  EXPECT_EQ(ports.load(scatter).ports_out[ports.topology.edge_port(1).index], 15);
  spec.edge_ports.pop_back();
  EXPECT_EQ(Network(spec).error(machine::gather_to_edge(machine::Side::West, packets(3))),
            "no port on the west edge in the line of node 1,0");
}

TEST(RegionMoveMessages, GoToTheSamePlaceInAnotherRegion) {
  const machine::MachineModel machine = machine::load_machine("training-tile").value();
  const Topology tile = *topology_of(machine);
  const RoutingTable routing = *RoutingTable::make(tile, RoutingKind::XFirst, 3);
  const machine::Region region{.first_die = {1, 1}, .dies = {1, 2}, .nodes_of_die = {18, 19}};
  const NodeGrid grid = *NodeGrid::of_region(region, machine, tile);
  const MessageTrace trace =
      *pattern_messages(machine::region_move(18, -19, packets(2)), {tile, routing, grid}, {});
  EXPECT_EQ(trace.messages.size(), 18U * 38);
  EXPECT_EQ(tile.die_of(trace.messages[0].source), (Site{1, 1}));
  EXPECT_EQ(tile.die_of(trace.messages[0].target), (Site{2, 0}));
  EXPECT_TRUE(check_trace(trace, tile).has_value());
  EXPECT_EQ(pattern_messages(machine::region_move(0, -38, packets(2)), {tile, routing, grid}, {})
                .error()
                .message,
            "a move by 0,-38 takes node 0,0 off the machine");
}

TEST(NodeGrid, StandsOnTheLogicalMapOfTheMachine) {
  const machine::MachineModel machine = machine::load_machine("d1").value();
  const Topology die = *topology_of(machine);
  const machine::Region region = machine::whole_machine(machine);
  const NodeGrid grid = *NodeGrid::of_region(region, machine, die);
  EXPECT_EQ(grid.rows(), 18);
  EXPECT_EQ(grid.columns(), 19);
  for (int r = 0; r < grid.rows(); ++r) {
    for (int c = 0; c < grid.columns(); ++c) {
      EXPECT_EQ(die.site_of(*grid.at(r, c)), machine.site_of({r, c}));
    }
  }
  EXPECT_FALSE(grid.at(-1, 0).has_value());
  EXPECT_FALSE(grid.at(0, 19).has_value());
  EXPECT_FALSE(NodeGrid::of_sites(die).has_value());
  const Topology other = *Topology::rectangle({18, 19});
  EXPECT_EQ(NodeGrid::of_region(region, machine, other).error().message,
            "the network is not that of machine d1");
}

TEST(Paces, LetAllMessagesOfAPhaseEndTogether) {
  const Network network({.die = {4, 6}});
  for (const Pattern& pattern :
       {machine::all_gather(Axis::Rows, packets(60)), machine::shift(Axis::Rows, 2, packets(90)),
        machine::halo({.north = packets(40), .east = packets(20)})}) {
    const MessageTrace trace = network.trace(pattern);
    const auto busy = static_cast<double>(network.load(trace).busy_cycles(network.topology));
    for (const Message& message : trace.messages) {
      const double pace = static_cast<double>(message.pace.num) / message.pace.den;
      EXPECT_NEAR(static_cast<double>(message.flits) / pace, busy / 0.9, busy * 1e-4);
    }
  }
}

TEST(Patterns, OfNothingHaveNoMessages) {
  const Network one({.die = {1, 1}});
  const Network network({.die = {2, 3}});
  for (const std::int64_t size : {0, 9}) {
    for (const Pattern& pattern :
         {machine::multicast(Axis::Both, packets(size)),
          machine::all_gather(Axis::Both, packets(size)),
          machine::reduce(Axis::Rows, Association::Chain, packets(size)),
          machine::reduce_scatter(Axis::Both, Association::Nested, packets(size)),
          machine::all_reduce(Axis::Both, Association::Chain, packets(size)),
          machine::all_reduce(Axis::Both, Association::Centre, packets(size)),
          machine::halo({.north = packets(size)}), machine::shift(Axis::Rows, 3, packets(size)),
          machine::all_to_all(Axis::Both, packets(size)),
          machine::gather_to_edge(machine::Side::West, packets(size))}) {
      EXPECT_TRUE(one.trace(pattern).messages.empty()) << machine::to_string(pattern);
      if (size == 0) {
        EXPECT_TRUE(network.trace(pattern).messages.empty()) << machine::to_string(pattern);
      }
    }
  }
}

TEST(Patterns, OnADieWithDeadNodesKeepAllBytes) {
  const machine::MachineModel machine = machine::load_machine("d1").value();
  const Topology die = *topology_of(machine);
  const RoutingTable routing = *RoutingTable::make(die, RoutingKind::XFirst, 3);
  const NodeGrid grid = *NodeGrid::of_region(machine::whole_machine(machine), machine, die);
  const PatternTiming timing = pattern_timing(machine);
  const auto trace = [&](const Pattern& pattern) {
    MessageTrace made = pattern_messages(pattern, {die, routing, grid}, timing).value();
    EXPECT_TRUE(check_trace(made, die).has_value());
    return made;
  };
  EXPECT_EQ(trace(machine::all_gather(Axis::Rows, packets(190))).flits(), 18 * 18 * 190);
  EXPECT_EQ(trace(machine::all_to_all(Axis::Columns, packets(2))).flits(), 19 * 18 * 17 * 2);
  EXPECT_EQ(trace(machine::scatter_from_edge(machine::Side::West, packets(7))).flits(),
            18 * 19 * 7);
  EXPECT_EQ(timing.alpha, Cycles{20});
  EXPECT_EQ(timing.add, Cycles{8});
}

}  // namespace
}  // namespace dojo::mesh
