// The closed forms of docs/placement.md against flits on 8x8 nodes. Errors are formula / flits - 1.
// Unpaced, the last of L packets arrives in cycle A + L - 1; paced, T = A + L / pace.
#include "pattern_flits.h"
#include "pattern_mixes.h"

namespace dojo::mesh {
namespace {

using machine::Association;
using machine::Axis;
using machine::Pattern;

constexpr double kPace = 0.9;

const Flits& square() {
  static const Flits flits({.die = {8, 8}});
  return flits;
}

TEST(PatternFlits, ChainsTakeTheFormulasCycles) {
  for (const std::int64_t v : {1, 64, 512}) {
    for (const Pattern& pattern :
         {machine::multicast(Axis::Rows, packets(v)), machine::multicast(Axis::Rows, packets(v), 3),
          machine::reduce(Axis::Columns, Association::Chain, packets(v))}) {
      expect_error(machine::to_string(pattern), unpaced(square(), pattern),
                   square().run(pattern, std::nullopt), 0, 1.5);
    }
  }
}

TEST(PatternFlits, AllGather) {
  for (const std::int64_t v : {8, 64, 512}) {
    const Pattern pattern = machine::all_gather(Axis::Rows, packets(v));
    expect_error(machine::to_string(pattern), paced(square(), pattern),
                 square().run(pattern, kPace), 0, 6.7);
    const auto size = static_cast<double>(v);
    const double free = std::max(6 * 22 + 2 + size / 8, size * 9 / 8 + 2 * 22);
    expect_error("unpaced " + machine::to_string(pattern), free,
                 square().run(pattern, std::nullopt), -5, 0);
  }
}

TEST(PatternFlits, ReduceScatterAscending) {
  for (const std::int64_t v : {8, 64, 512}) {
    const Pattern pattern = machine::reduce_scatter(Axis::Rows, Association::Chain, packets(v));
    const double chain = 7 * 22 + 8 + static_cast<double>(v) * 9 / 8 / kPace;
    expect_error(machine::to_string(pattern), chain, square().run(pattern, kPace), 0, 6.7);
  }
}

TEST(PatternFlits, AllReduce) {
  for (const std::int64_t v : {64, 512}) {
    const Pattern pattern = machine::all_reduce(Axis::Both, Association::Chain, packets(v));
    const double v1 = static_cast<double>(v);
    const double busy = 2 * v1 * 9 / 8 + 2 * v1 / 8 * 9 / 8;
    const double chains = 2 * (7 * 22 + 8) + 2 * (6 * 22 + 2) + busy / kPace;
    expect_error(machine::to_string(pattern), chains, square().run(pattern, kPace), 0, 6);
  }
}

TEST(PatternFlits, SmallAllReduce) {
  const Pattern pattern = machine::all_reduce(Axis::Both, Association::Centre, Bytes(4));
  expect_error(machine::to_string(pattern), paced(square(), pattern), square().run(pattern, kPace),
               0, 0);
}

TEST(PatternFlits, HaloGatherScatterMove) {
  for (const std::int64_t v : {32, 512}) {
    const Bytes size = packets(v);
    const Pattern halo = machine::halo({size, size, size, size});
    expect_error(machine::to_string(halo), paced(square(), halo), square().run(halo, kPace), 0,
                 3.1);
    for (const Pattern& edge : {machine::gather_to_edge(machine::Side::West, size),
                                machine::scatter_from_edge(machine::Side::North, size)}) {
      // The line's end node stands for the edge here.
      const double line = 2 + 7 * static_cast<double>(v) / kPace;
      expect_error(machine::to_string(edge), line, square().run(edge, kPace), -3, 3.1);
    }
  }
}

TEST(PatternFlits, Shift) {
  for (const std::int64_t v : {8, 64, 512}) {
    for (const int d : {3, 5}) {
      const Pattern pattern = machine::shift(Axis::Rows, d, packets(v));
      expect_error(machine::to_string(pattern),
                   static_cast<double>(square().formula(pattern).total(1).count()),
                   square().run(pattern, 1.0), 0, 8);
      if (v == 512 && d == 3) {
        expect_error("unpaced " + machine::to_string(pattern), unpaced(square(), pattern),
                     square().run(pattern, std::nullopt), -35, -25);
      }
    }
  }
}

TEST(PatternFlits, AllToAll) {
  for (const std::int64_t m : {8, 64}) {
    const Pattern rows = machine::all_to_all(Axis::Rows, packets(m));
    expect_error(machine::to_string(rows), paced(square(), rows), square().run(rows, kPace), -1,
                 1.1);
  }
  const Pattern both = machine::all_to_all(Axis::Both, packets(8));
  expect_error(machine::to_string(both), paced(square(), both), square().run(both, kPace), -1, 1.1);
}

TEST(PatternFlits, CopiedByRouters) {
  expect_replicated(square(), 16, kPace, 10);
  expect_replicated(square(), 256, kPace, 1.6);
}

// Unpaced, and in any order, patterns take longer; without barriers as well.
TEST(PatternFlits, WhatHappensAtOnce) {
  expect_mixes(square(), {.rerank = {0, 2.4},
                          .shift_and_move = {-0.2, 0},
                          .shift_and_move_unpaced = {-18, -17},
                          .gathers = {1.5, 7.1},
                          .gathers_unpaced = {-0.3, 0},
                          .gather_and_shift = {1.2, 5.9},
                          .barriers = {-6.2, -1.7},
                          .over_middles = {0, 4},
                          .direct_scatter = {-5.5, 0},
                          .free_rows = {-2.3, -2},
                          .free_region = {7, 7.5}});
}

}  // namespace
}  // namespace dojo::mesh
