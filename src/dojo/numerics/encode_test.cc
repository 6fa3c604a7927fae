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
using testing::Random;
using testing::sweep_nearest;
using testing::SweepResult;

constexpr std::uint64_t kAllMagnitudes = std::uint64_t{1} << 31;

void expect_sweeps(std::uint64_t stride, Isa isa) {
  for (const int bias : {0, 7, 31, 63}) {
    for (const StorageFormat& type : testing::encoded_formats(bias, 0)) {
      const SweepResult result = sweep_nearest(type, 0, kAllMagnitudes, stride, isa);
      EXPECT_EQ(result.mismatches, 0)
          << info(type.format).name << " bias " << bias << ", first at " << result.example;
      EXPECT_EQ(result.wrong_counts, 0) << info(type.format).name << " bias " << bias;
      EXPECT_GE(result.inputs, static_cast<std::int64_t>(kAllMagnitudes / stride));
    }
  }
}

#ifdef __SANITIZE_ADDRESS__
constexpr std::uint64_t kStride = 6101;  // the sanitizers look at accesses, not at every value
#else
constexpr std::uint64_t kStride = 61;
#endif

TEST(Encode, WidestPathIsTheOracleAtEvery61stInput) {
  if (best_isa() == Isa::Plain) {
    GTEST_SKIP() << "THIS CPU HAS NO AVX2: the vector paths stay untested here";
  }
  expect_sweeps(kStride, best_isa());
}

TEST(Encode, OtherPathsAreTheOracleAtEvery6101stInput) {
  for (const Isa isa : isas()) {
    expect_sweeps(6101, isa);
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

StorageFormat any_type(Random& random) {
  Format format = Format::U8;
  while (!is_float(format)) {
    format = testing::any_format(random);
  }
  return {format, static_cast<int>(random.between(0, kMaxBias)),
          random.one_in(2) ? DenormalScale::Paper : DenormalScale::Gradual,
          static_cast<Overflow>(random.between(0, 2))};
}

TEST(Encode, PathsAgreeInBitsAndStatistics) {
  Random random(11);
  for (int i = 0; i < 3000; ++i) {
    const StorageFormat type = any_type(random);
    const RoundingSpec rounding{static_cast<Rounding>(random.between(0, 2)),
                                {random.bits(), random.bits(), random.bits()},
                                random.one_in(4) ? 0xFFFFFFFFFull : random.bits() % 1000};
    const int bias = has_bias(type.format) ? type.bias : info(type.format).bias;
    const std::vector<float> x = mixed_input(random, bias, random.between(0, 2500));
    const Encoded wanted = encoded(x, type, rounding, Isa::Plain);
    for (const Isa isa : isas()) {
      EXPECT_EQ(encoded(x, type, rounding, isa), wanted)
          << "case " << i << " " << info(type.format).name << " " << name_of(isa);
    }
  }
}

TEST(Encode, EveryMidpointOfEveryBiasRoundsAsTheOracleSays) {
  for (int bias = 0; bias <= kMaxBias; ++bias) {
    for (const StorageFormat& type : testing::encoded_formats(bias, 0)) {
      const testing::GridOracle oracle(type.spec());
      if (oracle.middles().size() > 256) {
        continue;  // CFloat8 and OCP
      }
      std::vector<float> x;
      for (const double middle : oracle.middles()) {
        const std::uint32_t centre = testing::bits_of(static_cast<float>(middle));
        for (std::uint32_t bits = centre - 2; bits <= centre + 2; ++bits) {
          x.push_back(std::bit_cast<float>(bits));
        }
      }
      for (const Isa isa : isas()) {
        const Encoded out = encoded(x, type, {}, isa);
        for (std::size_t i = 0; i < x.size(); ++i) {
          ASSERT_EQ(static_cast<std::uint32_t>(out.bytes[i]), oracle.nearest(x[i]))
              << info(type.format).name << " bias " << bias << ": " << x[i] << " " << name_of(isa);
        }
      }
    }
  }
}

TEST(Encode, ArraysWrittenPastTheCachesAreTheSame) {
  constexpr std::size_t kCount = (std::size_t{1} << 24) + 77;
  Random random(31);
  std::vector<float> x = mixed_input(random, 20, 1 << 16);
  for (std::size_t i = x.size(); i < kCount; ++i) {
    x.push_back(x[i % 65536]);
  }
  const RoundingSpec rounding{};
  for (const Format format : {Format::Cf8_1_4_3, Format::Shp}) {
    const StorageFormat type{format, 20};
    const auto width = static_cast<std::size_t>(bytes_of(format));
    const Encoded some = encoded(std::span(x).first(65536), type, rounding, Isa::Plain);
    for (const Isa isa : isas()) {
      if (isa == Isa::Plain) {
        continue;
      }
      for (const std::size_t offset : {0, 2, 61}) {  // 61: halves across cache lines
        std::vector<std::byte> memory(kCount * width + offset);
        const std::span<std::byte> out = std::span(memory).subspan(offset);
        encode(x, type, rounding, out, isa);
        for (std::size_t at = 0; at < kCount; at += 65536) {
          const std::size_t bytes = std::min<std::size_t>(65536, kCount - at) * width;
          ASSERT_EQ(std::memcmp(out.data() + at * width, some.bytes.data(), bytes), 0)
              << at << " offset " << offset;
        }
      }
    }
  }
}

// In the hole between denormal and normal numbers the position is a division by 9 or 5; here are
// all operands for which it has no remainder, where an error of rounding would show first.
TEST(Encode, StochasticPathsAgreeInTheHole) {
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::Shp}) {
    const float low = decode(cfloat_spec(format, 30), (1u << info(format).mantissa_bits) - 1);
    const float high = decode(cfloat_spec(format, 30), 1u << info(format).mantissa_bits);
    std::vector<float> x;
    for (int k = 0; k < 65536; ++k) {
      x.push_back(low + static_cast<float>(k) * ((high - low) / 65536));  // exact
    }
    for (std::uint64_t seed = 0; seed < 48; ++seed) {
      const RoundingSpec rounding{Rounding::Stochastic, {seed, 0, 0}, 0};
      const Encoded wanted = encoded(x, {format, 30}, rounding, Isa::Plain);
      for (const Isa isa : isas()) {
        ASSERT_EQ(encoded(x, {format, 30}, rounding, isa), wanted) << name_of(isa);
      }
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

// Where flags change: values and middles of the format and their neighbours, ends of FP32's ranges.
std::vector<float> edges_of(const CFloatSpec& spec) {
  const testing::GridOracle oracle(spec);
  std::vector<double> centre{0, 0x1p-126, 0x1p-149, oracle.overflow(), HUGE_VAL};
  const std::size_t near_normal = spec.min_normal_magnitude() + 2;
  for (const auto& grid : {oracle.values(), oracle.middles()}) {
    centre.insert(centre.end(), grid.begin(), grid.begin() + 4);
    const auto normal = grid.begin() + static_cast<std::ptrdiff_t>(near_normal);
    centre.insert(centre.end(), normal - 4, normal);
    centre.insert(centre.end(), grid.end() - 2, grid.end());
  }
  std::vector<float> edges;
  for (const double value : centre) {
    const auto bits = static_cast<std::int64_t>(testing::bits_of(static_cast<float>(value)));
    for (std::int64_t near = std::max<std::int64_t>(bits - 1, 0); near <= bits + 1; ++near) {
      const float x = std::bit_cast<float>(static_cast<std::uint32_t>(near));
      edges.insert(edges.end(), {x, -x});
    }
  }
  return edges;
}

// One edge at a time, among as many values that raise no flag as fill vectors, steps and blocks.
TEST(Encode, FlagsAreThoseOfTheScalarCodec) {
  Random random(47);
  for (const int bias : {0, 7, 31, 63}) {
    for (StorageFormat type : testing::encoded_formats(bias, 0)) {
      type.overflow = static_cast<Overflow>(random.between(0, 2));
      const CFloatSpec spec = type.spec();
      const float harmless = decode(spec, spec.min_normal_magnitude());
      for (const Rounding mode :
           {Rounding::NearestEven, Rounding::Stochastic, Rounding::NearestAway}) {
        const RoundingSpec rounding{mode, {random.bits(), 1, 2}, 0};
        for (const float edge : edges_of(spec)) {
          std::vector<float> x(static_cast<std::size_t>(random.between(1, 1500)), harmless);
          const auto at = static_cast<std::size_t>(random.between(0, std::ssize(x) - 1));
          x[at] = edge;
          Flags wanted;
          internal::encode(spec, edge, mode, rounding.stream.bits16(at), wanted);
          for (const Isa isa : isas()) {
            EXPECT_EQ(encoded(x, type, rounding, isa).stats.flags, wanted)
                << info(type.format).name << " bias " << bias << ": " << edge << " at " << at
                << " of " << x.size() << " " << name_of(isa);
          }
        }
      }
    }
  }
}

TEST(Encode, FlagsOfFp32AreThoseOfItsOperands) {
  for (const auto& [x, flags] :
       {std::pair{1.0F, Flags{}}, std::pair{-0.0F, Flags{}}, std::pair{-HUGE_VALF, Flags{}},
        std::pair{-1e-40F, Flags{.denormal = true}},
        std::pair{std::numeric_limits<float>::quiet_NaN(), Flags{.invalid = true}}}) {
    for (const Isa isa : isas()) {
      EXPECT_EQ(encoded(std::vector{2.0F, x}, {Format::F32}, {}, isa).stats.flags, flags) << x;
    }
  }
}

TEST(Encode, FlagsThatAreUpStayUp) {
  const std::vector<float> x(100, 1.0F);
  std::vector<std::byte> codes(x.size());
  for (const Isa isa : isas()) {
    EncodeStats stats{.amax = 3, .zeroed = 7, .flags = {.denormal = true, .underflow = true}};
    encode_and_add(x, {Format::Cf8_1_4_3, 7}, {}, codes, stats, isa);
    EXPECT_EQ(stats, (EncodeStats{3, 0, 7, 0, {.denormal = true, .underflow = true}}));
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
  constexpr Flags kClamped{.invalid = true, .overflow = true, .underflow = true};
  for (const Isa isa : isas()) {
    const Encoded out = encoded(x, {Format::Cf8_1_4_3, 7}, {}, isa);
    EXPECT_EQ(out.stats, (EncodeStats{600.0F, 3, 1, 2, kClamped}));
    const Encoded half = encoded(x, {Format::Bf16}, {}, isa);
    EXPECT_EQ(half.stats, (EncodeStats{600.0F, 0, 0, 2, {.invalid = true}}));
    const Encoded ocp = encoded(x, {Format::E4m3, 7}, {}, isa);  // the NaN stays one
    EXPECT_EQ(ocp.stats, (EncodeStats{600.0F, 3, 1, 2, kClamped}));
    const Encoded without_sign = encoded(x, {Format::Uhp}, {}, isa);  // -3 is lost, 1e-10 is zero
    EXPECT_EQ(without_sign.stats,
              (EncodeStats{600.0F, 1, 2, 2, {.invalid = true, .underflow = true}}));
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

TEST(RandomBits, VectorPathsAreThePublishedGenerator) {
  for (const Isa isa : isas()) {
    for (const std::uint64_t first :
         std::array<std::uint64_t, 4>{0, 5, 0x7FFFFFFF8 - 100, 0xFFFFFFFFFFFFFF}) {
      const RandomStream stream{0x123456789ABCDEFull, 77, 0xFFFFFFFF};
      std::vector<std::uint16_t> drawn(3000);
      random_bits16(stream, first, drawn, isa);
      for (std::size_t i = 0; i < drawn.size(); ++i) {
        ASSERT_EQ(drawn[i], stream.bits16(first + i)) << first << " + " << i;
      }
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
