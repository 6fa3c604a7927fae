// For tests of numerics: operands that are hard to sum, and the definition of an associated
// reduction written a second time, by other means than association.h.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "dojo/numerics/association.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics::testing {

inline constexpr const char* kNoAvx512 =
    "THIS CPU HAS NO AVX-512: the vector paths stay untested here";

// The paths this CPU can run.
inline std::vector<Isa> isas() {
  std::vector<Isa> found;
  for (const Isa isa : {Isa::Plain, Isa::Avx2, Isa::Avx512}) {
    if (isa <= best_isa()) {
      found.push_back(isa);
    }
  }
  return found;
}

inline std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

// Same bits, or both NaN (the payload of a NaN is not part of the contract).
inline bool is_same(float a, float b) {
  return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b));
}

inline ::testing::AssertionResult are_same(std::span<const float> got,
                                           std::span<const float> wanted) {
  if (got.size() != wanted.size()) {
    return ::testing::AssertionFailure() << "sizes " << got.size() << " and " << wanted.size();
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!is_same(got[i], wanted[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << " of " << got.size() << ": " << got[i] << " (bits " << std::hex
             << bits_of(got[i]) << "), wanted " << wanted[i] << " (bits " << bits_of(wanted[i])
             << ")";
    }
  }
  return ::testing::AssertionSuccess();
}

class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {  // both included
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::int64_t n) { return between(1, n) == 1; }
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::mt19937_64 engine_;
};

// Elements of a format in storage. Kinds of data in turn: cancellation of large against small,
// zero heavy, the extremes of the format (its denormals and its largest values), any code.
struct Elements {
  StorageFormat type;
  std::vector<std::byte> bytes;

  Storage storage(std::int64_t offset = 0) const { return {bytes.data(), type, offset}; }
};

inline float hard_value(Random& random, std::int64_t kind) {
  const float sign = random.one_in(2) ? -1.0F : 1.0F;
  const float fraction = 1.0F + static_cast<float>(random.between(0, 0x7FFFFF)) * 0x1p-23F;
  const auto scaled = [&](std::int64_t low, std::int64_t high) {
    return sign * std::ldexp(fraction, static_cast<int>(random.between(low, high)));
  };
  switch (kind) {
    case 0:
      return scaled(-12, 12);
    case 1:
      return random.one_in(3) ? scaled(-2, 2) : sign * 0.0F;
    case 2:
      return random.one_in(2) ? scaled(-75, -60) : scaled(30, 40);
    default:
      return scaled(-149, -120);  // products and operands are FP32 denormals
  }
}

// A code of a format of 8 or 16 bits; rarely Inf or NaN, where it has them.
inline std::uint32_t hard_code(Random& random, const CFloatSpec& spec, std::int64_t kind) {
  const std::uint32_t bits = random.bits();
  const std::uint32_t sign = spec.has_sign ? (bits >> 31) << spec.sign_shift() : 0u;
  const std::uint32_t any = bits & spec.magnitude_mask();
  const bool is_zero = kind == 1 && !random.one_in(3);
  const std::uint32_t largest = spec.max_magnitude() - any % 2;
  const std::uint32_t edge = random.one_in(2) ? any % spec.min_normal_magnitude() : largest;
  const std::uint32_t magnitude = kind == 0 ? any : (is_zero ? 0u : edge);
  const bool is_finite = magnitude <= spec.max_magnitude();
  return sign | (is_finite || random.one_in(64) ? magnitude : spec.max_magnitude());
}

inline Elements hard_elements(Random& random, Format format, std::int64_t count) {
  Elements out;
  out.type = {format, static_cast<int>(random.between(0, kMaxBias)),
              random.one_in(2) ? DenormalScale::Paper : DenormalScale::Gradual};
  out.bytes.resize(static_cast<std::size_t>(count * bytes_of(format)));
  const std::int64_t kind = random.between(0, 3);
  for (std::int64_t i = 0; i < count; ++i) {
    std::byte* at = out.bytes.data() + i * bytes_of(format);
    if (format == Format::F32) {
      const float x = hard_value(random, kind);
      std::memcpy(at, &x, 4);
    } else if (format == Format::Bf16) {
      const std::uint16_t code = encode_bf16_nearest(hard_value(random, kind));
      std::memcpy(at, &code, 2);
    } else if (format == Format::U8) {
      *at = static_cast<std::byte>(random.bits());
    } else {
      const std::uint32_t code = hard_code(random, out.type.spec(), kind);
      std::memcpy(at, &code, static_cast<std::size_t>(bytes_of(format)));
    }
  }
  return out;
}

inline Format any_format(Random& random) {
  constexpr std::array kAll{Format::F32,       Format::Bf16, Format::F16, Format::Cf8_1_4_3,
                            Format::Cf8_1_5_2, Format::Shp,  Format::Uhp, Format::E4m3,
                            Format::E5m2,      Format::U8};
  return kAll[static_cast<std::size_t>(random.between(0, kAll.size() - 1))];
}

// A third of them none, else any blocks, longer than the loop too; half of those in any runs,
// longer than the loop's parts too.
inline ReduceCuts any_cuts(Random& random, std::span<const std::int64_t> extent) {
  ReduceCuts cuts;
  if (random.one_in(3)) {
    return cuts;
  }
  const bool has_runs = random.one_in(2);
  for (const std::int64_t e : extent) {
    cuts.block.push_back(random.between(1, e + 1));
    if (has_runs) {
      cuts.run.push_back(random.between(1, e / cuts.block.back() + 2));
    }
  }
  return cuts;
}

// The definition in association.h by other means: every point in lexicographic order is put into
// the list of its part; parts are folded; then the array of parts is chained away axis by axis, the
// last axis first: of each line first every run, then what the runs made.
using Points = std::vector<std::vector<std::int64_t>>;

struct PartsLongHand {
  std::vector<std::int64_t> blocks;  // along each loop
  std::vector<Points> parts;
};

inline PartsLongHand parts_long_hand(const std::vector<std::int64_t>& extent,
                                     const ReduceCuts& cuts) {
  PartsLongHand out;
  std::vector<std::int64_t> block;
  std::int64_t points = 1;
  std::int64_t parts = 1;
  for (std::size_t i = 0; i < extent.size(); ++i) {
    block.push_back(cuts.block.empty() ? extent[i] : cuts.block[i]);
    out.blocks.push_back(extent[i] == 0 ? 1 : (extent[i] + block[i] - 1) / block[i]);
    points *= extent[i];
    parts *= out.blocks[i];
  }
  out.parts.resize(static_cast<std::size_t>(parts));
  std::vector<std::int64_t> at(extent.size());
  for (std::int64_t point = 0; point < points; ++point) {
    std::int64_t rest = point;
    for (std::size_t i = extent.size(); i-- > 0;) {
      at[i] = rest % extent[i];
      rest /= extent[i];
    }
    std::int64_t part = 0;
    for (std::size_t i = 0; i < extent.size(); ++i) {
      part = part * out.blocks[i] + at[i] / block[i];
    }
    out.parts[static_cast<std::size_t>(part)].push_back(at);
  }
  return out;
}

inline float chain_line(std::span<const float> line, float (*combine)(float, float)) {
  float total = line.front();
  for (const float each : line.subspan(1)) {
    total = combine(total, each);
  }
  return total;
}

// fold_part(points) is the value of one part.
template <class FoldPart>
float chain_long_hand(const std::vector<std::int64_t>& extent, const ReduceCuts& cuts,
                      const FoldPart& fold_part, float (*combine)(float, float)) {
  const PartsLongHand all = parts_long_hand(extent, cuts);
  std::vector<float> value;
  for (const Points& part : all.parts) {
    value.push_back(fold_part(part));
  }
  for (std::size_t axis = extent.size(); axis-- > 0;) {
    const std::size_t length = static_cast<std::size_t>(all.blocks[axis]);
    const std::size_t run = cuts.run.empty() ? length : static_cast<std::size_t>(cuts.run[axis]);
    std::vector<float> chained;
    for (std::span<const float> rest = value; !rest.empty(); rest = rest.subspan(length)) {
      const std::span<const float> line = rest.first(length);
      std::vector<float> runs;
      for (std::size_t at = 0; at < length; at += run) {
        runs.push_back(chain_line(line.subspan(at, std::min(run, length - at)), combine));
      }
      chained.push_back(chain_line(runs, combine));
    }
    value = chained;
  }
  return value.front();
}

// fold(acc, point) returns the new accumulator.
template <class Fold>
float fold_long_hand(const std::vector<std::int64_t>& extent, const ReduceCuts& cuts, float start,
                     const Fold& fold, float (*combine)(float, float)) {
  const auto fold_part = [&](const Points& points) {
    float acc = start;
    for (const std::vector<std::int64_t>& point : points) {
      acc = fold(acc, point);
    }
    return acc;
  };
  return chain_long_hand(extent, cuts, fold_part, combine);
}

template <class Fold>
float sum_long_hand(const std::vector<std::int64_t>& extent, const ReduceCuts& cuts,
                    const Fold& fold) {
  return fold_long_hand(extent, cuts, 0.0F, fold, +[](float a, float b) { return a + b; });
}

}  // namespace dojo::numerics::testing
