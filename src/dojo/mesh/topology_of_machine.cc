// From a machine description to the network of its nodes.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "dojo/mesh/topology.h"

namespace dojo::mesh {

namespace {

using machine::MachineModel;

enum class Direction : std::uint8_t { AcrossRows, AcrossColumns };

// Index of the class, added unless it is there.
int class_index(TopologySpec& spec, LinkClass link) {
  const auto found = std::find(spec.link_classes.begin(), spec.link_classes.end(), link);
  const auto at = static_cast<int>(found - spec.link_classes.begin());
  if (found == spec.link_classes.end()) {
    spec.link_classes.push_back(std::move(link));
  }
  return at;
}

// The class of a boundary; Error if a row's share of the edge is more than a node link.
Result<int> boundary_class(TopologySpec& spec, machine::LinkClass edge, Direction direction,
                           const MachineModel& machine) {
  const machine::LinkModel& link = machine.link(edge);
  const bool is_across_rows = direction == Direction::AcrossRows;
  DOJO_TRY(const FlitRate rate,
           flit_rate(is_across_rows ? link.per_column : link.per_row, spec.flit));
  return class_index(spec, {.name = fmt::format("{} {}", machine::name(edge),
                                                is_across_rows ? "north-south" : "west-east"),
                            .latency = link.latency,
                            .rate = rate,
                            .slots = std::nullopt});
}

// The processors of one side of one die share its rows (columns) in equal blocks, north to south
// and west to east, and its edge: together they move no more than either side can.
Result<void> add_ports(TopologySpec& spec, machine::Attachment at,
                       const std::vector<int>& processors, const MachineModel& machine) {
  const bool is_along_rows = at.side == machine::Side::West || at.side == machine::Side::East;
  const int lines = is_along_rows ? spec.die.rows : spec.die.columns;
  const machine::LinkModel& edge =
      machine.link(machine.has(machine::Level::Tile) ? machine::LinkClass::TileEdge
                                                     : machine::LinkClass::DieEdge);
  const machine::LinkModel& link = machine.link(machine::LinkClass::ProcessorLink);
  const double feeds = link.rate.value() * static_cast<double>(processors.size()) / lines;
  const double passes = (is_along_rows ? edge.per_row : edge.per_column).value();
  DOJO_TRY(const FlitRate rate, flit_rate(BytesPerCycle(std::min(feeds, passes)), spec.flit));
  const int link_class = class_index(
      spec, {.name = fmt::format("processor link {}", is_along_rows ? "west-east" : "north-south"),
             .latency = std::max(edge.latency, link.latency),
             .rate = rate,
             .slots = std::nullopt});
  const int top = at.die.row * spec.die.rows;
  const int left = at.die.column * spec.die.columns;
  for (int line = 0; line < lines; ++line) {
    Site site{top + line, at.side == machine::Side::West ? left : left + spec.die.columns - 1};
    if (!is_along_rows) {
      site = {at.side == machine::Side::North ? top : top + spec.die.rows - 1, left + line};
    }
    const auto owner =
        static_cast<std::size_t>(line) * processors.size() / static_cast<std::size_t>(lines);
    spec.edge_ports.push_back(
        {.site = site, .side = at.side, .link_class = link_class, .processor = processors[owner]});
  }
  return {};
}

}  // namespace

Result<TopologySpec> topology_spec(const MachineModel& machine, DeadSites dead_sites) {
  const machine::LinkModel& node_link = machine.link(machine::LinkClass::NodeLink);
  TopologySpec spec{.die = machine.sites(),
                    .dies = machine.dies(),
                    .flit = Bytes(static_cast<std::int64_t>(node_link.rate.value()))};
  DOJO_TRY(const FlitRate rate, flit_rate(node_link.rate, spec.flit));
  spec.link_classes = {
      {.name = "node link", .latency = node_link.latency, .rate = rate, .slots = std::nullopt}};
  for (int row = 0; row + 1 < spec.dies.rows; ++row) {
    DOJO_TRY(const int at,
             boundary_class(spec, machine.row_boundary(row), Direction::AcrossRows, machine));
    spec.row_boundaries.push_back(at);
  }
  for (int column = 0; column + 1 < spec.dies.columns; ++column) {
    DOJO_TRY(const int at, boundary_class(spec, machine.column_boundary(column),
                                          Direction::AcrossColumns, machine));
    spec.column_boundaries.push_back(at);
  }
  std::vector<Site>& dead =
      dead_sites == DeadSites::RoutersForward ? spec.dead_cores : spec.dead_routers;
  for (int row = 0; row < spec.dies.rows; ++row) {
    for (int column = 0; column < spec.dies.columns; ++column) {
      for (const Site site : machine.dead_sites) {
        dead.push_back({row * spec.die.rows + site.row, column * spec.die.columns + site.column});
      }
    }
  }
  std::map<machine::Attachment, std::vector<int>> attached;
  for (std::size_t i = 0; i < machine.processors.size(); ++i) {
    attached[machine.processors[i]].push_back(static_cast<int>(i));
  }
  for (const auto& [at, processors] : attached) {
    DOJO_TRY_VOID(add_ports(spec, at, processors, machine));
  }
  return spec;
}

Result<Topology> topology_of(const MachineModel& machine, DeadSites dead_sites) {
  DOJO_TRY(TopologySpec spec, topology_spec(machine, dead_sites));
  return Topology::make(std::move(spec));
}

}  // namespace dojo::mesh
