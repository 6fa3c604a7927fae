// One element on the device: cfloat.h's encode and decode in a form for GPUs. The denormal side
// works in units of the denormal spacing, t = |x| / spacing, which is exact in FP32.
#pragma once

#include <cstdint>

#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics::cuda::internal {

inline __device__ std::uint32_t bits_of(float x) { return __float_as_uint(x); }

// What the kernels need of a format and its bias.
struct Codec {
  explicit Codec(const StorageFormat& type)
      : shift(23 - info(type.format).mantissa_bits),
        sign_shift(info(type.format).exponent_bits + info(type.format).mantissa_bits),
        is_paper(type.denormals == DenormalScale::Paper),
        rebase(static_cast<std::uint32_t>(127 - type.bias) << 23),
        max_magnitude((1u << sign_shift) - 1),
        min_normal(1u << (23 - shift)) {
    const int spacing_exponent = (is_paper ? 0 : 1) - type.bias - (23 - shift);
    per_spacing = std::bit_cast<float>(static_cast<std::uint32_t>(127 - spacing_exponent) << 23);
    spacing = std::bit_cast<float>(static_cast<std::uint32_t>(127 + spacing_exponent) << 23);
  }

  int shift;       // FP32 mantissa bits that the format lacks
  int sign_shift;  // of the sign bit in a code
  bool is_paper;
  std::uint32_t rebase;         // FP32 bits of 2^-bias: subtracted from those of a normal number
  std::uint32_t max_magnitude;  // code
  std::uint32_t min_normal;     // code
  float per_spacing = 0;        // 1 / spacing of the denormals
  float spacing = 0;
};

// The code of the magnitude, above max_magnitude where it must be clamped; nearest, ties to even.
inline __device__ std::uint32_t nearest_code(const Codec& by, std::uint32_t magnitude) {
  const std::uint32_t smallest_normal = by.rebase + (1u << 23);
  if (magnitude >= smallest_normal) {
    const std::uint32_t rebased = magnitude - by.rebase;
    const std::uint32_t is_odd = (rebased >> by.shift) & 1u;
    return (rebased + (1u << (by.shift - 1)) - 1u + is_odd) >> by.shift;
  }
  const float t = __uint_as_float(magnitude) * by.per_spacing;
  const float largest_denormal = static_cast<float>(by.min_normal - 1);
  if (by.is_paper && t >= largest_denormal) {
    // The hole up to 2 min_normal spacings; its middle goes to the even code, min_normal.
    const float middle = 0.5F * (largest_denormal + 2.0F * static_cast<float>(by.min_normal));
    return by.min_normal - (t < middle ? 1u : 0u);
  }
  return static_cast<std::uint32_t>(__float2int_rn(t));
}

// Below max_magnitude + 1 unless the magnitude itself is beyond the range; `random` is 16 bits.
inline __device__ std::uint32_t stochastic_code(const Codec& by, std::uint32_t magnitude,
                                                std::uint32_t random) {
  const std::uint32_t smallest_normal = by.rebase + (1u << 23);
  if (magnitude >= smallest_normal) {
    const std::uint32_t rebased = magnitude - by.rebase;
    const std::uint32_t below = rebased >> by.shift;
    const std::uint32_t rest = rebased & ((1u << by.shift) - 1u);
    if (below > by.max_magnitude || (below == by.max_magnitude && rest != 0)) {
      return by.max_magnitude + 1;
    }
    const std::uint32_t low = by.shift >= 16 ? rest >> (by.shift - 16) : rest << (16 - by.shift);
    return below + ((low + random) >> 16);
  }
  const float t = __uint_as_float(magnitude) * by.per_spacing;
  const float largest_denormal = static_cast<float>(by.min_normal - 1);
  if (by.is_paper && t >= largest_denormal) {
    // Above largest_denormal, t is a multiple of 2^(M - 24): the position in the hole is a ratio of
    // integers below 2^25.
    const int mantissa = 23 - by.shift;
    const float unit = __uint_as_float(static_cast<std::uint32_t>(127 + 24 - mantissa) << 23);
    const std::uint32_t steps = __float2uint_rz((t - largest_denormal) * unit);
    const std::uint32_t gap = by.min_normal + 1;
    const std::uint32_t low =
        mantissa <= 8 ? steps / (gap << (8 - mantissa)) : (steps << (mantissa - 8)) / gap;
    return by.min_normal - 1 + ((low + random) >> 16);
  }
  const float below = floorf(t);
  const std::uint32_t low = __float2uint_rz((t - below) * 65536.0F);
  return static_cast<std::uint32_t>(below) + ((low + random) >> 16);
}

// FP32 bits of a denormal magnitude or zero.
inline __device__ std::uint32_t denormal_bits(const Codec& by, std::uint32_t magnitude) {
  return bits_of(static_cast<float>(magnitude) * by.spacing);
}

inline __device__ float decoded(const Codec& by, std::uint32_t code) {
  const std::uint32_t magnitude = code & by.max_magnitude;
  const std::uint32_t sign = (code >> by.sign_shift) << 31;
  const std::uint32_t value = magnitude >= by.min_normal ? (magnitude << by.shift) + by.rebase
                                                         : denormal_bits(by, magnitude);
  return __uint_as_float(sign | value);
}

}  // namespace dojo::numerics::cuda::internal
