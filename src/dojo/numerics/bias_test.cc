#include "dojo/numerics/bias.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

TEST(Bias, IsTheLargestThatStillHoldsTheAmax) {
  testing::Random random(21);
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2}) {
    for (int i = 0; i < 20000; ++i) {
      const float amax = std::ldexp(1.0F + static_cast<float>(random.bits() >> 9) * 0x1p-23F,
                                    static_cast<int>(random.between(-80, 40)));
      int wanted = 0;
      while (wanted < kMaxBias && amax <= decode(cfloat_spec(format, wanted + 1), 0x7F)) {
        ++wanted;
      }
      ASSERT_EQ(bias_from_amax(format, amax, 0), wanted) << amax;
      ASSERT_EQ(bias_from_amax(format, amax, 1),
                std::max(0, amax <= decode(cfloat_spec(format, kMaxBias), 0x7F) * 0.5F
                                ? std::min(wanted, kMaxBias)
                                : wanted - 1))
          << amax;
    }
  }
}

TEST(Bias, MeetsTheLargestValueExactly) {
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, 480.0F, 0), 7);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, std::nextafter(480.0F, 1e9F), 0), 6);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, 61440.0F, 0), 0);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, 1e9F, 0), 0);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_5_2, 1.75F, 1), 30);
}

TEST(Bias, WithoutInformationIsTheLargest) {
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, 0.0F, 1), 63);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, std::numeric_limits<float>::infinity(), 1), 63);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_4_3, std::numeric_limits<float>::quiet_NaN(), 1), 63);
  EXPECT_EQ(bias_from_amax(Format::Cf8_1_5_2, 1e-40F, 1), 63);
}

TEST(BiasWindow, FollowsTheCurrentAmaxUntilThereIsHistory) {
  BiasWindow window;
  EXPECT_EQ(window.bias(Format::Cf8_1_4_3, 480.0F), 6);
  window.push(30.0F);
  EXPECT_EQ(window.bias(Format::Cf8_1_4_3, 480.0F), bias_from_amax(Format::Cf8_1_4_3, 30.0F, 1));
}

TEST(BiasWindow, HoldsTheLargestOfItsLengthAndForgetsIt) {
  BiasWindow window{.length = 4};
  window.push(100.0F);
  for (int i = 0; i < 3; ++i) {
    window.push(1.0F);
    EXPECT_EQ(window.bias(Format::Cf8_1_4_3, 0.0F, 0),
              bias_from_amax(Format::Cf8_1_4_3, 100.0F, 0));
  }
  window.push(std::numeric_limits<float>::infinity());  // left out
  EXPECT_EQ(window.bias(Format::Cf8_1_4_3, 0.0F, 0), bias_from_amax(Format::Cf8_1_4_3, 100.0F, 0));
  window.push(2.0F);
  EXPECT_EQ(window.bias(Format::Cf8_1_4_3, 0.0F, 0), bias_from_amax(Format::Cf8_1_4_3, 2.0F, 0));
  EXPECT_EQ(window.history.size(), 4U);
}

TEST(BiasWindow, ContinuesFromItsSavedState) {
  BiasWindow whole;
  BiasWindow resumed;
  for (int step = 0; step < 40; ++step) {
    const float amax = static_cast<float>((step * 37) % 23 + 1);
    whole.push(amax);
    BiasWindow saved{resumed.length, resumed.history, resumed.position};
    saved.push(amax);
    resumed = saved;
  }
  EXPECT_EQ(resumed, whole);
}

}  // namespace
}  // namespace dojo::numerics
