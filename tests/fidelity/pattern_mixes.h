// For tests: what is no pattern of its own but happens on the mesh all the same: permutations, two
// patterns at once, collectives without barriers between their phases, moves between dies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <vector>

#include "dojo/mesh/traffic_load.h"
#include "pattern_flits.h"

namespace dojo::mesh {

// Sets every message's pace so that the busiest resource is in use for `share` of the time, and
// returns for how many cycles it is busy: messages that share one network are paced together.
inline double pace_together(const Flits& flits, MessageTrace& trace, double share) {
  constexpr std::int32_t kDenominator = 1 << 20;
  const auto busy = static_cast<double>(
      load_of(trace, flits.topology(), flits.routing()).busy_cycles(flits.topology()));
  for (Message& message : trace.messages) {
    const double rate = std::min(1.0, share * static_cast<double>(message.flits) / busy);
    message.pace = {.num = std::max(1, static_cast<std::int32_t>(rate * kDenominator)),
                    .den = kDenominator};
  }
  return busy;
}

// Both from the same cycle on; each of one phase.
inline MessageTrace together(const MessageTrace& a, const MessageTrace& b) {
  MessageTrace both = a;
  const auto first = static_cast<std::uint32_t>(a.messages.size());
  for (std::uint32_t i = 0; i < b.messages.size(); ++i) {
    std::vector<Dependency> after;
    for (Dependency each : b.dependencies_of({i})) {
      each.on.index += first;
      after.push_back(each);
    }
    both.add(b.messages[i], after);
  }
  return both;
}

// Node i of the row-major order sends to node i of the column-major order.
inline MessageTrace rerank(const Flits& flits, std::int64_t v) {
  const NodeGrid& grid = flits.grid();
  MessageTrace trace;
  for (int i = 0; i < grid.rows() * grid.columns(); ++i) {
    const RouterId from = *grid.at(i / grid.columns(), i % grid.columns());
    const RouterId to = *grid.at(i % grid.rows(), i / grid.rows());
    if (from != to) {
      trace.add({.source = from, .target = to, .flits = v});
    }
  }
  return trace;
}

// The nodes of the first `rows` x `columns` send to those so many columns to the east.
inline MessageTrace move_east(const Flits& flits, int rows, int columns, int by, std::int64_t v) {
  MessageTrace trace;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      trace.add({.source = *flits.grid().at(row, column),
                 .target = *flits.grid().at(row, column + by),
                 .flits = v});
    }
  }
  return trace;
}

// The same messages without barriers: a node goes on to its next phase when everything for it of
// the phase before is there.
inline MessageTrace without_barriers(const MessageTrace& trace, Cycles delay) {
  MessageTrace mixed;
  for (std::uint32_t i = 0; i < trace.messages.size(); ++i) {
    const std::span<const Dependency> own = trace.dependencies_of({i});
    std::vector<Dependency> after(own.begin(), own.end());
    for (std::uint32_t on = 0; on < i; ++on) {
      if (trace.messages[on].phase + 1 == trace.messages[i].phase &&
          trace.messages[on].target == trace.messages[i].source) {
        after.push_back(whole(trace, {on}, delay));
      }
    }
    Message message = trace.messages[i];
    message.phase = 0;
    mixed.add(message, after);
  }
  return mixed;
}

// All at once, as fast as it goes.
inline MessageTrace free_running(MessageTrace trace) {
  for (Message& message : trace.messages) {
    message.start = Cycles{0};
    message.pace = {};
  }
  return trace;
}

// Everyone's V to the middle of its row, from there to the middle of the column, and all the way
// back: the form of a small sum in a stated order. A node has read, added and written when a stage
// has passed. Cycles of the flits.
inline double all_reduce_over_middles(const Flits& flits, std::int64_t v, int stage, double share) {
  const NodeGrid& grid = flits.grid();
  const int middle_row = grid.rows() / 2;
  const int middle_column = grid.columns() / 2;
  double cycles = 0;
  for (int phase = 0; phase < 4; ++phase) {
    const bool is_row = phase == 0 || phase == 3;
    MessageTrace trace;
    for (int line = 0; line < (is_row ? grid.rows() : 1); ++line) {
      for (int i = 0; i < (is_row ? grid.columns() : grid.rows()); ++i) {
        const RouterId node = is_row ? *grid.at(line, i) : *grid.at(i, middle_column);
        const RouterId middle = *grid.at(is_row ? line : middle_row, middle_column);
        if (node != middle) {
          trace.add({.source = phase < 2 ? node : middle,
                     .target = phase < 2 ? middle : node,
                     .flits = v});
        }
      }
    }
    pace_together(flits, trace, share);
    cycles += flits.run(trace) + stage;
  }
  return cycles;
}

// The closed form of that: what comes to a middle is everyone's but its own.
inline double over_middles_formula(const Flits& flits, std::int64_t v, int stage, double share) {
  const int rows = flits.grid().rows();
  const int columns = flits.grid().columns();
  return 2 * (rows / 2 + columns / 2 + 2 * stage) +
         2 * static_cast<double>(v) * (rows - 1 + columns - 1) / share;
}

// Links between the ends of the message that has farthest to go.
inline int farthest(const Flits& flits, const MessageTrace& trace) {
  int most = 0;
  for (const Message& message : trace.messages) {
    const Site a = flits.topology().site_of(message.source);
    const Site b = flits.topology().site_of(message.target);
    most = std::max(most, std::abs(a.row - b.row) + std::abs(a.column - b.column));
  }
  return most;
}

// Bounds of formula / flits - 1, in percent.
struct Bounds {
  double low = 0;
  double high = 0;
};
struct MixBounds {
  Bounds rerank;
  Bounds shift_and_move;
  Bounds shift_and_move_unpaced;
  Bounds gathers;
  Bounds gathers_unpaced;
  Bounds gather_and_shift;
  Bounds barriers;  // barriers / no barriers - 1
  Bounds over_middles;
  Bounds direct_scatter;
  Bounds free_rows;
  Bounds free_region;
};

inline void expect_within(const char* what, double formula, double flits, const Bounds& bounds) {
  expect_error(what, formula, flits, bounds.low, bounds.high);
}

// Permutations and moves of v packets of every node.
inline void expect_moves(const Flits& flits, std::int64_t v, double pace, const MixBounds& bounds) {
  MessageTrace order = rerank(flits, v);
  double busy = pace_together(flits, order, pace);
  expect_within("re-rank", farthest(flits, order) + busy / pace, flits.run(order), bounds.rerank);

  const int half = flits.grid().columns() / 2;
  MessageTrace moves =
      together(flits.trace(machine::shift(machine::Axis::Rows, 3, packets(v)), 1.0),
               move_east(flits, flits.grid().rows(), half, half, v));
  busy = pace_together(flits, moves, pace);
  const double latency = farthest(flits, moves) + 1;
  expect_within("shift and move", latency + busy / pace, flits.run(moves), bounds.shift_and_move);
  if (v >= 256) {
    expect_within("shift and move, unpaced", latency + busy, flits.run(free_running(moves)),
                  bounds.shift_and_move_unpaced);
  }
}

// Two patterns of rows and columns at once.
inline void expect_gathers(const Flits& flits, std::int64_t v, double pace,
                           const MixBounds& bounds) {
  using machine::Axis;
  constexpr int kStage = 22;
  const double rows = flits.grid().rows();
  const double columns = flits.grid().columns();
  const double size = static_cast<double>(v);
  const double longest = std::max(rows, columns);
  const auto gather = [&](Axis axis, std::int64_t packet_count, std::optional<double> own_pace) {
    return flits.trace(machine::all_gather(axis, packets(packet_count)), own_pace);
  };
  MessageTrace gathers =
      together(gather(Axis::Rows, v, std::nullopt), gather(Axis::Columns, v, std::nullopt));
  if (v >= 256) {
    const double ports = size * (columns + 1) / columns + size * (rows + 1) / rows;
    expect_within("two gathers, unpaced", ports + (std::ceil(longest / 2) - 2) * kStage,
                  flits.run(gathers), bounds.gathers_unpaced);
  }
  const double busy = pace_together(flits, gathers, pace);
  expect_within("two gathers", (longest - 2) * kStage + 2 + busy / pace, flits.run(gathers),
                bounds.gathers);

  const MessageTrace shared =
      together(gather(Axis::Rows, 2 * v, 0.6),
               flits.trace(machine::shift(Axis::Columns, 3, packets(v / 3)), 0.3));
  const double gathered = (columns - 2) * kStage + 2 + 2 * size * (columns + 1) / columns / 0.6;
  expect_within("gather at 0.6 and shift at 0.3", gathered, flits.run(shared),
                bounds.gather_and_shift);
}

// Sums without barriers, and their small forms.
inline void expect_sums(const Flits& flits, std::int64_t v, double pace, const MixBounds& bounds) {
  constexpr int kStage = 22;
  const MessageTrace sum = flits.trace(
      machine::all_reduce(machine::Axis::Both, machine::Association::Chain, packets(4 * v)), pace);
  expect_within("barriers against none", flits.run(sum),
                flits.run(without_barriers(sum, Cycles{kStage - 2})), bounds.barriers);
  // The form that cost has for small sums.
  const machine::Pattern small =
      machine::all_reduce(machine::Axis::Both, machine::Association::Chain, packets(1));
  EXPECT_NEAR(paced(flits, small), over_middles_formula(flits, 1, kStage, pace), 1);
  expect_within("over middles", over_middles_formula(flits, v / 8, kStage, pace),
                all_reduce_over_middles(flits, v / 8, kStage, pace), bounds.over_middles);
  // A reduce-scatter of one packet per pair: its owner adds after a stage.
  const machine::Pattern pieces = machine::all_to_all(machine::Axis::Rows, packets(1));
  expect_within("direct scatter", paced(flits, pieces) + kStage, flits.run(pieces, pace) + kStage,
                bounds.direct_scatter);
}

// Multicasts and all-gathers of v packets whose routers copy: no stages on the way, and a port
// sends and takes each packet once.
inline void expect_replicated(const Flits& flits, std::int64_t v, double pace, double high) {
  const int rows = flits.grid().rows();
  const int columns = flits.grid().columns();
  const auto cycles = [&](const machine::Pattern& pattern, std::optional<double> of) {
    return flits.run(flits.trace(pattern, of, Multicast::Replicate));
  };
  const double size = static_cast<double>(v);
  const machine::Pattern all = machine::multicast(machine::Axis::Both, packets(v));
  EXPECT_EQ(cycles(all, std::nullopt), rows - 1 + columns - 1 + size);
  expect_error("multicast, copied", rows + columns - 1 + size / pace, cycles(all, pace), 0, high);
  const machine::Pattern line = machine::multicast(machine::Axis::Rows, packets(v), 3);
  EXPECT_EQ(cycles(line, std::nullopt), columns - 1 - 3 + size);
  // Only if a block is many packets: the first of each goes at once.
  if (v > 10 * columns) {
    const machine::Pattern gather = machine::all_gather(machine::Axis::Rows, packets(v));
    expect_error("all-gather, copied", columns + size * (columns - 1) / columns / pace,
                 cycles(gather, pace), 0, high);
  }
}

inline void expect_mixes(const Flits& flits, const MixBounds& bounds) {
  constexpr double kPace = 0.9;
  for (const std::int64_t v : {32, 256}) {
    expect_moves(flits, v, kPace, bounds);
    expect_gathers(flits, v, kPace, bounds);
    expect_sums(flits, v, kPace, bounds);
  }
  const auto expect_free = [&](machine::Axis axis, std::int64_t m, const Bounds& of) {
    const machine::Pattern pattern = machine::all_to_all(axis, packets(m));
    expect_within("free-running", paced(flits, pattern),
                  flits.run(free_running(flits.trace(pattern, kPace))), of);
  };
  expect_free(machine::Axis::Rows, 32, bounds.free_rows);
  expect_free(machine::Axis::Both, 8, bounds.free_region);
}

}  // namespace dojo::mesh
