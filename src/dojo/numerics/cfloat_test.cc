#include "dojo/numerics/cfloat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "dojo/numerics/grid_oracle.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::bits_of;
using testing::GridOracle;
using testing::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr CFloatSpec k143{4, 3, 7, DenormalScale::Paper};
constexpr CFloatSpec k152{5, 2, 15, DenormalScale::Paper};

template <class Body>
void for_all_specs(const Body& body) {
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2}) {
    for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
      for (int bias = 0; bias <= kMaxBias; ++bias) {
        SCOPED_TRACE(::testing::Message() << info(format).name << " bias " << bias);
        body(cfloat_spec(format, bias, denormals));
      }
    }
  }
}

TEST(CFloat, RangesAreThoseOfThePaperForEveryBias) {
  for (int b = 0; b <= kMaxBias; ++b) {
    const CFloatSpec s143 = cfloat_spec(Format::Cf8_1_4_3, b);
    EXPECT_EQ(decode(s143, 0x01), std::ldexp(1.0F, -b - 3));
    EXPECT_EQ(decode(s143, 0x07), std::ldexp(0.875F, -b));
    EXPECT_EQ(decode(s143, 0x08), std::ldexp(1.0F, 1 - b));
    EXPECT_EQ(decode(s143, 0x7F), std::ldexp(1.875F, 15 - b));
    const CFloatSpec s152 = cfloat_spec(Format::Cf8_1_5_2, b);
    EXPECT_EQ(decode(s152, 0x01), std::ldexp(1.0F, -b - 2));
    EXPECT_EQ(decode(s152, 0x03), std::ldexp(0.75F, -b));
    EXPECT_EQ(decode(s152, 0x04), std::ldexp(1.0F, 1 - b));
    EXPECT_EQ(decode(s152, 0x7F), std::ldexp(1.75F, 31 - b));
  }
  EXPECT_EQ(decode(cfloat_spec(Format::Cf8_1_4_3, 0), 0x7F), 61440.0F);
  EXPECT_EQ(decode(cfloat_spec(Format::Cf8_1_5_2, 0), 0x7F), 3758096384.0F);
}

TEST(CFloat, GradualDenormalsMeetTheNormalNumbers) {
  const CFloatSpec spec = cfloat_spec(Format::Cf8_1_4_3, 7, DenormalScale::Gradual);
  EXPECT_EQ(decode(spec, 0x01), std::ldexp(1.0F, -9));
  EXPECT_EQ(decode(spec, 0x07), std::ldexp(1.75F, -7));
  EXPECT_EQ(decode(spec, 0x08), std::ldexp(2.0F, -7));
}

TEST(CFloat, DecodeIsTheOracleForEveryCodeAndBias) {
  for_all_specs([](const CFloatSpec& spec) {
    const GridOracle oracle(spec);
    for (std::uint32_t code = 0; code < 128; ++code) {
      EXPECT_EQ(decode(spec, code), oracle.values()[code]);
      EXPECT_EQ(decode(spec, code | 0x80), -oracle.values()[code]);
    }
    EXPECT_TRUE(std::signbit(decode(spec, 0x80)));
  });
}

TEST(CFloat, EveryCodeSurvivesDecodeAndEncode) {
  for_all_specs([](const CFloatSpec& spec) {
    for (std::uint32_t code = 0; code < 256; ++code) {
      const float x = decode(spec, code);
      EXPECT_EQ(encode_nearest(spec, x), code);
      EXPECT_EQ(encode_nearest_away(spec, x), code);
      EXPECT_EQ(encode_stochastic(spec, x, 0xFFFF), code);
    }
  });
}

TEST(CFloat, NearestIsTheOracleAroundEveryMidpointOfEveryBias) {
  for_all_specs([](const CFloatSpec& spec) {
    const GridOracle oracle(spec);
    for (const double middle : oracle.middles()) {
      const std::uint32_t centre = bits_of(static_cast<float>(middle));
      for (std::uint32_t bits = centre - 3; bits <= centre + 3; ++bits) {
        const float x = std::bit_cast<float>(bits);
        ASSERT_EQ(encode_nearest(spec, x), oracle.nearest(x)) << x;
        ASSERT_EQ(encode_nearest(spec, -x), oracle.nearest(x) | 0x80) << x;
      }
    }
  });
}

TEST(CFloat, StochasticIsTheOracleForAnyInput) {
  Random random(3);
  for_all_specs([&](const CFloatSpec& spec) {
    const GridOracle oracle(spec);
    for (int i = 0; i < 4000; ++i) {
      const int exponent = static_cast<int>(random.between(-6, spec.max_exponent() + 1));
      const float x = std::ldexp(1.0F + static_cast<float>(random.bits() >> 9) * 0x1p-23F,
                                 exponent - spec.bias);
      const std::uint32_t draw = random.bits() & 0xFFFF;
      ASSERT_EQ(encode_stochastic(spec, x, static_cast<std::uint16_t>(draw)),
                oracle.stochastic(x, draw))
          << x << " with " << draw;
    }
  });
}

TEST(CFloat, TiesGoToTheEvenCodeAndInTheHoleToTheSmallestNormal) {
  EXPECT_EQ(encode_nearest(k143, 1.0625F), 0x38);  // between 1 and 1.125
  EXPECT_EQ(encode_nearest(k143, 1.1875F), 0x3A);  // between 1.125 and 1.25
  EXPECT_EQ(encode_nearest_away(k143, 1.0625F), 0x39);
  EXPECT_EQ(encode_nearest_away(k143, -1.0625F), 0xB9);
  const float middle = std::ldexp((0.875F + 2.0F) / 2, -7);
  EXPECT_EQ(encode_nearest(k143, middle), 0x08);
  EXPECT_EQ(encode_nearest(k143, std::nextafter(middle, 0.0F)), 0x07);
  EXPECT_EQ(encode_nearest(k152, std::ldexp((0.75F + 2.0F) / 2, -15)), 0x04);
  // Half of the smallest denormal is a tie with zero, which is even.
  EXPECT_EQ(encode_nearest(k143, std::ldexp(1.0F, -11)), 0x00);
  EXPECT_EQ(encode_nearest(k143, std::nextafter(std::ldexp(1.0F, -11), 1.0F)), 0x01);
}

TEST(CFloat, WhatIsTooLargeInfiniteOrNotANumberClampsWithItsSign) {
  for_all_specs([](const CFloatSpec& spec) {
    for (const float x : {kInfinity, kNaN, std::numeric_limits<float>::max()}) {
      EXPECT_EQ(encode_nearest(spec, x), 0x7F);
      EXPECT_EQ(encode_nearest(spec, std::copysign(x, -1.0F)), 0xFF);
      EXPECT_EQ(encode_stochastic(spec, x, 0xFFFF), 0x7F);
      EXPECT_EQ(encode_stochastic(spec, std::copysign(x, -1.0F), 0), 0xFF);
    }
  });
}

TEST(CFloat, ZeroKeepsItsSign) {
  EXPECT_EQ(encode_nearest(k143, 0.0F), 0x00);
  EXPECT_EQ(encode_nearest(k143, -0.0F), 0x80);
  EXPECT_EQ(encode_nearest(k143, -1e-30F), 0x80);
  EXPECT_EQ(encode_stochastic(k143, -0.0F, 0xFFFF), 0x80);
}

Flags flags_of(const CFloatSpec& spec, float x) {
  Flags flags;
  encode_nearest(spec, x, flags);
  return flags;
}

TEST(CFloat, FlagsAreRaisedAsStated) {
  const float max = decode(k143, 0x7F);
  const float half_step = std::ldexp(0.0625F, 8);
  EXPECT_EQ(flags_of(k143, 1.0F), (Flags{}));
  EXPECT_EQ(flags_of(k143, 1.01F), (Flags{}));  // inexact alone has no flag
  EXPECT_EQ(flags_of(k143, kNaN), (Flags{.invalid = true}));
  EXPECT_EQ(flags_of(k143, kInfinity), (Flags{.overflow = true}));
  EXPECT_EQ(flags_of(k143, max), (Flags{}));
  EXPECT_EQ(flags_of(k143, std::nextafter(max + half_step, 0.0F)), (Flags{}));
  EXPECT_EQ(flags_of(k143, max + half_step), (Flags{.overflow = true}));
  EXPECT_EQ(flags_of(k143, decode(k143, 0x03)), (Flags{}));  // below min normal, but exact
  EXPECT_EQ(flags_of(k143, std::ldexp(0.9F, -7)), (Flags{.underflow = true}));
  EXPECT_EQ(flags_of(k143, std::ldexp(1.9F, -7)), (Flags{}));  // rounds to the smallest normal
  EXPECT_EQ(flags_of(k143, 1e-30F), (Flags{.underflow = true}));
  EXPECT_EQ(flags_of(k143, 1e-40F), (Flags{.denormal = true, .underflow = true}));
  Flags decoded;
  EXPECT_EQ(decode(k143, 0x08, decoded), std::ldexp(1.0F, -6));
  EXPECT_EQ(decoded, (Flags{}));
  EXPECT_EQ(decode(k143, 0x81, decoded), std::ldexp(-1.0F, -10));
  EXPECT_EQ(decoded, (Flags{.denormal = true}));
}

TEST(CFloat, StochasticNeverLeavesTheRange) {
  Flags flags;
  const float max = decode(k152, 0x7F);
  EXPECT_EQ(encode_stochastic(k152, max, 0xFFFF, flags), 0x7F);
  EXPECT_EQ(flags, (Flags{}));
  EXPECT_EQ(encode_stochastic(k152, std::nextafter(max, kInfinity), 0xFFFF, flags), 0x7F);
  EXPECT_EQ(flags, (Flags{.overflow = true}));
}

// All float formats below 32 bits, with both treatments of what is too large.
template <class Body>
void for_formats(const Body& body) {
  for (const FormatInfo& row : kFormats) {
    if (!is_float(row.format) || row.format == Format::F32) {
      continue;
    }
    for (const int bias : {0, 7, 15, 31, 63}) {
      if (!has_bias(row.format) && bias != 0) {
        break;
      }
      for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
        for (const Overflow overflow : {Overflow::Saturates, Overflow::BecomesSpecial}) {
          SCOPED_TRACE(::testing::Message() << row.name << " bias " << bias);
          body(cfloat_spec(row.format, bias, denormals, overflow));
        }
      }
    }
  }
}

TEST(Formats, AnyInputRoundsAsTheOracleSays) {
  Random random(5);
  for_formats([&](const CFloatSpec& spec) {
    const GridOracle oracle(spec);
    const int low = -spec.bias - spec.mantissa_bits - 3;
    const int high = spec.max_exponent() - spec.bias + 1;
    for (int i = 0; i < 4000; ++i) {
      float x = std::bit_cast<float>(random.bits());
      if (!random.one_in(8)) {
        x = std::ldexp(std::copysign(1.0F + static_cast<float>(random.bits() >> 9) * 0x1p-23F, x),
                       static_cast<int>(random.between(low, high)));
      }
      const std::uint32_t draw = random.bits() & 0xFFFF;
      ASSERT_EQ(encode_nearest(spec, x), oracle.code(x, Rounding::NearestEven, 0)) << x;
      ASSERT_EQ(encode_stochastic(spec, x, static_cast<std::uint16_t>(draw)),
                oracle.code(x, Rounding::Stochastic, draw))
          << x << " with " << draw;
    }
  });
}

TEST(Formats, EveryFiniteCodeIsTheOraclesValueAndSurvivesEncode) {
  for_formats([](const CFloatSpec& spec) {
    const GridOracle oracle(spec);
    ASSERT_EQ(oracle.values().size(), spec.max_magnitude() + 1);
    for (std::uint32_t code = 0; code < oracle.values().size(); ++code) {
      const bool is_flushed = spec.flushes_denormals && code < spec.min_normal_magnitude();
      const float x = decode(spec, code);
      ASSERT_EQ(x, is_flushed ? 0.0 : oracle.values()[code]) << code;
      ASSERT_EQ(encode_nearest(spec, x), is_flushed ? 0 : code);
      if (spec.has_sign) {
        const std::uint32_t negative = code | 1u << spec.sign_shift();
        ASSERT_EQ(bits_of(decode(spec, negative)), bits_of(-x));
        ASSERT_EQ(encode_nearest(spec, -x), negative);
        ASSERT_EQ(encode_nearest_away(spec, -x), negative);
        ASSERT_EQ(encode_stochastic(spec, -x, 0xFFFF), negative);
      }
    }
  });
}

TEST(Formats, MidpointsAndTheirNeighboursRoundAsTheOracleSays) {
  for_formats([](const CFloatSpec& spec) {
    const GridOracle oracle(spec);
    std::vector<double> middles = oracle.middles();
    middles.push_back(oracle.overflow());
    for (const double middle : middles) {
      const std::uint32_t centre = bits_of(static_cast<float>(middle));
      for (std::uint32_t bits = centre == 0 ? 0 : centre - 1; bits <= centre + 1; ++bits) {
        const float x = std::bit_cast<float>(bits);
        ASSERT_EQ(encode_nearest(spec, x), oracle.code(x, Rounding::NearestEven, 0)) << x;
      }
    }
  });
}

TEST(Formats, RangesAreThoseOfTheirSpecifications) {
  const CFloatSpec shp = cfloat_spec(Format::Shp, 15);
  EXPECT_EQ(decode(shp, 0x7FFF), std::ldexp(2.0F - 0x1p-10F, 16));
  EXPECT_EQ(decode(shp, 0x8001), -std::ldexp(1.0F, -25));
  const CFloatSpec uhp = cfloat_spec(Format::Uhp, 0);
  EXPECT_EQ(decode(uhp, 0x0400), std::ldexp(1.0F, -30));
  EXPECT_EQ(decode(uhp, 62u << 10 | 0x3FFu), std::ldexp(2.0F - 0x1p-10F, 31));
  EXPECT_EQ(decode(uhp, 63u << 10), kInfinity);
  EXPECT_TRUE(std::isnan(decode(uhp, 63u << 10 | 1u)));
  EXPECT_EQ(bits_of(decode(uhp, 0x03FF)), 0U);
  const CFloatSpec e4m3 = cfloat_spec(Format::E4m3, 7);
  EXPECT_EQ(decode(e4m3, 0x7E), 448.0F);
  EXPECT_EQ(decode(e4m3, 0x01), std::ldexp(1.0F, -9));
  EXPECT_EQ(decode(e4m3, 0x08), std::ldexp(1.0F, -6));
  EXPECT_TRUE(std::isnan(decode(e4m3, 0x7F)) && std::isnan(decode(e4m3, 0xFF)));
  const CFloatSpec e5m2 = cfloat_spec(Format::E5m2, 15);
  EXPECT_EQ(decode(e5m2, 0x7B), 57344.0F);
  EXPECT_EQ(decode(e5m2, 0xFC), -kInfinity);
  EXPECT_TRUE(std::isnan(decode(e5m2, 0x7D)) && std::isnan(decode(e5m2, 0x7F)));
  const CFloatSpec f16 = cfloat_spec(Format::F16, 0);
  EXPECT_EQ(decode(f16, 0x7BFF), 65504.0F);
  EXPECT_EQ(decode(f16, 0x7C00), kInfinity);
  EXPECT_EQ(decode(f16, 0x0001), std::ldexp(1.0F, -24));
}

TEST(Formats, WhatIsTooLargeSaturatesOrBecomesSpecialAsAskedFor) {
  const auto codes = [](Format format, int bias, Overflow overflow) {
    const CFloatSpec spec = cfloat_spec(format, bias, DenormalScale::Paper, overflow);
    return std::array{encode_nearest(spec, 1e30F), encode_nearest(spec, kInfinity),
                      encode_nearest(spec, kNaN), encode_stochastic(spec, 1e30F, 0xFFFF),
                      encode_stochastic(spec, kInfinity, 0xFFFF)};
  };
  using Codes = std::array<std::uint16_t, 5>;
  EXPECT_EQ(codes(Format::E4m3, 7, Overflow::OfFormat), (Codes{0x7E, 0x7E, 0x7F, 0x7E, 0x7E}));
  EXPECT_EQ(codes(Format::E4m3, 7, Overflow::BecomesSpecial),
            (Codes{0x7F, 0x7F, 0x7F, 0x7E, 0x7F}));
  EXPECT_EQ(codes(Format::E5m2, 15, Overflow::OfFormat), (Codes{0x7B, 0x7B, 0x7E, 0x7B, 0x7B}));
  EXPECT_EQ(codes(Format::E5m2, 15, Overflow::BecomesSpecial),
            (Codes{0x7C, 0x7C, 0x7E, 0x7B, 0x7C}));
  EXPECT_EQ(codes(Format::F16, 0, Overflow::OfFormat),
            (Codes{0x7C00, 0x7C00, 0x7E00, 0x7BFF, 0x7C00}));
  EXPECT_EQ(codes(Format::F16, 0, Overflow::Saturates),
            (Codes{0x7BFF, 0x7BFF, 0x7E00, 0x7BFF, 0x7BFF}));
  EXPECT_EQ(codes(Format::Uhp, 0, Overflow::OfFormat),
            (Codes{0xFC00, 0xFC00, 0xFE00, 0xFBFF, 0xFC00}));
  EXPECT_EQ(codes(Format::Shp, 15, Overflow::BecomesSpecial),
            (Codes{0x7FFF, 0x7FFF, 0x7FFF, 0x7FFF, 0x7FFF}));
  // 464 is the tie between 448, which is even, and the next step.
  EXPECT_EQ(encode_nearest(cfloat_spec(Format::E4m3, 7, {}, Overflow::BecomesSpecial), 464.0F),
            0x7E);
}

TEST(Formats, FlagsOfFormatsWithSpecialCodesAndOfUhp) {
  const CFloatSpec f16 = cfloat_spec(Format::F16, 0);
  EXPECT_EQ(flags_of(f16, kInfinity), (Flags{}));  // Inf stays
  EXPECT_EQ(flags_of(f16, 65520.0F), (Flags{.overflow = true}));
  EXPECT_EQ(flags_of(f16, kNaN), (Flags{.invalid = true}));
  EXPECT_EQ(flags_of(f16, 0x1p-24F), (Flags{}));
  EXPECT_EQ(flags_of(f16, 0x1.8p-24F), (Flags{.underflow = true}));
  EXPECT_EQ(flags_of(cfloat_spec(Format::E5m2, 15), kInfinity), (Flags{.overflow = true}));
  const CFloatSpec uhp = cfloat_spec(Format::Uhp, 0);
  EXPECT_EQ(flags_of(uhp, -1.0F), (Flags{.invalid = true}));
  EXPECT_EQ(flags_of(uhp, -kInfinity), (Flags{.invalid = true}));
  EXPECT_EQ(flags_of(uhp, -0.0F), (Flags{}));
  EXPECT_EQ(flags_of(uhp, 0x1p-30F), (Flags{}));
  EXPECT_EQ(flags_of(uhp, 0x1p-31F), (Flags{.underflow = true}));  // a denormal, flushed
  EXPECT_EQ(encode_nearest(uhp, 0x1p-31F), 0);
  EXPECT_EQ(encode_nearest(uhp, 0x1.fffffep-31F), 0x0400);  // rounds to the smallest normal
  Flags decoded;
  EXPECT_EQ(decode(uhp, 0x0001, decoded), 0.0F);
  EXPECT_EQ(decoded, (Flags{.denormal = true}));
  decode(uhp, 63u << 10, decoded = {});
  EXPECT_EQ(decoded, (Flags{}));
  decode(uhp, 63u << 10 | 1u, decoded);
  EXPECT_EQ(decoded, (Flags{.invalid = true}));
}

TEST(Formats, TheTwoWritingsOfBf16Agree) {
  Random random(9);
  const CFloatSpec spec = cfloat_spec(Format::Bf16, 0);
  for (int i = 0; i < 200000; ++i) {
    const float x = std::bit_cast<float>(random.one_in(4) ? (random.bits() | 0x7F000000u)
                                                          : random.bits() >> (random.bits() % 16));
    const auto draw = static_cast<std::uint16_t>(random.bits());
    ASSERT_EQ(encode_bf16_nearest(x), encode_nearest(spec, x)) << x;
    ASSERT_EQ(encode_bf16_stochastic(x, draw), encode_stochastic(spec, x, draw)) << x;
    const auto code = static_cast<std::uint16_t>(random.bits());
    ASSERT_TRUE(testing::is_same(decode_bf16(code), decode(spec, code))) << code;
  }
}

TEST(Bf16, NearestIsTheCloserNeighbourTiesToEven) {
  for (std::uint64_t step = 0; step < (std::uint64_t{1} << 31); step += 1021) {
    const std::uint32_t bits = static_cast<std::uint32_t>(step);
    const float x = std::bit_cast<float>(bits);
    const std::uint16_t code = encode_bf16_nearest(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(decode_bf16(code)));
      continue;
    }
    // Inf stands for 2^128 when distances are compared.
    const auto value = [](std::uint32_t c) {
      return c == 0x7F80 ? std::ldexp(1.0, 128)
                         : double{decode_bf16(static_cast<std::uint16_t>(c))};
    };
    const std::uint32_t below = bits >> 16;
    if (below == 0x7F80) {
      ASSERT_EQ(code, 0x7F80);
      continue;
    }
    const double down = x - value(below);
    const double up = value(below + 1) - x;
    const std::uint32_t wanted = down < up ? below : (up < down ? below + 1 : (below + 1) & ~1u);
    ASSERT_EQ(code, wanted) << x;
    ASSERT_EQ(encode_bf16_nearest(-x), wanted | 0x8000u) << x;
  }
}

TEST(Bf16, NotANumberStaysOneAndBecomesTheCanonicalOne) {
  EXPECT_EQ(encode_bf16_nearest(std::bit_cast<float>(0x7F800001u)), 0x7FC0);
  EXPECT_EQ(encode_bf16_nearest(std::bit_cast<float>(0xFFFFFFFFu)), 0xFFC0);
  EXPECT_EQ(encode_bf16_stochastic(std::bit_cast<float>(0x7F800001u), 0xFFFF), 0x7FC0);
}

TEST(Bf16, StochasticAddsTheDrawToTheDiscardedBitsAndStaysFinite) {
  EXPECT_EQ(encode_bf16_stochastic(std::bit_cast<float>(0x3F800001u), 0xFFFE), 0x3F80);
  EXPECT_EQ(encode_bf16_stochastic(std::bit_cast<float>(0x3F800001u), 0xFFFF), 0x3F81);
  EXPECT_EQ(encode_bf16_stochastic(std::bit_cast<float>(0xBF808000u), 0x8000), 0xBF81);
  EXPECT_EQ(encode_bf16_stochastic(std::numeric_limits<float>::max(), 0xFFFF), 0x7F7F);
  EXPECT_EQ(encode_bf16_stochastic(kInfinity, 0xFFFF), 0x7F80);
  EXPECT_EQ(encode_bf16_stochastic(-kInfinity, 0), 0xFF80);
}

}  // namespace
}  // namespace dojo::numerics
