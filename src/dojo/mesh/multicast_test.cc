// Packets that routers copy: docs/mesh.md, "Copies". random_messages.h holds the engine to the
// plain twin on random ones.
#include "dojo/mesh/multicast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "dojo/mesh/random_messages.h"
#include "dojo/mesh/trace.h"

namespace dojo::mesh {
namespace {

MessageRun finished(const Topology& topology, const RoutingTable& routing,
                    const RouterConfig& router, const MessageTrace& trace) {
  MessageRun run = *MessageRun::make(topology, routing, router, trace);
  run.finish();
  EXPECT_EQ(run.outcome().trap, "");
  return run;
}

TEST(Multicast, ToARectangleGoesAlongTheRowThenDownEveryColumn) {
  const Topology topology = *Topology::rectangle({3, 4});
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, 3);
  const RouterId source = topology.router_at({1, 1});
  std::vector<int> copies_into(topology.routers());
  int places = 0;
  visit_multicast(topology, routing, {.at = source, .targets = nodes_of(topology)},
                  [&](const MulticastPlace& place, std::span<const PacketCopy> copies, auto) {
                    ++places;
                    const bool is_in_row = topology.site_of(place.at).row == 1;
                    for (const PacketCopy& copy : copies) {
                      const bool is_along_row =
                          copy.hop.out == Port::East || copy.hop.out == Port::West;
                      EXPECT_TRUE(is_in_row || !is_along_row);
                      if (copy.hop.out == Port::Local) {
                        ++copies_into[place.at.index];
                      }
                    }
                  });
  EXPECT_EQ(places, 12);  // a tree: every router once
  EXPECT_EQ(copies_into, std::vector<int>(12, 1));
}

// Alone, a copy is nowhere later than a packet to its target alone would be.
TEST(Multicast, AtZeroLoadEveryTargetIsReachedByTheFormula) {
  struct Formula {
    const char* router = "";
    int per_router = 0, constant = 0;
  };
  const Topology topology = *Topology::rectangle({3, 4});
  const std::vector<RouterId> nodes = nodes_of(topology);
  for (const Formula& formula : {Formula{"booksim-v4", 4, 2}, Formula{"booksim-v1", 4, 2},
                                 Formula{"booksim-v8s", 3, 2}, Formula{"d1", 1, 0}}) {
    const RouterConfig router = *router_preset(formula.router);
    for (const RoutingKind kind : {RoutingKind::XFirst, RoutingKind::YFirst, RoutingKind::UpDown}) {
      const RoutingTable routing = *RoutingTable::make(topology, kind, router.vcs);
      for (const RouterId source : nodes) {
        SCOPED_TRACE(::testing::Message() << formula.router << " " << name(kind) << " from "
                                          << topology.describe(source));
        std::int64_t sum = 0;
        std::int64_t last = 0;
        for (const RouterId target : nodes) {
          const auto routers = static_cast<std::int64_t>(routing.path(source, target).size()) + 1;
          const std::int64_t latency = formula.per_router * routers + formula.constant;
          sum += latency;
          last = std::max(last, latency);
        }
        const MessageRun run = finished(topology, routing, router, to_all({source}, nodes, 1));
        EXPECT_EQ(run.outcome().end.count(), last);
        EXPECT_EQ(run.mesh().counters().flit_latency_sum, sum);
        // At full rate a flit follows the other, all copies of one in the same cycle.
        const MessageRun more = finished(topology, routing, router, to_all({source}, nodes, 9));
        if (router.vcs > 1 && kind != RoutingKind::UpDown) {
          EXPECT_EQ(more.outcome().end.count(), last + 8);
        }
      }
    }
  }
}

// A copy that waits for a busy output does not hold up the one to the node.
TEST(Multicast, CopiesLeaveEachForItself) {
  const Topology topology = *Topology::rectangle({1, 3});
  const RouterConfig router = *router_preset("d1");
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, router.vcs);
  MessageTrace trace;
  trace.add({.source = {0}, .target = {1}, .flits = 2, .start = Cycles{1}}, {},
            std::vector<RouterId>{{2}});
  trace.add({.source = {1}, .target = {2}, .flits = 4});
  const MessageRun run = finished(topology, routing, router, trace);
  // Link 1 -> 2 takes two flits of node 1 in cycles 0 and 1, then one from node 0 (cycle 2), one of
  // node 1, one from node 0 that waited a cycle (4), one of node 1 that waited two (5).
  EXPECT_EQ(run.outcome().end.count(), 5 + 2);
  // To node 1 from node 0: 2 and 2, to node 2: 3 and 4; of node 1's own: 2, 2, 3 and 4.
  EXPECT_EQ(run.mesh().counters().flit_latency_sum, 2U + 2 + 3 + 4 + 2 + 2 + 3 + 4);
}

// Every node gets every packet for it once, round holes, on tori and over dies.
TEST(Multicast, ReachesEveryTargetOnce) {
  std::mt19937 random(11);
  int networks = 0;
  for (int draw = 0; draw < 60; ++draw) {
    const RandomCase c = random_case(random);
    const auto topology = Topology::make(random_network(random, c));
    const auto kind = static_cast<RoutingKind>(random() % 6);
    if (!topology.has_value() || topology->node_count() < 2) {
      continue;
    }
    const auto routing = RoutingTable::make(*topology, kind, c.spec.router.vcs);
    const MessageTrace trace = random_trace(*topology, random, 9);
    if (!routing.has_value() || !check_trace(trace, *topology).has_value()) {
      continue;
    }
    ++networks;
    SCOPED_TRACE(::testing::Message() << describe(c) << ", " << name(kind) << ", draw " << draw);
    std::vector<std::uint64_t> expected(topology->routers());
    for (std::uint32_t i = 0; i < trace.messages.size(); ++i) {
      for (const RouterId target : trace.targets_of({i})) {
        expected[target.index] += static_cast<std::uint64_t>(trace.messages[i].flits);
      }
    }
    const MessageRun run = finished(*topology, *routing, c.spec.router, trace);
    for (std::uint32_t router = 0; router < topology->routers(); ++router) {
      EXPECT_EQ(run.mesh().flits_sent(static_cast<int>(router), kLocal), expected[router]);
    }
    EXPECT_TRUE(run.mesh().has_no_flits());
  }
  EXPECT_GT(networks, 15);
}

// All nodes to all nodes at once, with one slot in each of as few VCs as there can be.
TEST(Multicast, OfEveryoneToEveryoneDoesNotLock) {
  struct Case {
    TopologySpec spec{};
    int vcs = 1;
  };
  for (const Case& c :
       {Case{{.die = {4, 5}}, 1}, Case{{.die = {4, 5}, .dead_routers = {{1, 2}, {3, 0}}}, 2},
        Case{{.die = {4, 5}, .wrap = Wrap::Torus}, 2},
        Case{{.die = {5, 4},
              .wrap = Wrap::Torus,
              .planes = Planes::One,
              .dead_links = {{{2, 2}, machine::Side::East}}},
             3}}) {
    const Topology topology = *Topology::make(c.spec);
    const std::vector<RouterId> nodes = nodes_of(topology);
    for (const char* const preset : {"d1", "booksim-v4"}) {
      RouterConfig router = *router_preset(preset);
      router.vcs = c.vcs;
      router.depth = 1;
      for (const RoutingKind kind : {RoutingKind::XFirst, RoutingKind::UpDown}) {
        const auto routing = RoutingTable::make(topology, kind, router.vcs);
        ASSERT_TRUE(routing.has_value());
        const MessageRun run = finished(topology, *routing, router, to_all(nodes, nodes, 6));
        EXPECT_EQ(run.outcome().flits, static_cast<std::int64_t>(6 * nodes.size() * nodes.size()));
      }
    }
  }
}

TEST(Multicast, RefusesWhatCannotBe) {
  const Topology topology = *Topology::rectangle({2, 3});
  const auto error_of = [&](const std::string& line) {
    const auto trace = parse_trace("dojo-trace 1\n" + line, "t", topology);
    return trace.has_value() ? "no error" : trace.error().to_string();
  };
  EXPECT_EQ(error_of("a 0,0 -> 0,1+0,2+1,0 flits=2\nb 0,2 -> 1,1 flits=2 after=a:1:1"), "no error");
  EXPECT_EQ(error_of("a 0,0 -> 0,1+0,2 flits=2\nb 1,0 -> 1,1 flits=2 after=a:1:1"),
            "t:3:1: message b: waits for a, which does not arrive at 1,0, where b starts");
  EXPECT_EQ(error_of("a 0,0 -> 0,1+0,1 flits=2"), "t:2:1: message a: goes to 0,1 twice");
  EXPECT_EQ(
      error_of("a 0,0 -> 0,1+ flits=2"),
      "t:2:14: node \"\": expected ROW,COLUMN, ROW,COLUMN/PLANE or ROW,COLUMN and n, e, s or w");
  EXPECT_EQ(error_of("a 0,0 -> 0,1+0,7 flits=2"),
            "t:2:14: node \"0,7\": outside of the network of 2x3");
  EXPECT_EQ(error_of("a 0,0 -> 0,1+0,2 flits=2 packet=2"),
            "t:2:1: message a: goes to 2 nodes in packets of 2 flits, expected 1");
}

}  // namespace
}  // namespace dojo::mesh
