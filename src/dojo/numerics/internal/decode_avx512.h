// Sixteen codes to FP32 in registers, for every float format and U8; bits as cfloat.h.
// Include from files that choose the path at run time; the functions below are AVX-512 code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>

#include "dojo/base/check.h"
#include "dojo/base/format.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/encode.h"
#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

// How to widen one-byte floats: bits of the normal numbers are shifted into place and rebased; the
// other codes, the smallest and the largest, differ in their low 4 bits and come from a table.
struct ByteDecoder {
  explicit ByteDecoder(const StorageFormat& type) {
    const CFloatSpec spec = type.spec();
    shift = 23 - spec.mantissa_bits;
    rebase = static_cast<std::uint32_t>(127 - spec.bias) << 23;
    min_normal = spec.min_normal_magnitude();
    normals = spec.max_magnitude() + 1 - min_normal;
    for (std::uint32_t code = 0; code < 128; ++code) {
      if (code - min_normal >= normals) {
        other[code % 16] = decode(spec, code);
      }
    }
  }

  int shift = 0;
  std::uint32_t rebase = 0;
  std::uint32_t min_normal = 0;
  std::uint32_t normals = 0;  // count of their magnitudes
  float other[16] = {};
};

inline __m512 widen_cfloat(__m128i codes, const ByteDecoder& by) {
  const __m512i code = _mm512_cvtepu8_epi32(codes);
  const __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi32(0x7F));
  const __m512i sign = _mm512_slli_epi32(_mm512_sub_epi32(code, magnitude), 24);
  const __m512i normal = _mm512_add_epi32(_mm512_sll_epi32(magnitude, _mm_cvtsi32_si128(by.shift)),
                                          _mm512_set1_epi32(static_cast<int>(by.rebase)));
  const __mmask16 is_other = _mm512_cmpge_epu32_mask(
      _mm512_sub_epi32(magnitude, _mm512_set1_epi32(static_cast<int>(by.min_normal))),
      _mm512_set1_epi32(static_cast<int>(by.normals)));
  const __m512i value =
      _mm512_mask_permutexvar_epi32(normal, is_other, magnitude, _mm512_loadu_si512(by.other));
  return _mm512_castsi512_ps(_mm512_or_si512(value, sign));
}

// How to widen floats of two bytes with ten mantissa bits: f16, shp and uhp.
struct HalfDecoder {
  explicit HalfDecoder(const StorageFormat& type) {
    const CFloatSpec spec = type.spec();
    DOJO_DCHECK(spec.mantissa_bits == 10);
    magnitude_mask = spec.magnitude_mask();
    rebase = static_cast<std::uint32_t>(127 - spec.bias) << 23;
    special_from = spec.max_magnitude() + 1;
    spacing = decode(spec, 1);  // 0 if denormals are flushed
  }

  std::uint32_t magnitude_mask = 0;
  std::uint32_t rebase = 0;
  std::uint32_t special_from = 0;  // the magnitude of Inf
  float spacing = 0;               // of denormals
};

inline __m512 widen_half(__m256i codes, const HalfDecoder& by) {
  const __m512i code = _mm512_cvtepu16_epi32(codes);
  const __m512i magnitude =
      _mm512_and_si512(code, _mm512_set1_epi32(static_cast<int>(by.magnitude_mask)));
  const __m512i sign = _mm512_slli_epi32(_mm512_sub_epi32(code, magnitude), 16);
  const __m512i shifted = _mm512_slli_epi32(magnitude, 13);
  __m512i value = _mm512_add_epi32(shifted, _mm512_set1_epi32(static_cast<int>(by.rebase)));
  const __mmask16 is_special =
      _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(static_cast<int>(by.special_from)));
  value = _mm512_mask_or_epi32(value, is_special, shifted, _mm512_set1_epi32(0x7F800000));
  const __mmask16 is_denormal = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(1 << 10));
  value = _mm512_castps_si512(_mm512_mask_mul_ps(_mm512_castsi512_ps(value), is_denormal,
                                                 _mm512_cvtepi32_ps(magnitude),
                                                 _mm512_set1_ps(by.spacing)));
  return _mm512_castsi512_ps(_mm512_or_si512(value, sign));
}

inline __m512 widen_u8(__m128i codes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes)); }

inline __m512 widen_bf16(__m256i codes) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}

// One class per storage format: load 16 adjacent elements (or the first ones of them) as FP32.
struct LoadF32 {
  static constexpr std::int64_t kBytes = 4;
  explicit LoadF32(const StorageFormat& /*type*/) {}
  __m512 operator()(const std::byte* at) const { return _mm512_loadu_ps(at); }
  __m512 operator()(const std::byte* at, __mmask16 lanes) const {
    return _mm512_maskz_loadu_ps(lanes, at);
  }
};

struct LoadBf16 {
  static constexpr std::int64_t kBytes = 2;
  explicit LoadBf16(const StorageFormat& /*type*/) {}
  __m512 operator()(const std::byte* at) const {
    return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  __m512 operator()(const std::byte* at, __mmask16 lanes) const {
    return widen_bf16(_mm256_maskz_loadu_epi16(lanes, at));
  }
};

struct LoadHalf {  // f16, shp, uhp
  static constexpr std::int64_t kBytes = 2;
  explicit LoadHalf(const StorageFormat& type) : by(type) {}
  __m512 operator()(const std::byte* at) const {
    return widen_half(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), by);
  }
  __m512 operator()(const std::byte* at, __mmask16 lanes) const {
    return widen_half(_mm256_maskz_loadu_epi16(lanes, at), by);
  }
  HalfDecoder by;
};

struct LoadCFloat {  // both CFloat8, e4m3, e5m2
  static constexpr std::int64_t kBytes = 1;
  explicit LoadCFloat(const StorageFormat& type) : by(type) {}
  __m512 operator()(const std::byte* at) const {
    return widen_cfloat(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)), by);
  }
  __m512 operator()(const std::byte* at, __mmask16 lanes) const {
    return widen_cfloat(_mm_maskz_loadu_epi8(lanes, at), by);
  }
  ByteDecoder by;
};

struct LoadU8 {
  static constexpr std::int64_t kBytes = 1;
  explicit LoadU8(const StorageFormat& /*type*/) {}
  __m512 operator()(const std::byte* at) const {
    return widen_u8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  __m512 operator()(const std::byte* at, __mmask16 lanes) const {
    return widen_u8(_mm_maskz_loadu_epi8(lanes, at));
  }
};

// As relu of gemm.h: +0 where x <= 0, a NaN stays.
inline __m512 relu(__m512 x) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLE_UQ), x);
}

constexpr __mmask16 first_lanes(std::int64_t count) {
  return count >= 16 ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << count) - 1);
}

// The first `count` elements, at most 16; the other lanes are 0.
template <class Load>
__m512 load_first(const Load& load, const std::byte* at, std::int64_t count) {
  return load(at, first_lanes(count));
}

#include "dojo/numerics/internal/load_algorithms.h"

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
