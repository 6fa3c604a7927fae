// The flits of routers side by side: 64 bits for each lane of a Lanes::Vec, so as many vectors as a
// lane's word fits 64 bits. Include after lanes.h.
#pragma once

#include "dojo/mesh/internal/lanes.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <class Word>
struct FlitLanes {
  using L = Lanes<Word>;
  using Vec = typename L::Vec;
  // NOLINTNEXTLINE(modernize-use-using): no `using` with attributes
  typedef std::uint64_t Part __attribute__((vector_size(kVectorBytes)));
  static constexpr int kParts = sizeof(Word) == 8 ? 1 : 2;
  static constexpr int kCount = kVectorBytes / sizeof(std::uint64_t);  // lanes of a part

  struct Flits {
    Part part[kParts];
  };

  // Of the lanes that have their bit in `mask`, from[index]; zero in the others.
  static Flits gather(const std::uint64_t* from, Vec index, std::uint32_t mask) {
    Flits flits{};
#if DOJO_MESH_BYTES == 64
    const auto all = reinterpret_cast<__m512i>(index);
    const __m512i zero = _mm512_setzero_si512();
    if constexpr (kParts == 2) {
      flits.part[0] = reinterpret_cast<Part>(_mm512_mask_i32gather_epi64(
          zero, static_cast<__mmask8>(mask), _mm512_castsi512_si256(all), from, 8));
      flits.part[1] = reinterpret_cast<Part>(_mm512_mask_i32gather_epi64(
          zero, static_cast<__mmask8>(mask >> 8), _mm512_extracti64x4_epi64(all, 1), from, 8));
    } else {
      flits.part[0] = reinterpret_cast<Part>(
          _mm512_mask_i64gather_epi64(zero, static_cast<__mmask8>(mask), all, from, 8));
    }
#else
    for (; mask != 0; mask &= mask - 1) {
      const int lane = std::countr_zero(mask);
      flits.part[lane / kCount][lane % kCount] = from[index[lane]];
    }
#endif
    return flits;
  }

  static void scatter(std::uint64_t* to, Vec index, std::uint32_t mask, const Flits& flits) {
#if DOJO_MESH_BYTES == 64
    const auto all = reinterpret_cast<__m512i>(index);
    if constexpr (kParts == 2) {
      _mm512_mask_i32scatter_epi64(to, static_cast<__mmask8>(mask), _mm512_castsi512_si256(all),
                                   reinterpret_cast<__m512i>(flits.part[0]), 8);
      _mm512_mask_i32scatter_epi64(to, static_cast<__mmask8>(mask >> 8),
                                   _mm512_extracti64x4_epi64(all, 1),
                                   reinterpret_cast<__m512i>(flits.part[1]), 8);
    } else {
      _mm512_mask_i64scatter_epi64(to, static_cast<__mmask8>(mask), all,
                                   reinterpret_cast<__m512i>(flits.part[0]), 8);
    }
#else
    for (; mask != 0; mask &= mask - 1) {
      const int lane = std::countr_zero(mask);
      to[index[lane]] = flits.part[lane / kCount][lane % kCount];
    }
#endif
  }

  static void store(std::uint64_t* to, const Flits& flits) {
    __builtin_memcpy(to, &flits, sizeof flits);
  }

  // One bit per lane: the flit has some of the bits.
  static std::uint32_t with_any(const Flits& flits, std::uint64_t bits) {
    std::uint32_t mask = 0;
    for (int i = 0; i < kParts; ++i) {
      mask |= Lanes<std::uint64_t>::nonzero(flits.part[i] & (Part{} + bits)) << (i * kCount);
    }
    return mask;
  }

  // The output of each flit, as DimensionOrder::Axes::port_left and AxesAndExit::port_left say.
  template <class Axes>
  static Flits ports_left(const Flits& flits, const Axes& axes) {
    constexpr bool kHasExits = std::is_same_v<Axes, DimensionOrder::AxesAndExit>;
    Flits ports{};
    for (int i = 0; i < kParts; ++i) {
      const Part flit = flits.part[i];
      Part first = (flit >> Flit::kFirstShift) & 3u;
      Part second = (flit >> Flit::kSecondShift) & 3u;
      Part last = Part{} + std::uint64_t{kLocal};
      if constexpr (kHasExits) {
        first = ((flit >> Flit::kFirstBackShift) & 1u) | axes.first_port;
        second = ((flit >> Flit::kSecondBackShift) & 1u) | axes.second_port;
        last = (flit & Axes::kExitMask) != 0 ? (flit >> Flit::kExitShift) & 3u : last;
      }
      const Part then = (flit & axes.second_mask) != 0 ? second : last;
      ports.part[i] = (flit & axes.first_mask) != 0 ? first : then;
    }
    return ports;
  }

  // Small numbers of the flits as words of the lanes.
  static Vec to_words(const Flits& flits) {
    if constexpr (kParts == 1) {
      return reinterpret_cast<Vec>(flits.part[0]);
    } else {
#if DOJO_MESH_BYTES == 64
      const __m256i low = _mm512_cvtepi64_epi32(reinterpret_cast<__m512i>(flits.part[0]));
      const __m256i high = _mm512_cvtepi64_epi32(reinterpret_cast<__m512i>(flits.part[1]));
      return reinterpret_cast<Vec>(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
#else
      Vec words;
      for (int lane = 0; lane < L::kCount; ++lane) {
        words[lane] = static_cast<Word>(flits.part[lane / kCount][lane % kCount]);
      }
      return words;
#endif
    }
  }
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
