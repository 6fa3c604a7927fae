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
// PERF: without branches, for some lane of a warp nearly always has a denormal.
inline __device__ std::uint32_t nearest_code(const Codec& by, std::uint32_t magnitude) {
  const std::uint32_t rebased = magnitude - by.rebase;
  const std::uint32_t is_odd = (rebased >> by.shift) & 1u;
  const std::uint32_t normal = (rebased + (1u << (by.shift - 1)) - 1u + is_odd) >> by.shift;
  const float t = __uint_as_float(magnitude) * by.per_spacing;
  // Adding 2^23 rounds to a whole number, in the low bits of the sum.
  std::uint32_t denormal = bits_of(t + 0x1p23F) - bits_of(0x1p23F);
  if (by.is_paper) {
    // The hole up to 2 min_normal spacings; its middle goes to the even code, min_normal.
    const float largest = static_cast<float>(by.min_normal - 1);
    const float middle = 0.5F * (largest + 2.0F * static_cast<float>(by.min_normal));
    denormal = t >= largest ? by.min_normal - (t < middle ? 1u : 0u) : denormal;
  }
  return magnitude >= by.rebase + (1u << 23) ? normal : denormal;
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
  // In spacings with 16 bits behind the point; the hole as in rounding_algorithms.h.
  const std::uint32_t sum =
      __float2uint_rz(__uint_as_float(magnitude) * by.per_spacing * 65536.0F) + random;
  if (!by.is_paper) {
    return sum >> 16;
  }
  const int mantissa = 23 - by.shift;
  const bool stays = sum + (random << mantissa) < 1u << (mantissa + 17);
  return stays ? min(sum >> 16, by.min_normal - 1) : by.min_normal;
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
