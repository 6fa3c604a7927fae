#include "dojo/numerics/internal/tile_avx512.h"

#include "dojo/base/check.h"
#include "dojo/numerics/internal/tile_folds.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

#include "dojo/numerics/internal/tile_kernel.h"

namespace dojo::numerics::avx512 {

void run_tile(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  DOJO_DCHECK(rows >= 1 && rows <= kMaxTileRows && (vectors == 1 || vectors == 2));
  switch (call.fold) {
    case TileFold::Fma:
      return run_any<FmaFold<Vector512>, kMaxTileRows>(rows, vectors, call);
    case TileFold::Bf16Pair:
      return run_tile_of_pairs(rows, vectors, call);
    case TileFold::GroupOf4:
      return run_tile_of_groups(rows, vectors, call);
    case TileFold::W21:
      return run_tile_w21(rows, vectors, call);
  }
}

std::vector<RowTile> row_tiles(std::int64_t count) {
  std::vector<RowTile> tiles;
  const std::int64_t parts = (count + kMaxTileRows - 1) / kMaxTileRows;
  for (std::int64_t i = 0; i < parts; ++i) {
    const std::int64_t first = count * i / parts;
    tiles.push_back({first, count * (i + 1) / parts - first});
  }
  return tiles;
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
