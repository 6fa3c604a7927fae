#include "dojo/cost/pattern_cost.h"

#include <algorithm>
#include <cmath>

#include "dojo/base/check.h"
#include "dojo/cost/internal/line.h"

namespace dojo::cost {

using internal::Crossing;
using internal::Line;
using internal::Loads;
using internal::packets;
using machine::Association;
using machine::MachineModel;
using machine::Pattern;
using machine::PatternKind;
using machine::Region;

Cycles TransferCost::total(double pace) const {
  DOJO_CHECK(pace > 0);
  const double cycles = busy / pace;
  return latency + Cycles{static_cast<std::int64_t>(std::ceil(cycles - 1e-9 * (1 + cycles)))};
}

TransferCost& TransferCost::operator+=(const TransferCost& next) {
  latency += next.latency;
  if (next.busy > busy) {
    busiest = next.busiest;
  }
  busy += next.busy;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] += next.bytes[i];
  }
  return *this;
}

namespace {

std::int64_t stage(const MachineModel& machine) { return machine.network.stage.count(); }
// What a stage that adds takes beyond one that forwards.
std::int64_t add(const MachineModel& machine) { return machine.network.reduce_stage.count(); }

TransferCost multicast_line(const Line& line, int source, double v, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  const int longer = std::max(source, n - 1 - source);
  const bool is_inside = source > 0 && source < n - 1;
  Loads loads(machine, line);
  loads.port(is_inside ? 2 * v : v).link(v);
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v);
  }
  return loads.with_latency((longer - 1) * stage(machine) + 2 + line.extra());
}

TransferCost all_gather_line(const Line& line, double v, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  loads.port(v * (n + 1) / n).link(v * (n - 1) / n);
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v * std::max(at.before, n - at.before) / n);
  }
  return loads.with_latency((n - 2) * stage(machine) + 2 + line.extra());
}

// To the last node of the line, ascending.
TransferCost reduce_line(const Line& line, double v, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  loads.port(v).link(v);
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v);
  }
  return loads.with_latency((n - 2) * stage(machine) + 2 + (n - 1) * add(machine) + line.extra());
}

// n - 1 slots, one after the other; in slot d every node sends to both nodes at distance d: `ports`
// packets through the ports of a node that has both, half of them from half the line on, where no
// node has; min(d, n - d) over a link; `times` over.
Loads& add_slots(Loads& loads, int n, double ports, double times) {
  for (int d = 1; d < n; ++d) {
    loads.slot(times * (2 * d < n ? ports : ports / 2), times * std::min(d, n - d));
  }
  return loads;
}

TransferCost all_to_all_line(const Line& line, double m, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  add_slots(loads, n, 2, m);
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, m * at.before * (n - at.before));
  }
  return loads.with_latency(std::int64_t{n} * (n - 1) / 2 + line.extra());
}

const TransferCost& quicker(const TransferCost& a, const TransferCost& b, double pace) {
  return b.total(pace) < a.total(pace) ? b : a;
}

// Ascending sums of blocks that each end at their owner: a chain for large messages, the pieces
// straight to their owner, who adds them in ascending order, for small ones.
TransferCost reduce_scatter_line(const Line& line, double v, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  loads.port(v * (n + 1) / n).link(v);
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v);
  }
  const TransferCost chain =
      loads.with_latency((n - 1) * (stage(machine) + add(machine)) + n + line.extra());
  TransferCost direct = all_to_all_line(line, std::max(1.0, std::ceil(v / n)), machine);
  direct.latency += machine.network.stage + machine.network.reduce_stage;
  return quicker(chain, direct, machine.network.pace);
}

// Everyone's V to the node in the middle of the line, which adds in ascending order; or, the other
// way round, from there to everyone. No store-and-forward on the way.
TransferCost to_middle(const Line& line, double v, std::int64_t wait, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  loads.port(v * n).link(v * (n / 2));  // NOLINT(bugprone-integer-division): nodes on one side
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v * std::min(at.before, n - at.before));
  }
  return loads.with_latency(n / 2 + line.extra() + stage(machine) + wait);
}

TransferCost all_reduce_chain(const Line& row, const Line& column, double v,
                              const MachineModel& machine) {
  TransferCost chain = reduce_scatter_line(row, v, machine);
  const double share = v / row.nodes;
  chain += reduce_scatter_line(column, share, machine);
  chain += all_gather_line(column, share, machine);
  chain += all_gather_line(row, v, machine);
  TransferCost gathered = to_middle(row, v, add(machine), machine);
  gathered += to_middle(column, v, add(machine), machine);
  gathered += to_middle(column, v, 0, machine);
  gathered += to_middle(row, v, 0, machine);
  return quicker(chain, gathered, machine.network.pace);
}

// From both ends of every row to its middle, along the middle column, over the dies' middles
// straight through their routers, and back.
TransferCost all_reduce_centre(const Region& region, double v, const MachineModel& machine) {
  const std::int64_t s = stage(machine);
  const int half_rows = region.nodes_of_die.rows / 2;
  const int half_columns = region.nodes_of_die.columns / 2;
  const std::int64_t inside = half_rows + half_columns;
  std::int64_t latency = 2 * inside * s;
  std::int64_t adds = inside;
  if (region.dies.count() == 1) {
    latency += inside == 0 ? 0 : 2 - s;
  } else {
    const std::int64_t alpha = machine.network.alpha.count();
    const auto step = [&](int sites, machine::LinkClass link) {
      return sites - 1 + machine.link(link).latency.count() + alpha + 1;
    };
    const auto sum = [&](int first, int dies, int sites, auto boundary) {
      std::int64_t cycles = 0;
      for (int die = 0; die < dies / 2; ++die) {
        cycles += step(sites, boundary(first + die));
      }
      return cycles;
    };
    latency += 2 * (sum(region.first_die.column, region.dies.columns, machine.sites().columns,
                        [&](int die) { return machine.column_boundary(die); }) +
                    sum(region.first_die.row, region.dies.rows, machine.sites().rows,
                        [&](int die) { return machine.row_boundary(die); }));
    adds += region.dies.columns / 2 + region.dies.rows / 2;
  }
  Loads loads(machine);
  // The first packet is all latency; each further one waits for two of its like at the middle, in
  // four stretches (row in, column in, column out, row out).
  loads.port(8 * std::max(0.0, v - 1));
  return loads.with_latency(latency + adds * add(machine));
}

TransferCost halo_cost(const Pattern& pattern, const Region& region, int reach,
                       const MachineModel& machine) {
  const double north = packets(pattern.halo.north, machine);
  const double south = packets(pattern.halo.south, machine);
  const double east = packets(pattern.halo.east, machine);
  const double west = packets(pattern.halo.west, machine);
  const Line row = internal::row_of(region, machine);
  const Line column = internal::column_of(region, machine);
  // What comes from up to `reach` nodes away crosses up to `reach` links, on average half of them.
  const double overlap = (reach + 1) / 2.0;
  Loads loads(machine);
  loads.port(north + south + east + west);
  loads.link(std::max({north, south, east, west}) * overlap);
  std::int64_t extra = 0;
  for (const Crossing& at : row.crossings) {
    loads.crossing(at, std::max(east, west) * overlap);
    extra = std::max(extra, east + west > 0 ? at.extra.count() : 0);
  }
  for (const Crossing& at : column.crossings) {
    loads.crossing(at, std::max(north, south) * overlap);
    extra = std::max(extra, north + south > 0 ? at.extra.count() : 0);
  }
  return loads.with_latency(2 + reach - 1 + extra);
}

TransferCost shift_line(const Line& line, int distance, double v, const MachineModel& machine) {
  const int n = line.nodes;
  const int d = std::abs(distance) % std::max(1, n);
  if (n < 2 || d == 0) {
    return {};
  }
  Loads loads(machine, line);
  loads.port(v).link(v * std::min(d, n - d));
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v * std::min({d, at.before, n - at.before}));
  }
  // Those at the end go all the way back.
  return loads.with_latency(std::max(d, n - d) + 1 + line.extra());
}

TransferCost all_to_all_both(const Line& row, const Line& column, double m,
                             const MachineModel& machine) {
  const int r = column.nodes;
  const int c = row.nodes;
  // Half of the data goes along rows first while the other half goes along columns, so the longer
  // of the two counts.
  Loads by_rows(machine);
  add_slots(by_rows, c, 4, m * r);
  Loads by_columns(machine);
  add_slots(by_columns, r, 4, m * c);
  Loads loads = by_columns.busy() > by_rows.busy() ? by_columns : by_rows;
  for (const Crossing& at : row.crossings) {
    loads.crossing(at, m * r * at.before * (c - at.before));
  }
  for (const Crossing& at : column.crossings) {
    loads.crossing(at, m * c * at.before * (r - at.before));
  }
  return loads.with_latency(std::int64_t{std::max(r * (r - 1), c * (c - 1))} + row.extra() +
                            column.extra());
}

TransferCost region_move(const Pattern& pattern, const Region& region,
                         const MachineModel& machine) {
  const double v = packets(pattern.bytes, machine);
  const int dx = std::abs(pattern.move_columns);
  const int dy = std::abs(pattern.move_rows);
  const Line row = internal::row_of(region, machine);
  const Line column = internal::column_of(region, machine);
  const int across = std::min(dx, region.columns());
  const int down = std::min(dy, region.rows());
  Loads loads(machine);
  loads.port(v).link(v * std::max(across, down));
  for (const Crossing& at : row.crossings) {
    loads.crossing(at, v * across);
  }
  for (const Crossing& at : column.crossings) {
    loads.crossing(at, v * down);
  }
  return loads.with_latency(dx + dy + (dx > 0 ? row.extra() : 0) + (dy > 0 ? column.extra() : 0));
}

// Through one edge of the region: every line has its own way in, all share the edge.
TransferCost edge_cost(const Pattern& pattern, const Region& region, const MachineModel& machine) {
  const bool along_rows =
      pattern.edge == machine::Side::West || pattern.edge == machine::Side::East;
  const Line line =
      along_rows ? internal::row_of(region, machine) : internal::column_of(region, machine);
  const double v = packets(pattern.bytes, machine);
  const machine::LinkClass edge_class = machine.has(machine::Level::Tile)
                                            ? machine::LinkClass::TileEdge
                                            : machine::LinkClass::DieEdge;
  const machine::LinkModel& edge = machine.link(edge_class);
  Loads loads(machine);
  loads.port(v).link((line.nodes - 1) * v);
  const bool from_start =
      pattern.edge == machine::Side::West || pattern.edge == machine::Side::North;
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v * (from_start ? line.nodes - at.before : at.before));
  }
  const Crossing outside{
      .before = 0,
      .extra = edge.latency,
      .rate = along_rows ? edge.per_row.value() : edge.per_column.value(),
      .lines = along_rows ? region.nodes_of_die.rows : region.nodes_of_die.columns,
      .link = edge_class};
  loads.crossing(outside, v * line.nodes);
  return loads.with_latency(2 + edge.latency.count() + line.extra());
}

// The lines that a pattern's axis names; the other one has a single node.
struct Lines {
  Line row;
  Line column;
};

Lines lines_of(const Pattern& pattern, const Region& region, const MachineModel& machine,
               int reach) {
  const int spacing = pattern.kind == PatternKind::Halo ? 1 : reach;
  const bool is_row = pattern.axis == machine::Axis::Rows;
  const bool is_column = pattern.axis == machine::Axis::Columns;
  Lines lines{.row = {.nodes = 1, .crossings = {}}, .column = {.nodes = 1, .crossings = {}}};
  if (!is_column) {
    lines.row = internal::row_of(region, machine, is_row ? spacing : 1);
  }
  if (!is_row) {
    lines.column = internal::column_of(region, machine, is_row ? 1 : spacing);
  }
  return lines;
}

TransferCost sum(TransferCost first, const TransferCost& second) { return first += second; }

// Patterns along lines; `both` takes one direction after the other.
TransferCost lines_cost(const Pattern& pattern, const Lines& lines, const MachineModel& machine) {
  const double v = packets(pattern.bytes, machine);
  const Line& row = lines.row;
  const Line& column = lines.column;
  const bool is_both = pattern.axis == machine::Axis::Both;
  switch (pattern.kind) {
    case PatternKind::Multicast:  // down the column of the source, then along every row
      return sum(
          multicast_line(column, is_both ? pattern.source / row.nodes : pattern.source, v, machine),
          multicast_line(row, is_both ? pattern.source % row.nodes : pattern.source, v, machine));
    case PatternKind::AllGather:
      return sum(all_gather_line(column, v / row.nodes, machine), all_gather_line(row, v, machine));
    case PatternKind::Reduce:
      return sum(reduce_line(row, v, machine), reduce_line(column, v, machine));
    case PatternKind::ReduceScatter:
      return sum(reduce_scatter_line(row, v, machine),
                 reduce_scatter_line(column, v / row.nodes, machine));
    case PatternKind::AllReduce:
      return all_reduce_chain(row, column, v, machine);
    case PatternKind::Shift:
      return sum(shift_line(row, pattern.distance, v, machine),
                 shift_line(column, pattern.distance, v, machine));
    default:
      return is_both ? all_to_all_both(row, column, v, machine)
                     : sum(all_to_all_line(row, v, machine), all_to_all_line(column, v, machine));
  }
}

// The region that a pattern's lines have: one row, one column, or all of it.
Region along_axis(Region region, machine::Axis axis) {
  if (axis == machine::Axis::Rows) {
    region.dies.rows = region.nodes_of_die.rows = 1;
  } else if (axis == machine::Axis::Columns) {
    region.dies.columns = region.nodes_of_die.columns = 1;
  }
  return region;
}

}  // namespace

TransferCost pattern_cost(const Pattern& pattern, const Region& region, const MachineModel& machine,
                          int reach) {
  switch (pattern.kind) {
    case PatternKind::Halo:
      return halo_cost(pattern, region, reach, machine);
    case PatternKind::GatherToEdge:
    case PatternKind::ScatterFromEdge:
      return edge_cost(pattern, region, machine);
    case PatternKind::RegionMove:
      return region_move(pattern, region, machine);
    default:
      break;
  }
  if (pattern.kind == PatternKind::AllReduce && pattern.order == Association::Centre) {
    return all_reduce_centre(along_axis(region, pattern.axis), packets(pattern.bytes, machine),
                             machine);
  }
  return lines_cost(pattern, lines_of(pattern, region, machine, reach), machine);
}

Cycles barrier_cost(const Region& region, const MachineModel& machine) {
  return all_reduce_centre(region, 1, machine).latency;
}

double pattern_lower_bound(const Pattern& pattern, const Region& region,
                           const MachineModel& machine) {
  const double v = packets(pattern.bytes, machine);
  const double r = region.rows();
  const double c = region.columns();
  const double n = pattern.axis == machine::Axis::Rows      ? c
                   : pattern.axis == machine::Axis::Columns ? r
                                                            : r * c;
  if (n < 2) {
    return 0;
  }
  const auto port = [&](double load) {
    return load * static_cast<double>(machine.network.packet.count()) /
           machine.link(machine::LinkClass::PortIn).rate.value();
  };
  const auto link = [&](double load) {
    return load * static_cast<double>(machine.network.packet.count()) /
           machine.link(machine::LinkClass::NodeLink).rate.value();
  };
  switch (pattern.kind) {
    case PatternKind::Multicast:
    case PatternKind::Reduce:
      return pattern.axis != machine::Axis::Both && pattern.source == 0 ? port(v) + n - 1 : port(v);
    case PatternKind::AllGather:
    case PatternKind::ReduceScatter:
      return port(v * (n - 1) / n);
    case PatternKind::AllReduce:
      return pattern.order == Association::Centre
                 ? 2 * (std::floor(r / 2) * (pattern.axis != machine::Axis::Rows) +
                        std::floor(c / 2) * (pattern.axis != machine::Axis::Columns))
                 : port(2 * v * (n - 1) / n);
    case PatternKind::Halo:
      return port(
          std::max({packets(pattern.halo.north, machine), packets(pattern.halo.east, machine),
                    packets(pattern.halo.south, machine), packets(pattern.halo.west, machine)}));
    case PatternKind::Shift: {
      const double d = std::fmod(std::abs(pattern.distance), n);
      return link(v * std::min(d, n - d));
    }
    case PatternKind::AllToAll:
      return pattern.axis == machine::Axis::Both ? link(v * std::max(r * c * c, c * r * r) / 4)
                                                 : link(v * std::floor(n * n / 4));
    case PatternKind::GatherToEdge:
    case PatternKind::ScatterFromEdge: {
      const bool along_rows =
          pattern.edge == machine::Side::West || pattern.edge == machine::Side::East;
      return link(v * ((along_rows ? c : r) - 1));
    }
    case PatternKind::RegionMove:
      return link(v * std::max(std::min<double>(std::abs(pattern.move_columns), c),
                               std::min<double>(std::abs(pattern.move_rows), r)));
  }
  return 0;
}

}  // namespace dojo::cost
