// The order tile4: four points are folded by themselves, then added.
#include "dojo/numerics/internal/tile_folds.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

#include "dojo/numerics/internal/tile_kernel.h"

namespace dojo::numerics::avx512 {

void run_tile_of_groups(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  run_any<GroupFold<Vector512>, kMaxTileRows>(rows, vectors, call);
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
