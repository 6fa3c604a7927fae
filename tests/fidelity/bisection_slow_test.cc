// What crosses die and tile edges when every node of two sides sends to random nodes of both
// without end, against the published figures. A die edge has 2.016 TB/s each way, shared by 18 rows
// or 20 columns; the middle of a tile is five of them, 10.08 TB/s; a tile edge has 896 GB/s per rim
// die, so 4.48 TB/s, and the middle of a tray is three tile edges, 13.44 TB/s.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "dojo/machine/description.h"
#include "dojo/mesh/mesh.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {
namespace {

// Offered load over what the cut can carry, so that queues grow at every source. Far more would
// tell another story: at one flit per node and cycle, nodes beside the edge starve what comes
// across, and 70 % of the edge is used.
constexpr double kBacklog = 1.2;

// Dies of the machine, all sites alive. Every `tile`-th joint of dies is of the second class, the
// others of the first; both are classes of the machine's whole network, by name and direction.
Topology dies(const std::string& machine_name, Shape count, const std::string& edge,
              const std::string& outer = "", int tile = 1) {
  const TopologySpec whole = topology_spec(machine::load_machine(machine_name).value()).value();
  TopologySpec spec{.die = whole.die, .dies = count, .flit = whole.flit};
  const auto add = [&](const std::string& name) {
    const auto found = std::find_if(whole.link_classes.begin(), whole.link_classes.end(),
                                    [&](const LinkClass& link) { return link.name == name; });
    spec.link_classes.push_back(*found);
    return static_cast<int>(spec.link_classes.size()) - 1;
  };
  const auto joints = [&](int dies_in_line, std::string_view direction) {
    std::vector<int> classes;
    if (dies_in_line > 1) {
      const int inner = add(fmt::format("{} {}", edge, direction));
      const int border =
          dies_in_line > tile && !outer.empty() ? add(fmt::format("{} {}", outer, direction)) : 0;
      for (int i = 1; i < dies_in_line; ++i) {
        classes.push_back(border != 0 && i % tile == 0 ? border : inner);
      }
    }
    return classes;
  };
  spec.row_boundaries = joints(count.rows, "north-south");
  spec.column_boundaries = joints(count.columns, "west-east");
  return *Topology::make(std::move(spec));
}

// The links that leave the sites before a line (row or column `at`) in a direction.
std::vector<Link> cut(const Topology& topology, Port direction, int at) {
  std::vector<Link> links;
  for (const Link& link : topology.links()) {
    const Site from = topology.site_of(link.from);
    const int before = direction == Port::East ? from.column + 1 : from.row;
    if (link.out == direction && before == at) {
      links.push_back(link);
    }
  }
  return links;
}

// Terabytes per second through the cut, one way, under uniform traffic that asks kBacklog of it.
double crossing(const Topology& topology, Port direction, int at, Cycle warm_up, Cycle cycles) {
  const RouterConfig config = *router_preset("d1");
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, config.vcs);
  const std::vector<Link> links = cut(topology, direction, at);
  const FlitRate of_link =
      topology.link_classes()[static_cast<std::size_t>(links.front().link_class)].rate;
  const double carries = static_cast<double>(links.size()) * of_link.num / of_link.den;
  const int whole = direction == Port::East ? topology.grid().columns : topology.grid().rows;
  const double share = static_cast<double>(at) / whole * (1 - static_cast<double>(at) / whole);
  const double nodes = static_cast<double>(topology.routers());
  const Traffic traffic = *Traffic::synthetic({.rows = topology.grid().rows,
                                               .columns = topology.grid().columns,
                                               .rate = kBacklog * carries / (share * nodes)});
  Mesh mesh = *Mesh::make(topology, routing, config, traffic);
  const auto crossed = [&] {
    std::uint64_t flits = 0;
    for (const Link& link : links) {
      flits += mesh.flits_sent(static_cast<int>(link.from.index), index(link.out));
    }
    return flits;
  };
  mesh.run_until(warm_up);
  const std::uint64_t before = crossed();
  mesh.run_until(warm_up + cycles);
  const double flits = static_cast<double>(crossed() - before) / cycles;
  return flits * static_cast<double>(topology.spec().flit.count()) * 2e9 / 1e12;
}

TEST(Bisection, OfADieEdgeIsItsPublishedRate) {
  const Topology pair = dies("training-tile", {1, 2}, "die_edge");
  EXPECT_NEAR(crossing(pair, Port::East, 20, 900, 1000), 2.016, 0.05 * 2.016);
  const Topology column = dies("training-tile", {2, 1}, "die_edge");
  EXPECT_NEAR(crossing(column, Port::North, 18, 900, 1000), 2.016, 0.05 * 2.016);
}

// Two columns of dies against three, all 25 in one network.
TEST(Bisection, OfATileIsFiveDieEdges) {
  const Topology tile = dies("training-tile", {5, 5}, "die_edge");
  EXPECT_NEAR(crossing(tile, Port::East, 40, 4000, 1000), 10.08, 0.05 * 10.08);
}

TEST(Bisection, OfARimDieAndOfTwoTilesIsTheTileEdge) {
  const Topology pair = dies("system-tray", {1, 2}, "tile_edge");
  EXPECT_NEAR(crossing(pair, Port::East, 20, 900, 1000), 0.896, 0.05 * 0.896);
  // Two whole tiles; the middle of a tray is three such edges, 13.44 TB/s.
  const Topology tiles = dies("system-tray", {10, 5}, "die_edge", "tile_edge", 5);
  EXPECT_NEAR(crossing(tiles, Port::North, 90, 4000, 1000), 4.48, 0.05 * 4.48);
}

// All 54,000 sites of a tray of 2x3 tiles. Uniform traffic fills the cut between two columns of
// tiles, two tile edges, before the middle: 2/9 of it for 8.96 TB/s, 1/4 for 13.44.
TEST(Bisection, OfATrayBetweenColumnsOfTilesIsTwoTileEdges) {
  const Topology tray = dies("system-tray", {10, 15}, "die_edge", "tile_edge", 5);
  EXPECT_NEAR(crossing(tray, Port::East, 100, 1800, 400), 8.96, 0.05 * 8.96);
}

}  // namespace
}  // namespace dojo::mesh
