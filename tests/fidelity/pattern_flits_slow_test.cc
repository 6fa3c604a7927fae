// The same on 18x20 nodes, on several dies, and round the dead nodes of a die.
#include "pattern_flits.h"
#include "pattern_mixes.h"

namespace dojo::mesh {
namespace {

using machine::Association;
using machine::Axis;
using machine::Pattern;

constexpr double kPace = 0.9;
constexpr int kS = 22;  // a store-and-forward stage

const Flits& die() {
  static const Flits flits({.die = {18, 20}});
  return flits;
}

TEST(DieFlits, Chains) {
  for (const Pattern& pattern :
       {machine::multicast(Axis::Rows, packets(512)),
        machine::multicast(Axis::Rows, packets(512), 7),
        machine::reduce(Axis::Columns, Association::Chain, packets(512))}) {
    expect_error(machine::to_string(pattern), unpaced(die(), pattern),
                 die().run(pattern, std::nullopt), 0, 0.1);
  }
}

TEST(DieFlits, AllGatherAndReduceScatter) {
  for (const std::int64_t v : {20, 200, 1000}) {
    const Pattern gather = machine::all_gather(Axis::Rows, packets(v));
    expect_error(machine::to_string(gather), paced(die(), gather), die().run(gather, kPace), -0.7,
                 5.9);
    const Pattern scatter = machine::reduce_scatter(Axis::Rows, Association::Chain, packets(v));
    const double chain = 19 * kS + 20 + static_cast<double>(v) * 21 / 20 / kPace;
    expect_error(machine::to_string(scatter), chain, die().run(scatter, kPace), -0.7, 5.3);
  }
}

TEST(DieFlits, AllReduce) {
  const std::int64_t v = 1440;
  const Pattern pattern = machine::all_reduce(Axis::Both, Association::Chain, packets(v));
  const double size = static_cast<double>(v);
  const double busy = 2 * size * 21 / 20 + 2 * size / 20 * 19 / 18;
  const double chains = 19 * kS + 20 + 17 * kS + 18 + 16 * kS + 2 + 18 * kS + 2 + busy / kPace;
  expect_error(machine::to_string(pattern), chains, die().run(pattern, kPace), -0.2, 3.1);
}

TEST(DieFlits, Shift) {
  for (const int d : {3, 5}) {
    const Pattern pattern = machine::shift(Axis::Rows, d, packets(128));
    expect_error(machine::to_string(pattern), paced(die(), pattern, 1.0), die().run(pattern, 1.0),
                 -2.9, 2);
    expect_error("unpaced " + machine::to_string(pattern), unpaced(die(), pattern),
                 die().run(pattern, std::nullopt), -80, -60);
  }
}

TEST(DieFlits, AllToAll) {
  const Pattern rows = machine::all_to_all(Axis::Rows, packets(8));
  expect_error(machine::to_string(rows), paced(die(), rows), die().run(rows, kPace), -1, 1);
  const Pattern both = machine::all_to_all(Axis::Both, packets(2));
  expect_error(machine::to_string(both), paced(die(), both), die().run(both, kPace), -1, 1);
  // One-flit packets leave their VC free at once, so on this router one VC is enough for slots.
  const Flits one_vc({.die = {18, 20}}, "d1", 1);
  expect_error("1 VC " + machine::to_string(rows), paced(one_vc, rows), one_vc.run(rows, kPace), -1,
               1);
}

TEST(DieFlits, RoundDeadNodes) {
  const machine::MachineModel machine = model_without_adds("d1");
  const Flits holes(machine);
  for (const Axis axis : {Axis::Rows, Axis::Columns}) {
    const Pattern pattern = machine::all_gather(axis, packets(684));
    expect_error("holes " + machine::to_string(pattern), paced(holes, pattern),
                 holes.run(pattern, kPace), -3, 3);
  }
  const Pattern halo = machine::halo({packets(64), packets(64), packets(64), packets(64)});
  expect_error("holes " + machine::to_string(halo), paced(holes, halo), holes.run(halo, kPace), -3,
               3);
}

TEST(DieFlits, CopiedByRouters) {
  expect_replicated(die(), 16, kPace, 10);
  expect_replicated(die(), 256, kPace, 3.7);
}

TEST(DieFlits, WhatHappensAtOnce) {
  expect_mixes(die(), {.rerank = {0, 2.8},
                       .shift_and_move = {0, 3.1},
                       .shift_and_move_unpaced = {-46, -45},
                       .gathers = {4, 8.2},
                       .gathers_unpaced = {-0.3, 0},
                       .gather_and_shift = {2.3, 5.7},
                       .barriers = {-3.7, -1.5},
                       .over_middles = {0, 6},
                       .direct_scatter = {-2.2, 0},
                       .free_rows = {-19, -18},
                       .free_region = {-27, -26}});
}

TopologySpec dies(Shape per_die, Shape count, FlitRate rate) {
  return {.die = per_die,
          .dies = count,
          .link_classes = {LinkClass{}, {"die edge", Cycles{200}, rate, std::nullopt}},
          .row_boundaries = std::vector<int>(static_cast<std::size_t>(count.rows - 1), 1),
          .column_boundaries = std::vector<int>(static_cast<std::size_t>(count.columns - 1), 1)};
}

TEST(DiesFlits, ChainAndAllGather) {
  for (const FlitRate rate : {FlitRate{63, 80}, FlitRate{7, 20}}) {
    Flits pair(dies({8, 8}, {2, 2}, rate), "training-tile");
    pair.set_die_edge(rate, Cycles{200});
    const Pattern chain = machine::multicast(Axis::Rows, packets(512));
    expect_error("dies " + machine::to_string(chain), unpaced(pair, chain),
                 pair.run(chain, std::nullopt), 0, 0.2);
    for (const std::int64_t v : {64, 1024}) {
      const Pattern gather = machine::all_gather(Axis::Rows, packets(v));
      expect_error("dies " + machine::to_string(gather), paced(pair, gather),
                   pair.run(gather, kPace), -0.7, 5.6);
    }
  }
}

// To the same place on the next die.
TEST(DiesFlits, Move) {
  for (const FlitRate rate : {FlitRate{63, 80}, FlitRate{7, 20}}) {
    const Flits pair(dies({8, 8}, {1, 2}, rate), "training-tile");
    for (const std::int64_t v : {8, 64, 512}) {
      MessageTrace trace = move_east(pair, 8, 8, 8, v);
      const double busy = pace_together(pair, trace, kPace);
      expect_error("move", 8 + 199 + busy / kPace, pair.run(trace), 0, 3.2);
    }
  }
}

TEST(DiesFlits, AllToAllInRowsOfTwoDies) {
  Flits pair(dies({2, 20}, {1, 2}, {63, 80}), "training-tile");
  pair.set_die_edge({63, 80}, Cycles{200});
  const Pattern pattern = machine::all_to_all(Axis::Rows, packets(16));
  expect_error("dies " + machine::to_string(pattern), paced(pair, pattern),
               pair.run(pattern, kPace), -1, 1);
}

TEST(DiesFlits, SmallAllReduce) {
  for (const int side : {2, 3, 5}) {
    const Flits tile(dies({18, 20}, {side, side}, {7, 8}), "training-tile");
    const Pattern pattern = machine::all_reduce(Axis::Both, Association::Centre, Bytes(4));
    expect_error("dies " + machine::to_string(pattern), paced(tile, pattern),
                 tile.run(pattern, kPace), 0.5, 1.2);
  }
}

}  // namespace
}  // namespace dojo::mesh
