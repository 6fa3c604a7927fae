// The order w21: every step is rounded to a 21-bit accumulator.
#include "dojo/numerics/internal/tile_folds.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

#include "dojo/numerics/internal/tile_kernel.h"

namespace dojo::numerics::avx512 {

void run_tile_w21(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  run_any<W21Fold<Vector512>, kMaxTileRows>(rows, vectors, call);
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
