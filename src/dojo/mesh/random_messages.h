// For tests: random messages on random networks, and the engine held to the plain twin on them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "dojo/mesh/internal/plain_messages.h"
#include "dojo/mesh/random_meshes.h"
#include "dojo/mesh/run_messages.h"

namespace dojo::mesh {

// Routers that have a node.
inline std::vector<RouterId> nodes_of(const Topology& topology) {
  std::vector<RouterId> nodes;
  for (std::uint32_t router = 0; router < topology.routers(); ++router) {
    if (topology.has_node({router})) {
      nodes.push_back({router});
    }
  }
  return nodes;
}

// Each source to all nodes, itself too, copied by routers.
inline MessageTrace to_all(const std::vector<RouterId>& sources, const std::vector<RouterId>& nodes,
                           std::int64_t flits) {
  MessageTrace trace;
  for (const RouterId source : sources) {
    trace.add({.source = source, .target = nodes.front(), .flits = flits}, {},
              std::span(nodes).subspan(1));
  }
  return trace;
}

// Random messages with local dependencies, phases, paces and packets of several sizes; so many of
// ten to several nodes.
inline MessageTrace random_trace(const Topology& topology, std::mt19937& random, int copied) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  const std::vector<RouterId> nodes = nodes_of(topology);
  const auto any = [&] {
    return nodes[static_cast<std::size_t>(pick(0, static_cast<int>(nodes.size()) - 1))];
  };
  MessageTrace trace;
  for (int phase = 0; phase < 2; ++phase) {
    const std::size_t first = trace.messages.size();
    for (int i = pick(1, 40); i > 0; --i) {
      const int den = pick(1, 10);
      Message message{.source = any(),
                      .target = any(),
                      .flits = pick(1, 60),
                      .packet_flits = pick(1, 4),
                      .phase = phase,
                      .start = Cycles{pick(0, 3) == 0 ? pick(0, 200) : 0},
                      .pace = {.num = pick(1, den), .den = den}};
      std::vector<RouterId> more;
      const bool is_copied = pick(0, 9) < copied;
      for (const RouterId node : nodes) {
        const bool is_on_plane = topology.plane_of(node) == topology.plane_of(message.source);
        if (is_copied && is_on_plane && node != message.target && pick(0, 1) == 0) {
          more.push_back(node);
          message.packet_flits = 1;
        }
      }
      std::shuffle(more.begin(), more.end(), random);
      std::vector<Dependency> after;
      for (std::size_t on = first; on < trace.messages.size() && after.size() < 3; ++on) {
        const std::vector<RouterId> ends = trace.targets_of({static_cast<std::uint32_t>(on)});
        if (std::find(ends.begin(), ends.end(), message.source) != ends.end() && pick(0, 1) == 0) {
          const std::int64_t packets = trace.messages[on].packets();
          const bool streamed = packets >= message.packets() && pick(0, 1) == 0;
          after.push_back({.on = {static_cast<std::uint32_t>(on)},
                           .first = streamed ? 1 : pick(0, static_cast<int>(packets)),
                           .stride = streamed ? 1 : 0,
                           .delay = Cycles{pick(0, 40)}});
        }
      }
      trace.add(message, after, more);
    }
  }
  return trace;
}

// The same end, arrivals, phases and flits of every link, whatever threads, instruction set and
// order.
inline void expect_equal_to_plain_twin(const Topology& topology, const RoutingTable& routing,
                                       const RouterConfig& router, const MessageTrace& trace,
                                       std::size_t draw) {
  const internal::PlainOutcome expected = internal::run_plain(topology, routing, router, trace);
  const std::vector<Isa> isas = isas_here();
  for (const int threads : {1, 2, 3}) {
    const Isa isa = isas[(draw + static_cast<std::size_t>(threads)) % isas.size()];
    const auto outcome =
        run_messages(topology, routing, router, trace,
                     {.threads = threads, .isa = isa, .shuffle = static_cast<std::uint32_t>(draw)});
    ASSERT_TRUE(outcome.has_value());
    EXPECT_EQ(outcome->trap, "");
    EXPECT_EQ(outcome->end.count(), expected.end) << threads << " threads, " << name(isa);
    EXPECT_EQ(outcome->flits, expected.flits);
    EXPECT_EQ(outcome->flits, trace.flits());
    ASSERT_EQ(outcome->phases.size(), expected.phases.size());
    for (std::size_t phase = 0; phase < expected.phases.size(); ++phase) {
      EXPECT_EQ(outcome->phases[phase].count(), expected.phases[phase]);
    }
    EXPECT_EQ(outcome->link_flits, expected.link_flits);
    for (std::size_t each = 0; each < expected.arrivals.size(); ++each) {
      EXPECT_EQ(outcome->arrivals[each].count(), expected.arrivals[each]) << "message " << each;
    }
  }
}

// Every other trace with packets that routers copy; returns how many of these were compared.
inline int compare_random_messages(std::uint32_t seed, std::size_t draws) {
  std::mt19937 random(seed);
  int copied = 0;
  for (std::size_t draw = 0; draw < draws && !::testing::Test::HasFailure(); ++draw) {
    const RandomCase c = random_case(random);
    const auto topology = Topology::make(random_network(random, c));
    const auto kind = static_cast<RoutingKind>(random() % 6);
    if (!topology.has_value() || topology->node_count() == 0) {
      continue;
    }
    const auto routing = RoutingTable::make(*topology, kind, c.spec.router.vcs);
    const MessageTrace trace = random_trace(*topology, random, draw % 2 == 0 ? 0 : 4);
    if (!routing.has_value() || !check_trace(trace, *topology).has_value()) {
      continue;
    }
    copied += trace.more_targets.empty() ? 0 : 1;
    SCOPED_TRACE(::testing::Message() << describe(c) << ", " << name(kind) << ", draw " << draw);
    expect_equal_to_plain_twin(*topology, *routing, c.spec.router, trace, draw);
  }
  return copied;
}

}  // namespace dojo::mesh
