#include "dojo/numerics/mx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "dojo/numerics/grid_oracle.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::GridOracle;
using testing::isas;
using testing::Random;

struct Encoded {
  std::vector<std::byte> codes;
  std::vector<std::uint8_t> scales;
  EncodeStats stats;
  friend bool operator==(const Encoded&, const Encoded&) = default;
};

Encoded encoded(const std::vector<float>& x, const MxShape& shape, Format element, int threads,
                Isa isa, const RoundingSpec& rounding = {}) {
  ThreadPool pool(threads);
  Encoded out{std::vector<std::byte>(x.size()),
              std::vector<std::uint8_t>(static_cast<std::size_t>(shape.scales())),
              {}};
  out.stats = encode_mx(pool, x, shape, element, rounding, out.codes, out.scales, isa);
  return out;
}

std::vector<float> decoded(const Encoded& from, const MxShape& shape, Format element, Isa isa) {
  ThreadPool pool(2);
  std::vector<float> x(from.codes.size());
  decode_mx(pool, from.codes, from.scales, shape, element, x, isa);
  return x;
}

// The definition, element by element, in double: blocks of one position at a time.
Encoded long_hand(const std::vector<float>& x, const MxShape& shape, Format element) {
  const GridOracle oracle(cfloat_spec(element, info(element).bias));
  const double largest = element == Format::E4m3 ? 256 : 32768;  // 2^emax
  Encoded out{std::vector<std::byte>(x.size()),
              std::vector<std::uint8_t>(static_cast<std::size_t>(shape.scales())),
              {}};
  const auto at = [&](std::int64_t outer, std::int64_t i, std::int64_t inner) {
    return static_cast<std::size_t>((outer * shape.length + i) * shape.inner + inner);
  };
  for (std::int64_t outer = 0; outer < shape.outer; ++outer) {
    for (std::int64_t inner = 0; inner < shape.inner; ++inner) {
      for (std::int64_t block = 0; block < shape.blocks(); ++block) {
        const std::int64_t end = std::min(shape.length, (block + 1) * 32);
        double amax = 0;
        for (std::int64_t i = block * 32; i < end; ++i) {
          const double magnitude = std::fabs(x[at(outer, i, inner)]);
          amax = std::isfinite(magnitude) ? std::max(amax, magnitude) : amax;
        }
        int code = 0;  // the largest scale that leaves amax at 2^emax or above
        while (code < 254 && amax >= std::ldexp(2 * largest, code - 127)) {
          ++code;
        }
        out.scales[static_cast<std::size_t>((outer * shape.blocks() + block) * shape.inner +
                                            inner)] = static_cast<std::uint8_t>(code);
        for (std::int64_t i = block * 32; i < end; ++i) {
          const float value = x[at(outer, i, inner)];
          const double scaled = std::ldexp(std::fabs(static_cast<double>(value)), 127 - code);
          const std::uint32_t sign = std::signbit(value) ? 0x80u : 0u;
          const std::uint32_t magnitude =
              std::isnan(value) ? oracle.code(value, {}, 0) & 0x7Fu : oracle.nearest(scaled);
          out.codes[at(outer, i, inner)] = static_cast<std::byte>(sign | magnitude);
          out.stats.not_finite += std::isfinite(value) ? 0 : 1;
          out.stats.saturated += !std::isnan(value) && oracle.overflows(scaled) ? 1 : 0;
          out.stats.zeroed += value != 0 && magnitude == 0 ? 1 : 0;
          const std::uint32_t first_normal = 1u << info(element).mantissa_bits;
          out.stats.flags |=
              {.invalid = std::isnan(value),
               .denormal = value != 0 && std::fabs(value) < std::numeric_limits<float>::min(),
               .overflow = !std::isnan(value) && oracle.overflows(scaled),
               .underflow = magnitude < first_normal && oracle.values()[magnitude] != scaled};
        }
        out.stats.amax = std::max(out.stats.amax, static_cast<float>(amax));
      }
    }
  }
  return out;
}

std::vector<float> any_values(Random& random, std::int64_t count) {
  std::vector<float> x;
  const std::int64_t kind = random.between(0, 3);
  for (std::int64_t i = 0; i < count; ++i) {
    x.push_back(random.one_in(50) ? std::bit_cast<float>(random.bits())
                                  : testing::hard_value(random, kind));
  }
  return x;
}

TEST(Mx, EveryPathAndShapeEqualsTheLongHandDefinition) {
  Random random(71);
  for (int i = 0; i < 200; ++i) {
    const MxShape shape{random.between(0, 4), random.between(0, 100),
                        random.one_in(2) ? 1 : random.between(1, 70)};
    const Format element = random.one_in(2) ? Format::E4m3 : Format::E5m2;
    const std::vector<float> x = any_values(random, shape.elements());
    const Encoded wanted = long_hand(x, shape, element);
    for (const Isa isa : isas()) {
      const Encoded got = encoded(x, shape, element, 1 + i % 2, isa);
      ASSERT_EQ(got.scales, wanted.scales) << "case " << i << " " << name_of(isa);
      ASSERT_EQ(got.codes, wanted.codes) << "case " << i << " " << name_of(isa);
      ASSERT_EQ(got.stats, wanted.stats) << "case " << i << " " << name_of(isa);
    }
  }
}

TEST(Mx, LongLinesAreSplitOverThreadsWithoutAChange) {
  Random random(72);
  for (const MxShape shape : {MxShape{2, 100'003, 1}, MxShape{3, 95, 1001}}) {
    const std::vector<float> x = any_values(random, shape.elements());
    const RoundingSpec rounding{Rounding::Stochastic, {5, 6, 7}, 3};
    const Encoded plain = encoded(x, shape, Format::E4m3, 1, Isa::Plain, rounding);
    for (const Isa isa : isas()) {
      EXPECT_EQ(encoded(x, shape, Format::E4m3, 3, isa, rounding), plain) << name_of(isa);
    }
  }
}

TEST(Mx, DecodeIsTheElementTimesTheScale) {
  const MxShape shape{1, 256 * 32, 1};
  for (const Format element : {Format::E4m3, Format::E5m2}) {
    const CFloatSpec spec = cfloat_spec(element, info(element).bias);
    Encoded all{std::vector<std::byte>(256 * 32), std::vector<std::uint8_t>(256), {}};
    for (int first = 0; first < 256; first += 32) {
      for (std::size_t i = 0; i < all.codes.size(); ++i) {
        all.codes[i] = static_cast<std::byte>(first + static_cast<int>(i % 32));
        all.scales[i / 32] = static_cast<std::uint8_t>(i / 32);
      }
      for (const Isa isa : isas()) {
        const std::vector<float> x = decoded(all, shape, element, isa);
        for (std::size_t i = 0; i < x.size(); ++i) {
          const double value = decode(spec, static_cast<std::uint32_t>(all.codes[i]));
          const bool is_nan = all.scales[i / 32] == 255;
          const float wanted =
              is_nan ? NAN : static_cast<float>(std::ldexp(value, all.scales[i / 32] - 127));
          ASSERT_TRUE(testing::is_same(x[i], wanted)) << i << " " << x[i] << " " << wanted;
        }
      }
    }
  }
}

TEST(Mx, ScalesAreThoseOfTheSpecification) {
  const auto scale = [](float amax, Format element) {
    const std::vector<float> x{amax, 0.0F};
    return mx_scale(encoded(x, {1, 2, 1}, element, 1, best_isa()).scales[0]);
  };
  EXPECT_EQ(scale(448.0F, Format::E4m3), 1.0F);
  EXPECT_EQ(scale(511.0F, Format::E4m3), 1.0F);  // saturates, as the specification has it
  EXPECT_EQ(scale(512.0F, Format::E4m3), 2.0F);
  EXPECT_EQ(scale(1.0F, Format::E5m2), std::ldexp(1.0F, -15));
  EXPECT_EQ(scale(0.0F, Format::E4m3), std::ldexp(1.0F, -127));
  EXPECT_EQ(scale(std::numeric_limits<float>::infinity(), Format::E4m3), std::ldexp(1.0F, -127));
  EXPECT_TRUE(std::isnan(mx_scale(255)));
}

}  // namespace
}  // namespace dojo::numerics
