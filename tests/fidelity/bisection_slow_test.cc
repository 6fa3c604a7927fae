// What crosses die and tile edges when every node of two sides sends to random nodes of both
// without end, against the published figures. A die edge has 2.016 TB/s each way, shared by 18 rows
// or 20 columns; the middle of a tile is five of them, 10.08 TB/s; a tile edge has 896 GB/s per rim
// die, so 4.48 TB/s, and the middle of a tray is three tile edges, 13.44 TB/s.
#include "dojo/machine/description.h"
#include "dojo/mesh/internal/plain_mesh.h"
#include "dojo/mesh/topology.h"

#include <gtest/gtest.h>

namespace dojo::mesh {
namespace {

// Offered load over what the cut can carry, so that queues grow at every source. Far more would
// tell another story: at one flit per node and cycle, nodes beside the edge starve what comes
// across, and 70 % of the edge is used.
constexpr double kBacklog = 1.2;
constexpr int kWarmUp = 900;

// Dies of the machine, all sites alive, joined by links of one class of its whole network.
Topology dies(const std::string& machine_name, Shape count, std::string_view link_class) {
  const TopologySpec whole = topology_spec(machine::load_machine(machine_name).value()).value();
  TopologySpec spec{.die = whole.die, .dies = count, .flit = whole.flit};
  for (const LinkClass& link : whole.link_classes) {
    if (link.name == link_class) {
      spec.link_classes.push_back(link);
    }
  }
  spec.row_boundaries.assign(static_cast<std::size_t>(count.rows - 1), 1);
  spec.column_boundaries.assign(static_cast<std::size_t>(count.columns - 1), 1);
  return *Topology::make(std::move(spec));
}

// Flits per node and cycle of uniform traffic that fill the links of class 1 from one half to the
// other: a quarter of all packets goes each way.
double share_of_the_cut(const Topology& topology) {
  const FlitRate rate = topology.link_classes()[1].rate;
  double links = 0;
  for (const Link& link : topology.links()) {
    links += link.link_class == 1 && (link.out == Port::East || link.out == Port::South) ? 1 : 0;
  }
  return 4 * links * rate.num / rate.den / static_cast<double>(topology.routers());
}

// Terabytes per second, one way, over all links of class 1 in one direction.
double crossing(const Topology& topology, Port direction, int cycles) {
  const RouterConfig config = *router_preset("d1");
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, config.vcs);
  const double rate = kBacklog * share_of_the_cut(topology);
  const Traffic traffic = *Traffic::synthetic(
      {.rows = topology.grid().rows, .columns = topology.grid().columns, .rate = rate});
  internal::PlainMesh mesh(topology, routing, config, traffic);
  const auto crossed = [&] {
    std::uint64_t flits = 0;
    for (const Link& link : topology.links()) {
      if (link.link_class == 1 && link.out == direction) {
        flits += mesh.sent(link.from, link.out);
      }
    }
    return flits;
  };
  while (mesh.now() < kWarmUp) {
    mesh.step();
  }
  const std::uint64_t before = crossed();
  while (mesh.now() < kWarmUp + cycles) {
    mesh.step();
  }
  const double flits = static_cast<double>(crossed() - before) / cycles;
  return flits * static_cast<double>(topology.spec().flit.count()) * 2e9 / 1e12;
}

TEST(Bisection, OfADieEdgeAndOfATileAreTheirPublishedRates) {
  const Topology pair = dies("training-tile", {1, 2}, "die_edge west-east");
  const double edge = crossing(pair, Port::East, 1000);
  EXPECT_NEAR(edge, 2.016, 0.05 * 2.016);
  EXPECT_NEAR(5 * edge, 10.08, 0.05 * 10.08);
  const Topology column = dies("training-tile", {2, 1}, "die_edge north-south");
  EXPECT_NEAR(crossing(column, Port::North, 1000), 2.016, 0.05 * 2.016);
}

TEST(Bisection, OfATrayIsThreeTileEdges) {
  const Topology edge = dies("system-tray", {1, 2}, "tile_edge west-east");
  const double rim_die = crossing(edge, Port::East, 1000);
  EXPECT_NEAR(rim_die, 0.896, 0.05 * 0.896);
  EXPECT_NEAR(15 * rim_die, 13.44, 0.05 * 13.44);
}

}  // namespace
}  // namespace dojo::mesh
