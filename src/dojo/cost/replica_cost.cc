#include "dojo/cost/replica_cost.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

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

std::int64_t replicas_per_row(const Replicas& replicas, const MachineModel& machine) {
  return std::max(1, machine.dies().columns / replicas.dies.columns);
}

// The way from a node to its equal in another replica.
struct Way {
  std::int64_t cycles = 0;  // hops and crossings
  std::int64_t hops = 0;    // from router to router inside dies
  bool is_along_rows = false;
  std::vector<Crossing> crossings{};  // with the rate of one row or column
};

// Straight through routers, x then y; the crossings are those of the way's first stretch that has
// any, enough to find the slowest class.
Way way(machine::Site from, machine::Site to, const MachineModel& machine) {
  Way out;
  out.is_along_rows = from.column != to.column;
  const auto cross = [&](LinkClass link, bool along_rows) {
    const machine::LinkModel& model = machine.link(link);
    out.cycles += model.latency.count() - 1;
    out.crossings.push_back({.before = 0,
                             .extra = model.latency,
                             .rate = along_rows ? model.per_row.value() : model.per_column.value(),
                             .lines = along_rows ? machine.sites().rows : machine.sites().columns,
                             .link = link});
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
  double hops = 0;
  std::array<double, machine::kLinkClassCount> passes{};  // crossings by class
  bool has_rows = false;                                  // some step goes west-east
  bool has_columns = false;
  std::vector<Crossing> crossings{};  // one of each link class and direction
};

// Which replicas there are: rows of them on the machine, the last one perhaps not full. All that
// follows goes over rows and columns, never over all replicas.
class Places {
 public:
  Places(const Replicas& replicas, const MachineModel& machine)
      : dies_(replicas.dies),
        per_row_(replicas_per_row(replicas, machine)),
        count_(replicas.count) {}

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

 private:
  machine::Shape dies_;
  std::int64_t per_row_;
  std::int64_t count_;
};

void add_ways(Chain& chain, const Way& step, std::int64_t times) {
  chain.cycles += times * step.cycles;
  chain.hops += static_cast<double>(times * step.hops);
  chain.has_rows = chain.has_rows || step.is_along_rows;
  chain.has_columns = chain.has_columns || !step.is_along_rows;
  for (const Crossing& at : step.crossings) {
    chain.passes[static_cast<std::size_t>(at.link)] += static_cast<double>(times);
    const bool is_known =
        std::any_of(chain.crossings.begin(), chain.crossings.end(), [&](const Crossing& known) {
          return known.link == at.link && known.lines == at.lines && known.rate == at.rate;
        });
    if (!is_known) {
      chain.crossings.push_back(at);
    }
  }
}

Chain chain_of(const Replicas& replicas, const MachineModel& machine) {
  const Places places(replicas, machine);
  Chain chain;
  for (std::int64_t column = 0; column + 1 < places.per_row(); ++column) {
    const std::int64_t times = places.rows_with_both(column, column + 1);
    if (times > 0) {
      add_ways(chain, way(places.site(0, column), places.site(0, column + 1), machine), times);
    }
  }
  for (std::int64_t row = 0; row + 1 < places.rows(); ++row) {
    add_ways(chain, way(places.site(row, 0), places.site(row + 1, 0), machine), 1);
  }
  return chain;
}

// The ways of all replicas to one of them, first along the rows, then along the columns.
struct Star {
  std::int64_t radius = 0;  // cycles of the longest
  Chain ways{};
};

// Adds, for each step between neighbours of a line, the ways of all that stand beyond it as seen
// from the middle; gives the cycles from the middle to each place of the line.
template <class Step, class Count>
std::vector<std::int64_t> add_line(Chain& ways, std::int64_t length, std::int64_t middle,
                                   const Step& step, const Count& count) {
  std::vector<std::int64_t> cycles(static_cast<std::size_t>(length), 0);
  const auto walk = [&](std::int64_t end, std::int64_t towards) {
    std::int64_t beyond = 0;
    for (std::int64_t at = end; at != middle; at += towards) {
      beyond += count(at);
      add_ways(ways, step(std::min(at, at + towards)), beyond);
    }
    for (std::int64_t at = middle; at != end; at -= towards) {
      cycles[static_cast<std::size_t>(at - towards)] =
          cycles[static_cast<std::size_t>(at)] + step(std::min(at, at - towards)).cycles;
    }
  };
  walk(0, 1);
  walk(length - 1, -1);
  return cycles;
}

Star star_of(const Replicas& replicas, machine::Site middle, const MachineModel& machine) {
  const Places places(replicas, machine);
  Star star;
  const std::vector<std::int64_t> along_row = add_line(
      star.ways, places.per_row(), middle.column / replicas.dies.columns,
      [&](std::int64_t at) { return way(places.site(0, at), places.site(0, at + 1), machine); },
      [&](std::int64_t at) { return places.rows_with(at); });
  const std::vector<std::int64_t> along_column = add_line(
      star.ways, places.rows(), middle.row / replicas.dies.rows,
      [&](std::int64_t at) { return way(places.site(at, 0), places.site(at + 1, 0), machine); },
      [&](std::int64_t at) { return places.taken(at); });
  for (std::int64_t row = 0; row < places.rows(); ++row) {
    const auto first = along_row.begin() + places.first(row);
    star.radius = std::max(star.radius, along_column[static_cast<std::size_t>(row)] +
                                            *std::max_element(first, first + places.taken(row)));
  }
  return star;
}

// Flows that share one row (or column) of links.
struct Sharing {
  double on_row = 1;
  double on_column = 1;
};

// Who takes part in a sum over replicas: the equals of each node, or the lines of one axis.
struct Group {
  Scope scope = Scope::Across;
  machine::Axis axis = machine::Axis::Both;
  const Region& region;
  int spacing = 1;

  bool is_through() const { return scope == Scope::Through; }
  // Nodes of one replica that the chain visits.
  std::int64_t stops() const {
    return !is_through() ? 1 : axis == machine::Axis::Columns ? region.rows() : region.columns();
  }
  // Groups that do it side by side.
  double count() const {
    return static_cast<double>(region.nodes()) / static_cast<double>(stops());
  }
  // Lines that go on to the next replica side by side: one per column, or one per row, or (equals)
  // every node.
  Sharing sharing() const {
    const Sharing all{static_cast<double>(region.columns()), static_cast<double>(region.rows())};
    return !is_through()                    ? all
           : axis == machine::Axis::Columns ? Sharing{all.on_row * spacing, double(spacing)}
                                            : Sharing{double(spacing), all.on_column * spacing};
  }
};

void load_chain(Loads& loads, const Chain& chain, const Sharing& share, double v) {
  loads.link(v *
             std::max(chain.has_rows ? share.on_row : 0, chain.has_columns ? share.on_column : 0));
  for (const Crossing& at : chain.crossings) {
    loads.crossing(at, v * std::max(share.on_row, share.on_column), 0);
  }
}

// What all groups move: packets stored, and packets sent over all of the chain.
void move_along(Loads& loads, const Chain& chain, const Group& group, double stored, double sent) {
  const double inside = static_cast<double>(group.is_through() ? group.stops() * group.spacing : 0);
  loads.moves(group.count() * stored, group.count() * sent * (chain.hops + inside));
  for (std::size_t i = 0; i < chain.passes.size(); ++i) {
    loads.passes(static_cast<LinkClass>(i), group.count() * sent * chain.passes[i]);
  }
}

TransferCost reduce_and_gather(const Group& group, double v, const Chain& chain,
                               const Replicas& replicas, const MachineModel& machine) {
  const std::int64_t stations = replicas.count * group.stops();
  const double n = static_cast<double>(stations);
  const std::int64_t hops = chain.cycles + (group.is_through() ? stations * group.spacing : 0);
  const std::int64_t stage = machine.network.stage.count();
  const std::int64_t add = machine.network.reduce_stage.count();
  Loads loads(machine);
  loads.port(2 * v * (n + 1) / n);
  load_chain(loads, chain, group.sharing(), 2 * v);
  // Partials on, sums back to their owners (half of the chain), sums to all.
  move_along(loads, chain, group, 2 * v * (n - 1) + v, 2.5 * v);
  return loads.with_latency(2 * hops + (stations - 1) * (2 * stage + add) + stations + 2);
}

TransferCost through_middle(const Group& group, double v, const Chain& chain,
                            const Replicas& replicas, const MachineModel& machine) {
  const machine::Site middle = replica_site(replicas, replicas.count / 2, machine);
  const Star star = star_of(replicas, middle, machine);
  const double n = static_cast<double>(replicas.count * group.stops());
  Loads loads(machine);
  loads.port(2 * v * (n - 1));  // to and from every other
  // x then y: half of the senders meet on the links next to the middle replica, there and back.
  load_chain(loads, chain, group.sharing(), v * n);
  move_along(loads, star.ways, group, 2 * v * (n - 1), 2 * v * static_cast<double>(group.stops()));
  const std::int64_t inside = group.is_through() ? group.stops() * group.spacing : 0;
  return loads.with_latency(2 * (star.radius + inside + machine.network.stage.count()) +
                            machine.network.reduce_stage.count());
}

}  // namespace

machine::Site replica_site(const Replicas& replicas, std::int64_t index,
                           const MachineModel& machine) {
  const std::int64_t per_row = replicas_per_row(replicas, machine);
  const std::int64_t row = index / per_row;
  const std::int64_t along = index % per_row;
  const std::int64_t column = row % 2 == 0 ? along : per_row - 1 - along;
  return {.row = static_cast<int>(row * replicas.dies.rows),
          .column = static_cast<int>(column * replicas.dies.columns)};
}

TransferCost replica_all_reduce(Scope scope, machine::Axis axis, const Region& region, Bytes bytes,
                                const Replicas& replicas, const MachineModel& machine,
                                int spacing) {
  const double v = packets(bytes, machine);
  const Group group{scope, axis, region, spacing};
  if (replicas.count * group.stops() < 2) {
    return {};
  }
  const Chain chain = chain_of(replicas, machine);
  const TransferCost along = reduce_and_gather(group, v, chain, replicas, machine);
  const TransferCost middle = through_middle(group, v, chain, replicas, machine);
  const double pace = machine.network.pace;
  return middle.total(pace) < along.total(pace) ? middle : along;
}

TransferCost replica_all_gather(const Region& region, Bytes bytes, const Replicas& replicas,
                                const MachineModel& machine) {
  if (replicas.count < 2) {
    return {};
  }
  const double n = static_cast<double>(replicas.count);
  const double v = packets(bytes, machine) * n;
  const Chain chain = chain_of(replicas, machine);
  Loads loads(machine);
  loads.port(v * (n + 1) / n);
  const Group group{Scope::Across, machine::Axis::Both, region};
  load_chain(loads, chain, group.sharing(), v * (n - 1) / n);
  move_along(loads, chain, group, v * (n - 1), v);
  return loads.with_latency(chain.cycles + (replicas.count - 2) * machine.network.stage.count() +
                            2);
}

TransferCost move_cost(const Move& move, const Replicas& replicas, const MachineModel& machine) {
  if (move.scope == Scope::Inside) {
    return pattern_cost(move.pattern, move.region, machine, move.reach);
  }
  if (move.scope == Scope::Memory) {
    return memory_cost(move.region, move.pattern.bytes, replicas, machine);
  }
  if (move.pattern.kind == PatternKind::AllGather) {
    return replica_all_gather(move.region, move.pattern.bytes, replicas, machine);
  }
  DOJO_CHECK(move.pattern.kind == PatternKind::AllReduce);
  return replica_all_reduce(move.scope, move.pattern.axis, move.region, move.pattern.bytes,
                            replicas, machine, move.reach);
}

}  // namespace dojo::cost
