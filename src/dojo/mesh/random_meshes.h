// For tests: random machines and loads, and the engine held to the plain twin on them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "dojo/mesh/mesh.h"
#include "dojo/mesh/plain_rectangle.h"

namespace dojo::mesh {

inline std::vector<Isa> isas_here() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::Plain, Isa::Avx2, Isa::Avx512}) {
    if (isa <= best_isa()) {
      isas.push_back(isa);
    }
  }
  return isas;
}

struct RandomCase {
  MeshSpec spec;
  SyntheticTraffic traffic;
  Cycle cycles = 0;
};

inline RandomCase random_case(std::mt19937& random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  RandomCase c;
  c.spec.rows = pick(1, 9);
  c.spec.columns = pick(1, 9);
  c.spec.router = {.vcs = pick(1, kMaxVcs),
                   .depth = pick(1, kMaxDepth),
                   .speculation = pick(0, 1) == 0 ? Speculation::Off : Speculation::On,
                   .allocator = pick(0, 1) == 0 ? Allocator::Islip : Allocator::RoundRobin,
                   .flit_delay = pick(1, 4),
                   .eject_delay = pick(1, 5),
                   .credit_delay = pick(1, 4),
                   .source_credit_delay = pick(1, 3),
                   .eject_credit_delay = pick(1, 8),
                   .inject_delay = pick(0, 3)};
  if (pick(0, 2) == 0) {
    const auto presets = router_presets();
    c.spec.router =
        presets[static_cast<std::size_t>(pick(0, static_cast<int>(presets.size()) - 1))].config;
  }
  const auto any = [&](TrafficPattern pattern) {
    return Traffic::synthetic({.pattern = pattern, .rows = c.spec.rows, .columns = c.spec.columns})
        .has_value();
  };
  c.traffic = {.rows = c.spec.rows, .columns = c.spec.columns};
  do {
    c.traffic.pattern =
        static_cast<TrafficPattern>(pick(0, static_cast<int>(pattern_names().size()) - 1));
  } while (!any(c.traffic.pattern));
  c.traffic.rate = pick(0, 20) * 0.05;
  c.traffic.packet_flits = pick(0, 1) == 0 ? 1 : pick(1, 9);
  c.traffic.seed = random();
  c.cycles = static_cast<Cycle>(pick(20, 400));
  return c;
}

inline std::string describe(const RandomCase& c) {
  const RouterConfig& r = c.spec.router;
  return fmt::format(
      "{}x{} {} VCs x {} speculation {} {} delays {} {} {} {} {} {}; {} rate {} flits {} "
      "seed {} cycles {}",
      c.spec.rows, c.spec.columns, r.vcs, r.depth, static_cast<int>(r.speculation),
      name(r.allocator), r.flit_delay, r.eject_delay, r.credit_delay, r.source_credit_delay,
      r.eject_credit_delay, r.inject_delay, name(c.traffic.pattern), c.traffic.rate,
      c.traffic.packet_flits, c.traffic.seed, c.cycles);
}

// The same counters, and flits of every link, from the engine with any instruction set, threads and
// order as from the plain twin, after any number of cycles under load.
inline void expect_equal_to_plain_twin(const Topology& topology, const RoutingTable& routing,
                                       const RouterConfig& config, const Traffic& traffic,
                                       Cycle cycles, std::uint32_t shuffle) {
  internal::PlainMesh twin(topology, routing, config, traffic);
  while (twin.now() < cycles) {
    twin.step();
  }
  std::vector<std::uint64_t> sent;
  for (std::uint32_t router = 0; router < topology.routers(); ++router) {
    for (int port = 0; port < kPorts; ++port) {
      sent.push_back(twin.sent({router}, static_cast<Port>(port)));
    }
  }
  const Counters entered = twin.counters();
  // The engine counts a flit when it is granted, the twin when it arrives.
  while (twin.now() < cycles + config.eject_delay) {
    twin.step();
  }
  Counters expected = twin.counters();
  expected.entered_flits = entered.entered_flits;
  expected.entered_generated_sum = entered.entered_generated_sum;
  expected.measured_entered = entered.measured_entered;
  expected.measured_routers = entered.measured_routers;
  expected.injected_flits = entered.injected_flits;

  for (const Isa isa : isas_here()) {
    for (const int threads : {1, 2, 3}) {
      Mesh mesh = *Mesh::make(topology, routing, config, traffic,
                              {.threads = threads, .isa = isa, .shuffle = shuffle});
      mesh.run_until(cycles / 3);
      mesh.run_until(cycles);
      ASSERT_EQ(mesh.counters().flits, expected.flits)
          << name(isa) << ", " << threads << " threads";
      ASSERT_EQ(mesh.counters(), expected) << name(isa) << ", " << threads << " threads";
      std::size_t next = 0;
      for (int router = 0; router < mesh.routers(); ++router) {
        for (int port = 0; port < kPorts; ++port) {
          ASSERT_EQ(mesh.flits_sent(router, port), sent[next++])
              << name(isa) << " router " << router << " port " << port;
        }
      }
    }
  }
}

inline void compare_random_rectangles(std::uint32_t seed, int cases) {
  std::mt19937 random(seed);
  for (int i = 0; i < cases && !::testing::Test::HasFailure(); ++i) {
    const RandomCase c = random_case(random);
    SCOPED_TRACE(describe(c));
    const Topology topology =
        *Topology::rectangle({.rows = c.spec.rows, .columns = c.spec.columns});
    const RoutingTable routing =
        *RoutingTable::make(topology, RoutingKind::XFirst, c.spec.router.vcs);
    expect_equal_to_plain_twin(topology, routing, c.spec.router, *Traffic::synthetic(c.traffic),
                               c.cycles, static_cast<std::uint32_t>(random()));
  }
}

// Ports to the outside at the rim, by links of any class.
inline void add_edge_ports(TopologySpec& spec, std::mt19937& random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  const int rows = spec.die.rows * spec.dies.rows;
  const int columns = spec.die.columns * spec.dies.columns;
  for (int i = pick(1, 4); i > 0; --i) {
    const auto side = static_cast<machine::Side>(pick(0, 3));
    Site site{pick(0, rows - 1), pick(0, columns - 1)};
    switch (side) {
      case machine::Side::North:
        site.row = 0;
        break;
      case machine::Side::South:
        site.row = rows - 1;
        break;
      case machine::Side::West:
        site.column = 0;
        break;
      case machine::Side::East:
        site.column = columns - 1;
        break;
    }
    const auto is_taken = [&](const EdgePort& port) {
      return port.site == site && port.side == side;
    };
    if (std::none_of(spec.edge_ports.begin(), spec.edge_ports.end(), is_taken)) {
      spec.edge_ports.push_back(
          {.site = site,
           .side = side,
           .link_class = pick(0, static_cast<int>(spec.link_classes.size()) - 1)});
    }
  }
}

// Dies with links of their own, tori, holes of all kinds, edge ports, all routings.
inline TopologySpec random_network(std::mt19937& random, const RandomCase& c) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  TopologySpec spec;
  spec.die = {.rows = c.spec.rows, .columns = c.spec.columns};
  spec.dies = {.rows = 1, .columns = 1};
  spec.wrap = pick(0, 3) == 0 ? Wrap::Torus : Wrap::None;
  spec.planes = spec.wrap == Wrap::Torus && pick(0, 1) == 0 ? Planes::Opposed : Planes::One;
  if (pick(0, 1) == 0) {
    spec.die = {.rows = pick(1, 4), .columns = pick(1, 4)};
    spec.dies = {.rows = pick(1, 3), .columns = pick(1, 3)};
    const int den = pick(1, 9);
    LinkClass boundary{.name = "boundary",
                       .latency = Cycles{pick(1, 40)},
                       .rate = {.num = pick(1, den), .den = den}};
    if (pick(0, 2) == 0) {
      boundary.slots = pick(1, 60);
    }
    spec.link_classes.push_back(boundary);
    spec.row_boundaries.assign(static_cast<std::size_t>(spec.dies.rows - 1), 1);
    spec.column_boundaries.assign(static_cast<std::size_t>(spec.dies.columns - 1), 1);
    spec.wrap_class = pick(0, 1);
  }
  const int rows = spec.die.rows * spec.dies.rows;
  const int columns = spec.die.columns * spec.dies.columns;
  const auto site = [&] { return Site{pick(0, rows - 1), pick(0, columns - 1)}; };
  if (pick(0, 1) == 0) {
    for (int i = pick(0, 2); i > 0; --i) {
      spec.dead_cores.push_back(site());
    }
    for (int i = pick(0, 2); i > 0; --i) {
      spec.dead_routers.push_back(site());
    }
    for (int i = pick(0, 2); i > 0; --i) {
      spec.dead_links.push_back({site(), static_cast<machine::Side>(pick(0, 3))});
    }
  }
  if (spec.wrap == Wrap::None && pick(0, 1) == 0) {
    add_edge_ports(spec, random);
  }
  return spec;
}

// Returns how many networks there were: not every draw is one.
inline int compare_random_networks(std::uint32_t seed, int draws) {
  std::mt19937 random(seed);
  int networks = 0;
  for (int i = 0; i < draws && !::testing::Test::HasFailure(); ++i) {
    RandomCase c = random_case(random);
    const auto topology = Topology::make(random_network(random, c));
    const auto kind = static_cast<RoutingKind>(random() % 6);
    if (!topology.has_value() || topology->node_count() == topology->spec().edge_ports.size()) {
      continue;
    }
    const auto routing = RoutingTable::make(*topology, kind, c.spec.router.vcs);
    c.traffic.rows = topology->grid().rows;
    c.traffic.columns = topology->grid().columns;
    c.traffic.planes = topology->planes();
    const int sites = c.traffic.rows * c.traffic.columns;
    for (std::uint32_t router = 0; router < static_cast<std::uint32_t>(sites); ++router) {
      if (topology->has_node({router})) {
        c.traffic.nodes.push_back(router);
      }
    }
    const auto traffic = Traffic::synthetic(c.traffic);
    if (!routing.has_value() || !traffic.has_value()) {
      continue;
    }
    ++networks;
    SCOPED_TRACE(::testing::Message() << describe(c) << ", " << name(kind) << ", draw " << i);
    expect_equal_to_plain_twin(*topology, *routing, c.spec.router, *traffic, c.cycles,
                               static_cast<std::uint32_t>(random()));
  }
  return networks;
}

}  // namespace dojo::mesh
