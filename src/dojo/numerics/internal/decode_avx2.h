// Eight codes to FP32 in registers, for every float format and U8; bits as cfloat.h. The AVX2 twin
// of decode_avx512.h. Include from files that choose the path at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <variant>

#include "dojo/base/check.h"
#include "dojo/base/format.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/encode.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/lanes_avx2.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::numerics::avx2 {

// One class per storage format: load 8 adjacent elements as FP32.
struct LoadF32 {
  static constexpr std::int64_t kBytes = 4;
  explicit LoadF32(const StorageFormat& /*type*/) {}
  __m256 operator()(const std::byte* at) const {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
};

struct LoadBf16 {
  static constexpr std::int64_t kBytes = 2;
  explicit LoadBf16(const StorageFormat& /*type*/) {}
  __m256 operator()(const std::byte* at) const {
    return as_floats(shifted_left<16>(
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)))));
  }
};

struct LoadU8 {
  static constexpr std::int64_t kBytes = 1;
  explicit LoadU8(const StorageFormat& /*type*/) {}
  __m256 operator()(const std::byte* at) const {
    return to_floats(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
  }
};

// How to widen any other float: the bits of normal numbers are shifted into place and rebased,
// denormals are counted, Inf and NaN keep their mantissa.
struct CodeDecoder {
  explicit CodeDecoder(const StorageFormat& type) {
    const CFloatSpec spec = type.spec();
    magnitude_mask = spec.magnitude_mask();
    sign_shift = spec.has_sign ? 31 - spec.sign_shift() : 0;
    shift = 23 - spec.mantissa_bits;
    rebase = static_cast<std::uint32_t>(127 - spec.bias) << 23;
    min_normal = spec.min_normal_magnitude();
    special_from = spec.max_magnitude() + 1;
    spacing = decode(spec, 1);  // 0 if denormals are flushed
  }

  __m256 widened(Bits code) const {
    const Bits magnitude = common(code, all(magnitude_mask));
    const Bits sign = _mm256_sll_epi32(subtract(code, magnitude), _mm_cvtsi32_si128(sign_shift));
    const Bits shifted = _mm256_sll_epi32(magnitude, _mm_cvtsi32_si128(shift));
    Bits value = add(shifted, all(rebase));
    value = select(is_less(magnitude, all(special_from)), value, joined(shifted, all(0x7F800000u)));
    const Floats denormal = multiply(to_floats(magnitude), all(spacing));
    value = select(is_less(magnitude, all(min_normal)), as_bits(denormal), value);
    return as_floats(joined(value, sign));
  }

  std::uint32_t magnitude_mask = 0;
  int sign_shift = 0;
  int shift = 0;
  std::uint32_t rebase = 0;
  std::uint32_t min_normal = 0;
  std::uint32_t special_from = 0;  // the first magnitude that is Inf or NaN
  float spacing = 0;               // of denormals
};

struct LoadHalf {  // f16, shp, uhp
  static constexpr std::int64_t kBytes = 2;
  explicit LoadHalf(const StorageFormat& type) : by(type) {}
  __m256 operator()(const std::byte* at) const {
    return by.widened(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
  }
  CodeDecoder by;
};

struct LoadCFloat {  // both CFloat8, e4m3, e5m2
  static constexpr std::int64_t kBytes = 1;
  explicit LoadCFloat(const StorageFormat& type) : by(type) {}
  __m256 operator()(const std::byte* at) const {
    return by.widened(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
  }
  CodeDecoder by;
};

// The first `count` <= 8 elements; the others are 0.
template <class Load>
__m256 load_first(const Load& load, const std::byte* at, std::int64_t count) {
  if (count >= 8) {
    return load(at);
  }
  alignas(32) std::byte padded[32] = {};
  std::memcpy(padded, at, static_cast<std::size_t>(count * Load::kBytes));
  return load(padded);
}

#include "dojo/numerics/internal/load_algorithms.h"

}  // namespace dojo::numerics::avx2

#pragma GCC pop_options
