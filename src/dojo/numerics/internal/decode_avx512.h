// Sixteen codes to FP32 in registers, for every one-byte format and bf16; bits as cfloat.h.
// Include from files that choose the path at run time; the functions below are AVX-512 code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dojo/base/format.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/encode.h"
#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

// How to widen one-byte codes: bits of the normal numbers are shifted into place and rebased;
// denormals (codes below 2^M) come from a table of at most 16 values.
struct ByteDecoder {
  explicit ByteDecoder(const StorageFormat& type) : is_cfloat(has_bias(type.format)) {
    if (!is_cfloat) {
      return;
    }
    const CFloatSpec spec = cfloat_spec(type.format, type.bias, type.denormals);
    shift = 23 - spec.mantissa_bits;
    rebase = static_cast<std::uint32_t>(127 - spec.bias) << 23;
    min_normal = spec.min_normal_magnitude();
    for (std::uint32_t code = 0; code < min_normal; ++code) {
      denormal[code] = decode(spec, code);
    }
  }

  bool is_cfloat;
  int shift = 0;
  std::uint32_t rebase = 0;
  std::uint32_t min_normal = 0;
  float denormal[16] = {};
};

inline __m512 widen_cfloat(__m128i codes, const ByteDecoder& by) {
  const __m512i code = _mm512_cvtepu8_epi32(codes);
  const __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi32(0x7F));
  const __m512i sign = _mm512_slli_epi32(_mm512_sub_epi32(code, magnitude), 24);
  const __m512i normal = _mm512_add_epi32(_mm512_sll_epi32(magnitude, _mm_cvtsi32_si128(by.shift)),
                                          _mm512_set1_epi32(static_cast<int>(by.rebase)));
  const __mmask16 is_denormal =
      _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(static_cast<int>(by.min_normal)));
  const __m512i value = _mm512_mask_permutexvar_epi32(normal, is_denormal, magnitude,
                                                      _mm512_loadu_si512(by.denormal));
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

struct LoadCFloat {
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

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
