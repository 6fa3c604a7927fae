// Vector operations for tile_kernel.h, and the kernels that run_tile hands on, each compiled in a
// file of its own.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/tile_avx512.h"
#include "dojo/numerics/sum_order.h"

namespace dojo::numerics::avx512 {

void run_tile_of_pairs(std::int64_t rows, std::int64_t vectors, const TileCall& call);
void run_tile_of_groups(std::int64_t rows, std::int64_t vectors, const TileCall& call);
void run_tile_w21(std::int64_t rows, std::int64_t vectors, const TileCall& call);

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma")

struct Vector512 {
  using Vector = __m512;
  static constexpr int kLanes = 16;
  [[gnu::always_inline]] static Vector zero() { return _mm512_setzero_ps(); }
  [[gnu::always_inline]] static Vector load(const float* at) { return _mm512_loadu_ps(at); }
  [[gnu::always_inline]] static void store(float* at, Vector x) { _mm512_storeu_ps(at, x); }
  [[gnu::always_inline]] static Vector spread(float x) { return _mm512_set1_ps(x); }
  [[gnu::always_inline]] static Vector add(Vector x, Vector y) { return _mm512_add_ps(x, y); }
  [[gnu::always_inline]] static Vector multiply(Vector x, Vector y) { return _mm512_mul_ps(x, y); }
  [[gnu::always_inline]] static Vector fma(Vector x, Vector y, Vector z) {
    return _mm512_fmadd_ps(x, y, z);
  }
  // As round_w21 of sum_order.h. With 2^e <= |x| < 2^(e+1), x + 1.5 2^(e+10) lies where FP32
  // numbers are 2^(e-13) apart: the addition rounds x to 13 bits, ties to even, the subtraction is
  // exact. min and max return their second operand where one is a NaN, so a NaN passes through.
  [[gnu::always_inline]] static Vector round_w21(Vector x) {
    x = _mm512_max_ps(spread(-kW21Max), _mm512_min_ps(spread(kW21Max), x));
    const Vector power = _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32(0x7F800000)));
    const Vector scale = spread(0x1.8p10F);
    const __mmask16 is_kept = _mm512_cmp_ps_mask(power, spread(kW21MinNormal), _CMP_GE_OQ);
    return _mm512_maskz_fnmadd_ps(is_kept, power, scale, _mm512_fmadd_ps(power, scale, x));
  }
};

#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")

struct Vector256 {
  using Vector = __m256;
  static constexpr int kLanes = 8;
  [[gnu::always_inline]] static Vector zero() { return _mm256_setzero_ps(); }
  [[gnu::always_inline]] static Vector load(const float* at) { return _mm256_loadu_ps(at); }
  [[gnu::always_inline]] static void store(float* at, Vector x) { _mm256_storeu_ps(at, x); }
  [[gnu::always_inline]] static Vector spread(float x) { return _mm256_set1_ps(x); }
  [[gnu::always_inline]] static Vector add(Vector x, Vector y) { return _mm256_add_ps(x, y); }
  [[gnu::always_inline]] static Vector multiply(Vector x, Vector y) { return _mm256_mul_ps(x, y); }
  [[gnu::always_inline]] static Vector fma(Vector x, Vector y, Vector z) {
    return _mm256_fmadd_ps(x, y, z);
  }
  // As above.
  [[gnu::always_inline]] static Vector round_w21(Vector x) {
    x = _mm256_max_ps(spread(-kW21Max), _mm256_min_ps(spread(kW21Max), x));
    const Vector power = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7F800000)));
    const Vector scale = spread(0x1.8p10F);
    const Vector is_kept = _mm256_cmp_ps(power, spread(kW21MinNormal), _CMP_GE_OQ);
    return _mm256_and_ps(is_kept, _mm256_fnmadd_ps(power, scale, _mm256_fmadd_ps(power, scale, x)));
  }
};

#pragma GCC pop_options

}  // namespace dojo::numerics::avx512
