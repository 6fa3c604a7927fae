#include "dojo/numerics/internal/codec_avx512.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/decode_avx512.h"
#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

constexpr std::uint32_t kInfinityBits = 0x7F800000u;
constexpr std::int64_t kStep = 64;     // elements per iteration
constexpr std::int64_t kBlock = 1024;  // elements between looks at the rare cases; fits L1

__m512i set1(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }

__m512i load_bits(const float* x) { return _mm512_loadu_si512(x); }

std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

// What a block of input held, to decide whether its rare elements must be counted.
struct BlockSums {
  __m512i largest;  // of the magnitudes' bits
  __m512i zeroed;   // counts per lane
};

// Magnitudes whose bits exceed `bits`, in [x, x + count).
std::int64_t count_above(const float* x, std::int64_t count, std::uint32_t bits) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    total += (bits_of(x[i]) & 0x7FFFFFFFu) > bits ? 1 : 0;
  }
  return total;
}

std::uint32_t largest_finite(const float* x, std::int64_t count) {
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFFu;
    largest = magnitude < kInfinityBits ? std::max(largest, magnitude) : largest;
  }
  return largest;
}

// `saturated_above`: the bits of the largest magnitude that is not clamped. Non-finite elements
// count as saturated or not as the format says.
enum class NonFinite : std::uint8_t { Saturates, Stays };

void add_block(EncodeStats& stats, const BlockSums& sums, const float* x, std::int64_t count,
               std::uint32_t saturated_above, NonFinite non_finite) {
  std::uint32_t largest = _mm512_reduce_max_epu32(sums.largest);
  stats.zeroed += _mm512_reduce_add_epi32(sums.zeroed);
  if (largest > saturated_above) {
    const std::int64_t infinite = count_above(x, count, kInfinityBits - 1);
    stats.not_finite += infinite;
    stats.saturated +=
        count_above(x, count, saturated_above) - (non_finite == NonFinite::Stays ? infinite : 0);
    largest = infinite != 0 ? largest_finite(x, count) : largest;
  }
  stats.amax = std::max(stats.amax, std::bit_cast<float>(largest));
}

// Elements whose magnitude's bits are in 1 .. `up_to` become zero.
__m512i count_small(__m512i counts, __m512i magnitude, __m512i up_to) {
  const __m512i one = _mm512_set1_epi32(1);
  const __mmask16 small =
      _mm512_cmplt_epu32_mask(_mm512_sub_epi32(magnitude, one), up_to);  // 0 wraps to the top
  return _mm512_mask_add_epi32(counts, small, counts, one);
}

struct CFloatConstants {
  explicit CFloatConstants(const CFloatSpec& spec)
      : paper(spec.denormals == DenormalScale::Paper),
        shift(23 - spec.mantissa_bits),
        rebase(static_cast<std::uint32_t>(127 - spec.bias) << 23),
        min_normal_bits(static_cast<std::uint32_t>(128 - spec.bias) << 23),
        max_code(spec.max_magnitude()),
        max_bits(rebase + (max_code << shift)),
        max_denormal(spec.min_normal_magnitude() - 1),
        to_spacings(std::bit_cast<float>(
            static_cast<std::uint32_t>(127 + spec.bias + spec.mantissa_bits - (paper ? 0 : 1))
            << 23)) {}

  bool paper;
  int shift;
  std::uint32_t rebase;
  std::uint32_t min_normal_bits;
  std::uint32_t max_code;
  std::uint32_t max_bits;      // of the largest value
  std::uint32_t max_denormal;  // code, and value in spacings
  float to_spacings;           // 1 / denormal spacing
};

// Codes of 16 magnitudes, nearest even, without the sign.
template <bool paper>
__m512i nearest_codes(__m512i magnitude, const CFloatConstants& c) {
  const __m128i shift = _mm_cvtsi32_si128(c.shift);
  const __m512i odd = _mm512_and_si512(_mm512_srl_epi32(magnitude, shift), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(
      _mm512_add_epi32(magnitude, set1((1u << (c.shift - 1)) - 1 - c.rebase)), odd);
  const __m512i normal = _mm512_min_epu32(_mm512_srl_epi32(rounded, shift), set1(c.max_code));
  const __m512 spacings =
      _mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(c.to_spacings));
  __m512i denormal = _mm512_cvtps_epi32(spacings);
  if constexpr (paper) {
    // The tie in the hole between max_denormal and the smallest normal goes up, to the even code.
    const float middle = (3.0F * static_cast<float>(c.max_denormal) + 2.0F) / 2.0F;
    const __mmask16 up = _mm512_cmp_ps_mask(spacings, _mm512_set1_ps(middle), _CMP_GE_OQ);
    denormal = _mm512_min_epu32(denormal, set1(c.max_denormal));
    denormal = _mm512_mask_add_epi32(denormal, up, denormal, _mm512_set1_epi32(1));
  }
  const __mmask16 is_denormal = _mm512_cmplt_epu32_mask(magnitude, set1(c.min_normal_bits));
  return _mm512_mask_mov_epi32(normal, is_denormal, denormal);
}

// The same with 16 random bits per element, in 32-bit lanes.
template <bool paper>
__m512i stochastic_codes(__m512i magnitude, __m512i random, const CFloatConstants& c) {
  const __m512i clamped = _mm512_min_epu32(magnitude, set1(c.max_bits));
  const __m512i sum = _mm512_add_epi32(_mm512_sub_epi32(clamped, set1(c.rebase)),
                                       _mm512_sll_epi32(random, _mm_cvtsi32_si128(c.shift - 16)));
  const __m512i normal = _mm512_srl_epi32(sum, _mm_cvtsi32_si128(c.shift));
  // In spacings with 16 bits behind the point.
  const __m512i fixed = _mm512_cvttps_epi32(
      _mm512_mul_ps(_mm512_castsi512_ps(clamped), _mm512_set1_ps(c.to_spacings * 65536.0F)));
  __m512i denormal = _mm512_srli_epi32(_mm512_add_epi32(fixed, random), 16);
  if constexpr (paper) {
    // floor(over / gap): over < 2^20, and over + 1/2 is at least 1/2 away from a multiple of the
    // gap, far more than the rounding error of this product.
    const __m512i start = set1(c.max_denormal << 16);
    const __m512i over = _mm512_sub_epi32(fixed, start);
    const float gap = static_cast<float>(c.max_denormal + 2);
    const __m512i low = _mm512_cvttps_epi32(_mm512_mul_ps(
        _mm512_add_ps(_mm512_cvtepi32_ps(over), _mm512_set1_ps(0.5F)), _mm512_set1_ps(1.0F / gap)));
    const __m512i in_hole = _mm512_add_epi32(_mm512_srli_epi32(_mm512_add_epi32(low, random), 16),
                                             set1(c.max_denormal));
    denormal = _mm512_mask_mov_epi32(denormal, _mm512_cmpge_epi32_mask(fixed, start), in_hole);
  }
  const __mmask16 is_denormal = _mm512_cmplt_epu32_mask(clamped, set1(c.min_normal_bits));
  return _mm512_mask_mov_epi32(normal, is_denormal, denormal);
}

void store_bytes(const __m512i (&codes)[4], std::uint8_t* out) {
  const __m512i low = _mm512_packus_epi32(codes[0], codes[1]);
  const __m512i high = _mm512_packus_epi32(codes[2], codes[3]);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
}

template <bool paper, Rounding mode>
void encode_steps(const float* x, std::int64_t count, const CFloatConstants& c,
                  const std::uint16_t* random, std::uint8_t* out, BlockSums& sums) {
  const __m512i zeroed_up_to = set1(bits_of(0.5F / c.to_spacings));  // a tie goes to even zero
  for (std::int64_t i = 0; i < count; i += kStep) {
    __m512i codes[4];
    for (int part = 0; part < 4; ++part) {
      const std::int64_t at = i + part * 16;
      const __m512i bits = load_bits(x + at);
      const __m512i magnitude = _mm512_and_si512(bits, set1(0x7FFFFFFFu));
      sums.largest = _mm512_max_epu32(sums.largest, magnitude);
      __m512i code;
      if constexpr (mode == Rounding::Stochastic) {
        const __m512i draw = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(random + at)));
        code = stochastic_codes<paper>(magnitude, draw, c);
        const __mmask16 lost =
            _mm512_mask_testn_epi32_mask(_mm512_test_epi32_mask(magnitude, magnitude), code, code);
        sums.zeroed = _mm512_mask_add_epi32(sums.zeroed, lost, sums.zeroed, _mm512_set1_epi32(1));
      } else {
        code = nearest_codes<paper>(magnitude, c);
        sums.zeroed = count_small(sums.zeroed, magnitude, zeroed_up_to);
      }
      // code | (sign bit moved to bit 7)
      codes[part] = _mm512_ternarylogic_epi32(code, _mm512_srli_epi32(bits, 24), set1(0x80), 0xF8);
    }
    store_bytes(codes, out + i);
  }
}

// Philox for 8 counters at a time, one per 64-bit lane. The order of the counters over the lanes is
// the one in which unpacking leaves their words in memory order.
void random_steps(const RandomStream& stream, std::uint64_t first_block, std::int64_t steps,
                  std::uint16_t* out) {
  const __m512i factor0 = _mm512_set1_epi64(0xD2511F53);
  const __m512i factor1 = _mm512_set1_epi64(0xCD9E8D57);
  const __m512i lane = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::uint64_t block = first_block + static_cast<std::uint64_t>(step) * 8;
    const __m512i index =
        _mm512_add_epi64(_mm512_set1_epi64(static_cast<std::int64_t>(block)), lane);
    __m512i word0 = index;
    __m512i word1 = _mm512_srli_epi64(index, 32);
    __m512i word2 = _mm512_set1_epi64(stream.tensor);
    __m512i word3 = _mm512_set1_epi64(stream.step);
    std::uint32_t key0 = static_cast<std::uint32_t>(stream.seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(stream.seed >> 32);
    for (int round = 0; round < 10; ++round) {  // only the low half of each lane counts
      const __m512i a = _mm512_mul_epu32(word0, factor0);
      const __m512i b = _mm512_mul_epu32(word2, factor1);
      word0 = _mm512_ternarylogic_epi32(_mm512_srli_epi64(b, 32), word1, set1(key0), 0x96);
      word2 = _mm512_ternarylogic_epi32(_mm512_srli_epi64(a, 32), word3, set1(key1), 0x96);
      word1 = b;
      word3 = a;
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    const __m512i low = _mm512_mask_blend_epi32(0xAAAA, word0, _mm512_slli_epi64(word1, 32));
    const __m512i high = _mm512_mask_blend_epi32(0xAAAA, word2, _mm512_slli_epi64(word3, 32));
    _mm512_storeu_si512(out + step * 64, _mm512_unpacklo_epi64(low, high));
    _mm512_storeu_si512(out + step * 64 + 32, _mm512_unpackhi_epi64(low, high));
  }
}

// Random bits of the elements of one block, in L1.
class RandomBlock {
 public:
  explicit RandomBlock(const RoundingSpec& rounding) : rounding_(rounding) {}

  // Of `count` <= kBlock elements from the `at`-th of the range on.
  const std::uint16_t* fill(std::int64_t at, std::int64_t count) {
    if (rounding_.mode != Rounding::Stochastic) {
      return nullptr;
    }
    const std::uint64_t element = rounding_.first_element + static_cast<std::uint64_t>(at);
    const std::int64_t lead = static_cast<std::int64_t>(element % 8);
    random_steps(rounding_.stream, element / 8, (lead + count + 63) / 64, bits_);
    return bits_ + lead;
  }

 private:
  const RoundingSpec& rounding_;
  alignas(64) std::uint16_t bits_[kBlock + 128];
};

// Calls body(x, count, random, out) for blocks of whole steps; the last, partial step goes through
// a buffer padded with zeros, which leave no trace in the sums.
template <class Out, class Body>
void for_blocks(std::span<const float> in, const RoundingSpec& rounding, Out* out,
                const Body& body) {
  RandomBlock random(rounding);
  const std::int64_t count = static_cast<std::int64_t>(in.size());
  const std::int64_t whole = count / kStep * kStep;
  for (std::int64_t at = 0; at < whole; at += kBlock) {
    const std::int64_t size = std::min(kBlock, whole - at);
    body(in.data() + at, size, random.fill(at, size), out + at);
  }
  if (whole < count) {
    alignas(64) float padded[kStep] = {};
    alignas(64) Out padded_out[kStep];
    const std::size_t rest = static_cast<std::size_t>(count - whole);
    std::memcpy(padded, in.data() + whole, rest * sizeof(float));
    body(padded, kStep, random.fill(whole, kStep), padded_out);
    std::memcpy(out + whole, padded_out, rest * sizeof(Out));
  }
}

// Codes of 16 elements as bf16, in 32-bit lanes.
template <Rounding mode>
__m512i bf16_codes(__m512i bits, __m512i magnitude, __m512i random) {
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __mmask16 is_nan = _mm512_cmpgt_epu32_mask(magnitude, set1(kInfinityBits));
  __m512i sum;
  if constexpr (mode == Rounding::Stochastic) {
    const __mmask16 in_range = _mm512_cmple_epu32_mask(magnitude, set1(0x7F7F0000u));
    sum = _mm512_mask_add_epi32(bits, in_range, bits, random);
  } else {
    sum = _mm512_add_epi32(_mm512_add_epi32(bits, set1(0x7FFF)),
                           _mm512_and_si512(high, _mm512_set1_epi32(1)));
  }
  const __m512i nan = _mm512_or_si512(_mm512_andnot_si512(set1(0x7FFF), high), set1(0x7FC0));
  return _mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16), is_nan, nan);
}

template <Rounding mode>
void encode_bf16_steps(const float* x, std::int64_t count, const std::uint16_t* random,
                       std::uint16_t* out, BlockSums& sums) {
  for (std::int64_t i = 0; i < count; i += 32) {
    __m512i codes[2];
    for (int part = 0; part < 2; ++part) {
      const std::int64_t at = i + part * 16;
      const __m512i bits = load_bits(x + at);
      const __m512i magnitude = _mm512_and_si512(bits, set1(0x7FFFFFFFu));
      sums.largest = _mm512_max_epu32(sums.largest, magnitude);
      __m512i draw = _mm512_setzero_si512();
      if constexpr (mode == Rounding::Stochastic) {
        draw = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(random + at)));
      }
      codes[part] = bf16_codes<mode>(bits, magnitude, draw);
      const __mmask16 lost = _mm512_mask_testn_epi32_mask(
          _mm512_test_epi32_mask(magnitude, magnitude), codes[part], set1(0x7FFF));
      sums.zeroed = _mm512_mask_add_epi32(sums.zeroed, lost, sums.zeroed, _mm512_set1_epi32(1));
    }
    const __m512i packed = _mm512_packus_epi32(codes[0], codes[1]);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi64(order, packed));
  }
}

template <class Load>
void decode_with(const std::byte* in, const StorageFormat& from, std::span<float> out) {
  const Load load(from);
  const std::int64_t count = static_cast<std::int64_t>(out.size());
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    _mm512_mask_storeu_ps(out.data() + i, lanes, load(in + i * Load::kBytes, lanes));
  }
}

}  // namespace

EncodeStats encode_cfloat(std::span<const float> in, const CFloatSpec& spec,
                          const RoundingSpec& rounding, std::uint8_t* out) {
  const CFloatConstants constants(spec);
  const bool nearest = rounding.mode == Rounding::NearestEven;
  const auto steps = constants.paper ? (nearest ? encode_steps<true, Rounding::NearestEven>
                                                : encode_steps<true, Rounding::Stochastic>)
                                     : (nearest ? encode_steps<false, Rounding::NearestEven>
                                                : encode_steps<false, Rounding::Stochastic>);
  // Nearest: up to half a step above the maximum rounds to it; the tie would go to the even code
  // above, so it is beyond.
  const std::uint32_t saturated_above =
      nearest ? constants.max_bits + (1u << (constants.shift - 1)) - 1 : constants.max_bits;
  EncodeStats stats;
  for_blocks(
      in, rounding, out,
      [&](const float* x, std::int64_t count, const std::uint16_t* random, std::uint8_t* codes) {
        BlockSums sums{_mm512_setzero_si512(), _mm512_setzero_si512()};
        steps(x, count, constants, random, codes, sums);
        add_block(stats, sums, x, count, saturated_above, NonFinite::Saturates);
      });
  return stats;
}

EncodeStats encode_bf16(std::span<const float> in, const RoundingSpec& rounding, std::byte* out) {
  const bool nearest = rounding.mode != Rounding::Stochastic;
  const auto steps =
      nearest ? encode_bf16_steps<Rounding::NearestEven> : encode_bf16_steps<Rounding::Stochastic>;
  const std::uint32_t saturated_above = nearest ? 0x7F7F7FFFu : 0x7F7F0000u;
  EncodeStats stats;
  for_blocks(
      in, rounding, reinterpret_cast<std::uint16_t*>(out),
      [&](const float* x, std::int64_t count, const std::uint16_t* random, std::uint16_t* codes) {
        BlockSums sums{_mm512_setzero_si512(), _mm512_setzero_si512()};
        steps(x, count, random, codes, sums);
        add_block(stats, sums, x, count, saturated_above, NonFinite::Stays);
      });
  return stats;
}

EncodeStats copy_f32(std::span<const float> in, std::byte* out) {
  EncodeStats stats;
  for_blocks(in, RoundingSpec{}, reinterpret_cast<float*>(out),
             [&](const float* x, std::int64_t count, const std::uint16_t* /*random*/, float* to) {
               BlockSums sums{_mm512_setzero_si512(), _mm512_setzero_si512()};
               for (std::int64_t i = 0; i < count; i += 16) {
                 const __m512i bits = load_bits(x + i);
                 sums.largest =
                     _mm512_max_epu32(sums.largest, _mm512_and_si512(bits, set1(0x7FFFFFFFu)));
                 _mm512_storeu_si512(to + i, bits);
               }
               add_block(stats, sums, x, count, kInfinityBits - 1, NonFinite::Stays);
             });
  return stats;
}

void decode(const std::byte* in, const StorageFormat& from, std::span<float> out) {
  switch (from.format) {
    case Format::F32:
      return decode_with<LoadF32>(in, from, out);
    case Format::Bf16:
      return decode_with<LoadBf16>(in, from, out);
    case Format::F16:
    case Format::Shp:
    case Format::Uhp:
      return decode_with<LoadHalf>(in, from, out);
    case Format::Cf8_1_4_3:
    case Format::Cf8_1_5_2:
    case Format::E4m3:
    case Format::E5m2:
      return decode_with<LoadCFloat>(in, from, out);
    case Format::U8:
      return decode_with<LoadU8>(in, from, out);
    default:
      DOJO_CHECK(false);
  }
}

void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random) {
  RoundingSpec rounding{Rounding::Stochastic, stream, first_element};
  RandomBlock block(rounding);
  const std::int64_t count = static_cast<std::int64_t>(random.size());
  for (std::int64_t at = 0; at < count; at += kBlock) {
    const std::int64_t size = std::min(kBlock, count - at);
    std::memcpy(random.data() + at, block.fill(at, size), static_cast<std::size_t>(size) * 2);
  }
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
