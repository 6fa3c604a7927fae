// Routers side by side in one vector: what the stages of cycle.h are written in. The one text below
// is compiled for AVX-512, for AVX2 and for any CPU; the file that includes it sets
//   DOJO_MESH_ISA     the namespace: avx512, avx2 or plain
//   DOJO_MESH_BYTES   bytes per vector: 64, 32 or 16
// and its `#pragma GCC target` comes from here. Include after all other headers.
#pragma once

#ifndef DOJO_MESH_ISA
#error "set DOJO_MESH_ISA and DOJO_MESH_BYTES"
#endif

#if DOJO_MESH_BYTES == 64
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,bmi,bmi2,prefer-vector-width=512")
#elif DOJO_MESH_BYTES == 32
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2")
#endif

namespace dojo::mesh::internal::DOJO_MESH_ISA {

inline constexpr std::size_t kVectorBytes = DOJO_MESH_BYTES;

// Word: an unsigned integer of 32 or 64 bits, one per router.
template <class Word>
struct Lanes {
  // NOLINTNEXTLINE(modernize-use-using): no `using` with attributes
  typedef Word Vec __attribute__((vector_size(kVectorBytes)));
  static constexpr int kCount = kVectorBytes / sizeof(Word);

  static Vec load(const Word* from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }
  static void store(Word* to, Vec v) { __builtin_memcpy(to, &v, sizeof v); }
  static Vec all(Word value) { return Vec{} + value; }

  // One byte per lane, widened.
  static Vec load_bytes(const std::uint8_t* from) {
#if DOJO_MESH_BYTES == 64
    if constexpr (sizeof(Word) == 4) {
      return reinterpret_cast<Vec>(
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    } else {
      return reinterpret_cast<Vec>(
          _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
    }
#elif DOJO_MESH_BYTES == 32
    if constexpr (sizeof(Word) == 4) {
      return reinterpret_cast<Vec>(
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
    } else {
      return reinterpret_cast<Vec>(_mm256_cvtepu8_epi64(_mm_loadu_si32(from)));
    }
#else
    Vec v{};
    for (int lane = 0; lane < kCount; ++lane) {
      v[lane] = from[lane];
    }
    return v;
#endif
  }

  // One bit per lane: it is not zero.
  static std::uint32_t nonzero(Vec v) {
#if DOJO_MESH_BYTES == 64
    if constexpr (sizeof(Word) == 4) {
      return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v));
    } else {
      return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v));
    }
#elif DOJO_MESH_BYTES == 32
    const Vec zero = reinterpret_cast<Vec>(v == 0);
    if constexpr (sizeof(Word) == 4) {
      return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(zero))) ^ 0xFFu;
    } else {
      return static_cast<std::uint32_t>(_mm256_movemask_pd(reinterpret_cast<__m256d>(zero))) ^ 0xFu;
    }
#else
    std::uint32_t mask = 0;
    for (int lane = 0; lane < kCount; ++lane) {
      mask |= (v[lane] != 0 ? 1u : 0u) << lane;
    }
    return mask;
#endif
  }
  static bool any(Vec v) { return nonzero(v) != 0; }

  // One bit per lane: value <= limit, of unsigned 32-bit values.
  static std::uint32_t at_most(const std::uint32_t* values, std::uint32_t limit) {
    std::uint32_t mask = 0;
#if DOJO_MESH_BYTES == 64
    constexpr std::uint32_t kUsed = kCount == 16 ? 0xFFFFu : 0xFFu;
    mask = kUsed & _mm512_mask_cmple_epu32_mask(
                       static_cast<__mmask16>(kUsed),
                       _mm512_maskz_loadu_epi32(static_cast<__mmask16>(kUsed), values),
                       _mm512_set1_epi32(static_cast<int>(limit)));
#else
    for (int lane = 0; lane < kCount; ++lane) {
      mask |= (values[lane] <= limit ? 1u : 0u) << lane;
    }
#endif
    return mask;
  }

  // Per lane: a != 0 ? a : b, and (test & bit) != 0 ? a : 0, and its opposite.
  static Vec or_else(Vec a, Vec b) { return a != 0 ? a : b; }
  static Vec where(Vec test, Word bit, Vec a) { return (test & all(bit)) != 0 ? a : Vec{}; }
  static Vec where_not(Vec test, Word bit, Vec a) { return (test & all(bit)) == 0 ? a : Vec{}; }
  // The lanes that have their bit in `mask`; zero in the others.
  static Vec keep(std::uint32_t mask, Vec a) {
#if DOJO_MESH_BYTES == 64
    if constexpr (sizeof(Word) == 4) {
      return reinterpret_cast<Vec>(
          _mm512_maskz_mov_epi32(static_cast<__mmask16>(mask), reinterpret_cast<__m512i>(a)));
    } else {
      return reinterpret_cast<Vec>(
          _mm512_maskz_mov_epi64(static_cast<__mmask8>(mask), reinterpret_cast<__m512i>(a)));
    }
#else
    Vec bits;
    for (int lane = 0; lane < kCount; ++lane) {
      bits[lane] = Word{1} << lane;
    }
    return (all(static_cast<Word>(mask)) & bits) != 0 ? a : Vec{};
#endif
  }
  // Per lane: its number, and the number of the one bit that is set (anything if none is).
  static Vec numbers() {
    Vec v{};
    for (int lane = 0; lane < kCount; ++lane) {
      v[lane] = static_cast<Word>(lane);
    }
    return v;
  }
  static Vec bit_number(Vec bit) {
#if DOJO_MESH_BYTES == 64
    if constexpr (sizeof(Word) == 4) {
      return all(31) - reinterpret_cast<Vec>(_mm512_lzcnt_epi32(reinterpret_cast<__m512i>(bit)));
    } else {
      return all(63) - reinterpret_cast<Vec>(_mm512_lzcnt_epi64(reinterpret_cast<__m512i>(bit)));
    }
#else
    Vec number{};
    for (unsigned digit = 0; (8 * sizeof(Word)) >> digit > 1; ++digit) {
      // Bits whose number has the digit.
      const Word with = ~Word{0} / ((Word{1} << (1u << digit)) + 1) << (1u << digit);
      number |= where(bit, with, all(Word{1} << digit));
    }
    return number;
#endif
  }

  // Low bytes of the lanes that have their bit in `mask`, to one byte per lane.
  static void store_bytes(std::uint8_t* to, std::uint32_t mask, Vec v) {
#if DOJO_MESH_BYTES == 64
    if constexpr (sizeof(Word) == 4) {
      _mm512_mask_cvtepi32_storeu_epi8(to, static_cast<__mmask16>(mask),
                                       reinterpret_cast<__m512i>(v));
    } else {
      _mm512_mask_cvtepi64_storeu_epi8(to, static_cast<__mmask8>(mask),
                                       reinterpret_cast<__m512i>(v));
    }
#else
    for (; mask != 0; mask &= mask - 1) {
      const int lane = std::countr_zero(mask);
      to[lane] = static_cast<std::uint8_t>(v[lane]);
    }
#endif
  }

  static Vec lowest_bit(Vec v) { return v & -v; }

  // The lowest bit of `asking` at or above the pointer, else the lowest at all. The pointer is the
  // mask of the bits from it upwards, so wrapping round needs no modulo.
  static Vec first_from(Vec pointer, Vec asking) {
    return lowest_bit(or_else(asking & pointer, asking));
  }
  static Vec above(Vec bit) { return -(bit << 1); }  // the pointer just after a granted bit
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
