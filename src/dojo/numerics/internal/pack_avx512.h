// Packing: a panel of `lanes` rows of an operand, decoded to FP32 and laid out so that the lanes of
// one point are adjacent. Used for GEMM panels, channel-last images and reductions alike.
// Include from files that choose the path at run time; the functions below are AVX-512 code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/decode_avx512.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/panel.h"
#include "dojo/numerics/storage.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

inline void transpose_16x16(__m512 (&r)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[4 * i]);
    const __m512d b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]);
    const __m512d d = _mm512_castps_pd(t[4 * i + 3]);
    r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xDD);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xDD);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xDD);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xDD);
  }
}

// One element.
template <class Load>
float element(const Load& load, const std::byte* at) {
  return _mm512_cvtss_f32(load(at, __mmask16{1}));
}

// One unit of 32 bits: FP32 of one point, or two points that bfloat16 holds exactly, the first in
// the upper half.
template <int step>
__m512 join(const __m512* points) {
  if constexpr (step == 1) {
    return points[0];
  } else {
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(points[1]), 16);
    const __m512i high = _mm512_castps_si512(points[0]);
    return _mm512_castsi512_ps(
        _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi32(-0x10000))));
  }
}

// to[unit * pitch + lane] = the `step` points of the unit of that lane; a point that is missing at
// the end is 0. Lanes up to the next multiple of 16 are set to 0 as far as they are within the
// pitch.
template <int step = 1, class Load>
void pack(const Load& load, const Panel& from, float* to, std::int64_t pitch) {
  constexpr std::int64_t kBytes = Load::kBytes;
  const std::int64_t point_stride = from.point_stride * kBytes;
  for (std::int64_t lane = 0; lane < from.lanes; lane += 16) {
    const std::byte* data = from.data + lane * from.lane_stride * kBytes;
    const std::int64_t count = std::min<std::int64_t>(16, from.lanes - lane);
    const __mmask16 read = first_lanes(count);
    const __mmask16 write = first_lanes(pitch - lane);
    float* out = to + lane;
    if (from.lane_stride == 1) {
      for (std::int64_t k = 0; k < from.points; k += step, out += pitch) {
        __m512 points[step];
        for (std::int64_t p = 0; p < step; ++p) {
          points[p] =
              k + p < from.points ? load(data + (k + p) * point_stride, read) : _mm512_setzero_ps();
        }
        _mm512_mask_storeu_ps(out, write, join<step>(points));
      }
    } else if (from.point_stride == 1) {
      for (std::int64_t k = 0; k < from.points; k += 16) {
        const std::int64_t points = std::min<std::int64_t>(16, from.points - k);
        const __mmask16 valid = first_lanes(points);
        __m512 rows[16];
        for (std::int64_t r = 0; r < 16; ++r) {
          rows[r] = r < count ? load(data + (r * from.lane_stride + k) * kBytes, valid)
                              : _mm512_setzero_ps();
        }
        transpose_16x16(rows);
        for (std::int64_t p = 0; p < points; p += step, out += pitch) {
          _mm512_mask_storeu_ps(out, write, join<step>(rows + p));
        }
      }
    } else {
      for (std::int64_t k = 0; k < from.points; k += step, out += pitch) {
        __m512 points[step];
        for (std::int64_t p = 0; p < step; ++p) {
          alignas(64) float lanes[16] = {};
          for (std::int64_t r = 0; r < count && k + p < from.points; ++r) {
            lanes[r] = element(load, data + r * from.lane_stride * kBytes + (k + p) * point_stride);
          }
          points[p] = _mm512_load_ps(lanes);
        }
        _mm512_mask_storeu_ps(out, write, join<step>(points));
      }
    }
  }
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
