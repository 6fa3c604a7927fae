// All orders with AVX2 and FMA: tiles of 16 columns, 6 rows of a call at a time.
#include "dojo/base/check.h"
#include "dojo/numerics/internal/tile_folds.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma")

#include "dojo/numerics/internal/tile_kernel.h"

namespace dojo::numerics::avx512 {
namespace {

constexpr int kRowsAtATime = 6;  // PERF: 12 accumulators + 2 B + 1 A registers of 16

}  // namespace

void run_tile_avx2(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  DOJO_DCHECK(rows >= 1 && (vectors == 1 || vectors == 2));
  switch (call.fold) {
    case TileFold::Fma:
      return run_any<FmaFold<Vector256>, kRowsAtATime>(rows, vectors, call);
    case TileFold::GroupOf4:
      return run_any<GroupFold<Vector256>, kRowsAtATime>(rows, vectors, call);
    case TileFold::W21:
      return run_any<W21Fold<Vector256>, kRowsAtATime>(rows, vectors, call);
    case TileFold::Bf16Pair:
      DOJO_CHECK(false);
  }
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
