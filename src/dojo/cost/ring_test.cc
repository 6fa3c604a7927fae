#include "dojo/cost/ring.h"

#include <gtest/gtest.h>

#include <vector>

namespace dojo::cost {
namespace {

constexpr RingLink kLink{.rate = BytesPerSecond(50e9), .latency = Picoseconds(500'000)};

// 2 x 3 steps of 256 KB at 50 GB/s = 5.12 us and half a microsecond.
TEST(Ring, OfFourIsSixSteps) {
  const std::vector<int> ring{4};
  EXPECT_EQ(ring_all_reduce(ring, Bytes(1'024'000), kLink), Picoseconds(6 * 5'620'000));
  EXPECT_EQ(ring_all_reduce(std::vector{1}, Bytes(1'024'000), kLink), Picoseconds{});
}

// 4 x 2: along the first dimension as above, along the second 2 steps of 128 KB.
TEST(Ring, OfRingsScattersFurtherAlongTheSecond) {
  const std::vector<int> torus{4, 2};
  EXPECT_EQ(ring_all_reduce(torus, Bytes(1'024'000), kLink),
            Picoseconds(6 * 5'620'000 + 2 * 3'060'000));
}

TEST(Ring, MessageByMessageIsTheFormula) {
  for (const std::vector<int>& dimensions :
       {std::vector{1}, {2}, {7}, {64}, {4, 2}, {8, 8}, {3, 5, 2}, {1, 6}}) {
    for (const std::int64_t bytes : {1, 1000, 1'048'576}) {
      const RingRun run = run_ring_all_reduce(dimensions, Bytes(bytes), kLink);
      EXPECT_EQ(run.end, ring_all_reduce(dimensions, Bytes(bytes), kLink));
      std::int64_t members = 1;
      std::int64_t steps = 0;
      for (const int n : dimensions) {
        members *= n;
        steps += 2 * (n - 1);
      }
      EXPECT_EQ(run.messages, members * steps);
    }
  }
}

}  // namespace
}  // namespace dojo::cost
