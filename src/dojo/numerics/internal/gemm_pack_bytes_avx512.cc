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
constexpr std::int64_t kCodesAhead = 256;  // PERF: the next chunk of the same lanes

__mmask64 first_codes(std::int64_t count) {
  return count >= kCodes ? ~__mmask64{0} : (__mmask64{1} << std::max<std::int64_t>(count, 0)) - 1;
}

// Codes to the bfloat16 numbers that they stand for: both bytes of the magnitude come from a table
// of 128, the sign is the code's.
class ByteTable {
 public:
  explicit ByteTable(const std::array<float, 256>& values) {
    alignas(64) std::array<std::uint8_t, 128> high{};
    alignas(64) std::array<std::uint8_t, 128> low{};
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

// 4 points of 16 lanes as 64 codes -> units of 16 lanes each. Lane j of 128 bits has lanes 4j ..
// 4j+3 of each point, or, where a unit is two points, both points of each of these lanes.
template <int step>
struct Deal {
  static constexpr int kUnits = 4 / step;

  [[gnu::always_inline]] static void units(const ByteTable& table, __m512i codes,
                                           __m512i (&unit)[kUnits]) {
    __m512i word[2];
    table.widen(codes, word[0], word[1]);
    if constexpr (step == 2) {
      unit[0] = _mm512_rol_epi32(word[0], 16);
      unit[1] = _mm512_rol_epi32(word[1], 16);
    } else {
      const __m512i zero = _mm512_setzero_si512();
      unit[0] = _mm512_unpacklo_epi16(zero, word[0]);
      unit[1] = _mm512_unpackhi_epi16(zero, word[0]);
      unit[2] = _mm512_unpacklo_epi16(zero, word[1]);
      unit[3] = _mm512_unpackhi_epi16(zero, word[1]);
    }
  }

  // From points one after the other, 16 lanes each.
  static __m512i order_of_points() {
    alignas(64) std::array<std::uint8_t, 64> from{};
    for (std::size_t at = 0; at < 64; ++at) {
      const std::size_t quad = at / 16;
      const std::size_t in = at % 16;
      const std::size_t point = step == 2 ? in / 8 * 2 + in % 2 : in / 4;
      const std::size_t lane = quad * 4 + (step == 2 ? in / 2 % 4 : in % 4);
      from[at] = static_cast<std::uint8_t>(point * 16 + lane);
    }
    return _mm512_load_si512(from.data());
  }

  // From 16 points of 16 lanes: lane j of x[s] has lane 4j + s.
  [[gnu::always_inline]] static void turn(const __m512i (&x)[4], __m512i (&codes)[4]) {
    if constexpr (step == 2) {
      const __m512i low[2] = {_mm512_unpacklo_epi16(x[0], x[1]), _mm512_unpacklo_epi16(x[2], x[3])};
      const __m512i high[2] = {_mm512_unpackhi_epi16(x[0], x[1]),
                               _mm512_unpackhi_epi16(x[2], x[3])};
      codes[0] = _mm512_unpacklo_epi32(low[0], low[1]);
      codes[1] = _mm512_unpackhi_epi32(low[0], low[1]);
      codes[2] = _mm512_unpacklo_epi32(high[0], high[1]);
      codes[3] = _mm512_unpackhi_epi32(high[0], high[1]);
    } else {
      const __m512i low[2] = {_mm512_unpacklo_epi8(x[0], x[1]), _mm512_unpacklo_epi8(x[2], x[3])};
      const __m512i high[2] = {_mm512_unpackhi_epi8(x[0], x[1]), _mm512_unpackhi_epi8(x[2], x[3])};
      codes[0] = _mm512_unpacklo_epi16(low[0], low[1]);
      codes[1] = _mm512_unpackhi_epi16(low[0], low[1]);
      codes[2] = _mm512_unpacklo_epi16(high[0], high[1]);
      codes[3] = _mm512_unpackhi_epi16(high[0], high[1]);
    }
  }
};

template <int step>
class BytePacker final : public internal::Packer {
 public:
  BytePacker(const Storage& storage, std::unique_ptr<internal::Packer> others)
      : reader_(storage), table_(reader_.table()), others_(std::move(others)) {}

  void pack(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
            float* to) const override {
    if (from.lane_stride == 1 && width == kTileColumns) {
      pack_wide(from, panel, to);
    } else if (from.lane_stride == 1 && from.lanes <= kNarrow && width <= kNarrow) {
      pack_narrow(from, width, to);
    } else if (from.point_stride == 1) {
      pack_points(from, width, panel, to);
    } else {
      others_->pack(from, width, panel, to);
    }
  }

 private:
  static constexpr int kUnits = Deal<step>::kUnits;  // of 4 points
  static constexpr std::int64_t kNarrow = 16;

  const std::uint8_t* at(std::int64_t element) const {
    return reinterpret_cast<const std::uint8_t*>(reader_.bytes()) + element;
  }

  // Adjacent codes are lanes: two panels of 32.
  void pack_wide(const internal::PanelExtent& from, std::int64_t panel, float* to) const {
    constexpr std::int64_t kWidth = kTileColumns;
    // Afterwards, what widen and the unpacking of words below deal out is in order.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (std::int64_t lane = 0; lane < from.lanes; lane += kCodes, to += 2 * panel) {
      const __mmask64 valid = first_codes(from.lanes - lane);
      const std::uint8_t* data = at(from.first + lane);
      float* out = to;
      for (std::int64_t k = 0; k < from.points; k += step, out += kWidth) {
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
        _mm512_storeu_si512(out, _mm512_unpacklo_epi16(word[1][0], word[0][0]));
        _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi16(word[1][0], word[0][0]));
        if (from.lanes - lane > kWidth) {
          _mm512_storeu_si512(out + panel, _mm512_unpacklo_epi16(word[1][1], word[0][1]));
          _mm512_storeu_si512(out + panel + 16, _mm512_unpackhi_epi16(word[1][1], word[0][1]));
        }
      }
    }
  }

  // Adjacent codes are lanes, at most 16 of them: four points at a time.
  void pack_narrow(const internal::PanelExtent& from, std::int64_t width, float* to) const {
    const __m512i order = Deal<step>::order_of_points();
    const __mmask16 read = first_lanes(from.lanes);
    const __mmask16 write = first_lanes(width);
    const std::uint8_t* data = at(from.first);
    for (std::int64_t k = 0; k < from.points; k += 4, data += 4 * from.point_stride) {
      __m128i point[4];
#pragma GCC unroll 4
      for (std::int64_t p = 0; p < 4; ++p) {
        const __mmask16 mask = k + p < from.points ? read : __mmask16{0};
        point[p] = _mm_maskz_loadu_epi8(mask, data + p * from.point_stride);
      }
      const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(point[0]), point[1], 1);
      const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(point[2]), point[3], 1);
      const __m512i codes = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
      store(_mm512_permutexvar_epi8(order, codes), units_of(from.points - k), write, width, to);
      to += kUnits * width;
    }
  }

  // Adjacent codes are points: 16 lanes of 64 points are turned, then widened.
  void pack_points(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
                   float* to) const {
    const std::int64_t lanes = (from.lanes + width - 1) / width * width;
    for (std::int64_t lane = 0; lane < lanes; lane += std::min(kNarrow, width)) {
      const __mmask16 write = first_lanes(width - lane % width);
      const std::int64_t count = std::clamp<std::int64_t>(from.lanes - lane, 0, kNarrow);
      const bool has_all = count >= std::min(kNarrow, width - lane % width);
      float* out = to + lane / width * panel + lane % width;
      std::array<const std::uint8_t*, kNarrow> row{};
      for (std::int64_t l = 0; l < kNarrow; ++l) {
        const std::int64_t of = std::min(l, std::max<std::int64_t>(count - 1, 0));
        row[static_cast<std::size_t>(l)] = at(from.first + (lane + of) * from.lane_stride);
      }
      for (std::int64_t k = 0; k < from.points; k += kCodes) {
        const std::int64_t points = std::min(kCodes, from.points - k);
        alignas(64) std::array<std::uint8_t, kNarrow * kCodes> copy;  // NOLINT: filled if used
        std::array<const std::uint8_t*, kNarrow> source{};
        for (std::size_t l = 0; l < kNarrow; ++l) {
          source[l] = row[l] + k;
          _mm_prefetch(reinterpret_cast<const char*>(source[l] + kCodesAhead), _MM_HINT_T1);
        }
        if (points < kCodes || !has_all) {
          copy_rows(source, count, first_codes(points), copy);
        }
        out = pack_block(source, points, write, width, out);
      }
    }
  }

  // The codes that are there, 0 for others.
  static void copy_rows(std::array<const std::uint8_t*, kNarrow>& row, std::int64_t count,
                        __mmask64 valid, std::array<std::uint8_t, kNarrow * kCodes>& copy) {
    for (std::size_t l = 0; l < kNarrow; ++l) {
      const __mmask64 mask = static_cast<std::int64_t>(l) < count ? valid : __mmask64{0};
      std::uint8_t* to = copy.data() + l * kCodes;
      _mm512_store_si512(to, _mm512_maskz_loadu_epi8(mask, row[l]));
      row[l] = to;
    }
  }

  float* pack_block(const std::array<const std::uint8_t*, kNarrow>& row, std::int64_t points,
                    __mmask16 write, std::int64_t width, float* out) const {
    for (std::int64_t k = 0; k < points; k += 16) {
      __m512i x[4];
#pragma GCC unroll 4
      for (std::size_t s = 0; s < 4; ++s) {
        const auto quarter = [&](std::size_t j) {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[4 * j + s] + k));
        };
        x[s] = _mm512_broadcast_i32x4(quarter(0));
        x[s] = _mm512_mask_broadcast_i32x4(x[s], 0x00F0, quarter(1));
        x[s] = _mm512_mask_broadcast_i32x4(x[s], 0x0F00, quarter(2));
        x[s] = _mm512_mask_broadcast_i32x4(x[s], 0xF000, quarter(3));
      }
      __m512i codes[4];
      Deal<step>::turn(x, codes);
#pragma GCC unroll 4
      for (std::int64_t q = 0; q < 4; ++q, out += kUnits * width) {
        store(codes[q], units_of(points - k - 4 * q), write, width, out);
      }
    }
    return out;
  }

  static std::int64_t units_of(std::int64_t points) { return (points + step - 1) / step; }

  // The first `count` units of four points.
  [[gnu::always_inline]] void store(__m512i codes, std::int64_t count, __mmask16 write,
                                    std::int64_t width, float* out) const {
    __m512i unit[kUnits];
    Deal<step>::units(table_, codes, unit);
#pragma GCC unroll 4
    for (std::int64_t u = 0; u < kUnits; ++u) {
      if (u < count) {
        _mm512_mask_storeu_epi32(out + u * width, write, unit[u]);
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
