#include "dojo/numerics/association.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "dojo/numerics/internal/reduce_plan.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::Random;

// 2^24 swallows a lone 1 added to it, so each association of these has its own sum.
constexpr float kBig = 16777216.0F;

float sum_of(const std::vector<float>& x, const std::vector<std::int64_t>& extent,
             const ReduceCuts& cuts) {
  return sum_in_order(extent, cuts, [&](float acc, std::span<const std::int64_t> at) {
    std::int64_t index = 0;
    for (std::size_t i = 0; i < extent.size(); ++i) {
      index = index * extent[i] + at[i];
    }
    return acc + x[static_cast<std::size_t>(index)];
  });
}

TEST(Association, OneLoopByHand) {
  const std::vector<float> x{kBig, 1, 1, 1, 1, 1};
  EXPECT_EQ(sum_of(x, {6}, {}), kBig);  // each 1 is lost
  EXPECT_EQ(sum_of(x, {6}, {{6}}), kBig);
  EXPECT_EQ(sum_of(x, {6}, {{7}}), kBig);      // a block beyond the loop does not cut
  EXPECT_EQ(sum_of(x, {6}, {{1}}), kBig);      // chain of the elements themselves
  EXPECT_EQ(sum_of(x, {6}, {{2}}), kBig + 4);  // (B + 1) + (1 + 1) + (1 + 1)
  EXPECT_EQ(sum_of(x, {6}, {{3}}), kBig + 4);  // (B + 1 + 1) + 3 = B + 3, a tie: to even
  EXPECT_EQ(sum_of(x, {6}, {{4}}), kBig + 2);  // (B + 1 + 1 + 1) + (1 + 1)
}

TEST(Association, TheInnerLoopIsChainedBeforeTheOuter) {
  // Rows {B, 1}, {1, 1}, {-B, 1}. Inner first: B, 2, -B + 1; chained: B + 2 - (B - 1) = 3.
  // Outer first: B + 1 - B = 0, 1 + 1 + 1 = 3; 3. Element by element in row order: B + 1 = B,
  // B + 1, B + 1, then - B = 0, + 1 = 1.
  const std::vector<float> y{kBig, 1, 1, 1, -kBig, 1};
  EXPECT_EQ(sum_of(y, {3, 2}, {}), 1.0F);
  EXPECT_EQ(sum_of(y, {3, 2}, {{1, 1}}), 3.0F);
  // Rows {1, B}, {1, -B}. Inner first: (1 + B) = B, (1 - B) = 1 - B; 1. Outer first: 2 + 0 = 2.
  const std::vector<float> z{1, kBig, 1, -kBig};
  EXPECT_EQ(sum_of(z, {2, 2}, {{1, 1}}), 1.0F);
}

TEST(Association, RunsByHand) {
  const std::vector<float> x{1, 1, kBig, -kBig, 1, 1};
  const auto sum_by = [&](std::int64_t block, std::int64_t run) {
    ReduceCuts cuts{{block}};
    cuts.run = {run};
    return sum_of(x, {6}, cuts);
  };
  EXPECT_EQ(sum_of(x, {6}, {{1}}), 4.0F);  // 2, B + 2, 2, 3, 4
  EXPECT_EQ(sum_by(1, 2), 4.0F);           // 2 + (B - B) + 2
  EXPECT_EQ(sum_by(1, 3), 4.0F);           // (1 + 1 + B) + (-B + 1 + 1)
  EXPECT_EQ(sum_by(1, 4), 4.0F);           // (1 + 1 + B - B) + (1 + 1): the last run is shorter
  EXPECT_EQ(sum_by(1, 6), 4.0F);
  const std::vector<float> y{kBig, 1, 1, 1, 1, 1};
  const auto sum_y = [&](std::int64_t block, std::int64_t run) {
    ReduceCuts cuts{{block}};
    cuts.run = {run};
    return sum_of(y, {6}, cuts);
  };
  EXPECT_EQ(sum_y(1, 1), kBig);      // runs of one part are a chain
  EXPECT_EQ(sum_y(1, 2), kBig + 4);  // (B + 1) + (1 + 1) + (1 + 1)
  EXPECT_EQ(sum_y(1, 3), kBig + 4);  // (B + 1 + 1) + 3 = B + 3, a tie: to even
  EXPECT_EQ(sum_y(1, 4), kBig + 2);  // (B + 1 + 1 + 1) + (1 + 1)
  EXPECT_EQ(sum_y(1, 9), kBig);      // a run beyond the parts is one chain
  EXPECT_EQ(sum_y(2, 2), kBig + 4);  // ((B + 1) + (1 + 1)) + (1 + 1)
  EXPECT_EQ(sum_y(3, 2), kBig + 4);
}

TEST(Association, RunsOfOneLoopAreInsideThePartsOfTheOuterOne) {
  // Rows {B, 1, 1}, {-B, 1, 1}, columns by runs of 2 of parts of 1: rows (B + 1) + 1 = B and
  // (-B + 1) + 1 = -B + 2 (-B + 1 is exact below 2^24); together 2. Rows by runs of 2 changes
  // nothing: there are two.
  const std::vector<float> x{kBig, 1, 1, -kBig, 1, 1};
  ReduceCuts cuts{{1, 1}};
  cuts.run = {2, 2};
  EXPECT_EQ(sum_of(x, {2, 3}, cuts), 2.0F);
}

TEST(Association, NothingIsAddedToTheFirstOfARun) {
  ReduceCuts cuts{{1}};
  cuts.run = {2};
  const auto minus = [](float, std::span<const std::int64_t>) { return -0.0F; };
  EXPECT_EQ(testing::bits_of(sum_in_order(std::array<std::int64_t, 1>{5}, cuts, minus)),
            testing::bits_of(-0.0F));
}

TEST(Association, PointsOfAPartRunThroughAllItsLoops) {
  // 2 x 4, columns cut by 2: part 0 is {x00, x01, x10, x11}, part 1 {x02, x03, x12, x13}.
  const std::vector<float> x{kBig, 1, 1, 1, -kBig, 1, 1, 1};
  EXPECT_EQ(sum_of(x, {2, 4}, {{2, 2}}), 5.0F);  // (B + 1 - B + 1 = 1) + (1 + 1 + 1 + 1 = 4)
  EXPECT_EQ(sum_of(x, {2, 4}, {}), 3.0F);        // B, lost, lost, lost, - B = 0, 1, 2, 3
}

TEST(Association, EqualsItsSecondDefinition) {
  Random random(31);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::int64_t> extent;
    std::int64_t points = 1;
    for (std::int64_t loop = random.between(0, 4); loop > 0; --loop) {
      extent.push_back(random.between(1, 6));
      points *= extent.back();
    }
    std::vector<float> x;
    for (std::int64_t p = 0; p < points; ++p) {
      x.push_back(testing::hard_value(random, 0));
    }
    const ReduceCuts cuts = testing::any_cuts(random, extent);
    const float wanted =
        testing::sum_long_hand(extent, cuts, [&](float acc, const std::vector<std::int64_t>& at) {
          std::int64_t index = 0;
          for (std::size_t j = 0; j < extent.size(); ++j) {
            index = index * extent[j] + at[j];
          }
          return acc + x[static_cast<std::size_t>(index)];
        });
    ASSERT_TRUE(testing::is_same(sum_of(x, extent, cuts), wanted)) << "case " << i;
  }
}

TEST(Association, ASpaceWithoutPointsSumsToZero) {
  EXPECT_EQ(sum_of({}, {0}, {}), 0.0F);
  EXPECT_EQ(sum_of({}, {3, 0}, {{2, 5}}), 0.0F);
}

TEST(ReducePlan, ChunksKeepEveryPointAndEveryClosing) {
  Random random(32);
  for (int i = 0; i < 500; ++i) {
    const std::vector<std::int64_t> extent{random.between(1, 9), random.between(1, 9),
                                           random.between(1, 40)};
    const ReduceCuts cuts = testing::any_cuts(random, extent);
    std::vector<internal::Segment> segments;
    internal::for_each_part(extent, cuts,
                            [&](const internal::Part& part) { segments.push_back(part.segment); });
    const std::int64_t limit = random.between(1, 50);
    const internal::Chunked chunked = internal::into_chunks(segments, limit);
    std::int64_t points = 0;
    std::int64_t closings = 0;
    bool is_inside = false;
    for (const internal::Chunk& chunk : chunked.chunks) {
      EXPECT_EQ(chunk.first_point, points);
      EXPECT_EQ(chunk.resumes, is_inside);
      EXPECT_LE(chunk.points, limit);
      std::int64_t in_chunk = 0;
      for (std::int64_t s = 0; s < chunk.segments; ++s) {
        const internal::Segment& segment =
            chunked.segments[static_cast<std::size_t>(chunk.first_segment + s)];
        in_chunk += segment.points;
        closings += segment.closes;
        is_inside = segment.closes == 0;
      }
      EXPECT_EQ(in_chunk, chunk.points);
      points += in_chunk;
    }
    std::int64_t wanted = 0;
    for (const internal::Segment& segment : segments) {
      wanted += segment.closes;
    }
    EXPECT_EQ(points, extent[0] * extent[1] * extent[2]);
    EXPECT_EQ(closings, wanted);
  }
}

}  // namespace
}  // namespace dojo::numerics
