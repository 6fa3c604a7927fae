#include "dojo/numerics/bias.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

TEST(Bias, IsTheLargestThatStillHoldsTheAmax) {
  testing::Random random(21);
  for (const Format format :
       {Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::Shp, Format::E4m3, Format::E5m2}) {
    const auto largest = [&](int bias) {
      const CFloatSpec spec = cfloat_spec(format, bias);
      return decode(spec, spec.max_magnitude());
    };
    for (int i = 0; i < 20000; ++i) {
      const float amax = std::ldexp(1.0F + static_cast<float>(random.bits() >> 9) * 0x1p-23F,
                                    static_cast<int>(random.between(-80, 40)));
      int wanted = 0;
      while (wanted < kMaxBias && amax <= largest(wanted + 1)) {
        ++wanted;
      }
      ASSERT_EQ(bias_from_amax(format, amax, 0), wanted) << amax;
      ASSERT_EQ(
          bias_from_amax(format, amax, 1),
          std::max(0, amax <= largest(kMaxBias) * 0.5F ? std::min(wanted, kMaxBias) : wanted - 1))
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

int bias_of(const BiasPolicy& policy, const BiasMemory& memory, float amax) {
  return choose_bias(policy, Format::Cf8_1_4_3, memory, amax);
}
void note_amax(const BiasPolicy& policy, float amax, BiasMemory& memory) {
  note_step(policy, 0, {.amax = amax}, 100, memory);
}

TEST(DelayedBias, FollowsTheCurrentAmaxUntilThereIsHistory) {
  const BiasPolicy policy;
  BiasMemory memory;
  EXPECT_TRUE(follows_pass(policy, memory));
  EXPECT_EQ(bias_of(policy, memory, 480.0F), 6);
  note_amax(policy, 30.0F, memory);
  EXPECT_FALSE(follows_pass(policy, memory));
  EXPECT_EQ(bias_of(policy, memory, 480.0F), bias_from_amax(Format::Cf8_1_4_3, 30.0F, 1));
}

TEST(DelayedBias, HoldsTheLargestOfItsWindowAndForgetsIt) {
  const BiasPolicy policy{.window = 4, .margin = 0};
  BiasMemory memory;
  note_amax(policy, 100.0F, memory);
  for (int i = 0; i < 3; ++i) {
    note_amax(policy, 1.0F, memory);
    EXPECT_EQ(bias_of(policy, memory, 0), bias_from_amax(Format::Cf8_1_4_3, 100.0F, 0));
  }
  note_amax(policy, std::numeric_limits<float>::infinity(), memory);  // left out
  EXPECT_EQ(bias_of(policy, memory, 0), bias_from_amax(Format::Cf8_1_4_3, 100.0F, 0));
  note_amax(policy, 2.0F, memory);
  EXPECT_EQ(bias_of(policy, memory, 0), bias_from_amax(Format::Cf8_1_4_3, 2.0F, 0));
  EXPECT_EQ(memory.amax.size(), 4U);
}

TEST(CurrentBias, FollowsEachPassAndRemembersNothing) {
  const BiasPolicy policy{.rule = BiasRule::Current, .margin = 0};
  BiasMemory memory;
  for (const float amax : {480.0F, 1.0F, 3e4F}) {
    EXPECT_TRUE(follows_pass(policy, memory));
    EXPECT_EQ(bias_of(policy, memory, amax), bias_from_amax(Format::Cf8_1_4_3, amax, 0));
    note_amax(policy, amax, memory);
  }
  EXPECT_EQ(memory, BiasMemory{});
}

TEST(FixedBias, IsTheUsualOneUnlessStated) {
  BiasPolicy policy{.rule = BiasRule::Fixed};
  const BiasMemory memory;
  EXPECT_FALSE(follows_pass(policy, memory));
  EXPECT_EQ(choose_bias(policy, Format::Cf8_1_4_3, memory, 1e9F), 7);
  EXPECT_EQ(choose_bias(policy, Format::Cf8_1_5_2, memory, 1e9F), 15);
  policy.fixed[static_cast<std::size_t>(Format::Cf8_1_4_3)] = 11;
  EXPECT_EQ(choose_bias(policy, Format::Cf8_1_4_3, memory, 1e9F), 11);
}

// One step at the learnt bias with these counts; the bias of the step after.
int learnt_after(const BiasPolicy& policy, BiasMemory& memory, const EncodeStats& stats) {
  note_step(policy, bias_of(policy, memory, stats.amax), stats, 1 << 20, memory);
  EXPECT_TRUE(is_sound(policy, memory));
  return bias_of(policy, memory, 0);
}

TEST(LearntBias, BeginsWithTheFirstAmaxThatIsNotZero) {
  const BiasPolicy policy{.rule = BiasRule::Learnt};
  BiasMemory memory;
  EXPECT_TRUE(follows_pass(policy, memory));
  learnt_after(policy, memory, {.amax = 0});
  EXPECT_TRUE(follows_pass(policy, memory));
  EXPECT_EQ(learnt_after(policy, memory, {.amax = 480}), 6);
  EXPECT_FALSE(follows_pass(policy, memory));
}

TEST(LearntBias, FallsAtOnceWhereSaturationWeighsMoreThanZeroing) {
  const BiasPolicy policy{.rule = BiasRule::Learnt};
  BiasMemory memory{.learnt = 20};
  EXPECT_EQ(learnt_after(policy, memory, {.amax = 1, .saturated = 1}), 19);
  EXPECT_EQ(learnt_after(policy, memory, {.amax = 1, .saturated = 9, .zeroed = 9 * 256 - 1}), 18);
  EXPECT_EQ(learnt_after(policy, memory, {.amax = 1, .saturated = 9, .zeroed = 9 * 256}), 18);
  // Inf and NaN saturate at every bias.
  EXPECT_EQ(learnt_after(policy, memory, {.amax = 1, .saturated = 9, .not_finite = 9}), 18);
  memory.learnt = 0;
  EXPECT_EQ(learnt_after(policy, memory, {.amax = 1e9F, .saturated = 100}), 0);
}

TEST(LearntBias, RisesOnlyAfterPatienceAndOnlyIfMuchBecomesZero) {
  const BiasPolicy policy{.rule = BiasRule::Learnt};
  BiasMemory memory{.learnt = 20};
  const EncodeStats many{.amax = 1, .zeroed = (1 << 10) + 1};
  for (int round = 1; round <= 3; ++round) {
    for (int i = 1; i < kPatience; ++i) {
      EXPECT_EQ(learnt_after(policy, memory, many), 19 + round);
    }
    EXPECT_EQ(learnt_after(policy, memory, many), 20 + round);
  }
  const EncodeStats few{.amax = 1, .zeroed = 1 << 10};
  for (int i = 0; i < 3 * kPatience; ++i) {
    EXPECT_EQ(learnt_after(policy, memory, few), 23);
  }
  for (int i = 0; i < 3 * kPatience; ++i) {  // a quiet step in between starts over
    EXPECT_EQ(learnt_after(policy, memory, i % kPatience == 2 ? few : many), 23);
  }
}

// A tensor whose magnitudes are spread evenly over 24 binades, of which the format holds 18: the
// rule gives up the lower end, not the upper one, and then hardly moves.
TEST(LearntBias, FindsTheUpperEndOfAWideTensorAndStaysThere) {
  const BiasPolicy policy{.rule = BiasRule::Learnt};
  for (const int begin : {2, 60}) {
    BiasMemory memory{.learnt = begin};
    std::vector<float> values;
    for (int i = 0; i < 24 * 64; ++i) {
      values.push_back(std::exp2(static_cast<float>(i) / 64 - 24));
    }
    std::vector<std::byte> codes(values.size());
    int moves = 0;
    for (int step = 0; step < 400; ++step) {
      const int bias = bias_of(policy, memory, 0);
      const EncodeStats stats =
          encode(values, {.format = Format::Cf8_1_4_3, .bias = bias}, {}, codes);
      note_step(policy, bias, stats, std::ssize(values), memory);
      moves += step >= 300 && memory.learnt != bias ? 1 : 0;
    }
    EXPECT_NEAR(*memory.learnt, bias_from_amax(Format::Cf8_1_4_3, values.back(), 0), 1) << begin;
    EXPECT_LE(moves, 4) << begin;  // up to see whether it still saturates, and down again, twice
  }
}

TEST(BiasGrid, RoundsTowardsTheLargerRangeAndCapsTheNumber) {
  const BiasPolicy policy{.margin = 0, .grid = 8};
  std::set<int> biases;
  for (int exponent = -80; exponent < 40; ++exponent) {
    const float amax = std::ldexp(1.5F, exponent);
    const int bias = bias_of(policy, {}, amax);
    const int free = bias_from_amax(Format::Cf8_1_4_3, amax, 0);
    EXPECT_TRUE(bias <= free && free < bias + 8) << amax;
    biases.insert(bias);
  }
  EXPECT_EQ(biases.size(), 8U);
  const BiasPolicy learns{.rule = BiasRule::Learnt, .grid = 8};
  BiasMemory memory{.learnt = 16};
  EXPECT_EQ(learnt_after(learns, memory, {.amax = 1, .saturated = 1}), 8);
  memory = {.learnt = 56, .votes = kPatience - 1};
  EXPECT_EQ(learnt_after(learns, memory, {.amax = 1, .zeroed = 1 << 15}), 56);
}

TEST(BiasMemory, ContinuesFromItsSavedState) {
  for (const BiasRule rule : {BiasRule::Delayed, BiasRule::Learnt}) {
    const BiasPolicy policy{.rule = rule};
    BiasMemory whole;
    BiasMemory resumed;
    for (int step = 0; step < 40; ++step) {
      const EncodeStats stats{.amax = static_cast<float>((step * 37) % 23 + 1),
                              .saturated = step % 7 == 0 ? 1 : 0,
                              .zeroed = 1 << 12};
      const int bias = bias_of(policy, whole, stats.amax);
      EXPECT_EQ(bias_of(policy, resumed, stats.amax), bias);
      note_step(policy, bias, stats, 1 << 20, whole);
      BiasMemory saved{resumed.amax, resumed.position, resumed.learnt, resumed.votes};
      EXPECT_TRUE(is_sound(policy, saved));
      note_step(policy, bias, stats, 1 << 20, saved);
      resumed = saved;
    }
    EXPECT_EQ(resumed, whole);
  }
}

TEST(BiasMemory, ThatNoStepCanHaveMadeIsNotSound) {
  const BiasPolicy delayed{.window = 2};
  EXPECT_TRUE(is_sound(delayed, {.amax = {1, 2}, .position = 1}));
  EXPECT_FALSE(is_sound(delayed, {.amax = {1, 2, 3}}));
  EXPECT_FALSE(is_sound(delayed, {.position = 2}));
  EXPECT_FALSE(is_sound(delayed, {.position = -1}));
  EXPECT_FALSE(is_sound(delayed, {.learnt = 3}));
  EXPECT_FALSE(is_sound(delayed, {.votes = 1}));
  const BiasPolicy learnt{.rule = BiasRule::Learnt, .grid = 2};
  EXPECT_TRUE(is_sound(learnt, {.learnt = 62, .votes = kPatience - 1}));
  EXPECT_FALSE(is_sound(learnt, {.learnt = 61}));
  EXPECT_FALSE(is_sound(learnt, {.learnt = 64}));
  EXPECT_FALSE(is_sound(learnt, {.learnt = 62, .votes = kPatience}));
  EXPECT_TRUE(is_sound(learnt, {.learnt = 62, .votes = -kRest}));
  EXPECT_FALSE(is_sound(learnt, {.learnt = 62, .votes = -kRest - 1}));
  EXPECT_FALSE(is_sound(learnt, {.amax = {1}}));
}

}  // namespace
}  // namespace dojo::numerics
