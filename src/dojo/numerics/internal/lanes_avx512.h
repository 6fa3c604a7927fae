// Sixteen elements side by side in AVX-512: the vocabulary of codec_algorithms.h. lanes_avx2.h says
// the same with eight. Include from files that choose the path at run time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

inline constexpr std::int64_t kLanes = 16;
using Bits = __m512i;    // 32 bits per element
using Floats = __m512;   // FP32
using Mask = __mmask16;  // one per element

inline Bits all(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Bits as_bits(Floats a) { return _mm512_castps_si512(a); }
inline Floats as_floats(Bits a) { return _mm512_castsi512_ps(a); }
inline Bits load(const void* from) { return _mm512_loadu_si512(from); }
inline Bits load_bits(const float* from) { return load(from); }
inline Bits load_bytes(const std::byte* from) {  // widened
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline Bits load_halves(const std::uint16_t* from) {  // widened
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline Bits add(Bits a, Bits b) { return _mm512_add_epi32(a, b); }
inline Bits subtract(Bits a, Bits b) { return _mm512_sub_epi32(a, b); }
inline Bits common(Bits a, Bits b) { return _mm512_and_si512(a, b); }
inline Bits joined(Bits a, Bits b) { return _mm512_or_si512(a, b); }
inline Bits smaller(Bits a, Bits b) { return _mm512_min_epu32(a, b); }
inline Bits larger(Bits a, Bits b) { return _mm512_max_epu32(a, b); }
template <int count>
Bits shifted_left(Bits a) {
  return _mm512_slli_epi32(a, count);
}
template <int count>
Bits shifted_right(Bits a) {
  return _mm512_srli_epi32(a, count);
}

inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats to_floats(Bits a) { return _mm512_cvtepi32_ps(a); }
inline Bits truncated(Floats a) { return _mm512_cvttps_epi32(a); }

// Of elements below 2^31.
inline Mask is_less(Bits a, Bits b) { return _mm512_cmplt_epi32_mask(a, b); }
inline Mask is_equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
inline Mask has_bit(Bits a, Bits bit) { return _mm512_test_epi32_mask(a, bit); }
inline Mask is_nonzero_but(Bits a, Bits zero) {  // a != 0 and zero == 0
  return _mm512_mask_testn_epi32_mask(_mm512_test_epi32_mask(a, a), zero, zero);
}
inline Mask is_negative(Bits a) { return _mm512_movepi32_mask(a); }
inline Bits select(Mask mask, Bits yes, Bits no) { return _mm512_mask_mov_epi32(no, mask, yes); }
inline Bits add_where(Mask mask, Bits a, Bits b) { return _mm512_mask_add_epi32(a, mask, a, b); }

inline Bits smaller_where(Mask mask, Bits a, Bits b) {
  return _mm512_mask_min_epu32(a, mask, a, b);
}

inline std::uint32_t smallest_of(Bits a) { return _mm512_reduce_min_epu32(a); }
inline std::uint32_t largest_of(Bits a) { return _mm512_reduce_max_epu32(a); }
inline std::int64_t sum_of(Bits a) { return _mm512_reduce_add_epi32(a); }

// Codes to bytes, saturated at 127, and to halves, for in_order; the signs of FP32 numbers where
// codes have them, in the same order. Saturation to narrower signed integers keeps signs.
inline Bits bytes_of(Bits a, Bits b, Bits c, Bits d) {
  return _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}
inline Bits byte_signs(Bits a, Bits b, Bits c, Bits d) {
  return common(bytes_of(a, b, c, d), _mm512_set1_epi8(-128));
}
inline Bits halves_of(Bits a, Bits b) { return _mm512_packus_epi32(a, b); }
inline Bits half_signs(Bits a, Bits b) {
  return common(_mm512_packs_epi32(a, b), _mm512_set1_epi16(-32768));
}
inline bool has_zero_byte(Bits a) { return _mm512_testn_epi8_mask(a, a) != 0; }
inline bool has_half_up_to(std::uint16_t last, Bits a) {
  return _mm512_cmple_epu16_mask(a, _mm512_set1_epi16(static_cast<short>(last))) != 0;
}
// A code with some bits of `mantissa` and none of `exponent`.
inline bool has_denormal_byte(Bits a, Bits exponent, Bits mantissa) {
  return _mm512_mask_test_epi8_mask(_mm512_testn_epi8_mask(a, exponent), a, mantissa) != 0;
}
inline bool has_denormal_half(Bits a, Bits exponent, Bits mantissa) {
  return _mm512_mask_test_epi16_mask(_mm512_testn_epi16_mask(a, exponent), a, mantissa) != 0;
}
// Narrowing works within 128 bits; this brings the elements into order.
template <int bytes>
Bits in_order(Bits a) {
  return bytes == 1
             ? _mm512_permutexvar_epi32(
                   _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), a)
             : _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), a);
}
inline void store(std::byte* to, Bits a) { _mm512_storeu_si512(to, a); }

// A copy that leaves the caches alone; `to` starts a cache line, `count` is a multiple of 64.
inline void copy_past_caches(const std::byte* from, std::int64_t count, std::byte* to) {
  for (std::int64_t i = 0; i < count; i += 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_load_si512(from + i));
  }
}

// FP32 in memory: a whole vector, or its first `count` lanes, the others read as 0.
inline Floats load_floats(const float* from) { return _mm512_loadu_ps(from); }
constexpr Mask lanes_below(std::int64_t count) {
  return count >= kLanes ? Mask{0xFFFF} : static_cast<Mask>((1u << count) - 1);
}
inline Floats load_floats(const float* from, std::int64_t count) {
  return _mm512_maskz_loadu_ps(lanes_below(count), from);
}
inline void store_floats(float* to, Floats a, std::int64_t count) {
  _mm512_mask_storeu_ps(to, lanes_below(count), a);
}
inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
// b where b > a or b is a NaN and a none; else a.
inline Floats larger_or_first_nan(Floats a, Floats b) {
  const Mask is_larger = _mm512_cmp_ps_mask(b, a, _CMP_GT_OQ);
  const Mask is_first_nan =
      _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q), a, a, _CMP_ORD_Q);
  return _mm512_mask_mov_ps(a, is_larger | is_first_nan, b);
}

// Philox counters, one per 64 bits. In this order over the lanes, store_words leaves their words in
// memory in the order of the counters.
inline constexpr std::int64_t kCounters = 8;
inline constexpr int kPhiloxVectors = 4;  // side by side, as registers allow
inline Bits counters_from(std::uint64_t first) {
  return _mm512_add_epi64(_mm512_set1_epi64(static_cast<std::int64_t>(first)),
                          _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
}
inline Bits low_halves_product(Bits a, Bits b) { return _mm512_mul_epu32(a, b); }
inline Bits high_halves(Bits a) { return _mm512_shuffle_epi32(a, _MM_PERM_DDBB); }
inline Bits differing(Bits a, Bits b, Bits c) {  // a ^ b ^ c
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}
// The low halves of word 0 .. 3 of each counter.
inline void store_words(const Bits (&word)[4], std::uint16_t* to) {
  const Bits low = _mm512_mask_blend_epi32(0xAAAA, word[0], _mm512_slli_epi64(word[1], 32));
  const Bits high = _mm512_mask_blend_epi32(0xAAAA, word[2], _mm512_slli_epi64(word[3], 32));
  _mm512_storeu_si512(to, _mm512_unpacklo_epi64(low, high));
  _mm512_storeu_si512(to + 32, _mm512_unpackhi_epi64(low, high));
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
