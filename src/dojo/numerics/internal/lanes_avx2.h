// Eight elements side by side in AVX2: the vocabulary of codec_algorithms.h, as in lanes_avx512.h.
// Include from files that choose the path at run time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::numerics::avx2 {

inline constexpr std::int64_t kLanes = 8;
using Bits = __m256i;   // 32 bits per element
using Floats = __m256;  // FP32
using Mask = __m256i;   // all ones or all zeros per element

inline Bits all(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
inline Floats all(float value) { return _mm256_set1_ps(value); }
inline Bits as_bits(Floats a) { return _mm256_castps_si256(a); }
inline Floats as_floats(Bits a) { return _mm256_castsi256_ps(a); }
inline Bits load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, Bits a) { _mm256_storeu_si256(static_cast<__m256i*>(to), a); }
inline Bits load_bits(const float* from) { return load(from); }
inline Bits load_bytes(const std::byte* from) {  // widened
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
inline Bits load_halves(const std::uint16_t* from) {  // widened
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

inline Bits add(Bits a, Bits b) { return _mm256_add_epi32(a, b); }
inline Bits subtract(Bits a, Bits b) { return _mm256_sub_epi32(a, b); }
inline Bits common(Bits a, Bits b) { return _mm256_and_si256(a, b); }
inline Bits joined(Bits a, Bits b) { return _mm256_or_si256(a, b); }
inline Bits smaller(Bits a, Bits b) { return _mm256_min_epu32(a, b); }
inline Bits larger(Bits a, Bits b) { return _mm256_max_epu32(a, b); }
template <int count>
Bits shifted_left(Bits a) {
  return _mm256_slli_epi32(a, count);
}
template <int count>
Bits shifted_right(Bits a) {
  return _mm256_srli_epi32(a, count);
}

inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats to_floats(Bits a) { return _mm256_cvtepi32_ps(a); }
inline Bits truncated(Floats a) { return _mm256_cvttps_epi32(a); }

// Of elements below 2^31.
inline Mask is_less(Bits a, Bits b) { return _mm256_cmpgt_epi32(b, a); }
inline Mask is_equal(Floats a, Floats b) { return as_bits(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
inline Mask has_bit(Bits a, Bits bit) { return _mm256_cmpeq_epi32(common(a, bit), bit); }
inline Mask is_nonzero_but(Bits a, Bits zero) {  // a != 0 and zero == 0
  const Bits none = _mm256_setzero_si256();
  return _mm256_andnot_si256(_mm256_cmpeq_epi32(a, none), _mm256_cmpeq_epi32(zero, none));
}
inline Mask is_negative(Bits a) { return _mm256_srai_epi32(a, 31); }
inline Bits select(Mask mask, Bits yes, Bits no) { return _mm256_blendv_epi8(no, yes, mask); }
inline Bits add_where(Mask mask, Bits a, Bits b) { return add(a, common(mask, b)); }

inline Bits smaller_where(Mask mask, Bits a, Bits b) { return select(mask, smaller(a, b), a); }

inline std::uint32_t smallest_of(Bits a) {
  alignas(32) std::uint32_t lane[8];
  store(lane, a);
  std::uint32_t smallest = lane[0];
  for (const std::uint32_t x : lane) {
    smallest = x < smallest ? x : smallest;
  }
  return smallest;
}
inline std::uint32_t largest_of(Bits a) {
  alignas(32) std::uint32_t lane[8];
  store(lane, a);
  std::uint32_t largest = 0;
  for (const std::uint32_t x : lane) {
    largest = x > largest ? x : largest;
  }
  return largest;
}
inline std::int64_t sum_of(Bits a) {
  alignas(32) std::uint32_t lane[8];
  store(lane, a);
  std::int64_t sum = 0;
  for (const std::uint32_t x : lane) {
    sum += x;
  }
  return sum;
}

// Codes to bytes, saturated at 127, and to halves, for in_order; the signs of FP32 numbers where
// codes have them, in the same order. Saturation to narrower signed integers keeps signs.
inline Bits bytes_of(Bits a, Bits b, Bits c, Bits d) {
  return _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}
inline Bits byte_signs(Bits a, Bits b, Bits c, Bits d) {
  return common(bytes_of(a, b, c, d), _mm256_set1_epi8(-128));
}
inline Bits halves_of(Bits a, Bits b) { return _mm256_packus_epi32(a, b); }
inline Bits half_signs(Bits a, Bits b) {
  return common(_mm256_packs_epi32(a, b), _mm256_set1_epi16(-32768));
}
inline bool has_zero_byte(Bits a) {
  return _mm256_movemask_epi8(_mm256_cmpeq_epi8(a, _mm256_setzero_si256())) != 0;
}
inline bool has_half_up_to(std::uint16_t last, Bits a) {
  const Bits limit = _mm256_set1_epi16(static_cast<short>(last));
  return _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_min_epu16(a, limit), a)) != 0;
}
// A code with some bits of `mantissa` and none of `exponent`.
inline bool has_denormal_byte(Bits a, Bits exponent, Bits mantissa) {
  const Bits none = _mm256_setzero_si256();
  const Bits has_no_mantissa = _mm256_cmpeq_epi8(common(a, mantissa), none);
  return _mm256_movemask_epi8(_mm256_andnot_si256(
             has_no_mantissa, _mm256_cmpeq_epi8(common(a, exponent), none))) != 0;
}
inline bool has_denormal_half(Bits a, Bits exponent, Bits mantissa) {
  const Bits none = _mm256_setzero_si256();
  const Bits has_no_mantissa = _mm256_cmpeq_epi16(common(a, mantissa), none);
  return _mm256_movemask_epi8(_mm256_andnot_si256(
             has_no_mantissa, _mm256_cmpeq_epi16(common(a, exponent), none))) != 0;
}
// Narrowing works within 128 bits; this brings the elements into order.
template <int bytes>
Bits in_order(Bits a) {
  return bytes == 1 ? _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
                    : _mm256_permute4x64_epi64(a, 0b11'01'10'00);
}

// A copy that leaves the caches alone; `to` starts a cache line, `count` is a multiple of 64.
inline void copy_past_caches(const std::byte* from, std::int64_t count, std::byte* to) {
  for (std::int64_t i = 0; i < count; i += 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), load(from + i));
  }
}

// FP32 in memory: a whole vector, or its first `count` lanes, the others read as 0.
inline Floats load_floats(const float* from) { return _mm256_loadu_ps(from); }
inline Mask lanes_below(std::int64_t count) {
  return is_less(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), all(static_cast<std::uint32_t>(count)));
}
inline Floats load_floats(const float* from, std::int64_t count) {
  return _mm256_maskload_ps(from, lanes_below(count));
}
inline void store_floats(float* to, Floats a, std::int64_t count) {
  _mm256_maskstore_ps(to, lanes_below(count), a);
}
inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
// b where b > a or b is a NaN and a none; else a.
inline Floats larger_or_first_nan(Floats a, Floats b) {
  const Floats is_larger = _mm256_cmp_ps(b, a, _CMP_GT_OQ);
  const Floats is_first_nan =
      _mm256_and_ps(_mm256_cmp_ps(b, b, _CMP_UNORD_Q), _mm256_cmp_ps(a, a, _CMP_ORD_Q));
  return _mm256_blendv_ps(a, b, _mm256_or_ps(is_larger, is_first_nan));
}

// Philox counters, one per 64 bits. In this order over the lanes, store_words leaves their words in
// memory in the order of the counters.
inline constexpr std::int64_t kCounters = 4;
inline constexpr int kPhiloxVectors = 2;
inline Bits counters_from(std::uint64_t first) {
  return _mm256_add_epi64(_mm256_set1_epi64x(static_cast<std::int64_t>(first)),
                          _mm256_setr_epi64x(0, 2, 1, 3));
}
inline Bits low_halves_product(Bits a, Bits b) { return _mm256_mul_epu32(a, b); }
inline Bits high_halves(Bits a) { return _mm256_srli_epi64(a, 32); }
inline Bits differing(Bits a, Bits b, Bits c) {  // a ^ b ^ c
  return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
// The low halves of word 0 .. 3 of each counter.
inline void store_words(const Bits (&word)[4], std::uint16_t* to) {
  const Bits low = _mm256_blend_epi32(word[0], _mm256_slli_epi64(word[1], 32), 0xAA);
  const Bits high = _mm256_blend_epi32(word[2], _mm256_slli_epi64(word[3], 32), 0xAA);
  store(to, _mm256_unpacklo_epi64(low, high));
  store(to + 16, _mm256_unpackhi_epi64(low, high));
}

}  // namespace dojo::numerics::avx2

#pragma GCC pop_options
