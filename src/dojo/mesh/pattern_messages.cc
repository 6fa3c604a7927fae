#include "dojo/mesh/pattern_messages.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "dojo/mesh/internal/pattern_builder.h"

namespace dojo::mesh {

using internal::NodeLine;
using internal::PatternBuilder;
using internal::share;
using machine::Association;
using machine::Axis;
using machine::Pattern;
using machine::PatternKind;

PatternTiming pattern_timing(const machine::MachineModel& machine) {
  return {.alpha = machine.network.alpha,
          .add = machine.network.reduce_stage,
          .pace = machine.network.pace,
          .packet = machine.network.packet};
}

namespace {

bool has_rows(Axis axis) { return axis != Axis::Columns; }
bool has_columns(Axis axis) { return axis != Axis::Rows; }

std::vector<std::int64_t> shares(std::int64_t total, int n) {
  std::vector<std::int64_t> blocks;
  for (int i = 0; i < n; ++i) {
    blocks.push_back(share(total, n, i));
  }
  return blocks;
}

// One phase: every row (column) by a function of builder, line and index, then their paces.
template <class Line>
void rows_phase(PatternBuilder& builder, Line line) {
  builder.next_phase();
  const std::size_t first = builder.size();
  for (int r = 0; r < builder.grid().rows(); ++r) {
    line(builder.row(r), r);
  }
  builder.pace_from(first);
}
template <class Line>
void columns_phase(PatternBuilder& builder, Line line) {
  builder.next_phase();
  const std::size_t first = builder.size();
  for (int c = 0; c < builder.grid().columns(); ++c) {
    line(builder.column(c), c);
  }
  builder.pace_from(first);
}

// Column c of a region holds share(v, columns, c) of what its rows hold together.
std::int64_t of_column(const PatternBuilder& builder, Axis axis, std::int64_t v, int c) {
  return axis == Axis::Both ? share(v, builder.grid().columns(), c) : v;
}

void all_gather(PatternBuilder& builder, Axis axis, std::int64_t v) {
  if (has_columns(axis)) {
    columns_phase(builder, [&](const NodeLine& line, int c) {
      all_gather_line(builder, line, shares(of_column(builder, axis, v, c), line.size()));
    });
  }
  if (has_rows(axis)) {
    rows_phase(builder, [&](const NodeLine& line, int) {
      all_gather_line(builder, line, shares(v, line.size()));
    });
  }
}

void reduce_scatter(PatternBuilder& builder, Axis axis, Association order, std::int64_t v) {
  if (has_rows(axis)) {
    rows_phase(builder,
               [&](const NodeLine& line, int) { reduce_scatter_line(builder, line, order, v); });
  }
  if (has_columns(axis)) {
    columns_phase(builder, [&](const NodeLine& line, int c) {
      reduce_scatter_line(builder, line, order, of_column(builder, axis, v, c));
    });
  }
}

// Rows to their last node, then the last column.
void reduce(PatternBuilder& builder, Axis axis, Association order, std::int64_t v) {
  if (has_rows(axis)) {
    rows_phase(builder, [&](const NodeLine& line, int) { reduce_line(builder, line, order, v); });
  }
  if (has_columns(axis)) {
    columns_phase(builder, [&](const NodeLine& line, int c) {
      if (axis != Axis::Both || c + 1 == builder.grid().columns()) {
        reduce_line(builder, line, order, v);
      }
    });
  }
}

// Down the source's column, then along every row.
Result<void> multicast(PatternBuilder& builder, const Pattern& pattern, std::int64_t v) {
  const NodeGrid& grid = builder.grid();
  const std::int64_t sources = pattern.axis == Axis::Rows      ? grid.columns()
                               : pattern.axis == Axis::Columns ? grid.rows()
                                                               : grid.nodes();
  if (pattern.source >= sources) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("multicast from node {} of {}, expected 0..{}", pattern.source,
                             sources, sources - 1)};
  }
  const bool is_both = pattern.axis == Axis::Both;
  if (is_both && builder.routers_copy()) {
    std::vector<RouterId> nodes;
    for (int r = 0; r < grid.rows(); ++r) {
      for (int c = 0; c < grid.columns(); ++c) {
        nodes.push_back(*grid.at(r, c));
      }
    }
    builder.send_to_others(nodes[static_cast<std::size_t>(pattern.source)], nodes, v);
    builder.pace_from(0);
    return {};
  }
  const int row = is_both ? pattern.source / grid.columns() : pattern.source;
  const int column = is_both ? pattern.source % grid.columns() : pattern.source;
  if (has_columns(pattern.axis)) {
    columns_phase(builder, [&](const NodeLine& line, int c) {
      if (!is_both || c == column) {
        multicast_line(builder, line, row, v);
      }
    });
  }
  if (has_rows(pattern.axis)) {
    rows_phase(builder,
               [&](const NodeLine& line, int) { multicast_line(builder, line, column, v); });
  }
  return {};
}

Result<void> all_reduce(PatternBuilder& builder, const Pattern& pattern, std::int64_t v) {
  if (pattern.order == Association::Centre) {
    all_reduce_centre(builder, pattern.axis, v);
    builder.pace_from(0);
    return {};
  }
  reduce_scatter(builder, pattern.axis, pattern.order, v);
  all_gather(builder, pattern.axis, v);
  return {};
}

void halo(PatternBuilder& builder, const machine::HaloBytes& sides) {
  const NodeGrid& grid = builder.grid();
  struct From {
    int row = 0;
    int column = 0;
    Bytes bytes{};
  };
  const std::array from{From{-1, 0, sides.north}, From{0, 1, sides.east}, From{1, 0, sides.south},
                        From{0, -1, sides.west}};
  for (int r = 0; r < grid.rows(); ++r) {
    for (int c = 0; c < grid.columns(); ++c) {
      for (const From& side : from) {
        const int row = r + side.row;
        const int column = c + side.column;
        if (row >= 0 && row < grid.rows() && column >= 0 && column < grid.columns()) {
          builder.send(*grid.at(row, column), *grid.at(r, c), builder.packets(side.bytes));
        }
      }
    }
  }
  builder.pace_from(0);
}

void shift(PatternBuilder& builder, const Pattern& pattern, std::int64_t v) {
  const auto along = [&](const NodeLine& line, int) {
    const int n = line.size();
    const int d = (pattern.distance % n + n) % n;
    for (int i = 0; i < n && d != 0; ++i) {
      builder.send(line[i], line[(i + d) % n], v);
    }
  };
  if (pattern.axis == Axis::Rows) {
    rows_phase(builder, along);
  } else {
    columns_phase(builder, along);
  }
}

// n - 1 slots from the current start on, each of packets(i, j) from line node i to j, for all
// lines.
template <class Packets>
void slots(PatternBuilder& builder, const std::vector<NodeLine>& lines, int port_share,
           Packets packets) {
  const int n = lines.front().size();
  Cycles start{0};
  for (int d = 1; d < n; ++d) {
    builder.start_at(start);
    const std::size_t first = builder.size();
    for (const NodeLine& line : lines) {
      for (int i = 0; i + d < n; ++i) {
        builder.send(line[i], line[i + d], packets);
        builder.send(line[i + d], line[i], packets);
      }
    }
    start += Cycles{d} + builder.paced(builder.pace_from(first, port_share));
  }
}

void all_to_all(PatternBuilder& builder, Axis axis, std::int64_t m) {
  const NodeGrid& grid = builder.grid();
  std::vector<NodeLine> rows;
  for (int r = 0; r < grid.rows(); ++r) {
    rows.push_back(builder.row(r));
  }
  std::vector<NodeLine> columns;
  for (int c = 0; c < grid.columns(); ++c) {
    columns.push_back(builder.column(c));
  }
  if (axis != Axis::Both) {
    slots(builder, axis == Axis::Rows ? rows : columns, 1, m);
    return;
  }
  // Two halves at a time: one on its first dimension while the other is on its other one.
  const std::int64_t first_half = (m + 1) / 2;
  const std::int64_t second_half = m / 2;
  for (const auto& [by_rows, by_columns] :
       {std::pair(first_half, second_half), std::pair(second_half, first_half)}) {
    builder.next_phase();
    slots(builder, rows, 2, by_rows * grid.rows());
    slots(builder, columns, 2, by_columns * grid.columns());
  }
}

// The router that stands for the edge in a node's line: a port of its site's row (column).
Result<RouterId> edge_end(const PatternBuilder& builder, machine::Side side, RouterId node,
                          RouterId line_end) {
  const Topology& topology = builder.topology();
  const auto& ports = topology.spec().edge_ports;
  const bool is_along_rows = side == machine::Side::West || side == machine::Side::East;
  const Site site = topology.site_of(node);
  bool has_side = false;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const EdgePort& port = ports[i];
    has_side = has_side || port.side == side;
    if (port.side == side && topology.has_node(topology.edge_port(i)) &&
        (is_along_rows ? port.site.row == site.row : port.site.column == site.column)) {
      return topology.edge_port(i);
    }
  }
  if (has_side) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("no port on the {} edge in the line of node {}", machine::name(side),
                             topology.describe(node))};
  }
  return line_end;
}

Result<void> edge_pattern(PatternBuilder& builder, const Pattern& pattern, std::int64_t v) {
  const NodeGrid& grid = builder.grid();
  const machine::Side side = pattern.edge;
  const bool is_along_rows = side == machine::Side::West || side == machine::Side::East;
  const bool is_first = side == machine::Side::West || side == machine::Side::North;
  const int lines = is_along_rows ? grid.rows() : grid.columns();
  for (int i = 0; i < lines; ++i) {
    const NodeLine line = is_along_rows ? builder.row(i) : builder.column(i);
    for (const RouterId node : line.nodes) {
      DOJO_TRY(const RouterId edge,
               edge_end(builder, side, node, is_first ? line[0] : line[line.size() - 1]));
      if (edge != node) {
        const bool is_gather = pattern.kind == PatternKind::GatherToEdge;
        builder.send(is_gather ? node : edge, is_gather ? edge : node, v);
      }
    }
  }
  builder.pace_from(0);
  return {};
}

Result<void> region_move(PatternBuilder& builder, const Pattern& pattern, std::int64_t v) {
  const NodeGrid& grid = builder.grid();
  if (pattern.move_rows == 0 && pattern.move_columns == 0) {
    return {};
  }
  for (int r = 0; r < grid.rows(); ++r) {
    for (int c = 0; c < grid.columns(); ++c) {
      const auto target = grid.at(r + pattern.move_rows, c + pattern.move_columns);
      if (!target.has_value()) {
        return Error{ErrorKind::InvalidInput,
                     fmt::format("a move by {},{} takes node {},{} off the machine",
                                 pattern.move_rows, pattern.move_columns, r, c)};
      }
      builder.send(*grid.at(r, c), *target, v);
    }
  }
  builder.pace_from(0);
  return {};
}

Result<void> build(PatternBuilder& builder, const Pattern& pattern) {
  const std::int64_t v = builder.packets(pattern.bytes);
  switch (pattern.kind) {
    case PatternKind::Multicast:
      return multicast(builder, pattern, v);
    case PatternKind::AllGather:
      all_gather(builder, pattern.axis, v);
      return {};
    case PatternKind::Reduce:
      reduce(builder, pattern.axis, pattern.order, v);
      return {};
    case PatternKind::ReduceScatter:
      reduce_scatter(builder, pattern.axis, pattern.order, v);
      return {};
    case PatternKind::AllReduce:
      return all_reduce(builder, pattern, v);
    case PatternKind::Halo:
      halo(builder, pattern.halo);
      return {};
    case PatternKind::Shift:
      shift(builder, pattern, v);
      return {};
    case PatternKind::AllToAll:
      all_to_all(builder, pattern.axis, v);
      return {};
    case PatternKind::GatherToEdge:
    case PatternKind::ScatterFromEdge:
      return edge_pattern(builder, pattern, v);
    case PatternKind::RegionMove:
      return region_move(builder, pattern, v);
  }
  return {};
}

}  // namespace

Result<MessageTrace> pattern_messages(const Pattern& pattern, const PatternPlace& place,
                                      const PatternTiming& timing) {
  DOJO_TRY_VOID(machine::check_pattern(pattern));
  const bool is_line_sum =
      pattern.kind == PatternKind::Reduce || pattern.kind == PatternKind::ReduceScatter;
  if (pattern.order == Association::Centre && is_line_sum) {
    return Error{ErrorKind::Unsupported,
                 fmt::format("{} order=centre: only all_reduce goes to the middle and back",
                             machine::name(pattern.kind))};
  }
  PatternBuilder builder(place, timing);
  DOJO_TRY_VOID(build(builder, pattern));
  return builder.finish();
}

}  // namespace dojo::mesh
