// One element of a float format: the scalar twin that defines encode and decode, written on
// integers. One codec for all of them: CFloatSpec says in what they differ.
//   normal   (-1)^s 2^(E-b) 1.m
//   denormal (-1)^s 2^(-b)  0.m, E = 0 (Paper); or (-1)^s 2^(1-b) 0.m (Gradual, as IEEE 754)
// Sources: Tesla, "A Guide to Tesla's Configurable Floating Point Formats & Arithmetic", 2021
// (CFloat8, SHP, UHP); OCP 8-bit Floating Point Specification (OFP8), 2023; IEEE 754.
// Paper leaves a hole between (1-2^-M) 2^-b and 2^(1-b); values in it round like any others,
// between the two neighbours.
// Tesla's paper says: overflow, Inf and NaN clamp to the largest magnitude where a format has no
// codes for them; UHP flushes denormal operands and results to zero. Our choices, where it says
// nothing: the clamp keeps the operand's sign (NaN too), -0 keeps its sign, ties go to the even
// code, stochastic rounding uses 16 bits (encode_stochastic), a negative operand of UHP clamps to 0
// and is Invalid, and a result is flushed if it is denormal after rounding to Gradual denormals.
#pragma once

#include <bit>
#include <cstdint>

#include "dojo/base/bias_policy.h"
#include "dojo/base/check.h"
#include "dojo/base/format.h"

namespace dojo::numerics {

// Matters to formats of DenormalRule::Selectable alone.
enum class DenormalScale : std::uint8_t { Paper, Gradual };

// NearestAway (ties away from zero) exists to compare with other implementations.
enum class Rounding : std::uint8_t { NearestEven, Stochastic, NearestAway };

// What becomes of Inf and of values beyond the range: the largest finite magnitude, or Inf (NaN in
// a format that has only that). OfFormat: a Float overflows to Inf as in IEEE 754, a
// ConfigurableFloat saturates. A format without special codes always saturates.
enum class Overflow : std::uint8_t { OfFormat, Saturates, BecomesSpecial };

struct CFloatSpec {
  int exponent_bits = 4;
  int mantissa_bits = 3;
  int bias = 0;
  DenormalScale denormals = DenormalScale::Paper;
  bool flushes_denormals = false;
  bool has_sign = true;
  TopCodes top_codes = TopCodes::Numbers;
  Overflow overflow = Overflow::Saturates;  // not OfFormat

  constexpr int max_exponent() const { return (1 << exponent_bits) - 1; }
  // Codes without the sign: finite ones are 0 .. max_magnitude(), ascending with the value; then
  // Inf, if there is one; then NaNs, up to magnitude_mask().
  constexpr std::uint32_t magnitude_mask() const {
    return (1u << (exponent_bits + mantissa_bits)) - 1;
  }
  constexpr std::uint32_t max_magnitude() const {
    switch (top_codes) {
      case TopCodes::Numbers:
        return magnitude_mask();
      case TopCodes::OneNan:
        return magnitude_mask() - 1;
      case TopCodes::InfNan:
        return magnitude_mask() - (1u << mantissa_bits);
    }
    return 0;
  }
  constexpr bool has_nan() const { return top_codes != TopCodes::Numbers; }
  // The canonical, quiet NaN.
  constexpr std::uint32_t nan_magnitude() const {
    return top_codes == TopCodes::OneNan ? magnitude_mask()
                                         : max_magnitude() + 1 + (1u << (mantissa_bits - 1));
  }
  // Of what is too large. One above the largest finite one is Inf, or the NaN of OneNan.
  constexpr std::uint32_t overflow_magnitude() const {
    return max_magnitude() + (overflow == Overflow::BecomesSpecial ? 1 : 0);
  }
  constexpr bool keeps_infinity() const {
    return top_codes == TopCodes::InfNan && overflow == Overflow::BecomesSpecial;
  }
  constexpr std::uint32_t min_normal_magnitude() const { return 1u << mantissa_bits; }
  constexpr int sign_shift() const { return exponent_bits + mantissa_bits; }
};

// The codec of a float Format. `bias` (0 .. kMaxBias) and `denormals` matter as the format says.
constexpr CFloatSpec cfloat_spec(Format format, int bias,
                                 DenormalScale denormals = DenormalScale::Paper,
                                 Overflow overflow = Overflow::OfFormat) {
  const FormatInfo& row = info(format);
  DOJO_DCHECK(is_float(format) && (!has_bias(format) || (bias >= 0 && bias <= kMaxBias)));
  if (overflow == Overflow::OfFormat) {
    overflow = row.kind == FormatKind::Float ? Overflow::BecomesSpecial : Overflow::Saturates;
  }
  return {
      .exponent_bits = row.exponent_bits,
      .mantissa_bits = row.mantissa_bits,
      .bias = has_bias(format) ? bias : row.bias,
      .denormals = row.denormals == DenormalRule::Selectable ? denormals : DenormalScale::Gradual,
      .flushes_denormals = row.denormals == DenormalRule::Flushed,
      .has_sign = row.sign_bits != 0,
      .top_codes = row.top_codes,
      .overflow = row.top_codes == TopCodes::Numbers ? Overflow::Saturates : overflow};
}

// Sticky exception flags of Tesla's paper, with the same meaning for every format.
// Invalid: NaN operand, or a negative one where the format has no sign. Denormal: denormal operand
// (of FP32 in encode, of the format in decode). Overflow: the rounded value exceeds the largest
// finite one (stochastic: the operand does), or the operand is an Inf that the result is not.
// Underflow: inexact and below the smallest normal after rounding.
struct Flags {
  bool invalid = false;
  bool denormal = false;
  bool overflow = false;
  bool underflow = false;

  constexpr Flags& operator|=(const Flags& other) {
    invalid |= other.invalid;
    denormal |= other.denormal;
    overflow |= other.overflow;
    underflow |= other.underflow;
    return *this;
  }
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

// The magnitude of a finite |x|, given by its FP32 bits.
constexpr std::uint32_t finite_magnitude(const CFloatSpec& spec, std::uint32_t magnitude_bits,
                                         Rounding rounding, std::uint32_t random, Flags& flags) {
  flags.denormal |= magnitude_bits != 0 && magnitude_bits < 0x800000u;
  const GridPosition at = grid_position(spec, magnitude_bits);
  const bool beyond =
      at.below > spec.max_magnitude() || (at.below == spec.max_magnitude() && at.remainder != 0);
  if (rounding == Rounding::Stochastic && beyond) {  // clamp first: never rounds out of the range
    flags.overflow = true;
    return spec.max_magnitude();
  }
  const std::uint32_t rounded = at.below + (rounds_up(at, rounding, random) ? 1u : 0u);
  if (rounded > spec.max_magnitude()) {
    flags.overflow = true;
    return spec.overflow_magnitude();
  }
  const bool is_small = rounded < spec.min_normal_magnitude();
  if (is_small && spec.flushes_denormals) {
    flags.underflow |= magnitude_bits != 0;
    return 0;
  }
  flags.underflow |= is_small && (at.remainder != 0 || at.sticky);
  return rounded;
}

// The code of x, sign included.
constexpr std::uint32_t encode(const CFloatSpec& spec, float x, Rounding rounding,
                               std::uint32_t random, Flags& flags) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const bool is_negative = bits >> 31 != 0;
  const std::uint32_t sign = is_negative && spec.has_sign ? 1u << spec.sign_shift() : 0u;
  const std::uint32_t magnitude_bits = bits & 0x7FFFFFFFu;
  constexpr std::uint32_t kInfinity = 0x7F800000u;
  if (magnitude_bits > kInfinity) {
    flags.invalid = true;
    return sign | (spec.has_nan() ? spec.nan_magnitude() : spec.max_magnitude());
  }
  if (is_negative && !spec.has_sign) {
    flags.invalid |= magnitude_bits != 0;
    return 0;
  }
  if (magnitude_bits == kInfinity) {
    flags.overflow |= !spec.keeps_infinity();
    return sign | spec.overflow_magnitude();
  }
  return sign | finite_magnitude(spec, magnitude_bits, rounding, random, flags);
}

}  // namespace internal

// x rounded to the nearest value of a format of up to 16 bits, ties to the even code.
constexpr std::uint16_t encode_nearest(const CFloatSpec& spec, float x, Flags& flags) {
  return static_cast<std::uint16_t>(internal::encode(spec, x, Rounding::NearestEven, 0, flags));
}
constexpr std::uint16_t encode_nearest(const CFloatSpec& spec, float x) {
  Flags ignored;
  return encode_nearest(spec, x, ignored);
}

// x rounded up in magnitude if low + random >= 2^16, where low is the position of |x| between its
// two neighbours as a 16-bit fraction (bits below are dropped). A finite x stays finite: beyond the
// range it is clamped first.
constexpr std::uint16_t encode_stochastic(const CFloatSpec& spec, float x, std::uint16_t random,
                                          Flags& flags) {
  return static_cast<std::uint16_t>(internal::encode(spec, x, Rounding::Stochastic, random, flags));
}
constexpr std::uint16_t encode_stochastic(const CFloatSpec& spec, float x, std::uint16_t random) {
  Flags ignored;
  return encode_stochastic(spec, x, random, ignored);
}

// x rounded to nearest, ties away from zero.
constexpr std::uint16_t encode_nearest_away(const CFloatSpec& spec, float x) {
  Flags ignored;
  return static_cast<std::uint16_t>(internal::encode(spec, x, Rounding::NearestAway, 0, ignored));
}

// The exact value of a code. Of formats with a bias, and of f16 and uhp, every finite one is a
// normal FP32 number or zero.
constexpr float decode(const CFloatSpec& spec, std::uint32_t code) {
  const std::uint32_t sign = spec.has_sign ? (code >> spec.sign_shift()) << 31 : 0u;
  const std::uint32_t magnitude = code & spec.magnitude_mask();
  const int shift = 23 - spec.mantissa_bits;
  if (magnitude > spec.max_magnitude()) {
    const std::uint32_t top = 0xFFu << 23;
    return std::bit_cast<float>(sign | top |
                                (spec.top_codes == TopCodes::OneNan
                                     ? 0x400000u
                                     : (magnitude - (spec.max_magnitude() + 1)) << shift));
  }
  if (magnitude >= spec.min_normal_magnitude()) {
    return std::bit_cast<float>(
        sign | ((magnitude << shift) + (static_cast<std::uint32_t>(127 - spec.bias) << 23)));
  }
  if (spec.flushes_denormals) {
    return std::bit_cast<float>(sign);
  }
  const int spacing_exponent =
      (spec.denormals == DenormalScale::Paper ? 0 : 1) - spec.bias - spec.mantissa_bits;
  // In two steps, both exact: the spacing of bf16 is an FP32 denormal.
  const float wide =
      std::bit_cast<float>(static_cast<std::uint32_t>(127 + 64 + spacing_exponent) << 23);
  const float value = static_cast<float>(magnitude) * wide * 0x1p-64F;
  return sign != 0 ? -value : value;
}
constexpr float decode(const CFloatSpec& spec, std::uint32_t code, Flags& flags) {
  const std::uint32_t magnitude = code & spec.magnitude_mask();
  const bool is_infinity =
      spec.top_codes == TopCodes::InfNan && magnitude == spec.max_magnitude() + 1;
  flags.invalid |= magnitude > spec.max_magnitude() && !is_infinity;
  flags.denormal |= magnitude != 0 && magnitude < spec.min_normal_magnitude();
  return decode(spec, code);
}

// bfloat16 in few instructions; the same codes as the codec above gives for Format::Bf16: nearest
// even as IEEE 754 (overflow to Inf); a NaN becomes the canonical one of its sign.
constexpr std::uint16_t encode_bf16_nearest(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return static_cast<std::uint16_t>((bits >> 31 << 15) | 0x7FC0u);
  }
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// Up in magnitude if the discarded 16 bits + random >= 2^16. A finite x stays finite: beyond the
// largest bfloat16 it is clamped.
constexpr std::uint16_t encode_bf16_stochastic(float x, std::uint16_t random) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return static_cast<std::uint16_t>((bits >> 31 << 15) | 0x7FC0u);
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
