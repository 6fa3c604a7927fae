#include "dojo/numerics/encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "dojo/numerics/encode_sweep.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::are_same;
using testing::hard_value;
using testing::isas;
using testing::kNoAvx512;
using testing::Random;
using testing::sweep_nearest;
using testing::SweepResult;

constexpr std::uint64_t kAllMagnitudes = std::uint64_t{1} << 31;

void expect_sweep(int bias, std::uint64_t stride, Isa isa) {
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2}) {
    for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
      const SweepResult result =
          sweep_nearest({format, bias, denormals}, 0, kAllMagnitudes, stride, isa);
      EXPECT_EQ(result.mismatches, 0)
          << info(format).name << " bias " << bias << ", first at " << result.example;
      EXPECT_EQ(result.wrong_counts, 0) << info(format).name << " bias " << bias;
      EXPECT_GE(result.inputs, static_cast<std::int64_t>(kAllMagnitudes / stride));
    }
  }
}

TEST(Encode, VectorPathIsTheOracleAtEvery61stInput) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  for (const int bias : {0, 7, 31, 63}) {
    expect_sweep(bias, 61, Isa::Avx512);
  }
}

TEST(Encode, PlainPathIsTheOracleAtEvery6101stInput) {
  for (const int bias : {0, 7, 31, 63}) {
    expect_sweep(bias, 6101, Isa::Plain);
  }
}

TEST(Encode, TheOracleTellsBiasesApart) {
  const std::vector<float> x{1.0F};
  std::vector<std::byte> code(1);
  encode(x, {Format::Cf8_1_4_3, 8}, {}, code, Isa::Plain);
  EXPECT_NE(static_cast<std::uint32_t>(code[0]),
            testing::GridOracle(cfloat_spec(Format::Cf8_1_4_3, 7)).nearest(1.0));
}

struct Encoded {
  std::vector<std::byte> bytes;
  EncodeStats stats;
  friend bool operator==(const Encoded&, const Encoded&) = default;
};

Encoded encoded(std::span<const float> x, const StorageFormat& type, const RoundingSpec& rounding,
                Isa isa) {
  Encoded out;
  out.bytes.resize(x.size() * static_cast<std::size_t>(bytes_of(type.format)));
  out.stats = encode(x, type, rounding, out.bytes, isa);
  return out;
}

// Values around the format's range, with the special ones among them.
std::vector<float> mixed_input(Random& random, int bias, std::int64_t count) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < count; ++i) {
    switch (random.between(0, 9)) {
      case 0:
        x.push_back(std::bit_cast<float>(random.bits()));
        break;
      case 1:
        x.push_back(random.one_in(2) ? 0.0F : -0.0F);
        break;
      default:
        x.push_back(
            std::ldexp(hard_value(random, 1), static_cast<int>(random.between(-8, 34)) - bias));
    }
  }
  return x;
}

TEST(Encode, PathsAgreeInBitsAndStatistics) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  Random random(11);
  for (int i = 0; i < 600; ++i) {
    const Format format = std::array{Format::F32, Format::Bf16, Format::Cf8_1_4_3,
                                     Format::Cf8_1_5_2}[static_cast<std::size_t>(i % 4)];
    const StorageFormat type{format, static_cast<int>(random.between(0, kMaxBias)),
                             random.one_in(2) ? DenormalScale::Paper : DenormalScale::Gradual};
    const RoundingSpec rounding{random.one_in(2) ? Rounding::NearestEven : Rounding::Stochastic,
                                {random.bits(), random.bits(), random.bits()},
                                random.one_in(4) ? 0xFFFFFFFFFull : random.bits() % 1000};
    const std::vector<float> x = mixed_input(random, type.bias, random.between(0, 2500));
    EXPECT_EQ(encoded(x, type, rounding, Isa::Plain), encoded(x, type, rounding, Isa::Avx512))
        << "case " << i;
  }
}

TEST(Encode, EveryMidpointOfEveryBiasRoundsAsTheOracleSays) {
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2}) {
    for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
      for (int bias = 0; bias <= kMaxBias; ++bias) {
        const testing::GridOracle oracle(cfloat_spec(format, bias, denormals));
        std::vector<float> x;
        for (const double middle : oracle.middles()) {
          const std::uint32_t centre = testing::bits_of(static_cast<float>(middle));
          for (std::uint32_t bits = centre - 2; bits <= centre + 2; ++bits) {
            x.push_back(std::bit_cast<float>(bits));
          }
        }
        for (const Isa isa : isas()) {
          const Encoded out = encoded(x, {format, bias, denormals}, {}, isa);
          for (std::size_t i = 0; i < x.size(); ++i) {
            ASSERT_EQ(static_cast<std::uint32_t>(out.bytes[i]), oracle.nearest(x[i]))
                << info(format).name << " bias " << bias << ": " << x[i] << " " << name_of(isa);
          }
        }
      }
    }
  }
}

// In the hole between denormal and normal numbers the position is a division by 9 or 5; here are
// all operands for which it has no remainder, where an error of rounding would show first.
TEST(Encode, StochasticPathsAgreeInTheHole) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2}) {
    const float low = decode(cfloat_spec(format, 30), (1u << info(format).mantissa_bits) - 1);
    const float high = decode(cfloat_spec(format, 30), 1u << info(format).mantissa_bits);
    std::vector<float> x;
    for (int k = 0; k < 65536; ++k) {
      x.push_back(low + static_cast<float>(k) * ((high - low) / 65536));  // exact
    }
    for (std::uint64_t seed = 0; seed < 48; ++seed) {
      const RoundingSpec rounding{Rounding::Stochastic, {seed, 0, 0}, 0};
      ASSERT_EQ(encoded(x, {format, 30}, rounding, Isa::Plain),
                encoded(x, {format, 30}, rounding, Isa::Avx512));
    }
  }
}

TEST(Encode, DoesNotDependOnRangesOrThreads) {
  Random random(12);
  const std::vector<float> x = mixed_input(random, 20, 200'003);
  const StorageFormat type{Format::Cf8_1_5_2, 20};
  const RoundingSpec rounding{Rounding::Stochastic, {42, 7, 3}, 5};
  for (const Isa isa : isas()) {
    const Encoded whole = encoded(x, type, rounding, isa);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Encoded split{std::vector<std::byte>(x.size()), {}};
      split.stats = encode(pool, x, type, rounding, split.bytes, isa);
      EXPECT_EQ(split, whole);
    }
    Encoded pieces;
    for (std::size_t at = 0; at < x.size();) {
      const std::size_t count =
          std::min(x.size() - at, static_cast<std::size_t>(random.between(1, 3000)));
      RoundingSpec part = rounding;
      part.first_element += at;
      const Encoded piece = encoded(std::span(x).subspan(at, count), type, part, isa);
      pieces.bytes.insert(pieces.bytes.end(), piece.bytes.begin(), piece.bytes.end());
      pieces.stats += piece.stats;
      at += count;
    }
    EXPECT_EQ(pieces, whole);
  }
}

TEST(Encode, StatisticsCountWhatWasLost) {
  const std::vector<float> x{0.0F,
                             -0.0F,
                             1e-10F,  // zeroed
                             -3.0F,
                             479.0F,                                  // rounds to the largest, 480
                             600.0F,                                  // clamped
                             std::numeric_limits<float>::infinity(),  // clamped, not finite
                             -std::numeric_limits<float>::quiet_NaN()};
  for (const Isa isa : isas()) {
    const Encoded out = encoded(x, {Format::Cf8_1_4_3, 7}, {}, isa);
    EXPECT_EQ(out.stats, (EncodeStats{600.0F, 3, 1, 2}));
    const Encoded half = encoded(x, {Format::Bf16}, {}, isa);
    EXPECT_EQ(half.stats, (EncodeStats{600.0F, 0, 0, 2}));
  }
}

TEST(Encode, StochasticRoundingIsUnbiasedAndReproducible) {
  // 0.3 lies between 0.28125 and 0.3125 (1-4-3, bias 7): nearest is 4 % off, the mean is not.
  constexpr std::size_t kSeeds = 2000;
  const StorageFormat type{Format::Cf8_1_4_3, 7};
  const std::vector<float> x(64, 0.3F);
  double sum = 0;
  for (std::size_t seed = 0; seed < kSeeds; ++seed) {
    const RoundingSpec rounding{Rounding::Stochastic, {seed, 1, 2}, 0};
    const Encoded once = encoded(x, type, rounding, best_isa());
    EXPECT_EQ(once, encoded(x, type, rounding, best_isa()));
    std::vector<float> y(x.size());
    decode(once.bytes, type, y);
    sum += std::accumulate(y.begin(), y.end(), 0.0);
  }
  // Standard error of the mean: half a step of 1/32 over sqrt(128,000), 0.00004.
  EXPECT_NEAR(sum / static_cast<double>(kSeeds * x.size()), 0.3, 0.0002);
}

TEST(Encode, SeedStepTensorAndElementEachChangeTheDraw) {
  std::vector<std::uint16_t> base(64);
  random_bits16({1, 2, 3}, 0, base);
  for (const auto& [stream, first] :
       {std::pair{RandomStream{2, 2, 3}, 0}, std::pair{RandomStream{1, 3, 3}, 0},
        std::pair{RandomStream{1, 2, 4}, 0}, std::pair{RandomStream{1, 2, 3}, 1}}) {
    std::vector<std::uint16_t> other(64);
    random_bits16(stream, static_cast<std::uint64_t>(first), other);
    int equal = 0;
    for (std::size_t i = 0; i < base.size(); ++i) {
      equal += base[i] == other[i] ? 1 : 0;
    }
    EXPECT_LE(equal, 2);
  }
}

TEST(RandomBits, VectorPathIsThePublishedGenerator) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  for (const std::uint64_t first :
       std::array<std::uint64_t, 4>{0, 5, 0x7FFFFFFF8 - 100, 0xFFFFFFFFFFFFFF}) {
    const RandomStream stream{0x123456789ABCDEFull, 77, 0xFFFFFFFF};
    std::vector<std::uint16_t> fast(3000);
    random_bits16(stream, first, fast, Isa::Avx512);
    for (std::size_t i = 0; i < fast.size(); ++i) {
      ASSERT_EQ(fast[i], stream.bits16(first + i)) << first << " + " << i;
    }
  }
}

TEST(Decode, PathsAgreeForEveryCodeFormatAndBias) {
  std::vector<std::byte> codes(256 + 3);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<std::byte>(i);
  }
  for (const Format format :
       {Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::E4m3, Format::E5m2, Format::U8}) {
    for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
      for (int bias = 0; bias <= kMaxBias; ++bias) {
        for (const Isa isa : isas()) {
          std::vector<float> x(codes.size());
          decode(codes, {format, bias, denormals}, x, isa);
          for (std::size_t i = 0; i < x.size(); ++i) {
            const std::uint32_t code = static_cast<std::uint32_t>(i % 256);
            const float wanted = format == Format::U8
                                     ? static_cast<float>(code)
                                     : decode(cfloat_spec(format, bias, denormals), code);
            ASSERT_TRUE(testing::is_same(x[i], wanted));
          }
        }
      }
    }
  }
}

TEST(Decode, PathsGiveTheValueOfEveryCodeOfSixteenBits) {
  std::vector<std::byte> codes(2 * (65536 + 3));
  for (std::size_t code = 0; code < codes.size() / 2; ++code) {
    const auto half = static_cast<std::uint16_t>(code);
    std::memcpy(codes.data() + 2 * code, &half, 2);
  }
  for (const Format format : {Format::F16, Format::Shp, Format::Uhp}) {
    for (const int bias : {0, 31, 63}) {
      for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
        const CFloatSpec spec = cfloat_spec(format, bias, denormals);
        for (const Isa isa : isas()) {
          std::vector<float> x(codes.size() / 2);
          decode(codes, {format, bias, denormals}, x, isa);
          for (std::uint32_t i = 0; i < x.size(); ++i) {
            ASSERT_TRUE(testing::is_same(x[i], decode(spec, i % 65536)))
                << info(format).name << " bias " << bias << " code " << i << " " << name_of(isa);
          }
        }
      }
    }
  }
}

TEST(Decode, Bf16AndF32AreExact) {
  std::vector<std::byte> codes(2 * 65536);
  std::vector<float> wanted(65536);
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const std::uint16_t half = static_cast<std::uint16_t>(code);
    std::memcpy(codes.data() + 2 * code, &half, 2);
    wanted[code] = std::bit_cast<float>(code << 16);
  }
  for (const Isa isa : isas()) {
    std::vector<float> x(65536);
    decode(codes, {Format::Bf16}, x, isa);
    EXPECT_TRUE(are_same(x, wanted));
    ThreadPool pool(2);
    std::vector<float> copy(65536);
    decode(pool, std::as_bytes(std::span(x)), {Format::F32}, copy, isa);
    EXPECT_TRUE(are_same(copy, wanted));
  }
}

}  // namespace
}  // namespace dojo::numerics
