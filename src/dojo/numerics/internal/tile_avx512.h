// The one micro-kernel behind GEMM and convolution: a tile of up to 14 x 32 outputs stays in
// registers while it folds a chunk of the reduction in the stated order, and closes parts into
// totals that lie beside it in memory (reduce_plan.h).
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/numerics/internal/reduce_plan.h"

namespace dojo::numerics::avx512 {

inline constexpr std::int64_t kMaxTileRows = 14;  // PERF: 28 accumulators + 2 B + 1 A registers
inline constexpr std::int64_t kTileColumns = 32;

// What a point of a call is and how it is folded (sum_order.h).
enum class TileFold : std::uint8_t {
  Fma,       // sequential: acc = fma(a, b, acc)
  Bf16Pair,  // sequential, two bfloat16 points in the 32 bits of one: the first in the upper half
  GroupOf4,  // tile4: segments but the last of a part have a multiple of 4 points
  W21,       // w21
};

struct TileCall {
  TileFold fold = TileFold::Fma;
  // Row r at point k reads a[k * rows + r], or a[a_offset[k] + r] if a_offset is given.
  const float* a = nullptr;
  const std::int32_t* a_offset = nullptr;
  // Column c at point k reads b[b_offset[k] + c]; all columns are readable.
  const float* b = nullptr;
  const std::int32_t* b_offset = nullptr;
  const internal::Segment* segments = nullptr;
  std::int64_t segment_count = 0;
  bool resumes = false;  // begins with the accumulators of the call before
  // (levels + 1) blocks of rows x 16 `vectors` floats: the accumulators, then a total per level.
  float* state = nullptr;
  // Memory to be fetched into the L2 meanwhile: two lines for two points; or none.
  const float* ahead = nullptr;
  // Where the accumulators go in the end instead of the state, `out_stride` floats a row; or none.
  float* out = nullptr;
  std::int64_t out_stride = 0;
};

// rows 1 .. kMaxTileRows, vectors (of 16 columns) 1 or 2.
void run_tile(std::int64_t rows, std::int64_t vectors, const TileCall& call);
// The same with AVX2 and vectors of 8 columns, which a state has as well; no Bf16Pair.
void run_tile_avx2(std::int64_t rows, std::int64_t vectors, const TileCall& call);

// Where the result of a tile is within its state after the last chunk.
constexpr std::int64_t result_offset(std::int64_t rows, std::int64_t vectors, int levels) {
  return levels * rows * vectors * 16;
}

constexpr std::int64_t state_size(std::int64_t rows, std::int64_t vectors, int levels) {
  return (levels + 1) * rows * vectors * 16;
}

struct RowTile {
  std::int64_t first = 0;
  std::int64_t rows = 0;
};

// Rows 0 .. count split into tiles as equal as possible.
std::vector<RowTile> row_tiles(std::int64_t count);

}  // namespace dojo::numerics::avx512
