#include "dojo/mesh/topology.h"

#include <gtest/gtest.h>

#include "dojo/machine/description.h"

namespace dojo::mesh {
namespace {

Topology made(TopologySpec spec) {
  auto topology = Topology::make(std::move(spec));
  EXPECT_TRUE(topology.has_value()) << topology.error().message;
  return *std::move(topology);
}

std::string error_of(TopologySpec spec) {
  const auto topology = Topology::make(std::move(spec));
  return topology.has_value() ? "no error" : topology.error().message;
}

machine::MachineModel model(const std::string& name) { return machine::load_machine(name).value(); }

TEST(Port, FeedsTheOppositeSide) {
  EXPECT_EQ(opposite(Port::East), Port::West);
  EXPECT_EQ(opposite(Port::North), Port::South);
  EXPECT_EQ(port_of(machine::Side::South), Port::South);
  EXPECT_EQ(name(Port::Local), "local");
}

TEST(Rectangle, JoinsNeighboursBothWaysOnly) {
  const Topology topology = *Topology::rectangle({.rows = 3, .columns = 5});
  EXPECT_EQ(topology.routers(), 15U);
  EXPECT_EQ(topology.node_count(), 15U);
  EXPECT_EQ(topology.links().size(), 2U * (3 * 4 + 2 * 5));
  EXPECT_EQ(topology.router_at({1, 2}).index, 7U);
  EXPECT_EQ(topology.site_of({7}), (Site{1, 2}));
  EXPECT_FALSE(topology.link_from({0}, Port::West).has_value());
  EXPECT_FALSE(topology.link_from({0}, Port::Local).has_value());
  for (std::uint32_t i = 0; i < topology.links().size(); ++i) {
    const Link& link = topology.link({i});
    EXPECT_EQ(topology.link_from(link.from, link.out)->index, i);
    EXPECT_EQ(topology.link_into(link.to, opposite(link.out))->index, i);
    const Site a = topology.site_of(link.from);
    const Site b = topology.site_of(link.to);
    EXPECT_EQ(b.column - a.column, link.out == Port::East ? 1 : link.out == Port::West ? -1 : 0);
    EXPECT_EQ(b.row - a.row, link.out == Port::South ? 1 : link.out == Port::North ? -1 : 0);
  }
}

TEST(Torus, ClosesEveryRowAndColumn) {
  const Topology torus = made({.die = {3, 4}, .wrap = Wrap::Torus});
  EXPECT_EQ(torus.links().size(), 4U * 12);
  EXPECT_EQ(torus.link(*torus.link_from(torus.router_at({2, 3}), Port::East)).to,
            torus.router_at({2, 0}));
  EXPECT_EQ(torus.link(*torus.link_from(torus.router_at({0, 1}), Port::North)).to,
            torus.router_at({2, 1}));
  // A ring of one router is no ring.
  EXPECT_EQ(made({.die = {1, 4}, .wrap = Wrap::Torus}).links().size(), 8U);
}

TEST(OpposedNetworks, GoEastAndSouthOrWestAndNorth) {
  const Topology pair = made({.die = {3, 4}, .planes = Planes::Opposed});
  EXPECT_EQ(pair.planes(), 2);
  EXPECT_EQ(pair.routers(), 24U);
  EXPECT_EQ(pair.links().size(), 48U);
  for (const Link& link : pair.links()) {
    EXPECT_EQ(pair.plane_of(link.from), pair.plane_of(link.to));
    EXPECT_EQ(pair.plane_of(link.from) == 0, link.out == Port::East || link.out == Port::South);
  }
  EXPECT_EQ(pair.describe(pair.router_at({1, 2}, 1)), "1,2 plane 1");
}

TEST(Holes, OfThreeKindsTakeWhatTheySay) {
  const Topology topology = made({.die = {4, 4},
                                  .dead_cores = {{0, 1}},
                                  .dead_routers = {{2, 2}},
                                  .dead_links = {{{3, 0}, machine::Side::East}}});
  EXPECT_TRUE(topology.is_live(topology.router_at({0, 1})));
  EXPECT_FALSE(topology.has_node(topology.router_at({0, 1})));
  EXPECT_FALSE(topology.is_live(topology.router_at({2, 2})));
  EXPECT_EQ(topology.node_count(), 14U);
  EXPECT_EQ(topology.links().size(), 48U - 8 - 2);
  EXPECT_FALSE(topology.link_from(topology.router_at({3, 1}), Port::West).has_value());
  EXPECT_FALSE(topology.link_from(topology.router_at({2, 1}), Port::East).has_value());
  EXPECT_TRUE(topology.has_gaps());
  EXPECT_FALSE(made({.die = {4, 4}, .dead_cores = {{0, 1}}}).has_gaps());
}

TEST(Holes, ThatCutTheMeshNameThePartCutOff) {
  EXPECT_EQ(error_of({.die = {4, 4}, .dead_routers = {{0, 2}, {1, 3}}}),
            "holes cut the mesh in two: 1 node cannot be reached from the other 13 routers (0,3)");
  EXPECT_EQ(error_of({.die = {3, 9}, .dead_routers = {{0, 4}, {1, 4}, {2, 4}}}),
            "holes cut the mesh in two: 12 nodes cannot be reached from the other 12 routers (0,5; "
            "0,6; 0,7; 0,8; 1,5; 1,6; 1,7; 1,8; and 4 more)");
  // Nobody misses a router without a node.
  const Topology corner =
      made({.die = {4, 4}, .dead_cores = {{0, 3}}, .dead_routers = {{0, 2}, {1, 3}}});
  EXPECT_FALSE(corner.is_live(corner.router_at({0, 3})));
  EXPECT_EQ(error_of({.die = {1, 2}, .dead_cores = {{0, 0}, {0, 1}}}),
            "no node of the network is alive");
  // One direction alone does not close round a hole in its row.
  EXPECT_EQ(
      error_of({.die = {1, 3}, .planes = Planes::Opposed, .dead_routers = {{0, 1}}}).substr(0, 48),
      "holes cut the mesh in two: 1 node cannot be reac");
}

TEST(Specification, RefusesWhatCannotBe) {
  EXPECT_EQ(error_of({.die = {0, 4}}),
            "the size of a die is 0x4, expected ROWSxCOLUMNS of 1 or more");
  EXPECT_EQ(error_of({.die = {1 << 20, 4}}),
            "the size of a die is 1048576x4, expected at most 2097152 routers");
  EXPECT_EQ(error_of({.die = {4, 4}, .dies = {2, 1}}),
            "0 boundaries between rows of dies, expected 1");
  EXPECT_EQ(error_of({.die = {4, 4}, .dies = {2, 1}, .row_boundaries = {1}}),
            "link class 1, expected 0..0");
  EXPECT_EQ(error_of({.die = {4, 4}, .dead_routers = {{4, 0}}}),
            "dead router 4,0 is outside of the network, expected rows 0..3 and columns 0..3");
  EXPECT_EQ(error_of({.die = {4, 4}, .dead_links = {{{3, 0}, machine::Side::South}}}),
            "dead link south of 3,0 does not exist: it would leave the network");
  EXPECT_EQ(error_of({.die = {4, 4}, .edge_ports = {{.site = {1, 1}}}}),
            "edge port west of 1,1: that side is not an edge of the network");
  EXPECT_EQ(error_of({.die = {4, 4}, .edge_ports = {{.site = {1, 0}}, {.site = {1, 0}}}}),
            "edge port west of 1,0 is given twice");
  EXPECT_EQ(error_of({.die = {4, 4}, .wrap = Wrap::Torus, .edge_ports = {{.site = {1, 0}}}}),
            "a torus has no edge: no edge ports");
  EXPECT_EQ(error_of({.die = {4, 4}, .link_classes = {{.latency = Cycles{0}}}}),
            "node link: latency of 0 cycles, expected 1 or more");
  EXPECT_EQ(error_of({.die = {4, 4}, .link_classes = {{.rate = {9, 8}}}}),
            "node link: rate of 9/8 flits per cycle, expected above 0 and at most 1");
}

TEST(FlitRate, IsTheExactRatio) {
  EXPECT_EQ(flit_rate(BytesPerCycle(56.0), Bytes(64)).value(), (FlitRate{7, 8}));
  EXPECT_EQ(flit_rate(BytesPerCycle(1008.0 / 20), Bytes(64)).value(), (FlitRate{63, 80}));
  EXPECT_EQ(flit_rate(BytesPerCycle(448.0 / 18), Bytes(64)).value(), (FlitRate{7, 18}));
  EXPECT_EQ(flit_rate(BytesPerCycle(64), Bytes(64)).value(), (FlitRate{1, 1}));
  EXPECT_FALSE(flit_rate(BytesPerCycle(65), Bytes(64)).has_value());
  EXPECT_FALSE(flit_rate(BytesPerCycle(0), Bytes(64)).has_value());
  EXPECT_FALSE(flit_rate(BytesPerCycle(3.14159265358979), Bytes(64)).has_value());
  for (int den = 1; den <= 100; ++den) {
    for (int num = 1; num <= den; ++num) {
      const FlitRate rate = flit_rate(BytesPerCycle(64.0 * num / den), Bytes(64)).value();
      EXPECT_EQ(rate.num * den, rate.den * num);
    }
  }
}

TEST(FullRateSlots, AreRateTimesLoop) {
  // 7/8 flit a cycle, 200 cycles there and back and 5 in the router: 354.4.
  EXPECT_EQ(full_rate_slots({.latency = Cycles{200}, .rate = {7, 8}}, Cycles{5}), 355);
  EXPECT_EQ(full_rate_slots({.latency = Cycles{200}, .rate = {63, 80}}, Cycles{5}), 319);
}

TEST(MachineTopology, OfADieHasPortsOfItsProcessor) {
  const Topology die = *topology_of(model("d1"));
  EXPECT_EQ(die.grid(), (Shape{18, 20}));
  EXPECT_EQ(die.routers(), 18U * 20 + 18);
  EXPECT_EQ(die.node_count(), 354U + 18);
  EXPECT_FALSE(die.has_gaps());
  EXPECT_EQ(die.link_classes()[0].latency, Cycles{1});
  EXPECT_EQ(die.link_classes()[0].rate, (FlitRate{1, 1}));
  ASSERT_EQ(die.link_classes().size(), 2U);
  // One processor of 900 GB/s feeds 18 rows: 25 of 64 bytes a cycle each.
  EXPECT_EQ(die.link_classes()[1].rate, (FlitRate{25, 64}));
  EXPECT_EQ(die.link_classes()[1].latency, Cycles{200});
  const RouterId port = die.edge_port(3);
  EXPECT_EQ(die.describe(port), "west port of 3,0");
  EXPECT_EQ(die.link(*die.link_from(port, Port::East)).to, die.router_at({3, 0}));
  EXPECT_EQ(die.link(*die.link_into(port, Port::East)).from, die.router_at({3, 0}));
  const Topology dead = *topology_of(model("d1"), DeadSites::RoutersDead);
  EXPECT_TRUE(dead.has_gaps());
  EXPECT_EQ(dead.node_count(), 354U + 18);
}

TEST(MachineTopology, OfATileHasDieEdgesOfBothDirections) {
  const Topology tile = *topology_of(model("training-tile"));
  EXPECT_EQ(tile.grid(), (Shape{90, 100}));
  EXPECT_EQ(tile.node_count(), 8850U + 90);
  const auto class_at = [&](Site site, Port out) {
    return tile.link_classes()[static_cast<std::size_t>(
        tile.link(*tile.link_from(tile.router_at(site), out)).link_class)];
  };
  EXPECT_EQ(class_at({5, 19}, Port::East).rate, (FlitRate{7, 8}));
  EXPECT_EQ(class_at({5, 20}, Port::West).rate, (FlitRate{7, 8}));
  EXPECT_EQ(class_at({5, 19}, Port::East).latency, Cycles{200});
  EXPECT_EQ(class_at({17, 3}, Port::South).rate, (FlitRate{63, 80}));
  EXPECT_EQ(class_at({18, 3}, Port::North).rate, (FlitRate{63, 80}));
  EXPECT_EQ(class_at({18, 3}, Port::South).rate, (FlitRate{1, 1}));
  EXPECT_EQ(class_at({18, 0}, Port::West).rate, (FlitRate{7, 18}));
  EXPECT_EQ(tile.die_of(tile.router_at({37, 41})), (Site{2, 2}));
}

TEST(MachineTopology, OfATrayHasTileEdges) {
  const Topology tray = *topology_of(model("system-tray"));
  EXPECT_EQ(tray.grid(), (Shape{180, 300}));
  EXPECT_EQ(tray.node_count(), 6U * 8850 + 20 * 18);
  const Link& across = tray.link(*tray.link_from(tray.router_at({0, 99}), Port::East));
  EXPECT_EQ(tray.link_classes()[static_cast<std::size_t>(across.link_class)].rate,
            (FlitRate{7, 18}));
}

}  // namespace
}  // namespace dojo::mesh
