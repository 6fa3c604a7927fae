#include "dojo/numerics/special.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "dojo/numerics/special_check.h"

namespace dojo::numerics {
namespace {

using testing::check_special;
using testing::isas;
using testing::special_functions;
using testing::SpecialFunction;
using testing::SpecialResult;

TEST(Special, ErrorIsWithinTheStatedBoundAndArraysEqualTheScalar) {
  for (const SpecialFunction& f : special_functions()) {
    for (const Isa isa : isas()) {
      const SpecialResult result =
          check_special(f, 0, std::uint64_t{1} << 32, isa == Isa::Plain ? 40'009 : 5'003, isa);
      EXPECT_LE(result.worst_ulps, f.max_ulps) << f.name << " at " << result.worst_at;
      EXPECT_EQ(result.differing, 0) << f.name << " " << name_of(isa);
    }
  }
}

TEST(Special, ValuesAtTheEdges) {
  EXPECT_EQ(exp(0.0F), 1.0F);
  EXPECT_EQ(exp(-INFINITY), 0.0F);
  EXPECT_EQ(exp(INFINITY), INFINITY);
  EXPECT_EQ(exp(-104.0F), 0.0F);
  EXPECT_GT(exp(-103.0F), 0.0F);  // a denormal
  EXPECT_LT(exp(88.72F), INFINITY);
  EXPECT_EQ(exp(88.73F), INFINITY);
  EXPECT_EQ(log(1.0F), 0.0F);
  EXPECT_EQ(log(0.0F), -INFINITY);
  EXPECT_EQ(log(-0.0F), -INFINITY);
  EXPECT_TRUE(std::isnan(log(-1.0F)));
  EXPECT_EQ(log(INFINITY), INFINITY);
  EXPECT_EQ(tanh(INFINITY), 1.0F);
  EXPECT_EQ(tanh(-20.0F), -1.0F);
  EXPECT_EQ(erf(-INFINITY), -1.0F);
  EXPECT_EQ(rsqrt(4.0F), 0.5F);
  EXPECT_EQ(rsqrt(0.0F), INFINITY);
  EXPECT_EQ(sigmoid(0.0F), 0.5F);
  EXPECT_EQ(sigmoid(-INFINITY), 0.0F);
  EXPECT_EQ(sigmoid(INFINITY), 1.0F);
  EXPECT_GT(sigmoid(-100.0F), 0.0F);
  EXPECT_EQ(sin(0.0F), 0.0F);
  EXPECT_EQ(cos(0.0F), 1.0F);
  EXPECT_TRUE(std::isnan(sin(INFINITY)));
  EXPECT_TRUE(std::signbit(sin(-0.0F)));
  EXPECT_TRUE(std::signbit(tanh(-0.0F)));
  EXPECT_TRUE(std::signbit(erf(-0.0F)));
  for (const SpecialFunction& f : special_functions()) {
    EXPECT_TRUE(std::isnan(f.scalar(NAN))) << f.name;
  }
}

TEST(Special, OddFunctionsAreOddBitByBit) {
  for (std::uint32_t bits = 0; bits < 0x7F800000u; bits += 65'537) {
    const float x = std::bit_cast<float>(bits);
    ASSERT_EQ(tanh(-x), -tanh(x));
    ASSERT_EQ(erf(-x), -erf(x));
    ASSERT_TRUE(testing::is_same(sin(-x), -sin(x)) || std::fabs(x) >= 0x1p50F);
  }
}

TEST(Special, LengthAndPlaceInTheArrayDoNotMatter) {
  std::vector<float> x(200);
  std::iota(x.begin(), x.end(), -100.5F);
  for (const SpecialFunction& f : special_functions()) {
    for (std::size_t count = 0; count < 70; ++count) {
      for (const Isa isa : isas()) {
        std::vector<float> y(count);
        f.array(std::span(x).subspan(count, count), y, isa);
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_TRUE(testing::is_same(y[i], f.scalar(x[count + i]))) << f.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace dojo::numerics
