// The plain network on topologies of every kind: latency of a lone flit, rates of boundary links,
// and no flit lost, doubled or stuck round random faults.
#include "dojo/mesh/internal/plain_network.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>

#include "dojo/mesh/internal/plain_messages.h"

namespace dojo::mesh {
namespace {

using internal::PlainOutcome;
using internal::run_plain;

PlainOutcome run(const Topology& topology, const MessageTrace& trace, const RouterConfig& config,
                 RoutingKind kind = RoutingKind::XFirst) {
  const RoutingTable routing = *RoutingTable::make(topology, kind, config.vcs);
  EXPECT_TRUE(check_trace(trace, topology).has_value());
  return run_plain(topology, routing, config, trace);
}

MessageTrace one(RouterId source, RouterId target, std::int64_t flits, std::int32_t packet = 1) {
  MessageTrace trace;
  trace.add({.source = source, .target = target, .flits = flits, .packet_flits = packet});
  return trace;
}

TEST(ZeroLoad, IsHopsPlusOneOnTheD1Router) {
  const Topology mesh = *Topology::rectangle({4, 5});
  for (std::uint32_t s = 0; s < mesh.routers(); ++s) {
    for (std::uint32_t t = 0; t < mesh.routers(); ++t) {
      const Site a = mesh.site_of({s});
      const Site b = mesh.site_of({t});
      const int hops = std::abs(a.row - b.row) + std::abs(a.column - b.column);
      EXPECT_EQ(run(mesh, one({s}, {t}, 1), *router_preset("d1")).end, hops + 1);
      EXPECT_EQ(run(mesh, one({s}, {t}, 3, 3), *router_preset("d1")).end, hops + 3);
      EXPECT_EQ(run(mesh, one({s}, {t}, 4, 4), *router_preset("booksim-v4")).end,
                4 * (hops + 1) + 2 + 3);
      EXPECT_EQ(run(mesh, one({s}, {t}, 4, 4), *router_preset("booksim-v8s")).end,
                3 * (hops + 1) + 2 + 3);
    }
  }
}

Topology two_dies(FlitRate rate, std::optional<int> slots = std::nullopt) {
  return *Topology::make({.die = {2, 3},
                          .dies = {1, 2},
                          .link_classes = {LinkClass{}, {"die edge", Cycles{200}, rate, slots}},
                          .column_boundaries = {1}});
}

TEST(BoundaryLink, TakesItsLatency) {
  const Topology dies = two_dies({7, 8});
  const MessageTrace trace = one(dies.router_at({0, 1}), dies.router_at({0, 4}), 1);
  EXPECT_EQ(run(dies, trace, *router_preset("d1")).end, 1 + 200 + 1 + 1);
  // Four cycles a hop, 203 across; the destination's router as well.
  EXPECT_EQ(run(dies, trace, *router_preset("booksim-v4")).end, 4 + 203 + 4 + 4 + 2);
}

TEST(BoundaryLink, MovesItsExactRate) {
  for (const FlitRate rate :
       {FlitRate{7, 8}, FlitRate{63, 80}, FlitRate{7, 18}, FlitRate{1, 1}, FlitRate{1, 3}}) {
    const Topology dies = two_dies(rate);
    const std::int64_t flits = 2000;
    const MessageTrace trace = one(dies.router_at({0, 2}), dies.router_at({0, 3}), flits);
    for (const char* router : {"d1", "booksim-v4"}) {
      const PlainOutcome outcome = run(dies, trace, *router_preset(router));
      const std::int64_t first = router == std::string("d1") ? 201 : 203 + 4 + 2;
      EXPECT_EQ(outcome.end, first + (flits - 1) * rate.den / rate.num)
          << router << " " << rate.num << "/" << rate.den;
    }
  }
}

TEST(BoundaryLink, WithFewerSlotsMovesSlotsPerLoop) {
  // 400 cycles from grant to grant on one slot: 80 slots move 0.2 flits a cycle.
  const Topology dies = two_dies({7, 8}, 80);
  const MessageTrace trace = one(dies.router_at({0, 2}), dies.router_at({0, 3}), 8000);
  EXPECT_NEAR(static_cast<double>(run(dies, trace, *router_preset("d1")).end), 8000 / 0.2, 400);
}

TEST(Pace, CountsPacketsByTheirFlits) {
  const Topology line = *Topology::rectangle({1, 4});
  MessageTrace trace = one({0}, {3}, 64, 8);
  trace.messages[0].pace = {1, 4};
  // A packet of 8 flits every 32 cycles; 3 hops and one cycle, 7 for the last packet's tail.
  EXPECT_EQ(run(line, trace, *router_preset("d1")).end, 7 * 32 + 4 + 7);
  trace.messages[0] = {.source = {0}, .target = {3}, .flits = 70, .pace = {7, 8}};
  EXPECT_EQ(run(line, trace, *router_preset("d1")).end, (69 * 8 + 6) / 7 + 4);
}

TEST(OpposedNetworks, GoRound) {
  const Topology pair = *Topology::make({.die = {3, 5}, .planes = Planes::Opposed});
  RouterConfig config = *router_preset("d1");
  config.vcs = 2;
  EXPECT_EQ(run(pair, one(pair.router_at({1, 3}), pair.router_at({0, 1}), 1), config).end,
            3 + 2 + 1);
  EXPECT_EQ(run(pair, one(pair.router_at({1, 3}, 1), pair.router_at({0, 1}, 1), 1), config).end,
            2 + 1 + 1);
}

// Every node sends to random others, all at once and as fast as it can.
MessageTrace random_traffic(const Topology& topology, std::mt19937& random) {
  std::vector<std::uint32_t> nodes;
  for (std::uint32_t i = 0; i < topology.routers(); ++i) {
    if (topology.has_node({i})) {
      nodes.push_back(i);
    }
  }
  const auto upto = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit)(random);
  };
  MessageTrace trace;
  const auto packet = static_cast<std::int32_t>(1 + upto(5));
  for (const std::uint32_t source : nodes) {
    for (std::size_t i = 0; i < 3; ++i) {
      const std::uint32_t target = nodes[upto(nodes.size() - 1)];
      if (topology.plane_of({source}) == topology.plane_of({target})) {
        trace.add({.source = {source},
                   .target = {target},
                   .flits = static_cast<std::int64_t>(1 + upto(30)),
                   .packet_flits = packet});
      }
    }
  }
  return trace;
}

TopologySpec random_spec(std::mt19937& random) {
  const auto upto = [&](int limit) { return std::uniform_int_distribution<int>(0, limit)(random); };
  TopologySpec spec{.die = {2 + upto(4), 2 + upto(4)}};
  const int shape = upto(4);
  spec.wrap = shape == 0 ? Wrap::Torus : Wrap::None;
  spec.planes = shape == 1 ? Planes::Opposed : Planes::One;
  if (shape == 2) {
    spec.dies = {1, 2};
    spec.link_classes.push_back({"edge", Cycles{1 + upto(20)}, {1 + upto(2), 3}, std::nullopt});
    spec.column_boundaries = {1};
  }
  for (int i = shape == 1 ? 0 : upto(3); i > 0; --i) {
    spec.dead_routers.push_back({upto(spec.die.rows - 1), upto(spec.die.columns - 1)});
    spec.dead_cores.push_back({upto(spec.die.rows - 1), upto(spec.die.columns - 1)});
  }
  if (shape > 1) {
    spec.edge_ports.push_back({.site = {upto(spec.die.rows - 1), 0}});
  }
  return spec;
}

TEST(PlainNetwork, LosesNothingRoundRandomFaults) {
  std::mt19937 random(5);
  int runs = 0;
  for (int round = 0; round < 24; ++round) {
    SCOPED_TRACE("seed 5, round " + std::to_string(round));
    const auto topology = Topology::make(random_spec(random));
    if (!topology.has_value()) {
      continue;  // the faults cut it
    }
    const MessageTrace trace = random_traffic(*topology, random);
    for (const RoutingKind kind : {RoutingKind::XFirst, RoutingKind::NegativeFirst,
                                   RoutingKind::WestFirst, RoutingKind::UpDown}) {
      RouterConfig config = *router_preset(round % 2 == 0 ? "d1" : "booksim-v4");
      config.depth = 2 + round % 5;
      const auto routing = RoutingTable::make(*topology, kind, config.vcs);
      if (!routing.has_value()) {
        continue;  // a turn model on a torus
      }
      const PlainOutcome outcome = run_plain(*topology, *routing, config, trace);
      EXPECT_FALSE(outcome.is_stuck) << name(kind);
      EXPECT_EQ(outcome.flits, trace.flits()) << name(kind);
      ++runs;
    }
  }
  EXPECT_GT(runs, 40);
}

}  // namespace
}  // namespace dojo::mesh
