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

Traffic& Traffic::operator+=(const Traffic& other) {
  sram += other.sram;
  hops += other.hops;
  for (std::size_t i = 0; i < outer.size(); ++i) {
    outer[i] += other.outer[i];
  }
  return *this;
}

Traffic Traffic::operator*(double times) const {
  Traffic product{.sram = sram * times, .hops = hops * times, .outer = outer};
  for (double& bytes : product.outer) {
    bytes *= times;
  }
  return product;
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
  traffic += next.traffic;
  return *this;
}

namespace {

std::int64_t stage(const MachineModel& machine) { return machine.network.stage.count(); }
// What a stage that adds takes beyond one that forwards.
std::int64_t add(const MachineModel& machine) { return machine.network.reduce_stage.count(); }

// The lines of a region do the same side by side.
TransferCost on_lines(TransferCost line, double lines) {
  line.traffic = line.traffic * lines;
  return line;
}

// Links of the whole line times packets.
double over_line(const Line& line, double packets) {
  return packets * (line.nodes - 1) * line.spacing;
}

// Sum of the distances of all ordered pairs of nodes of a line.
double all_distances(const Line& line) {
  const double n = line.nodes;
  return n * (n * n - 1) / 3 * line.spacing;
}

TransferCost multicast_line(const Line& line, int source, double v, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  const int longer = std::max(source, n - 1 - source);
  const bool is_inside = source > 0 && source < n - 1;
  Loads loads(machine, line);
  loads.port(is_inside ? 2 * v : v).link(v).moves(v * (n - 1), over_line(line, v));
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v, v);
  }
  return loads.with_latency((longer - 1) * stage(machine) + 2 + line.extra());
}

TransferCost all_gather_line(const Line& line, double v, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  loads.port(v * (n + 1) / n).link(v * (n - 1) / n).moves(v * (n - 1), over_line(line, v));
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v * std::max(at.before, n - at.before) / n, v);
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
  loads.port(v).link(v).moves(v * (n - 1), over_line(line, v));
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v, v);
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
  add_slots(loads, n, 2, m).moves(m * n * (n - 1), m * all_distances(line));
  for (const Crossing& at : line.crossings) {
    const double one_way = m * at.before * (n - at.before);
    loads.crossing(at, one_way, 2 * one_way);
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
  // East through every node, which adds; then each block back to its owner.
  loads.port(v * (n + 1) / n).link(v);
  loads.moves(v * (n - 1) * (n + 1) / n, 1.5 * over_line(line, v));
  for (const Crossing& at : line.crossings) {
    loads.crossing(at, v, v + v * at.before / n);
  }
  const TransferCost chain =
      loads.with_latency((n - 1) * (stage(machine) + add(machine)) + n + line.extra());
  TransferCost direct = all_to_all_line(line, std::max(1.0, std::ceil(v / n)), machine);
  direct.latency += machine.network.stage + machine.network.reduce_stage;
  return quicker(chain, direct, machine.network.pace);
}

// Every other node's V to the one in the middle of the line, which adds in ascending order; or, the
// other way round, from there to every other. No store-and-forward on the way.
TransferCost to_middle(const Line& line, double v, std::int64_t wait, const MachineModel& machine) {
  const int n = line.nodes;
  if (n < 2) {
    return {};
  }
  Loads loads(machine, line);
  const int before = n / 2;
  const int after = n - 1 - before;
  loads.port(v * (n - 1)).link(v * before);
  loads.moves(v * (n - 1), v * line.spacing * (before * (before + 1) + after * (after + 1)) / 2);
  for (const Crossing& at : line.crossings) {
    const double one_way = v * (at.before <= before ? at.before : n - at.before);
    loads.crossing(at, v * std::min(at.before, n - at.before), one_way);
  }
  return loads.with_latency(n / 2 + line.extra() + stage(machine) + wait);
}

// `rows` lines along rows and `columns` along columns do it at once.
TransferCost all_reduce_chain(const Line& row, const Line& column, double rows, double columns,
                              double v, const MachineModel& machine) {
  TransferCost chain = on_lines(reduce_scatter_line(row, v, machine), rows);
  const double share = v / row.nodes;
  chain += on_lines(reduce_scatter_line(column, share, machine), columns);
  chain += on_lines(all_gather_line(column, share, machine), columns);
  chain += on_lines(all_gather_line(row, v, machine), rows);
  TransferCost gathered = on_lines(to_middle(row, v, add(machine), machine), rows);
  const double middles = columns / row.nodes;  // one of the columns of each group
  gathered += on_lines(to_middle(column, v, add(machine), machine), middles);
  gathered += on_lines(to_middle(column, v, 0, machine), middles);
  gathered += on_lines(to_middle(row, v, 0, machine), rows);
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
  // There and back over a tree of all nodes, and over one of all dies.
  const double dies = static_cast<double>(region.dies.count());
  const double links = dies * static_cast<double>(region.nodes_of_die.count() - 1);
  const double die_rows = region.dies.rows;
  const double across = die_rows * (region.dies.columns - 1);  // rows of dies, then one column
  loads.moves(
      2 * v * (links + dies - 1),
      2 * v * (links + across * machine.sites().columns + (die_rows - 1) * machine.sites().rows));
  for (int die = 1; die < region.dies.columns; ++die) {
    loads.passes(machine.column_boundary(region.first_die.column + die - 1), 2 * v * die_rows);
  }
  for (int die = 1; die < region.dies.rows; ++die) {
    loads.passes(machine.row_boundary(region.first_die.row + die - 1), 2 * v);
  }
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
  const double along_rows = (east + west) * region.rows();
  const double along_columns = (north + south) * region.columns();
  const double received = along_rows * (row.nodes - 1) + along_columns * (column.nodes - 1);
  loads.moves(received, received * overlap);
  std::int64_t extra = 0;
  for (const Crossing& at : row.crossings) {
    loads.crossing(at, std::max(east, west) * overlap, along_rows * overlap);
    extra = std::max(extra, east + west > 0 ? at.extra.count() : 0);
  }
  for (const Crossing& at : column.crossings) {
    loads.crossing(at, std::max(north, south) * overlap, along_columns * overlap);
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
  // n - d nodes go d on, the other d come back n - d.
  loads.port(v).link(v * std::min(d, n - d)).moves(v * n, v * line.spacing * 2 * d * (n - d));
  for (const Crossing& at : line.crossings) {
    const int one_way = std::min({d, n - d, at.before, n - at.before});
    loads.crossing(at, v * std::min({d, at.before, n - at.before}), 2 * v * one_way);
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
  // A packet that turns is stored at its corner.
  const double nodes = static_cast<double>(r) * c;
  loads.moves(m * nodes * (nodes - 1 + (r - 1.0) * (c - 1.0)),
              m * (static_cast<double>(r) * r * all_distances(row) +
                   static_cast<double>(c) * c * all_distances(column)));
  for (const Crossing& at : row.crossings) {
    const double of_line = m * r * at.before * (c - at.before);
    loads.crossing(at, of_line, 2 * of_line * r);
  }
  for (const Crossing& at : column.crossings) {
    const double of_line = m * c * at.before * (r - at.before);
    loads.crossing(at, of_line, 2 * of_line * c);
  }
  return loads.with_latency(std::int64_t{std::max(r * (r - 1), c * (c - 1))} + row.extra() +
                            column.extra());
}

// `span`: what the way leads over, from the region to where it goes.
TransferCost region_move(const Pattern& pattern, const Region& region, const Region& span,
                         const MachineModel& machine) {
  const double v = packets(pattern.bytes, machine);
  const int dx = std::abs(pattern.move_columns);
  const int dy = std::abs(pattern.move_rows);
  const Line row = internal::row_of(span, machine);
  const Line column = internal::column_of(span, machine);
  const int across = std::min(dx, region.columns());
  const int down = std::min(dy, region.rows());
  Loads loads(machine);
  loads.port(v).link(v * std::max(across, down));
  const double nodes = static_cast<double>(region.nodes());
  loads.moves(v * nodes, v * nodes * (dx + dy));
  for (const Crossing& at : row.crossings) {
    loads.crossing(at, v * across, v * across * region.rows());
  }
  for (const Crossing& at : column.crossings) {
    loads.crossing(at, v * down, v * down * region.columns());
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
  // Outside is no SRAM of a node: half of what an exchange between nodes costs.
  const double nodes = static_cast<double>(region.nodes());
  loads.moves(v * nodes / 2, v * nodes * (line.nodes - 1) / 2);
  const bool from_start =
      pattern.edge == machine::Side::West || pattern.edge == machine::Side::North;
  const double lines = nodes / line.nodes;
  for (const Crossing& at : line.crossings) {
    const double of_line = v * (from_start ? line.nodes - at.before : at.before);
    loads.crossing(at, of_line, of_line * lines);
  }
  const Crossing outside{
      .before = 0,
      .extra = edge.latency,
      .rate = along_rows ? edge.per_row.value() : edge.per_column.value(),
      .lines = along_rows ? region.nodes_of_die.rows : region.nodes_of_die.columns,
      .link = edge_class};
  loads.crossing(outside, v * line.nodes, v * nodes);
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

// Patterns along lines of a region of `nodes`; `both` takes one direction after the other.
TransferCost lines_cost(const Pattern& pattern, const Lines& lines, double nodes,
                        const MachineModel& machine) {
  const double v = packets(pattern.bytes, machine);
  const Line& row = lines.row;
  const Line& column = lines.column;
  const bool is_both = pattern.axis == machine::Axis::Both;
  // A line of one node moves nothing, however many of them there are.
  const double rows = nodes / row.nodes;
  const double columns = nodes / column.nodes;
  // Of `both`, where one line along the other axis does it: the source's column, the last column.
  const double one_column = is_both ? columns / row.nodes : columns;
  switch (pattern.kind) {
    case PatternKind::Multicast:  // down the column of the source, then along every row
      return sum(
          on_lines(multicast_line(column, is_both ? pattern.source / row.nodes : pattern.source, v,
                                  machine),
                   one_column),
          on_lines(multicast_line(row, is_both ? pattern.source % row.nodes : pattern.source, v,
                                  machine),
                   rows));
    case PatternKind::AllGather:
      return sum(on_lines(all_gather_line(column, v / row.nodes, machine), columns),
                 on_lines(all_gather_line(row, v, machine), rows));
    case PatternKind::Reduce:
      return sum(on_lines(reduce_line(row, v, machine), rows),
                 on_lines(reduce_line(column, v, machine), one_column));
    case PatternKind::ReduceScatter:
      return sum(on_lines(reduce_scatter_line(row, v, machine), rows),
                 on_lines(reduce_scatter_line(column, v / row.nodes, machine), columns));
    case PatternKind::AllReduce:
      return all_reduce_chain(row, column, rows, columns, v, machine);
    case PatternKind::Shift:
      return sum(on_lines(shift_line(row, pattern.distance, v, machine), rows),
                 on_lines(shift_line(column, pattern.distance, v, machine), columns));
    default:
      return is_both ? all_to_all_both(row, column, v, machine)
                     : sum(on_lines(all_to_all_line(row, v, machine), rows),
                           on_lines(all_to_all_line(column, v, machine), columns));
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
      return region_move(pattern, region, region, machine);
    default:
      break;
  }
  if (pattern.kind == PatternKind::AllReduce && pattern.order == Association::Centre) {
    const Region line = along_axis(region, pattern.axis);
    return on_lines(all_reduce_centre(line, packets(pattern.bytes, machine), machine),
                    static_cast<double>(region.nodes()) / static_cast<double>(line.nodes()));
  }
  return lines_cost(pattern, lines_of(pattern, region, machine, reach),
                    static_cast<double>(region.nodes()), machine);
}

TransferCost onward_cost(const Pattern& pattern, const Region& region,
                         const MachineModel& machine) {
  Region span = region;
  const int rows = pattern.move_rows / machine.logical.rows;
  const int columns = pattern.move_columns / machine.logical.columns;
  span.first_die.row += std::min(0, rows);
  span.first_die.column += std::min(0, columns);
  span.dies.rows += std::abs(rows);
  span.dies.columns += std::abs(columns);
  return region_move(pattern, region, span, machine);
}

Cycles barrier_cost(const Region& region, const MachineModel& machine) {
  return all_reduce_centre(region, 1, machine).latency;
}

}  // namespace dojo::cost
