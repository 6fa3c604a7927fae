// For tests: what is no pattern of its own but happens on the mesh all the same: permutations, two
// patterns at once, collectives without barriers between their phases, moves between dies.
#pragma once

#include <algorithm>
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
      load_of(trace.messages, flits.topology(), flits.routing()).busy_cycles(flits.topology()));
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

inline void expect_mixes(const Flits& flits, const MixBounds& bounds) {
  constexpr double kPace = 0.9;
  constexpr int kStage = 22;
  using machine::Axis;
  const auto expect = [](const char* what, double formula, double run, const Bounds& of) {
    expect_error(what, formula, run, of.low, of.high);
  };
  const int rows = flits.grid().rows();
  const int columns = flits.grid().columns();
  for (const std::int64_t v : {32, 256}) {
    MessageTrace order = rerank(flits, v);
    double busy = pace_together(flits, order, kPace);
    expect("re-rank", farthest(flits, order) + busy / kPace, flits.run(order), bounds.rerank);

    MessageTrace moves = together(flits.trace(machine::shift(Axis::Rows, 3, packets(v)), 1.0),
                                  move_east(flits, rows, columns / 2, columns / 2, v));
    busy = pace_together(flits, moves, kPace);
    const double latency = farthest(flits, moves) + 1;
    expect("shift and move", latency + busy / kPace, flits.run(moves), bounds.shift_and_move);
    if (v == 256) {
      expect("shift and move, unpaced", latency + busy, flits.run(free_running(moves)),
             bounds.shift_and_move_unpaced);
    }

    const auto gather = [&](Axis axis, std::int64_t size, std::optional<double> pace) {
      return flits.trace(machine::all_gather(axis, packets(size)), pace);
    };
    MessageTrace gathers =
        together(gather(Axis::Rows, v, std::nullopt), gather(Axis::Columns, v, std::nullopt));
    const int longest = std::max(rows, columns);
    if (v == 256) {
      const double size = static_cast<double>(v);
      const double ports = size * (columns + 1) / columns + size * (rows + 1) / rows;
      const double chain = ((longest + 1) / 2 - 2) * kStage;
      expect("two gathers, unpaced", ports + chain, flits.run(gathers), bounds.gathers_unpaced);
    }
    busy = pace_together(flits, gathers, kPace);
    expect("two gathers", (longest - 2) * kStage + 2 + busy / kPace, flits.run(gathers),
           bounds.gathers);

    const MessageTrace shared =
        together(gather(Axis::Rows, 2 * v, 0.6),
                 flits.trace(machine::shift(Axis::Columns, 3, packets(v / 3)), 0.3));
    const double gathered =
        (columns - 2) * kStage + 2 + 2.0 * static_cast<double>(v) * (columns + 1) / columns / 0.6;
    expect("gather at 0.6 and shift at 0.3", gathered, flits.run(shared), bounds.gather_and_shift);

    const MessageTrace sum = flits.trace(
        machine::all_reduce(Axis::Both, machine::Association::Chain, packets(4 * v)), kPace);
    expect("barriers against none", flits.run(sum),
           flits.run(without_barriers(sum, Cycles{kStage - 2})), bounds.barriers);
    expect("over middles", over_middles_formula(flits, v / 8, kStage, kPace),
           all_reduce_over_middles(flits, v / 8, kStage, kPace), bounds.over_middles);
  }
  const auto all_to_all = [&](Axis axis, std::int64_t m) {
    return machine::all_to_all(axis, packets(m));
  };
  // A reduce-scatter of one packet per pair: its owner adds after a stage.
  const machine::Pattern pieces = all_to_all(Axis::Rows, 1);
  expect("direct scatter", paced(flits, pieces) + kStage, flits.run(pieces, kPace) + kStage,
         bounds.direct_scatter);
  const machine::Pattern line = all_to_all(Axis::Rows, 32);
  expect("free rows", paced(flits, line), flits.run(free_running(flits.trace(line, kPace))),
         bounds.free_rows);
  const machine::Pattern region = all_to_all(Axis::Both, 8);
  expect("free region", paced(flits, region), flits.run(free_running(flits.trace(region, kPace))),
         bounds.free_region);
}

}  // namespace dojo::mesh
