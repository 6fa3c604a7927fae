#include "dojo/program/split.h"

#include <gtest/gtest.h>

#include <random>

namespace dojo::program {
namespace {

TEST(Cut, RoundsBlocksUpToTheQuantum) {
  // 4096 over 18 rows by 8: ceil(4096 / 144) = 29 blocks of 8.
  EXPECT_EQ(cut(Axis::NodeY, 4096, 18, 8), (AxisCut{Axis::NodeY, 18, 232}));
  // 56 rows over 18: blocks of 4 in 14 parts, four places idle.
  EXPECT_EQ(cut(Axis::NodeY, 56, 18, 1), (AxisCut{Axis::NodeY, 14, 4}));
  EXPECT_EQ(cut(Axis::Replica, 32, 25, 1), (AxisCut{Axis::Replica, 16, 2}));
}

TEST(Cut, OfFewerPointsThanPlacesLeavesPlacesIdle) {
  EXPECT_EQ(cut(Axis::NodeX, 3, 19, 1), (AxisCut{Axis::NodeX, 3, 1}));
  EXPECT_EQ(cut(Axis::NodeX, 0, 19, 8), (AxisCut{Axis::NodeX, 1, 8}));
}

TEST(Cut, TilesTheLoopWithPartsThatAreEqualButForTheLast) {
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    const std::int64_t extent = std::uniform_int_distribution<>(1, 5000)(random);
    const std::int64_t places = std::uniform_int_distribution<>(1, 95)(random);
    const std::int64_t quantum = std::uniform_int_distribution<>(1, 16)(random);
    const AxisCut made = cut(Axis::NodeY, extent, places, quantum);
    EXPECT_LE(made.parts, places);
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < made.parts; ++i) {
      const graph::Interval one = part(made, extent, i);
      EXPECT_EQ(one.begin, at);
      EXPECT_TRUE(i + 1 == made.parts || one.length() == made.block);
      EXPECT_GT(one.length(), 0);
      at = one.end;
    }
    EXPECT_EQ(at, extent) << "seed 11";
    EXPECT_LE(efficiency(made, extent), 1);
  }
}

graph::LoopNest reduction_over(const std::vector<std::pair<std::string, std::int64_t>>& loops) {
  graph::LoopNest nest;
  graph::Stage stage;
  for (const auto& [name, extent] : loops) {
    stage.loops.push_back({.loop = static_cast<int>(nest.loops.size()),
                           .kind = graph::LoopKind::Reduce,
                           .combine = graph::Combine::Sum,
                           .picks = {}});
    nest.loops.push_back({name, extent});
  }
  nest.stages.push_back(stage);
  return nest;
}

TEST(ReductionCuts, FollowTheNestsOrderAndLeaveWholeLoopsOut) {
  const graph::LoopNest nest = reduction_over({{"n", 128}, {"y", 28}, {"x", 38}});
  const Split split{{{"y", 28, {{Axis::NodeY, 14, 2}}}, {"n", 128, {{Axis::Replica, 16, 8}}}}};
  EXPECT_EQ(reduction_cuts(nest, split),
            (std::vector<graph::ReduceCut>{{"n", 16, 8}, {"y", 14, 2}}));
}

TEST(ReductionCuts, OfALoopOnTwoAxesAreItsInnerBlocks) {
  const graph::LoopNest nest = reduction_over({{"r", 4096}});
  const Split split{{{"r", 4096, {{Axis::Replica, 4, 1024}, {Axis::NodeY, 16, 64}}}}};
  EXPECT_EQ(reduction_cuts(nest, split), (std::vector<graph::ReduceCut>{{"r", 64, 64}}));
}

TEST(ReductionCuts, HaveRunsWhereReplicasFillSeveralRows) {
  const graph::LoopNest nest = reduction_over({{"n", 128}, {"y", 28}, {"r", 4096}});
  const Split split{{{"n", 128, {{Axis::Replica, 16, 8}}}, {"y", 28, {{Axis::NodeY, 14, 2}}}}};
  EXPECT_EQ(reduction_cuts(nest, split, 5),
            (std::vector<graph::ReduceCut>{{"n", 16, 8, 5}, {"y", 14, 2}}));
  EXPECT_EQ(reduction_cuts(nest, split, 16), reduction_cuts(nest, split));
  // Sixteen parts of each replica.
  const Split inside{{{"r", 4096, {{Axis::Replica, 4, 1024}, {Axis::NodeY, 16, 64}}}}};
  EXPECT_EQ(reduction_cuts(nest, inside, 2), (std::vector<graph::ReduceCut>{{"r", 64, 64, 32}}));
}

TEST(ReductionCuts, AreNoneWhereOnePartHasEverything) {
  const graph::LoopNest nest = reduction_over({{"n", 128}});
  const Split split{{{"n", 128, {{Axis::Replica, 1, 128}}}}};
  EXPECT_TRUE(reduction_cuts(nest, split).empty());
}

TEST(Layout, TakesTheInnermostBlockAndFlatShares) {
  Layout layout;
  layout[Axis::Replica] = sliced(0, {Axis::Replica, 16, 8});
  layout[Axis::NodeY] = sliced(2, {Axis::NodeY, 14, 2});
  EXPECT_EQ(slice_shape(layout, {128, 24, 28, 38}), (graph::Shape{8, 24, 2, 38}));
  EXPECT_EQ(slice_bytes(layout, {128, 24, 28, 38}, Format::Bf16), Bytes(8 * 24 * 2 * 38 * 2));
  Layout weights;
  weights[Axis::NodeX] = flat(19, 96);
  weights[Axis::NodeY] = flat(6, 16);
  EXPECT_EQ(slice_elements(weights, {24, 3, 5, 5}), 16);
}

TEST(Layout, PrintsSlicesAndPartials) {
  Layout layout;
  layout[Axis::Replica] = sliced(0, {Axis::Replica, 16, 8});
  layout[Axis::NodeX] = {.sharing = Sharing::Partial};
  EXPECT_EQ(to_string(layout), "[0: replica 16x8] P(node.x)");
}

}  // namespace
}  // namespace dojo::program
