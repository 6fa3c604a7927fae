#include "dojo/numerics/internal/product_rounds_avx512.h"

#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bf16,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

constexpr int kChains = 20;  // of up to 6 cycles, to keep two units busy

struct FmaStep {
  [[gnu::always_inline]] static __m512 step(__m512 x, __m512 acc) {
    return _mm512_fmadd_ps(x, x, acc);
  }
};

struct DotStep {
  [[gnu::always_inline]] static __m512 step(__m512 x, __m512 acc) {
    return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)x);
  }
};

template <class Step>
float run_chains(std::int64_t rounds) {
  __m512 acc[kChains];
  for (__m512& each : acc) {
    each = _mm512_setzero_ps();
  }
  __m512 x = _mm512_castsi512_ps(_mm512_set1_epi32(0x3F003F00));
  for (std::int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(x));
#pragma GCC unroll 20
    for (__m512& each : acc) {
      each = Step::step(x, each);
    }
  }
  __m512 sum = acc[0];
  for (const __m512& each : acc) {
    sum = _mm512_add_ps(sum, each);
  }
  return _mm512_reduce_add_ps(sum);
}

}  // namespace

float fma_rounds(std::int64_t rounds) { return run_chains<FmaStep>(rounds); }
float dot_rounds(std::int64_t rounds) { return run_chains<DotStep>(rounds); }

void dot_pairs(std::span<float, 16> acc, std::span<const std::uint32_t, 16> a,
               std::span<const std::uint32_t, 16> b) {
  const __m512i left = _mm512_loadu_si512(a.data());
  const __m512i right = _mm512_loadu_si512(b.data());
  _mm512_storeu_ps(acc.data(),
                   _mm512_dpbf16_ps(_mm512_loadu_ps(acc.data()), (__m512bh)left, (__m512bh)right));
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
