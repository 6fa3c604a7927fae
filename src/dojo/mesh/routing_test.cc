#include "dojo/mesh/routing.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "dojo/machine/description.h"

namespace dojo::mesh {
namespace {

constexpr std::array kKinds{RoutingKind::XFirst,        RoutingKind::YFirst,
                            RoutingKind::WestFirst,     RoutingKind::NorthLast,
                            RoutingKind::NegativeFirst, RoutingKind::UpDown};

RoutingTable routed(const Topology& topology, RoutingKind kind, int vcs) {
  auto table = RoutingTable::make(topology, kind, vcs);
  EXPECT_TRUE(table.has_value()) << table.error().message;
  return *std::move(table);
}

std::string error_of(const Topology& topology, RoutingKind kind, int vcs) {
  const auto table = RoutingTable::make(topology, kind, vcs);
  return table.has_value() ? "no error" : table.error().message;
}

// Length of the longest walk that takes any allowed output, each state once; fails on a dead end,
// a turn back, a missing link or a change of class that is not 0 -> 1 of a torus.
void walk_everywhere(const Topology& topology, const RoutingTable& table, RouterId source,
                     RouterId target) {
  struct State {
    RouterId at;
    Port in;
    int vc_class;
  };
  std::vector<State> pending{{source, Port::Local, 0}};
  std::vector<bool> seen(topology.routers() * kPortCount * 4, false);
  while (!pending.empty()) {
    const State state = pending.back();
    pending.pop_back();
    const Choices choices = table.choices(state.at, state.in, state.vc_class, target);
    ASSERT_FALSE(choices.ports.empty())
        << topology.describe(source) << " to " << topology.describe(target) << " is lost at "
        << topology.describe(state.at);
    if (state.at == target) {
      ASSERT_EQ(choices.ports, only(Port::Local));
      continue;
    }
    for (const Port out : kSidePorts) {
      if (!choices.ports.has(out)) {
        continue;
      }
      ASSERT_NE(out, state.in) << "turns back";
      const auto link = topology.link_from(state.at, out);
      ASSERT_TRUE(link.has_value());
      const RouterId next = topology.link(*link).to;
      const std::size_t id =
          (next.index * kPortCount + static_cast<std::size_t>(opposite(out))) * 4 +
          static_cast<std::size_t>(choices.vc_class);
      if (!seen[id]) {
        seen[id] = true;
        pending.push_back({next, opposite(out), choices.vc_class});
      }
    }
  }
}

void all_pairs_arrive(const Topology& topology, const RoutingTable& table) {
  for (std::uint32_t s = 0; s < topology.routers(); ++s) {
    for (std::uint32_t t = 0; t < topology.routers(); ++t) {
      if (topology.has_node({s}) && topology.has_node({t}) &&
          topology.plane_of({s}) == topology.plane_of({t})) {
        walk_everywhere(topology, table, {s}, {t});
      }
    }
  }
}

// For each channel (link x classes + class) those that packets really go on to.
std::vector<std::vector<std::size_t>> successors(const Topology& topology,
                                                 const RoutingTable& table) {
  const auto classes = static_cast<std::size_t>(table.classes());
  const std::size_t channels = topology.links().size() * classes;
  std::vector<std::vector<std::size_t>> next(channels);
  for (std::uint32_t t = 0; t < topology.routers(); ++t) {
    std::vector<bool> seen(channels, false);
    std::vector<std::size_t> pending;
    const auto push = [&](RouterId at, const Choices& choices, std::optional<std::size_t> before) {
      for (const Port out : kSidePorts) {
        if (!choices.ports.has(out)) {
          continue;
        }
        const std::size_t channel = topology.link_from(at, out)->index * classes +
                                    static_cast<std::size_t>(choices.vc_class);
        if (before.has_value()) {
          next[*before].push_back(channel);
        }
        if (!seen[channel]) {
          seen[channel] = true;
          pending.push_back(channel);
        }
      }
    };
    for (std::uint32_t s = 0; s < topology.routers(); ++s) {
      if (s != t && topology.has_node({s}) && topology.has_node({t}) &&
          topology.plane_of({s}) == topology.plane_of({t})) {
        push({s}, table.choices({s}, Port::Local, 0, {t}), std::nullopt);
      }
    }
    while (!pending.empty()) {
      const std::size_t channel = pending.back();
      pending.pop_back();
      const Link& link = topology.link({static_cast<std::uint32_t>(channel / classes)});
      push(link.to,
           table.choices(link.to, opposite(link.out), static_cast<int>(channel % classes), {t}),
           channel);
    }
  }
  return next;
}

// Independent of the library's graph: depth-first search.
bool has_cycle(const Topology& topology, const RoutingTable& table) {
  const std::vector<std::vector<std::size_t>> next = successors(topology, table);
  std::vector<int> state(next.size(), 0);  // 1 on the way, 2 done
  for (std::size_t start = 0; start < next.size(); ++start) {
    std::vector<std::pair<std::size_t, std::size_t>> stack;
    if (state[start] == 0) {
      stack.emplace_back(start, 0);
      state[start] = 1;
    }
    while (!stack.empty()) {
      auto& [channel, edge] = stack.back();
      if (edge == next[channel].size()) {
        state[channel] = 2;
        stack.pop_back();
        continue;
      }
      const std::size_t to = next[channel][edge++];
      if (state[to] == 1) {
        return true;
      }
      if (state[to] == 0) {
        state[to] = 1;
        stack.emplace_back(to, 0);
      }
    }
  }
  return false;
}

TEST(RoutingKind, HasANameEach) {
  for (const RoutingKind kind : kKinds) {
    EXPECT_EQ(routing_kind_named(name(kind)), kind);
  }
  EXPECT_FALSE(routing_kind_named("xy").has_value());
}

TEST(DimensionOrder, GoesAlongOneDimensionThenTheOther) {
  const Topology mesh = *Topology::rectangle({4, 6});
  const RoutingTable x = routed(mesh, RoutingKind::XFirst, 1);
  const RoutingTable y = routed(mesh, RoutingKind::YFirst, 1);
  EXPECT_TRUE(x.is_dimension_order());
  EXPECT_EQ(x.classes(), 1);
  const RouterId from = mesh.router_at({3, 1});
  const RouterId to = mesh.router_at({1, 4});
  EXPECT_EQ(x.choices(from, Port::Local, 0, to).ports, only(Port::East));
  EXPECT_EQ(y.choices(from, Port::Local, 0, to).ports, only(Port::North));
  EXPECT_EQ(x.choices(mesh.router_at({3, 4}), Port::West, 0, to).ports, only(Port::North));
  EXPECT_EQ(x.choices(to, Port::South, 0, to).ports, only(Port::Local));
  EXPECT_EQ(x.path(from, to).size(), 5U);
  EXPECT_TRUE(x.path(to, to).empty());
}

TEST(TurnModels, OfferEveryShortestWayTheirTurnsAllow) {
  const Topology mesh = *Topology::rectangle({5, 5});
  const RouterId middle = mesh.router_at({2, 2});
  const auto choices = [&](RoutingKind kind, Site target) {
    return routed(mesh, kind, 2).choices(middle, Port::Local, 0, mesh.router_at(target)).ports;
  };
  EXPECT_EQ(choices(RoutingKind::WestFirst, {4, 4}), only(Port::East).with(Port::South));
  EXPECT_EQ(choices(RoutingKind::WestFirst, {4, 0}), only(Port::West));
  EXPECT_EQ(choices(RoutingKind::NorthLast, {0, 4}), only(Port::East));
  EXPECT_EQ(choices(RoutingKind::NorthLast, {0, 2}), only(Port::North));
  EXPECT_EQ(choices(RoutingKind::NorthLast, {4, 0}), only(Port::West).with(Port::South));
  EXPECT_EQ(choices(RoutingKind::NegativeFirst, {0, 4}), only(Port::North));
  EXPECT_EQ(choices(RoutingKind::NegativeFirst, {0, 0}), only(Port::West).with(Port::North));
}

TEST(Routing, OfWholeMeshesArrivesAndIsFreeOfCycles) {
  for (const Shape grid : {Shape{1, 1}, Shape{1, 7}, Shape{6, 1}, Shape{3, 5}, Shape{4, 4}}) {
    const Topology mesh = *Topology::rectangle(grid);
    for (const RoutingKind kind : kKinds) {
      const RoutingTable table = routed(mesh, kind, 1);
      all_pairs_arrive(mesh, table);
      EXPECT_FALSE(has_cycle(mesh, table)) << name(kind);
    }
  }
}

TEST(Routing, OfTheRectangleIsAsShortAsItCanBe) {
  const Topology mesh = *Topology::rectangle({5, 6});
  for (const RoutingKind kind : kKinds) {
    if (kind == RoutingKind::UpDown) {
      continue;
    }
    const RoutingTable table = routed(mesh, kind, 1);
    for (std::uint32_t s = 0; s < mesh.routers(); ++s) {
      for (std::uint32_t t = 0; t < mesh.routers(); ++t) {
        const Site a = mesh.site_of({s});
        const Site b = mesh.site_of({t});
        EXPECT_EQ(
            table.path({s}, {t}).size(),
            static_cast<std::size_t>(std::abs(a.row - b.row) + std::abs(a.column - b.column)));
      }
    }
  }
}

TEST(Torus, GoesTheShorterWayAndChangesItsClassBehindTheWrapLink) {
  const Topology torus = *Topology::make({.die = {5, 8}, .wrap = Wrap::Torus});
  const RoutingTable table = routed(torus, RoutingKind::XFirst, 2);
  EXPECT_FALSE(table.is_dimension_order());
  EXPECT_EQ(table.classes(), 2);
  const RouterId target = torus.router_at({0, 1});
  EXPECT_EQ(table.choices(torus.router_at({0, 6}), Port::Local, 0, target),
            (Choices{only(Port::East), 0}));
  EXPECT_EQ(table.choices(torus.router_at({0, 7}), Port::West, 0, target),
            (Choices{only(Port::East), 0}));
  EXPECT_EQ(table.choices(torus.router_at({0, 0}), Port::West, 0, target),
            (Choices{only(Port::East), 1}));
  EXPECT_EQ(table.path(torus.router_at({4, 6}), target).size(), 4U);  // 3 east, 1 south
  all_pairs_arrive(torus, table);
  EXPECT_FALSE(has_cycle(torus, table));
  EXPECT_EQ(error_of(torus, RoutingKind::XFirst, 1),
            "1 virtual channel, but x-first on a torus needs 2");
  EXPECT_EQ(error_of(torus, RoutingKind::WestFirst, 4),
            "west-first is a rule for meshes; route a torus x-first, y-first or up-down");
  const RoutingTable tree = routed(torus, RoutingKind::UpDown, 1);
  all_pairs_arrive(torus, tree);
  EXPECT_FALSE(has_cycle(torus, tree));
}

TEST(Torus, OfAnySidesHasNoCycle) {
  for (const Shape grid : {Shape{1, 2}, Shape{1, 3}, Shape{2, 2}, Shape{2, 5}, Shape{4, 4}}) {
    for (const RoutingKind kind : {RoutingKind::XFirst, RoutingKind::YFirst}) {
      const Topology torus = *Topology::make({.die = grid, .wrap = Wrap::Torus});
      const RoutingTable table = routed(torus, kind, 2);
      all_pairs_arrive(torus, table);
      EXPECT_FALSE(has_cycle(torus, table));
      const Topology pair = *Topology::make({.die = grid, .planes = Planes::Opposed});
      const RoutingTable both = routed(pair, kind, 2);
      all_pairs_arrive(pair, both);
      EXPECT_FALSE(has_cycle(pair, both));
    }
  }
}

TEST(OpposedNetworks, OnlyGoTheirWay) {
  const Topology pair = *Topology::make({.die = {10, 12}, .planes = Planes::Opposed});
  const RoutingTable table = routed(pair, RoutingKind::XFirst, 2);
  const auto hops = [&](int plane, Site a, Site b) {
    return table.path(pair.router_at(a, plane), pair.router_at(b, plane)).size();
  };
  EXPECT_EQ(hops(0, {2, 3}, {2, 4}), 1U);
  EXPECT_EQ(hops(1, {2, 3}, {2, 4}), 11U);
  EXPECT_EQ(hops(1, {2, 3}, {1, 1}), 3U);
  EXPECT_EQ(hops(0, {2, 3}, {1, 1}), 10U + 9U);
  EXPECT_EQ(error_of(pair, RoutingKind::UpDown, 2),
            "opposed unidirectional networks are routed x-first or y-first and without dead "
            "routers or links");
}

TEST(VcRange, GivesDetoursTheLastChannelAndDividesTheRest) {
  const Topology torus =
      *Topology::make({.die = {5, 8}, .wrap = Wrap::Torus, .dead_routers = {{2, 2}}});
  EXPECT_EQ(error_of(torus, RoutingKind::XFirst, 2),
            "2 virtual channels, but x-first on a torus with gaps needs 3");
  const RoutingTable table = routed(torus, RoutingKind::XFirst, 4);
  ASSERT_EQ(table.classes(), 3);
  EXPECT_EQ(table.vcs(0), (VcRange{0, 2}));
  EXPECT_EQ(table.vcs(1), (VcRange{2, 1}));
  EXPECT_EQ(table.vcs(2), (VcRange{3, 1}));
  all_pairs_arrive(torus, table);
  EXPECT_FALSE(has_cycle(torus, table));
  const Topology mesh = *Topology::make({.die = {5, 8}, .dead_routers = {{2, 2}}});
  EXPECT_EQ(routed(mesh, RoutingKind::XFirst, 3).vcs(0), (VcRange{0, 2}));
  EXPECT_EQ(routed(mesh, RoutingKind::XFirst, 3).vcs(1), (VcRange{2, 1}));
  // One channel: everything is a detour.
  EXPECT_EQ(routed(mesh, RoutingKind::XFirst, 1).classes(), 1);
  EXPECT_EQ(routed(mesh, RoutingKind::XFirst, 1).kind(), RoutingKind::UpDown);
}

TEST(VcRange, OfALoneNodeIsAllChannels) {
  const Topology one = *Topology::rectangle({1, 1});
  const RoutingTable table = routed(one, RoutingKind::UpDown, 3);
  EXPECT_EQ(table.classes(), 1);
  EXPECT_EQ(table.vcs(0), (VcRange{0, 3}));
  EXPECT_EQ(table.choices({0}, Port::Local, 0, {0}).ports, only(Port::Local));
}

TEST(Gaps, LeaveWholePathsAsTheyWere) {
  const Topology mesh = *Topology::make({.die = {6, 6}, .dead_routers = {{2, 3}}});
  const RoutingTable table = routed(mesh, RoutingKind::XFirst, 3);
  EXPECT_EQ(table.choices(mesh.router_at({1, 0}), Port::Local, 0, mesh.router_at({5, 5})),
            (Choices{only(Port::East), 0}));
  const Choices detour =
      table.choices(mesh.router_at({2, 0}), Port::Local, 0, mesh.router_at({2, 5}));
  EXPECT_EQ(detour.vc_class, 1);
  EXPECT_EQ(table.path(mesh.router_at({2, 0}), mesh.router_at({2, 5})).size(), 7U);
}

struct Random {
  std::mt19937 engine;
  int upto(int limit) { return std::uniform_int_distribution<int>(0, limit)(engine); }
};

TopologySpec random_spec(Random& random) {
  TopologySpec spec{.die = {2 + random.upto(5), 2 + random.upto(5)}};
  spec.wrap = random.upto(3) == 0 ? Wrap::Torus : Wrap::None;
  const auto site = [&] {
    return Site{random.upto(spec.die.rows - 1), random.upto(spec.die.columns - 1)};
  };
  for (int i = random.upto(4); i > 0; --i) {
    spec.dead_routers.push_back(site());
  }
  for (int i = random.upto(4); i > 0; --i) {
    spec.dead_cores.push_back(site());
  }
  for (int i = random.upto(4); i > 0; --i) {
    const Site at = site();
    if (at.column + 1 < spec.die.columns) {
      spec.dead_links.push_back({at, machine::Side::East});
    }
    if (at.row > 0) {
      spec.dead_links.push_back({at, machine::Side::North});
    }
  }
  if (spec.wrap == Wrap::None) {
    for (int row = 0; row < spec.die.rows; row += 1 + random.upto(2)) {
      spec.edge_ports.push_back({.site = {row, 0}, .side = machine::Side::West});
    }
    for (int column = 0; column < spec.die.columns; column += 1 + random.upto(2)) {
      spec.edge_ports.push_back({.site = {0, column}, .side = machine::Side::North});
      spec.edge_ports.push_back(
          {.site = {spec.die.rows - 1, column}, .side = machine::Side::South});
    }
  }
  return spec;
}

TEST(Routing, RoundRandomFaultsArrivesAndIsFreeOfCycles) {
  Random random{std::mt19937(11)};
  int routed_meshes = 0;
  for (int round = 0; round < 120; ++round) {
    SCOPED_TRACE("seed 11, round " + std::to_string(round));
    auto topology = Topology::make(random_spec(random));
    if (!topology.has_value()) {
      continue;  // the faults cut it
    }
    for (const RoutingKind kind : kKinds) {
      if (topology->spec().wrap == Wrap::Torus && !is_dimension_order(kind) &&
          kind != RoutingKind::UpDown) {
        continue;
      }
      const RoutingTable table = routed(*topology, kind, 3);
      ASSERT_FALSE(has_cycle(*topology, table)) << name(kind);
      all_pairs_arrive(*topology, table);
      if (HasFatalFailure()) {
        return;
      }
      ++routed_meshes;
    }
  }
  EXPECT_GT(routed_meshes, 200);
}

// Tables that go along the given rows of sites, one after the other.
ClassTable along(const Topology& topology, const std::vector<std::vector<Site>>& walks) {
  ClassTable table;
  table.entries.assign(topology.routers(), std::vector<std::uint32_t>(topology.routers(), 0));
  for (const std::vector<Site>& walk : walks) {
    Port in = Port::Local;
    for (std::size_t i = 0; i + 1 < walk.size(); ++i) {
      for (const Port out : kSidePorts) {
        const RouterId at = topology.router_at(walk[i]);
        const auto link = topology.link_from(at, out);
        if (link.has_value() && topology.link(*link).to == topology.router_at(walk[i + 1])) {
          table.allow(at, in, topology.router_at(walk.back()), out);
          in = opposite(out);
          break;
        }
      }
    }
  }
  return table;
}

TEST(BadTables, WithACycleAreRefusedWithIt) {
  const Topology square = *Topology::rectangle({2, 2});
  const Site a{0, 0};
  const Site b{0, 1};
  const Site c{1, 1};
  const Site d{1, 0};
  // Everybody goes clockwise.
  const auto table = RoutingTable::from_tables(square,
                                               {along(square, {{a, b},
                                                               {a, b, c},
                                                               {a, b, c, d},
                                                               {b, c},
                                                               {b, c, d},
                                                               {b, c, d, a},
                                                               {c, d},
                                                               {c, d, a},
                                                               {c, d, a, b},
                                                               {d, a},
                                                               {d, a, b},
                                                               {d, a, b, c}})},
                                               1);
  ASSERT_FALSE(table.has_value());
  EXPECT_EQ(table.error().message,
            "routing can deadlock, these channels wait for each other: 0,0 east -> 0,1 south -> "
            "1,1 west -> 1,0 north -> 0,0 east");
  // The shorter ways round are fine.
  EXPECT_TRUE(RoutingTable::from_tables(square,
                                        {along(square, {{a, b},
                                                        {a, b, c},
                                                        {a, d},
                                                        {b, c},
                                                        {b, a, d},
                                                        {b, a},
                                                        {c, d},
                                                        {c, d, a},
                                                        {c, b},
                                                        {d, a},
                                                        {d, c, b},
                                                        {d, c}})},
                                        1)
                  .has_value());
}

TEST(BadTables, ThatLoseAPacketNameThePlace) {
  const Topology line = *Topology::rectangle({1, 3});
  const Site a{0, 0};
  const Site b{0, 1};
  const Site c{0, 2};
  const auto message = [&](ClassTable table) {
    return RoutingTable::from_tables(line, {std::move(table)}, 1).error().message;
  };
  EXPECT_EQ(message(along(line, {{a, b}, {b, a}, {b, c}, {c, b}, {c, b, a}})),
            "routing: some node has no way to 0,2");
  ClassTable lost = along(line, {{a, b}, {b, a}, {b, c}, {c, b}, {c, b, a}});
  lost.allow(line.router_at(a), Port::Local, line.router_at(c), Port::East);
  EXPECT_EQ(message(lost),
            "routing table: a packet for 0,2 that is at 0,1 from west has no way on");
  lost.allow(line.router_at(b), Port::West, line.router_at(c), Port::West);
  EXPECT_EQ(message(lost), "routing table: a packet for 0,2 that is at 0,1 from west turns back");
  lost.allow(line.router_at(b), Port::Local, line.router_at(c), Port::North);
  EXPECT_EQ(message(lost),
            "routing table: a packet for 0,2 that is at 0,1 from local is sent north, where no "
            "link is");
  EXPECT_EQ(message({}), "routing table: expected 3 targets with 3 routers each");
}

TEST(MachineRouting, OfATileNeedsNoTable) {
  const Topology tile = *topology_of(machine::load_machine("training-tile").value());
  const RoutingTable table = routed(tile, RoutingKind::XFirst, 3);
  EXPECT_TRUE(table.is_dimension_order());
  // From an interface processor's port in row 40 to the far corner.
  const RouterId port = tile.edge_port(40);
  EXPECT_EQ(table.path(port, tile.router_at({0, 99})).size(), 1U + 99 + 40);
  EXPECT_EQ(table.path(tile.router_at({0, 99}), port).size(), 1U + 99 + 40);
}

TEST(MachineRouting, OfADieGoesRoundDeadRouters) {
  const Topology die = *topology_of(machine::load_machine("d1").value(), DeadSites::RoutersDead);
  const RoutingTable table = routed(die, RoutingKind::XFirst, 3);
  all_pairs_arrive(die, table);
}

}  // namespace
}  // namespace dojo::mesh
