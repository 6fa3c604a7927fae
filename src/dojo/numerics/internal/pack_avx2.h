// Packing as in pack_avx512.h: a panel of up to 32 lanes, decoded to FP32
// and laid out so that the lanes of one point are adjacent.
// Include from files that choose the path at run time; the functions below are AVX2 code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dojo/numerics/internal/decode_avx2.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/lanes_avx2.h"
#include "dojo/numerics/internal/panel.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::numerics::avx2 {

inline void transpose_8x8(__m256 (&r)[8]) {
  __m256 t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256d a = _mm256_castps_pd(t[4 * i]);
    const __m256d b = _mm256_castps_pd(t[4 * i + 1]);
    const __m256d c = _mm256_castps_pd(t[4 * i + 2]);
    const __m256d d = _mm256_castps_pd(t[4 * i + 3]);
    r[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    r[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    r[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    r[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  std::copy(t, t + 8, r);
}

// Lanes `lane` to lane + 7 of a point, as far as the pitch goes.
inline void put_lanes(__m256 x, std::int64_t lane, std::int64_t point, const Panel& from, float* to,
                      std::int64_t pitch) {
  float* const at = to + point * pitch + lane;
  // In a narrow panel what goes too far is written over by the next point.
  if (lane + 8 <= pitch || (lane == 0 && point + 1 < from.points)) {
    _mm256_storeu_ps(at, x);
    return;
  }
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, x);
  std::copy(lanes, lanes + (pitch - lane), at);
}

// to[point * pitch + lane] = element(lane, point); lanes up to the next multiple of 8, as far as
// the pitch goes, are set to 0.
template <class Load>
void pack(const Load& load, const Panel& from, float* to, std::int64_t pitch) {
  constexpr std::int64_t kBytes = Load::kBytes;
  for (std::int64_t lane = 0; lane < from.lanes; lane += 8) {
    const std::byte* data = from.data + lane * from.lane_stride * kBytes;
    const std::int64_t count = std::min<std::int64_t>(8, from.lanes - lane);
    if (from.lane_stride == 1) {
      for (std::int64_t k = 0; k < from.points; ++k) {
        const std::byte* at = data + k * from.point_stride * kBytes;
        put_lanes(load_first(load, at, count), lane, k, from, to, pitch);
      }
      continue;
    }
    for (std::int64_t k = 0; k < from.points; k += 8) {
      const std::int64_t points = std::min<std::int64_t>(8, from.points - k);
      __m256 rows[8];
      for (std::int64_t r = 0; r < 8; ++r) {
        const std::byte* row = data + (r * from.lane_stride + k * from.point_stride) * kBytes;
        if (r >= count) {
          rows[r] = _mm256_setzero_ps();
        } else if (from.point_stride == 1) {
          rows[r] = load_first(load, row, points);
        } else {
          alignas(32) float gathered[8] = {};
          for (std::int64_t p = 0; p < points; ++p) {
            const std::byte* at = row + p * from.point_stride * kBytes;
            gathered[p] = _mm256_cvtss_f32(load_first(load, at, 1));
          }
          rows[r] = _mm256_load_ps(gathered);
        }
      }
      transpose_8x8(rows);
      for (std::int64_t p = 0; p < points; ++p) {
        put_lanes(rows[p], lane, k + p, from, to, pitch);
      }
    }
  }
}

}  // namespace dojo::numerics::avx2

#pragma GCC pop_options
