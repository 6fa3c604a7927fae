#include "dojo/numerics/internal/tile_avx512.h"

#include <array>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

// Below, loops over a tile are unrolled and inlined whole, so that it stays in registers.
template <int rows, int vectors>
struct Tile {
  static constexpr std::int64_t kSize = rows * vectors * 16;

  // op(register, float index in the tile) for every vector.
  template <class Op>
  [[gnu::always_inline]] void for_each(const Op& op) {
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        op(acc[r][v], (r * vectors + v) * 16);
      }
    }
  }

  [[gnu::always_inline]] void fold(const float* row, const float* column) {
    __m512 right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      right[v] = _mm512_loadu_ps(column + v * 16);
    }
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
      const __m512 left = _mm512_set1_ps(row[r]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        acc[r][v] = _mm512_fmadd_ps(left, right[v], acc[r][v]);
      }
    }
  }

  __m512 acc[rows][vectors];
};

// total = first ? value : total + value, for a whole tile in memory.
void close_level(float* total, const float* value, std::int64_t count, bool is_first) {
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m512 x = _mm512_loadu_ps(value + i);
    _mm512_storeu_ps(total + i, is_first ? x : _mm512_add_ps(_mm512_loadu_ps(total + i), x));
  }
}

template <int rows, int vectors, bool indexed_a>
void run(const TileCall& call) {
  using Tile = Tile<rows, vectors>;
  Tile tile;
  float* const state = call.state;
  tile.for_each([&](__m512& acc, int at) {
    acc = call.resumes ? _mm512_loadu_ps(state + at) : _mm512_setzero_ps();
  });
  const float* a = call.a;
  const std::int32_t* a_offset = call.a_offset;
  const std::int32_t* b_offset = call.b_offset;
  bool is_open = true;
  for (std::int64_t s = 0; s < call.segment_count; ++s) {
    const internal::Segment& segment = call.segments[s];
    for (std::int32_t k = 0; k < segment.points; ++k) {
      tile.fold(indexed_a ? a + *a_offset++ : a, call.b + *b_offset++);
      if constexpr (!indexed_a) {
        a += rows;
      }
    }
    is_open = segment.closes == 0;
    if (is_open) {
      continue;
    }
    float* total = state + Tile::kSize;
    const bool is_first = (segment.first & 1u) != 0;
    tile.for_each([&](__m512& acc, int at) {
      _mm512_storeu_ps(total + at,
                       is_first ? acc : _mm512_add_ps(_mm512_loadu_ps(total + at), acc));
      acc = _mm512_setzero_ps();
    });
    for (std::int32_t level = 1; level < segment.closes; ++level) {
      const bool starts = ((segment.first >> level) & 1u) != 0;
      close_level(total + Tile::kSize, total, Tile::kSize, starts);
      total += Tile::kSize;
    }
  }
  if (is_open) {
    tile.for_each([&](__m512& acc, int at) { _mm512_storeu_ps(state + at, acc); });
  }
}

using Kernel = void (*)(const TileCall&);

template <int vectors, bool indexed_a, int... rows>
constexpr std::array<Kernel, sizeof...(rows)> kernels_of(std::integer_sequence<int, rows...>) {
  return {run<rows + 1, vectors, indexed_a>...};
}

template <int vectors, bool indexed_a>
constexpr std::array<Kernel, kMaxTileRows> kKernels =
    kernels_of<vectors, indexed_a>(std::make_integer_sequence<int, kMaxTileRows>());

}  // namespace

void run_tile(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  DOJO_DCHECK(rows >= 1 && rows <= kMaxTileRows && (vectors == 1 || vectors == 2));
  const std::size_t index = static_cast<std::size_t>(rows - 1);
  if (call.a_offset != nullptr) {
    (vectors == 2 ? kKernels<2, true> : kKernels<1, true>)[index](call);
  } else {
    (vectors == 2 ? kKernels<2, false> : kKernels<1, false>)[index](call);
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
