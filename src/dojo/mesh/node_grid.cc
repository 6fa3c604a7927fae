#include "dojo/mesh/node_grid.h"

#include <fmt/format.h>

namespace dojo::mesh {

namespace {

int floor_divide(int value, int by) { return value >= 0 ? value / by : -((by - 1 - value) / by); }

}  // namespace

Result<NodeGrid> NodeGrid::of_sites(const Topology& topology) {
  const TopologySpec& spec = topology.spec();
  NodeGrid grid;
  grid.region_ = {.first_die = {}, .dies = spec.dies, .nodes_of_die = spec.die};
  grid.machine_dies_ = spec.dies;
  grid.logical_ = grid.die_ = spec.die;
  for (int row = 0; row < spec.die.rows; ++row) {
    for (int column = 0; column < spec.die.columns; ++column) {
      grid.sites_.push_back({row, column});
    }
  }
  grid.router_columns_ = topology.grid().columns;
  DOJO_TRY_VOID(grid.check_alive(topology));
  return grid;
}

Result<NodeGrid> NodeGrid::of_region(const machine::Region& region,
                                     const machine::MachineModel& machine,
                                     const Topology& topology) {
  DOJO_TRY_VOID(machine::check_region(region, machine));
  if (topology.spec().die != machine.sites() || topology.spec().dies != machine.dies()) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("the network is not that of machine {}", machine.name)};
  }
  NodeGrid grid;
  grid.region_ = region;
  grid.machine_dies_ = machine.dies();
  grid.logical_ = machine.logical;
  grid.sites_ = machine.logical_sites;
  grid.die_ = machine.sites();
  grid.router_columns_ = topology.grid().columns;
  DOJO_TRY_VOID(grid.check_alive(topology));
  return grid;
}

std::optional<RouterId> NodeGrid::at(int row, int column) const {
  const Shape per_die = region_.nodes_of_die;
  const int die_row = floor_divide(row, per_die.rows);
  const int die_column = floor_divide(column, per_die.columns);
  const Site die{region_.first_die.row + die_row, region_.first_die.column + die_column};
  if (die.row < 0 || die.row >= machine_dies_.rows || die.column < 0 ||
      die.column >= machine_dies_.columns) {
    return std::nullopt;
  }
  const int in_row = row - die_row * per_die.rows;
  const int in_column = column - die_column * per_die.columns;
  const Site site =
      sites_[static_cast<std::size_t>(in_row) * static_cast<std::size_t>(logical_.columns) +
             static_cast<std::size_t>(in_column)];
  const std::int64_t router_row = std::int64_t{die.row} * die_.rows + site.row;
  return RouterId{static_cast<std::uint32_t>(
      router_row * router_columns_ + std::int64_t{die.column} * die_.columns + site.column)};
}

Result<void> NodeGrid::check_alive(const Topology& topology) const {
  for (int row = 0; row < rows(); ++row) {
    for (int column = 0; column < columns(); ++column) {
      const RouterId router = *at(row, column);
      if (!topology.has_node(router)) {
        return Error{ErrorKind::InvalidInput,
                     fmt::format("node {},{} of the region: no node is alive at {}", row, column,
                                 topology.describe(router))};
      }
    }
  }
  return {};
}

}  // namespace dojo::mesh
