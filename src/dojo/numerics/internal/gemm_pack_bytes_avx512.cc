#include "dojo/numerics/internal/gemm_pack_bytes_avx512.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

constexpr std::int64_t kCodes = 64;        // of a vector
constexpr std::int64_t kPointsAhead = 12;  // PERF: rows are far apart, no hardware prefetch

__mmask64 first_codes(std::int64_t count) {
  return count >= kCodes ? ~__mmask64{0} : (__mmask64{1} << std::max<std::int64_t>(count, 0)) - 1;
}

// Codes to the bfloat16 numbers that they stand for: both bytes of the magnitude come from a table
// of 128, the sign is the code's.
class ByteTable {
 public:
  explicit ByteTable(const std::array<float, 256>& values) {
    alignas(64) std::array<std::uint8_t, 128> high;
    alignas(64) std::array<std::uint8_t, 128> low;
    for (std::size_t code = 0; code < 128; ++code) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(values[code]);
      high[code] = static_cast<std::uint8_t>(bits >> 24);
      low[code] = static_cast<std::uint8_t>(bits >> 16);
    }
    for (std::size_t i = 0; i < 2; ++i) {
      high_[i] = _mm512_load_si512(high.data() + i * 64);
      low_[i] = _mm512_load_si512(low.data() + i * 64);
    }
  }

  // Of each lane of 128 bits: the first eight codes as words in `first`, the others in `second`.
  [[gnu::always_inline]] void widen(__m512i codes, __m512i& first, __m512i& second) const {
    const __m512i sign = _mm512_and_si512(codes, _mm512_set1_epi8(-128));
    const __m512i high = _mm512_or_si512(_mm512_permutex2var_epi8(high_[0], codes, high_[1]), sign);
    const __m512i low = _mm512_permutex2var_epi8(low_[0], codes, low_[1]);
    first = _mm512_unpacklo_epi8(low, high);
    second = _mm512_unpackhi_epi8(low, high);
  }

 private:
  __m512i high_[2];
  __m512i low_[2];
};

template <int step>
class BytePacker final : public internal::Packer {
 public:
  BytePacker(const Storage& storage, std::unique_ptr<internal::Packer> others)
      : reader_(storage), table_(reader_.table()), others_(std::move(others)) {}

  void pack(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
            float* to) const override {
    if (from.lane_stride == 1) {
      pack_lanes(from, width, panel, to);
    } else if (from.point_stride == 1) {
      pack_points(from, width, panel, to);
    } else {
      others_->pack(from, width, panel, to);
    }
  }

 private:
  const std::uint8_t* at(std::int64_t element) const {
    return reinterpret_cast<const std::uint8_t*>(reader_.bytes()) + element;
  }

  // Adjacent codes are lanes: two panels of 32, or a narrow one.
  void pack_lanes(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
                  float* to) const {
    const bool is_wide = width == kTileColumns;
    DOJO_DCHECK(is_wide || from.lanes <= std::min<std::int64_t>(width, 16));
    // Afterwards, what widen and the unpacking of words below deal out is in order.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (std::int64_t lane = 0; lane < from.lanes; lane += kCodes, to += 2 * panel) {
      const __mmask64 valid = first_codes(from.lanes - lane);
      const std::uint8_t* data = at(from.first + lane);
      float* out = to;
      for (std::int64_t k = 0; k < from.points; k += step, out += width) {
        __m512i word[2][2] = {};
#pragma GCC unroll 2
        for (std::int64_t p = 0; p < step; ++p) {
          if (k + p < from.points) {
            const std::uint8_t* row = data + (k + p) * from.point_stride;
            _mm_prefetch(reinterpret_cast<const char*>(row + kPointsAhead * from.point_stride),
                         _MM_HINT_T0);
            table_.widen(_mm512_permutexvar_epi32(order, _mm512_maskz_loadu_epi8(valid, row)),
                         word[p][0], word[p][1]);
          }
        }
        // The first point is the upper half of a unit; alone, it is an FP32 number.
        const __m512i unit[4] = {_mm512_unpacklo_epi16(word[1][0], word[0][0]),
                                 _mm512_unpackhi_epi16(word[1][0], word[0][0]),
                                 _mm512_unpacklo_epi16(word[1][1], word[0][1]),
                                 _mm512_unpackhi_epi16(word[1][1], word[0][1])};
        if (!is_wide) {
          _mm512_mask_storeu_epi32(out, first_lanes(width), unit[0]);
          continue;
        }
        _mm512_storeu_si512(out, unit[0]);
        _mm512_storeu_si512(out + 16, unit[1]);
        if (from.lanes - lane > kTileColumns) {
          _mm512_storeu_si512(out + panel, unit[2]);
          _mm512_storeu_si512(out + panel + 16, unit[3]);
        }
      }
    }
  }

  // Adjacent codes are points: 16 lanes of 64 points are widened, then turned.
  void pack_points(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
                   float* to) const {
    constexpr std::int64_t kVectors = 4 / step;  // of 16 units each
    const std::int64_t lanes = (from.lanes + width - 1) / width * width;
    for (std::int64_t lane = 0; lane < lanes; lane += std::min<std::int64_t>(16, width)) {
      const __mmask16 write = first_lanes(width - lane % width);
      const std::int64_t count = std::clamp<std::int64_t>(from.lanes - lane, 0, 16);
      float* out = to + lane / width * panel + lane % width;
      for (std::int64_t k = 0; k < from.points; k += kCodes) {
        __m512 unit[kVectors][16] = {};
        const __mmask64 valid = first_codes(from.points - k);
        for (std::int64_t l = 0; l < count; ++l) {
          const __m512i codes =
              _mm512_maskz_loadu_epi8(valid, at(from.first + (lane + l) * from.lane_stride + k));
          widen_points(codes, l, unit);
        }
        for (std::int64_t v = 0; v < kVectors && k + v * 16 * step < from.points; ++v) {
          transpose_16x16(unit[v]);
          const std::int64_t units = (from.points - k + step - 1) / step - v * 16;
          for (std::int64_t u = 0; u < std::min<std::int64_t>(16, units); ++u, out += width) {
            _mm512_mask_storeu_ps(out, write, unit[v][u]);
          }
        }
      }
    }
  }

  [[gnu::always_inline]] void widen_points(__m512i codes, std::int64_t lane,
                                           __m512 (&unit)[4 / step][16]) const {
    __m512i word[2];
    if constexpr (step == 2) {
      const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
      table_.widen(_mm512_permutexvar_epi64(order, codes), word[0], word[1]);
      for (std::size_t v = 0; v < 2; ++v) {
        unit[v][lane] = _mm512_castsi512_ps(_mm512_rol_epi32(word[v], 16));
      }
    } else {
      const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      const __m512i zero = _mm512_setzero_si512();
      table_.widen(_mm512_permutexvar_epi32(order, codes), word[0], word[1]);
      for (std::size_t v = 0; v < 2; ++v) {
        unit[2 * v][lane] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, word[v]));
        unit[2 * v + 1][lane] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, word[v]));
      }
    }
  }

  ElementReader reader_;
  ByteTable table_;
  std::unique_ptr<internal::Packer> others_;
};

}  // namespace

bool can_pack_bytes(const StorageFormat& type) {
  return is_float(type.format) && bytes_of(type.format) == 1 &&
         __builtin_cpu_supports("avx512vbmi") != 0;
}

std::unique_ptr<internal::Packer> byte_packer_of(const Storage& storage,
                                                 std::int64_t points_per_unit,
                                                 std::unique_ptr<internal::Packer> others) {
  if (points_per_unit == 2) {
    return std::make_unique<BytePacker<2>>(storage, std::move(others));
  }
  return std::make_unique<BytePacker<1>>(storage, std::move(others));
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
