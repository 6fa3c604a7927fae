#include "dojo/numerics/sum_order.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "dojo/numerics/association.h"
#include "dojo/numerics/sum_order_oracle.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::Factors;
using testing::is_same;
using testing::Random;

float sum_of(const std::vector<Factors>& products, const ReduceCuts& cuts) {
  const std::array<std::int64_t, 1> extent{static_cast<std::int64_t>(products.size())};
  return sum_products(extent, cuts, [&](auto& sum, std::span<const std::int64_t> at) {
    const Factors& f = products[static_cast<std::size_t>(at[0])];
    sum.add(f.first, f.second);
  });
}

std::vector<Factors> times_one(const std::vector<float>& x) {
  std::vector<Factors> out;
  for (const float value : x) {
    out.emplace_back(value, 1.0F);
  }
  return out;
}

constexpr float kBig = 16777216.0F;  // FP32 swallows a lone 1 added to it, w21 one of 2^10
constexpr ReduceCuts in_order(SumOrder order) { return {{}, order}; }

TEST(SumOrder, HasANameThatLeadsBack) {
  for (const SumOrder order : testing::kSumOrders) {
    EXPECT_EQ(sum_order_named(name_of(order)), order);
  }
  EXPECT_EQ(sum_order_named("tile8"), std::nullopt);
  EXPECT_EQ(name_of(ReduceCuts{}.order), "sequential");
}

TEST(SumOrder, Tile4FoldsFourThenAdds) {
  // {B 1 1 1} = B, {1 1 1 1} = 4, {-B} : (B + 4) - B. In sequence every 1 would be lost.
  const std::vector<Factors> x = times_one({kBig, 1, 1, 1, 1, 1, 1, 1, -kBig});
  EXPECT_EQ(sum_of(x, in_order(SumOrder::Sequential)), 0.0F);
  EXPECT_EQ(sum_of(x, in_order(SumOrder::Tile4)), 4.0F);
  // Groups begin anew with each part: {B 1 1 1} {1} = B, then {1 1 -B} = 2 - B.
  EXPECT_EQ(sum_of(times_one({kBig, 1, 1, 1, 1, 1, 1, -kBig}), {{5}, SumOrder::Tile4}), 2.0F);
}

TEST(SumOrder, W21RoundsEveryStepTo14SignificantBits) {
  constexpr float kSwallows = 16384.0F;  // 2^14: one unit of the last place is 2
  EXPECT_EQ(sum_of(times_one({kSwallows, 1, 1, 1}), in_order(SumOrder::W21)), kSwallows);
  EXPECT_EQ(sum_of(times_one({1, 1, 1, kSwallows}), in_order(SumOrder::W21)), kSwallows + 4);
  EXPECT_EQ(sum_of(times_one({kSwallows, 1, 1, 1}), {{2}, SumOrder::W21}), kSwallows + 2);
  // Parts are added with the same rounding: (2^14 + 2) + 1 is a tie, to even: 2^14 + 4.
  EXPECT_EQ(sum_of(times_one({kSwallows, 2, 1}), {{2}, SumOrder::W21}), kSwallows + 4);
}

TEST(SumOrder, W21ClampsAndHasNoDenormals) {
  EXPECT_EQ(round_w21(0x1p65F), 0x1.fff8p64F);
  EXPECT_EQ(round_w21(-std::numeric_limits<float>::infinity()), -0x1.fff8p64F);
  EXPECT_EQ(round_w21(0x1.fffefep64F), 0x1.fff8p64F);
  EXPECT_EQ(round_w21(0x1p-62F), 0x1p-62F);
  EXPECT_EQ(testing::bits_of(round_w21(-0x1.fffffep-63F)), 0U);
  EXPECT_EQ(testing::bits_of(round_w21(-0.0F)), 0U);
  EXPECT_TRUE(std::isnan(round_w21(NAN)));
}

TEST(SumOrder, W21RoundsLikeItsSecondDefinition) {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 9973) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    ASSERT_TRUE(is_same(round_w21(x), testing::round_w21_long_hand(x))) << x;
  }
}

TEST(SumOrder, ExactForgetsNothing) {
  const SumOrder exact = SumOrder::Exact;
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kMin = std::numeric_limits<float>::denorm_min();
  const std::vector<Factors> far_apart{{kMax, kMax}, {kMin, kMin}, {-kMax, kMax}};
  EXPECT_TRUE(is_same(sum_of(far_apart, in_order(exact)), 0.0F));  // 2^-298 rounds to +0
  EXPECT_TRUE(is_same(sum_of({{-kMin, kMin}}, in_order(exact)), -0.0F));
  EXPECT_TRUE(is_same(sum_of({{-0.0F, 1.0F}}, in_order(exact)), 0.0F));
  EXPECT_EQ(sum_of({{kMax, kMax}, {3, 5}, {-kMax, kMax}}, in_order(exact)), 15.0F);
  // A tie of FP32 that a far smaller product decides.
  EXPECT_EQ(sum_of({{1, 1}, {0x1p-24F, 1}}, in_order(exact)), 1.0F);
  EXPECT_EQ(sum_of({{1, 1}, {0x1p-24F, 1}, {kMin, kMin}}, in_order(exact)), 1.0F + 0x1p-23F);
  EXPECT_EQ(sum_of({{1, 1}, {0x1.8p-23F, 1}, {-kMin, kMin}}, in_order(exact)), 1.0F + 0x1p-23F);
  EXPECT_EQ(sum_of({{kMax, 2.0F}}, in_order(exact)), std::numeric_limits<float>::infinity());
}

TEST(SumOrder, ExactTreatsInfinitiesAsAnySumDoes) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sum_of({{kInf, 1}, {-3, 4}}, in_order(SumOrder::Exact)), kInf);
  EXPECT_TRUE(std::isnan(sum_of({{kInf, 1}, {-kInf, 1}}, in_order(SumOrder::Exact))));
  EXPECT_TRUE(std::isnan(sum_of({{kInf, 0}}, in_order(SumOrder::Exact))));
  EXPECT_TRUE(std::isnan(sum_of({{NAN, 0}, {1, 1}}, in_order(SumOrder::Exact))));
}

TEST(SumOrder, ExactDependsOnNoOrder) {
  Random random(33);
  for (int i = 0; i < 300; ++i) {
    const std::int64_t kind = random.between(0, 3);
    std::vector<Factors> x;
    for (std::int64_t k = random.between(1, 60); k > 0; --k) {
      x.emplace_back(testing::hard_value(random, kind), testing::hard_value(random, i % 4));
    }
    const float wanted = sum_of(x, in_order(SumOrder::Exact));
    std::reverse(x.begin(), x.end());
    EXPECT_TRUE(is_same(sum_of(x, {{random.between(1, 7)}, SumOrder::Exact}), wanted));
  }
}

TEST(SumOrder, EqualsItsSecondDefinition) {
  Random random(34);
  for (int i = 0; i < 4000; ++i) {
    std::vector<std::int64_t> extent;
    std::int64_t points = 1;
    for (std::int64_t loop = random.between(0, 3); loop > 0; --loop) {
      extent.push_back(random.between(1, 9));
      points *= extent.back();
    }
    std::vector<Factors> x;
    const std::int64_t kind = random.between(0, 3);
    for (std::int64_t p = 0; p < points; ++p) {
      x.emplace_back(testing::hard_value(random, kind), testing::hard_value(random, i % 4));
    }
    ReduceCuts cuts = testing::any_cuts(random, extent);
    const auto factors = [&](std::span<const std::int64_t> at) {
      std::int64_t index = 0;
      for (std::size_t j = 0; j < extent.size(); ++j) {
        index = index * extent[j] + at[j];
      }
      return x[static_cast<std::size_t>(index)];
    };
    for (const SumOrder order : testing::kSumOrders) {
      cuts.order = order;
      const float got =
          sum_products(extent, cuts, [&](auto& sum, std::span<const std::int64_t> at) {
            const Factors f = factors(at);
            sum.add(f.first, f.second);
          });
      ASSERT_TRUE(is_same(got, testing::sum_products_long_hand(extent, cuts, factors)))
          << "case " << i << " " << name_of(order);
    }
  }
}

}  // namespace
}  // namespace dojo::numerics
