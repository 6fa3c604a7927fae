// Two points at a time with the BF16 dot instruction. Needs avx512_bf16.
#include "dojo/numerics/internal/tile_folds.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,prefer-vector-width=512")

#include "dojo/numerics/internal/tile_kernel.h"

namespace dojo::numerics::avx512 {
namespace {

struct PairFold {
  using V = Vector512;
  static constexpr int kGroup = 1;
  [[gnu::always_inline]] static __m512 fold(__m512 a, __m512 b, __m512 acc) {
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
  }
  [[gnu::always_inline]] static __m512 combine(__m512 x, __m512 y) { return V::add(x, y); }
};

}  // namespace

void run_tile_of_pairs(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  run_any<PairFold, kMaxTileRows>(rows, vectors, call);
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
