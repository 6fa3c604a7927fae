#include "dojo/numerics/amax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "dojo/numerics/encode.h"

namespace dojo::numerics {
namespace {

TEST(FiniteAmax, LeavesOutWhatIsNotFinite) {
  ThreadPool pool(2);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> values{0.5F, -2.25F, kInf, -kInf, std::nanf(""), 1.0F};
  EXPECT_EQ(finite_amax(pool, values), 2.25F);
  EXPECT_EQ(finite_amax(pool, std::vector<float>{kInf, std::nanf("")}), 0.0F);
  EXPECT_EQ(finite_amax(pool, {}), 0.0F);
  EXPECT_EQ(finite_amax(pool, std::vector<float>{1e-42F, -2e-42F}), 2e-42F);
}

TEST(FiniteAmax, IsThatOfAnEncodeForAnySplit) {
  ThreadPool pool(3);
  std::vector<float> values(200'001);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<float>(i)) * static_cast<float>(i % 977);
  }
  std::vector<std::byte> codes(values.size());
  const EncodeStats stats =
      encode(pool, values, {.format = Format::Cf8_1_4_3, .bias = 7}, {}, codes);
  EXPECT_EQ(finite_amax(pool, values), stats.amax);
}

}  // namespace
}  // namespace dojo::numerics
