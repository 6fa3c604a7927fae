// One element of a configurable float: the scalar twin that defines encode and decode, written on
// integers. Source of the format: Tesla, "A Guide to Tesla's Configurable Floating Point Formats &
// Arithmetic", 2021: sign, exponent E, mantissa m of M bits, unsigned 6-bit bias b;
//   normal   (-1)^s 2^(E-b) 1.m, E = 1 .. 2^e-1: the top code is an ordinary number, no Inf, no NaN
//   denormal (-1)^s 2^(-b)  0.m, E = 0 (Paper); or (-1)^s 2^(1-b) 0.m (Gradual, as IEEE 754)
// Paper leaves a hole between (1-2^-M) 2^-b and 2^(1-b); values in it round like any others,
// between the two neighbours.
// The paper says: overflow, Inf and NaN clamp to the largest magnitude. Our choices, where it says
// nothing: the clamp keeps the operand's sign (NaN too), -0 keeps its sign, ties go to the even
// code, and stochastic rounding uses 16 bits (encode_stochastic).
#pragma once

#include <bit>
#include <cstdint>

#include "dojo/base/check.h"
#include "dojo/base/format.h"

namespace dojo::numerics {

enum class DenormalScale : std::uint8_t { Paper, Gradual };

// NearestAway (ties away from zero) exists to compare with other implementations.
enum class Rounding : std::uint8_t { NearestEven, Stochastic, NearestAway };

inline constexpr int kMaxBias = 63;

struct CFloatSpec {
  int exponent_bits = 4;
  int mantissa_bits = 3;
  int bias = 0;  // 0 .. kMaxBias
  DenormalScale denormals = DenormalScale::Paper;

  constexpr int max_exponent() const { return (1 << exponent_bits) - 1; }
  // Codes without the sign: 0 .. max_magnitude(), ascending with the value.
  constexpr std::uint32_t max_magnitude() const {
    return (1u << (exponent_bits + mantissa_bits)) - 1;
  }
  constexpr std::uint32_t min_normal_magnitude() const { return 1u << mantissa_bits; }
  constexpr int sign_shift() const { return exponent_bits + mantissa_bits; }
};

// The codec of a configurable Format.
constexpr CFloatSpec cfloat_spec(Format format, int bias,
                                 DenormalScale denormals = DenormalScale::Paper) {
  DOJO_DCHECK(has_bias(format) && bias >= 0 && bias <= kMaxBias);
  return {info(format).exponent_bits, info(format).mantissa_bits, bias, denormals};
}

// Sticky exception flags. Invalid: NaN operand. Denormal: denormal operand (of FP32 in encode, of
// the format in decode). Overflow: the rounded value exceeds the maximum (stochastic: the operand
// does), or the operand is Inf. Underflow: inexact and below the smallest normal after rounding.
struct Flags {
  bool invalid = false;
  bool denormal = false;
  bool overflow = false;
  bool underflow = false;
  friend constexpr bool operator==(const Flags&, const Flags&) = default;
};

namespace internal {

// Where |x| lies on the grid of the format: between `below` and `below` + 1, at the fraction
// remainder / gap. `sticky`: nonzero bits below the remainder's resolution were dropped.
struct GridPosition {
  std::uint32_t below = 0;
  std::uint64_t remainder = 0;
  std::uint64_t gap = 1;
  bool sticky = false;
};

// Of a finite |x|, given by its FP32 bits. `below` may exceed max_magnitude().
constexpr GridPosition grid_position(const CFloatSpec& spec, std::uint32_t magnitude_bits) {
  const int mantissa = spec.mantissa_bits;
  const std::uint32_t min_normal_bits = static_cast<std::uint32_t>(128 - spec.bias) << 23;
  if (magnitude_bits >= min_normal_bits) {
    const std::uint32_t rebiased =
        magnitude_bits - (static_cast<std::uint32_t>(127 - spec.bias) << 23);
    const int shift = 23 - mantissa;
    const std::uint32_t gap = 1u << shift;
    return {rebiased >> shift, rebiased & (gap - 1), gap, false};
  }
  // In units of the denormal spacing, 32 bits behind the point: below 2^(M+1).
  const int spacing_exponent =
      (spec.denormals == DenormalScale::Paper ? 0 : 1) - spec.bias - mantissa;
  const int exponent_field = static_cast<int>(magnitude_bits >> 23);
  const std::uint64_t significand =
      (magnitude_bits & 0x7FFFFFu) | (exponent_field == 0 ? 0u : 0x800000u);
  const int significand_exponent = (exponent_field == 0 ? 1 : exponent_field) - 150;
  const int shift = significand_exponent - spacing_exponent + 32;
  std::uint64_t fixed = 0;
  bool sticky = false;
  if (shift >= 0) {
    fixed = significand << shift;
  } else if (shift > -64) {
    fixed = significand >> -shift;
    sticky = (fixed << -shift) != significand;
  } else {
    sticky = significand != 0;
  }
  constexpr std::uint64_t kOne = std::uint64_t{1} << 32;
  const std::uint64_t max_denormal = spec.min_normal_magnitude() - 1;
  if (spec.denormals == DenormalScale::Paper && fixed >= max_denormal * kOne) {
    // The hole: min normal is 2^(M+1) spacings, the largest denormal 2^M - 1.
    const std::uint64_t gap = 2 * std::uint64_t{spec.min_normal_magnitude()} - max_denormal;
    return {static_cast<std::uint32_t>(max_denormal), fixed - max_denormal * kOne, gap * kOne,
            sticky};
  }
  return {static_cast<std::uint32_t>(fixed >> 32), fixed & (kOne - 1), kOne, sticky};
}

constexpr bool rounds_up(const GridPosition& at, Rounding rounding, std::uint32_t random) {
  switch (rounding) {
    case Rounding::NearestEven:
      return 2 * at.remainder > at.gap || (2 * at.remainder == at.gap && at.below % 2 == 1);
    case Rounding::NearestAway:
      return 2 * at.remainder >= at.gap;
    case Rounding::Stochastic:
      return (at.remainder << 16) / at.gap + random >= 0x10000u;
  }
  return false;
}

// The code of x, sign included, for any exponent and mantissa width up to 16 bits in all.
constexpr std::uint32_t encode(const CFloatSpec& spec, float x, Rounding rounding,
                               std::uint32_t random, Flags& flags) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 31) << spec.sign_shift();
  const std::uint32_t magnitude_bits = bits & 0x7FFFFFFFu;
  constexpr std::uint32_t kInfinity = 0x7F800000u;
  if (magnitude_bits >= kInfinity) {
    (magnitude_bits > kInfinity ? flags.invalid : flags.overflow) = true;
    return sign | spec.max_magnitude();
  }
  flags.denormal |= magnitude_bits != 0 && magnitude_bits < 0x800000u;
  const GridPosition at = grid_position(spec, magnitude_bits);
  const bool beyond =
      at.below > spec.max_magnitude() || (at.below == spec.max_magnitude() && at.remainder != 0);
  if (rounding == Rounding::Stochastic && beyond) {  // clamp first: never rounds out of the range
    flags.overflow = true;
    return sign | spec.max_magnitude();
  }
  const std::uint32_t rounded = at.below + (rounds_up(at, rounding, random) ? 1u : 0u);
  if (rounded > spec.max_magnitude()) {
    flags.overflow = true;
    return sign | spec.max_magnitude();
  }
  flags.underflow |= rounded < spec.min_normal_magnitude() && (at.remainder != 0 || at.sticky);
  return sign | rounded;
}

}  // namespace internal

// x rounded to the nearest value of an 8-bit format, ties to the even code.
constexpr std::uint8_t encode_nearest(const CFloatSpec& spec, float x, Flags& flags) {
  return static_cast<std::uint8_t>(internal::encode(spec, x, Rounding::NearestEven, 0, flags));
}
constexpr std::uint8_t encode_nearest(const CFloatSpec& spec, float x) {
  Flags ignored;
  return encode_nearest(spec, x, ignored);
}

// x rounded up in magnitude if low + random >= 2^16, where low is the position of |x| between its
// two neighbours as a 16-bit fraction (bits below are dropped); clamped first.
constexpr std::uint8_t encode_stochastic(const CFloatSpec& spec, float x, std::uint16_t random,
                                         Flags& flags) {
  return static_cast<std::uint8_t>(internal::encode(spec, x, Rounding::Stochastic, random, flags));
}
constexpr std::uint8_t encode_stochastic(const CFloatSpec& spec, float x, std::uint16_t random) {
  Flags ignored;
  return encode_stochastic(spec, x, random, ignored);
}

// x rounded to nearest, ties away from zero.
constexpr std::uint8_t encode_nearest_away(const CFloatSpec& spec, float x) {
  Flags ignored;
  return static_cast<std::uint8_t>(internal::encode(spec, x, Rounding::NearestAway, 0, ignored));
}

// The exact value of a code; every value of every format and bias is a normal FP32 number or zero.
constexpr float decode(const CFloatSpec& spec, std::uint32_t code) {
  const std::uint32_t sign = (code >> spec.sign_shift()) << 31;
  const std::uint32_t magnitude = code & spec.max_magnitude();
  if (magnitude >= spec.min_normal_magnitude()) {
    return std::bit_cast<float>(sign | ((magnitude << (23 - spec.mantissa_bits)) +
                                        (static_cast<std::uint32_t>(127 - spec.bias) << 23)));
  }
  const int spacing_exponent =
      (spec.denormals == DenormalScale::Paper ? 0 : 1) - spec.bias - spec.mantissa_bits;
  const float spacing =
      std::bit_cast<float>(static_cast<std::uint32_t>(127 + spacing_exponent) << 23);
  const float value = static_cast<float>(magnitude) * spacing;
  return sign != 0 ? -value : value;
}
constexpr float decode(const CFloatSpec& spec, std::uint32_t code, Flags& flags) {
  const std::uint32_t magnitude = code & spec.max_magnitude();
  flags.denormal |= magnitude != 0 && magnitude < spec.min_normal_magnitude();
  return decode(spec, code);
}

// bfloat16: nearest even as IEEE 754 (overflow to Inf); a NaN stays a NaN, made quiet.
constexpr std::uint16_t encode_bf16_nearest(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// Up in magnitude if the discarded 16 bits + random >= 2^16. A finite x stays finite: beyond the
// largest bfloat16 it is clamped.
constexpr std::uint16_t encode_bf16_stochastic(float x, std::uint16_t random) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  if (magnitude > 0x7F7F0000u) {  // Inf stays; a finite value clamps
    return static_cast<std::uint16_t>((bits >> 16));
  }
  return static_cast<std::uint16_t>((bits + random) >> 16);
}

constexpr float decode_bf16(std::uint16_t code) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16);
}

}  // namespace dojo::numerics
