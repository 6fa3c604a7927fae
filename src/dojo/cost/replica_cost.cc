#include "dojo/cost/replica_cost.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <span>

#include "dojo/base/check.h"
#include "dojo/cost/internal/line.h"
#include "dojo/cost/memory_cost.h"

namespace dojo::cost {

using internal::Crossing;
using internal::Loads;
using internal::packets;
using machine::LinkClass;
using machine::MachineModel;
using machine::PatternKind;
using machine::Region;
using program::Move;
using program::Replicas;
using program::Scope;

namespace {

// With the rate of one row or column.
struct WayCrossing {
  Crossing at{};
  bool is_along_rows = false;
};

// The way from a node to its equal in another replica.
struct Way {
  std::int64_t cycles = 0;  // hops and crossings
  std::int64_t hops = 0;    // from router to router inside dies
  std::vector<WayCrossing> crossings{};
};

// Straight through routers, x then y; the crossings are those of the way's first stretch that has
// any, enough to find the slowest class.
Way way(machine::Site from, machine::Site to, const MachineModel& machine) {
  Way out;
  const auto cross = [&](LinkClass link, bool along_rows) {
    const machine::LinkModel& model = machine.link(link);
    out.cycles += model.latency.count() - 1;
    out.crossings.push_back({{.before = 0,
                              .extra = model.latency,
                              .rate = along_rows ? model.per_row.value() : model.per_column.value(),
                              .lines = along_rows ? machine.sites().rows : machine.sites().columns,
                              .link = link},
                             along_rows});
  };
  for (int die = std::min(from.column, to.column); die < std::max(from.column, to.column); ++die) {
    cross(machine.column_boundary(die), true);
    out.hops += machine.sites().columns;
  }
  for (int die = std::min(from.row, to.row); die < std::max(from.row, to.row); ++die) {
    cross(machine.row_boundary(die), false);
    out.hops += machine.sites().rows;
  }
  out.cycles += out.hops;
  return out;
}

// What the chain of replicas adds up to: its whole length and the worst load factor of its edges.
struct Chain {
  std::int64_t cycles = 0;
  std::int64_t back = 0;  // straight from its end to the farthest place
  double hops = 0;
  std::array<double, machine::kLinkClassCount> passes{};  // crossings by class
  std::vector<WayCrossing> crossings{};                   // one of each link class and direction
};

// Which replicas there are: rows of them on the machine, the last one perhaps not full. All that
// follows goes over rows and columns, never over all replicas.
class Places {
 public:
  Places(const Replicas& replicas, const MachineModel& machine)
      : dies_(replicas.dies),
        per_row_(program::replicas_per_row(replicas, machine)),
        count_(replicas.count) {
    // PERF: each step once; a plan asks for thousands of costs, each of which sums them up.
    for (std::int64_t column = 0; column + 1 < per_row_; ++column) {
      in_row_.push_back(way(site(0, column), site(0, column + 1), machine));
    }
    for (std::int64_t row = 0; row + 1 < rows(); ++row) {
      in_column_.push_back(way(site(row, 0), site(row + 1, 0), machine));
    }
  }

  std::int64_t rows() const { return (count_ + per_row_ - 1) / per_row_; }
  std::int64_t columns() const { return std::min(count_, per_row_); }
  // The first column that is taken in a row, and how many are: every second row fills backwards.
  std::int64_t first(std::int64_t row) const { return row % 2 == 0 ? 0 : per_row_ - taken(row); }
  std::int64_t taken(std::int64_t row) const { return std::min(per_row_, count_ - row * per_row_); }
  // Rows in which a column is taken.
  std::int64_t rows_with(std::int64_t column) const {
    const std::int64_t last = rows() - 1;
    const bool is_in_last = column >= first(last) && column < first(last) + taken(last);
    return last + (is_in_last ? 1 : 0);
  }
  std::int64_t rows_with_both(std::int64_t column, std::int64_t next) const {
    return std::min(rows_with(column), rows_with(next));
  }
  machine::Site site(std::int64_t row, std::int64_t column) const {
    return {.row = static_cast<int>(row * dies_.rows),
            .column = static_cast<int>(column * dies_.columns)};
  }
  std::int64_t per_row() const { return per_row_; }
  // From each place of a row (of a column) to the next.
  std::span<const Way> in_row() const { return in_row_; }
  std::span<const Way> in_column() const { return in_column_; }

 private:
  machine::Shape dies_;
  std::int64_t per_row_;
  std::int64_t count_;
  std::vector<Way> in_row_{};
  std::vector<Way> in_column_{};
};

// `times` ways in all, `in_line` of them one after the other.
void add_ways(Chain& chain, const Way& step, std::int64_t times, std::int64_t in_line) {
  chain.cycles += in_line * step.cycles;
  chain.hops += static_cast<double>(times * step.hops);
  for (const WayCrossing& crossing : step.crossings) {
    const LinkClass link = crossing.at.link;
    chain.passes[static_cast<std::size_t>(link)] += static_cast<double>(times);
    const bool is_known =
        std::any_of(chain.crossings.begin(), chain.crossings.end(), [&](const WayCrossing& known) {
          return known.at.link == link && known.is_along_rows == crossing.is_along_rows;
        });
    if (!is_known) {
      chain.crossings.push_back(crossing);
    }
  }
}

Chain chain_of(const Places& places) {
  Chain chain;
  for (std::int64_t column = 0; column + 1 < places.columns(); ++column) {
    const Way& step = places.in_row()[static_cast<std::size_t>(column)];
    const std::int64_t times = places.rows_with_both(column, column + 1);
    add_ways(chain, step, times, times);
    chain.back += step.cycles;
  }
  for (const Way& step : places.in_column()) {
    add_ways(chain, step, 1, 1);
    chain.back += step.cycles;
  }
  return chain;
}

// `lines` lines of such steps side by side.
Chain side_by_side(std::span<const Way> steps, std::int64_t lines) {
  Chain chain;
  for (const Way& step : steps) {
    add_ways(chain, step, lines, 1);
  }
  chain.back = chain.cycles;
  return chain;
}

// All rows of replicas, all columns of them. Where the last row is not full, its idle places take
// part: they bring nothing, but own their share of the row's sum.
Chain rows_of(const Places& places) { return side_by_side(places.in_row(), places.rows()); }
Chain columns_of(const Places& places) {
  return side_by_side(places.in_column(), places.per_row());
}

// The ways of all replicas to one of them, first along the rows, then along the columns.
struct Star {
  std::int64_t radius = 0;  // cycles of the longest
  Chain ways{};
};

// Adds, for each step between neighbours of a line, the ways of all that stand beyond it as seen
// from the middle; gives the cycles from the middle to each place of the line.
template <class Count>
std::vector<std::int64_t> add_line(Chain& ways, std::span<const Way> steps, std::int64_t middle,
                                   const Count& count) {
  const auto length = static_cast<std::int64_t>(steps.size()) + 1;
  std::vector<std::int64_t> cycles(static_cast<std::size_t>(length), 0);
  const auto walk = [&](std::int64_t end, std::int64_t towards) {
    const auto step = [&](std::int64_t a, std::int64_t b) -> const Way& {
      return steps[static_cast<std::size_t>(std::min(a, b))];
    };
    std::int64_t beyond = 0;
    for (std::int64_t at = end; at != middle; at += towards) {
      beyond += count(at);
      add_ways(ways, step(at, at + towards), beyond, beyond);
    }
    for (std::int64_t at = middle; at != end; at -= towards) {
      cycles[static_cast<std::size_t>(at - towards)] =
          cycles[static_cast<std::size_t>(at)] + step(at, at - towards).cycles;
    }
  };
  walk(0, 1);
  walk(length - 1, -1);
  return cycles;
}

Star star_of(const Replicas& replicas, const Places& places, const MachineModel& machine) {
  const machine::Site middle = replica_site(replicas, replicas.count / 2, machine);
  Star star;
  const std::vector<std::int64_t> along_row =
      add_line(star.ways, places.in_row(), middle.column / replicas.dies.columns,
               [&](std::int64_t at) { return places.rows_with(at); });
  const std::vector<std::int64_t> along_column =
      add_line(star.ways, places.in_column(), middle.row / replicas.dies.rows,
               [&](std::int64_t at) { return places.taken(at); });
  for (std::int64_t row = 0; row < places.rows(); ++row) {
    const auto first = along_row.begin() + places.first(row);
    star.radius = std::max(star.radius, along_column[static_cast<std::size_t>(row)] +
                                            *std::max_element(first, first + places.taken(row)));
  }
  return star;
}

// To the middles of `lines` lines side by side.
Star middles_of(std::span<const Way> steps, std::int64_t lines) {
  Star star;
  const std::vector<std::int64_t> cycles =
      add_line(star.ways, steps, static_cast<std::int64_t>(steps.size() + 1) / 2,
               [lines](std::int64_t /*at*/) { return lines; });
  star.radius = *std::max_element(cycles.begin(), cycles.end());
  return star;
}

// Flows that share one row (or column) of links.
struct Sharing {
  double on_row = 1;
  double on_column = 1;
};

// Who takes part in a sum over replicas: the equals of each node, or the lines of one axis.
struct Group {
  double count = 1;         // groups that do it side by side
  std::int64_t stops = 1;   // nodes of one replica that take part
  std::int64_t inside = 0;  // links between them
  Sharing sharing{};        // of the links between replicas
};

// The equals of each node of a region.
Group equals_in(const Region& region) {
  return {.count = static_cast<double>(region.nodes()),
          .sharing = {static_cast<double>(region.columns()), static_cast<double>(region.rows())}};
}

// Its lines, which go on to the next replica side by side: one per column, or one per row.
Group lines_in(const Region& region, machine::Axis axis, int spacing) {
  const bool is_column = axis == machine::Axis::Columns;
  Group group = equals_in(region);
  group.stops = is_column ? region.rows() : region.columns();
  group.inside = group.stops * spacing;
  group.count /= static_cast<double>(group.stops);
  group.sharing = is_column ? Sharing{group.sharing.on_row * spacing, double(spacing)}
                            : Sharing{double(spacing), group.sharing.on_column * spacing};
  return group;
}

void load_chain(Loads& loads, const Chain& chain, const Sharing& share, double v) {
  for (const auto& [at, is_along_rows] : chain.crossings) {
    const double flows = is_along_rows ? share.on_row : share.on_column;
    loads.link(v * flows).crossing(at, v * flows, 0);
  }
}

// What all groups move: packets stored, and packets sent over all of the chain.
void move_along(Loads& loads, const Chain& chain, const Group& group, double stored, double sent) {
  loads.moves(group.count * stored,
              group.count * sent * (chain.hops + static_cast<double>(group.inside)));
  for (std::size_t i = 0; i < chain.passes.size(); ++i) {
    loads.passes(static_cast<LinkClass>(i), group.count * sent * chain.passes[i]);
  }
}

// Sums of each group that are made side by side, and the replicas of each of them.
struct Lines {
  std::int64_t count = 1;
  std::int64_t replicas = 1;
};

// `chain`: the way along one line, and the links of all of them.
TransferCost reduce_and_gather(const Group& group, double v, const Chain& chain, const Lines& lines,
                               const MachineModel& machine) {
  const std::int64_t stations = lines.replicas * group.stops;
  const double n = static_cast<double>(stations);
  const std::int64_t inside = lines.replicas * group.inside;
  const std::int64_t stage = machine.network.stage.count();
  const std::int64_t add = machine.network.reduce_stage.count();
  Loads loads(machine);
  loads.port(2 * v * (n + 1) / n);
  load_chain(loads, chain, group.sharing, v + v * (n - 1) / n);
  // Partials on, sums back to their owners (half of the chain), sums to all.
  move_along(loads, chain, group, static_cast<double>(lines.count) * (2 * v * (n - 1) + v),
             2.5 * v);
  // The chain, each sum straight back from its end to its owner, the chain again.
  const std::int64_t hops = 2 * chain.cycles + chain.back + 3 * inside;
  return loads.with_latency(hops + (stations - 1) * (2 * stage + add) + 2);
}

// All partials of a line to one place, which adds them in ascending order, and the sum back.
TransferCost through_one(const Group& group, double v, const Chain& chain, const Lines& lines,
                         const Star& star, const MachineModel& machine) {
  const double n = static_cast<double>(lines.replicas * group.stops);
  Loads loads(machine);
  loads.port(2 * v * (n - 1));  // to and from every other
  // x then y: half of the senders meet on the links next to the place, there and back.
  load_chain(loads, chain, group.sharing, v * n);
  move_along(loads, star.ways, group, static_cast<double>(lines.count) * 2 * v * (n - 1),
             2 * v * static_cast<double>(group.stops));
  return loads.with_latency(2 * (star.radius + group.inside + machine.network.stage.count()) +
                            machine.network.reduce_stage.count());
}

TransferCost sum(TransferCost first, const TransferCost& second) { return first += second; }

const TransferCost& quicker(const TransferCost& a, const TransferCost& b,
                            const MachineModel& machine) {
  return b.total(machine.network.pace) < a.total(machine.network.pace) ? b : a;
}

// Along the rows of replicas, then the shares of the rows' sums along the columns, and back.
TransferCost nested_reduce_and_gather(const Group& group, double v, const Region& region,
                                      const Places& places, const MachineModel& machine) {
  const double shares = static_cast<double>(places.per_row() * group.stops);
  return sum(reduce_and_gather(group, v, rows_of(places),
                               {.count = places.rows(), .replicas = places.per_row()}, machine),
             reduce_and_gather(equals_in(region), std::max(1.0, v / shares), columns_of(places),
                               {.count = places.per_row(), .replicas = places.rows()}, machine));
}

// To the middle of each row, from there to the middle of their column, and back.
TransferCost through_middles(const Group& group, double v, const Places& places,
                             const MachineModel& machine) {
  Group middles = group;  // one node of each line
  middles.stops = 1;
  middles.inside = 0;
  return sum(
      through_one(group, v, rows_of(places), {.count = places.rows(), .replicas = places.per_row()},
                  middles_of(places.in_row(), places.rows()), machine),
      through_one(middles, v, columns_of(places), {.replicas = places.rows()},
                  middles_of(places.in_column(), 1), machine));
}

}  // namespace

machine::Site replica_site(const Replicas& replicas, std::int64_t index,
                           const MachineModel& machine) {
  const std::int64_t per_row = program::replicas_per_row(replicas, machine);
  const std::int64_t row = index / per_row;
  const std::int64_t along = index % per_row;
  const std::int64_t column = row % 2 == 0 ? along : per_row - 1 - along;
  return {.row = static_cast<int>(row * replicas.dies.rows),
          .column = static_cast<int>(column * replicas.dies.columns)};
}

TransferCost replica_all_reduce(Scope scope, const machine::Pattern& pattern, const Region& region,
                                const Replicas& replicas, const MachineModel& machine,
                                int spacing) {
  const double v = packets(pattern.bytes, machine);
  const Group group =
      scope == Scope::Through ? lines_in(region, pattern.axis, spacing) : equals_in(region);
  if (replicas.count * group.stops < 2) {
    return {};
  }
  const Lines one{.replicas = replicas.count};
  const Places places(replicas, machine);
  const Chain chain = chain_of(places);
  const TransferCost gathered =
      through_one(group, v, chain, one, star_of(replicas, places, machine), machine);
  if (pattern.order == machine::Association::Nested) {
    return quicker(quicker(nested_reduce_and_gather(group, v, region, places, machine),
                           through_middles(group, v, places, machine), machine),
                   gathered, machine);
  }
  return quicker(reduce_and_gather(group, v, chain, one, machine), gathered, machine);
}

TransferCost replica_all_gather(const Region& region, Bytes bytes, const Replicas& replicas,
                                const MachineModel& machine) {
  if (replicas.count < 2) {
    return {};
  }
  const double n = static_cast<double>(replicas.count);
  const double v = packets(bytes, machine) * n;
  const Chain chain = chain_of(Places(replicas, machine));
  Loads loads(machine);
  loads.port(v * (n + 1) / n);
  const Group group = equals_in(region);
  load_chain(loads, chain, group.sharing, v * (n - 1) / n);
  move_along(loads, chain, group, v * (n - 1), v);
  return loads.with_latency(chain.cycles + (replicas.count - 2) * machine.network.stage.count() +
                            2);
}

TransferCost move_cost(const Move& move, const Replicas& replicas, const MachineModel& machine) {
  if (move.scope == Scope::Inside) {
    return pattern_cost(move.pattern, move.region, machine, move.reach);
  }
  if (move.scope == Scope::Onward) {
    return onward_cost(move.pattern, move.region, machine);
  }
  if (move.scope == Scope::Memory) {
    return memory_cost(move.region, move.pattern.bytes, replicas, machine);
  }
  if (move.pattern.kind == PatternKind::AllGather) {
    return replica_all_gather(move.region, move.pattern.bytes, replicas, machine);
  }
  DOJO_CHECK(move.pattern.kind == PatternKind::AllReduce);
  return replica_all_reduce(move.scope, move.pattern, move.region, replicas, machine, move.reach);
}

}  // namespace dojo::cost
