#include "dojo/run/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace dojo::run {
namespace {

std::vector<Lifetime> random_lifetimes(std::uint32_t seed, int count) {
  std::mt19937 rng(seed);
  std::vector<Lifetime> lifetimes;
  for (int i = 0; i < count; ++i) {
    const auto first = static_cast<std::int64_t>(rng() % 50);
    lifetimes.push_back({first, first + static_cast<std::int64_t>(rng() % 20),
                         Bytes(static_cast<std::int64_t>(rng() % 5000))});
  }
  return lifetimes;
}

TEST(MemoryPlan, ValuesThatLiveTogetherNeverOverlap) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<Lifetime> lifetimes = random_lifetimes(seed, 80);
    const MemoryPlan plan = plan_memory(lifetimes);
    for (std::size_t a = 0; a < lifetimes.size(); ++a) {
      ASSERT_EQ(plan.offsets[a] % kArenaAlignment, 0);
      ASSERT_LE(plan.offsets[a] + lifetimes[a].size.count(), plan.size.count());
      for (std::size_t b = 0; b < a; ++b) {
        const bool together =
            lifetimes[a].first <= lifetimes[b].last && lifetimes[b].first <= lifetimes[a].last;
        const bool apart = plan.offsets[a] + lifetimes[a].size.count() <= plan.offsets[b] ||
                           plan.offsets[b] + lifetimes[b].size.count() <= plan.offsets[a];
        ASSERT_TRUE(!together || apart) << a << " and " << b;
      }
    }
  }
}

TEST(MemoryPlan, IsNeverSmallerThanTheLargestLiveSumAndStaysNearIt) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const MemoryPlan plan = plan_memory(random_lifetimes(seed, 200));
    EXPECT_GE(plan.size, plan.largest_live_sum);
    EXPECT_LE(plan.size.count(), plan.largest_live_sum.count() * 3 / 2);
  }
}

TEST(MemoryPlan, ReusesTheBytesOfADeadValue) {
  const std::vector<Lifetime> chain{
      {0, 1, Bytes(1000)}, {1, 2, Bytes(1000)}, {2, 3, Bytes(1000)}, {3, 4, Bytes(1000)}};
  const MemoryPlan plan = plan_memory(chain);
  EXPECT_EQ(plan.size.count(), 2 * 1024);
  EXPECT_EQ(plan.largest_live_sum.count(), 2 * 1024);
}

TEST(MemoryPlan, OfNothingIsEmpty) { EXPECT_EQ(plan_memory({}).size.count(), 0); }

}  // namespace
}  // namespace dojo::run
