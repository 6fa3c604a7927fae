#include "dojo/place/internal/mesh.h"

#include <fmt/format.h>

#include <algorithm>

#include "dojo/base/check.h"

namespace dojo::place::internal {

using machine::MachineModel;
using machine::Region;
using program::Axis;

namespace {

constexpr std::int64_t kRoomShare = 8;  // of a node's memory, for one op

int ceil_div(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

}  // namespace

std::optional<machine::Shape> grid_of_stages(machine::Shape dies, std::int64_t stages,
                                             const MachineModel& machine) {
  const machine::Shape all = machine.dies();
  const auto are_alike = [](int part, int whole) { return whole % part == 0 || part % whole == 0; };
  if (machine.has(machine::Level::Tile)) {
    const machine::Shape tile = machine.dies_of(machine::Level::Tile);
    if (!are_alike(dies.rows, tile.rows) || !are_alike(dies.columns, tile.columns)) {
      return std::nullopt;
    }
  }
  const auto room = [&](machine::Shape grid) {
    return std::int64_t{all.rows / (dies.rows * grid.rows)} *
           (all.columns / (dies.columns * grid.columns));
  };
  const auto length = [&](machine::Shape grid) {
    return std::max(grid.rows * dies.rows, grid.columns * dies.columns);
  };
  std::optional<machine::Shape> best;
  for (int rows = 1; rows <= stages && rows * dies.rows <= all.rows; ++rows) {
    const machine::Shape grid{.rows = rows, .columns = static_cast<int>(stages / rows)};
    if (stages % rows != 0 || room(grid) < 1) {
      continue;
    }
    if (!best.has_value() || room(grid) > room(*best) ||
        (room(grid) == room(*best) && length(grid) < length(*best))) {
      best = grid;
    }
  }
  return best;
}

Mesh mesh_of(machine::Shape dies, std::int64_t block, const MachineModel& machine,
             std::int64_t batch, std::int64_t stages) {
  const machine::Shape all = machine.dies();
  Mesh mesh;
  mesh.region = {.first_die = {}, .dies = dies, .nodes_of_die = machine.logical};
  if (stages > 1) {
    const auto grid = grid_of_stages(dies, stages, machine);
    DOJO_CHECK(grid.has_value());
    mesh.stages = *grid;
    dies = {.rows = dies.rows * grid->rows, .columns = dies.columns * grid->columns};
  }
  mesh.room = room_of(machine);
  program::Replicas& replicas = mesh.replicas;
  replicas.dies = dies;
  replicas.stages = stages;
  replicas.available = std::int64_t{all.rows / dies.rows} * (all.columns / dies.columns);
  replicas.batch = batch;
  replicas.block =
      std::min(batch, std::max<std::int64_t>(block, ceil_div(batch, replicas.available)));
  replicas.count = ceil_div(batch, replicas.block);
  mesh.replicas_in_run = program::replicas_in_run(replicas, machine);
  return mesh;
}

Bytes room_of(const MachineModel& machine) {
  return Bytes((machine.node.sram - machine.node.code).count() / kRoomShare);
}

machine::Shape Mesh::way_to_stage(std::size_t stage) const {
  const int row = static_cast<int>(stage) / stages.columns;
  const int along = static_cast<int>(stage) % stages.columns;
  const int column = row % 2 == 0 ? along : stages.columns - 1 - along;
  return {.rows = row * (replicas.dies.rows / stages.rows),
          .columns = column * (replicas.dies.columns / stages.columns)};
}

std::int64_t Mesh::places(Axis axis) const {
  switch (axis) {
    case Axis::Replica:
      return replicas.count;
    case Axis::Group:
      return groups;
    case Axis::Micro:
      return micro_batches;
    case Axis::NodeY:
      return rows_per_group();
    case Axis::NodeX:
      return region.columns();
  }
  return 1;
}

Region Mesh::lines(std::int64_t rows, std::int64_t columns) const {
  const machine::Shape of_die = region.nodes_of_die;
  const auto wanted = [](std::int64_t count, int limit) {
    return std::clamp<std::int64_t>(count, 1, limit);
  };
  rows = wanted(rows, region.rows());
  columns = wanted(columns, region.columns());
  Region out = region;
  out.dies = {.rows = ceil_div(rows, of_die.rows), .columns = ceil_div(columns, of_die.columns)};
  out.nodes_of_die = {.rows = static_cast<int>(std::min<std::int64_t>(rows, of_die.rows)),
                      .columns = static_cast<int>(std::min<std::int64_t>(columns, of_die.columns))};
  return out;
}

namespace {

// Groups fill whole dies, or whole dies hold several groups.
void deal_rows(Mesh& mesh, std::int64_t groups) {
  const int dies = mesh.region.dies.rows;
  const int rows_of_die = mesh.region.nodes_of_die.rows;
  if (groups >= dies) {
    const int in_die = ceil_div(groups, dies);
    const int rows = rows_of_die / in_die;
    mesh.region.nodes_of_die.rows = rows * in_die;
    mesh.region.dies.rows = ceil_div(groups, in_die);
    mesh.groups = std::int64_t{mesh.region.dies.rows} * in_die;
  } else {
    mesh.groups = groups;
    mesh.region.dies.rows = static_cast<int>(dies / groups * groups);
  }
}

}  // namespace

Mesh with_micro_batches(Mesh mesh, std::int64_t count) {
  mesh.micro_batches = std::min(count, mesh.replicas.block);
  mesh.micro_batches = ceil_div(mesh.replicas.block, mesh.samples_at_once());
  return mesh;
}

Mesh with_groups(Mesh mesh) {
  if (mesh.replicas.block % mesh.micro_batches != 0) {
    return mesh;
  }
  const std::int64_t samples = mesh.samples_at_once();
  // Blocks divide the replica's samples, so that sums over samples are cut regularly.
  for (std::int64_t block = 1; block < samples; ++block) {
    const std::int64_t groups = samples / block;
    if (samples % block == 0 && groups <= mesh.region.rows()) {
      mesh.samples_per_group = block * mesh.micro_batches;
      deal_rows(mesh, groups);
      return mesh;
    }
  }
  return mesh;
}

Mesh with_free_groups(Mesh mesh, std::int64_t groups) {
  mesh.samples_per_group = mesh.replicas.block;
  deal_rows(mesh, groups);
  return mesh;
}

std::vector<std::int64_t> free_groups(const Mesh& mesh, const MachineModel& machine) {
  const int dies = mesh.region.dies.rows;
  const int rows = mesh.region.nodes_of_die.rows;
  // Groups of `height` dies, one below the other.
  const auto are_alike = [&](int height) {
    for (int row = height; row < dies; ++row) {
      const bool is_edge_of_group = (row + 1) % height == 0;
      if (!is_edge_of_group && machine.row_boundary(row) != machine.row_boundary(row % height)) {
        return false;
      }
    }
    return true;
  };
  std::vector<std::int64_t> out;
  for (int height = dies / 2; height >= 1; --height) {
    if (dies % height == 0 && are_alike(height)) {
      out.push_back(dies / height);
    }
  }
  for (int in_die = 2; in_die <= rows; ++in_die) {
    if (rows % in_die == 0) {
      out.push_back(std::int64_t{dies} * in_die);
    }
  }
  return out;
}

std::int64_t global_batch(const graph::Graph& graph) {
  for (const graph::Value& value : graph.values) {
    if (value.kind == graph::ValueKind::Input && !value.shape.empty()) {
      return std::max<std::int64_t>(1, value.shape.front());
    }
  }
  return 1;
}

namespace {

// Rectangles of whole tiles that divide the machine, each at least twice the one before; as square
// as may be, no longer than four times their width.
std::vector<machine::Shape> of_tiles(machine::Shape tile, machine::Shape all) {
  std::vector<machine::Shape> shapes;
  for (int rows = tile.rows; rows <= all.rows; rows += tile.rows) {
    for (int columns = tile.columns; columns <= all.columns; columns += tile.columns) {
      const bool divides = all.rows % rows == 0 && all.columns % columns == 0;
      if (divides && std::max(rows, columns) <= 4 * std::min(rows, columns)) {
        shapes.push_back({.rows = rows, .columns = columns});
      }
    }
  }
  const auto length = [](machine::Shape shape) { return std::max(shape.rows, shape.columns); };
  std::stable_sort(shapes.begin(), shapes.end(), [&](machine::Shape a, machine::Shape b) {
    return std::pair(a.count(), length(a)) < std::pair(b.count(), length(b));
  });
  std::vector<machine::Shape> out;
  for (const machine::Shape shape : shapes) {
    if (out.empty() || shape.count() >= 2 * out.back().count()) {
      out.push_back(shape);
    }
  }
  return out;
}

}  // namespace

Result<Mesh> mesh_for(const Choice& choice, const graph::Graph& graph,
                      const MachineModel& machine) {
  if (choice.stages > 1 && !grid_of_stages(choice.dies, choice.stages, machine).has_value()) {
    return Error{ErrorKind::DoesNotFit,
                 fmt::format("machine {} has no room for {} stages of {}x{} dies side by side",
                             machine.name, choice.stages, choice.dies.rows, choice.dies.columns)};
  }
  Mesh mesh = with_micro_batches(
      mesh_of(choice.dies, choice.block, machine, global_batch(graph), choice.stages),
      choice.micro_batches);
  mesh.streams_states = choice.streams_states;
  if (choice.has_groups) {
    mesh = with_groups(mesh);
  } else if (choice.free_groups > 1) {
    mesh = with_free_groups(mesh, choice.free_groups);
  }
  mesh.least_busy = choice.has_even_weights ? kBusyShares : mesh.least_busy;
  mesh.panels = choice.panels;
  mesh.deals = choice.deals;
  return mesh;
}

std::vector<Mesh> meshes(const MachineModel& machine, std::int64_t batch, std::int64_t stages) {
  const machine::Shape all = machine.dies();
  std::vector<machine::Shape> shapes{{1, 1}, {1, 2}, {1, 5}, {5, 5}};
  if (machine.has(machine::Level::Tile)) {
    for (const machine::Shape shape : of_tiles(machine.dies_of(machine::Level::Tile), all)) {
      shapes.push_back(shape);
    }
  }
  shapes.push_back(all);
  std::stable_sort(shapes.begin(), shapes.end(),
                   [](machine::Shape a, machine::Shape b) { return a.count() < b.count(); });
  std::vector<Mesh> out;
  std::vector<machine::Shape> seen;
  for (const machine::Shape shape : shapes) {
    const bool fits = shape.rows <= all.rows && shape.columns <= all.columns &&
                      (stages == 1 || grid_of_stages(shape, stages, machine).has_value());
    if (fits && std::find(seen.begin(), seen.end(), shape) == seen.end()) {
      seen.push_back(shape);
      out.push_back(mesh_of(shape, 1, machine, batch, stages));
    }
  }
  return out;
}

}  // namespace dojo::place::internal
