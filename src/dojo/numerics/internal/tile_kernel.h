// The tile kernel of tile_avx512.h for any Fold and vector width. A Fold says what one point does
// to the accumulators and how two parts are added:
//   V                 the vector operations (tile_folds.h)
//   kGroup            1, or 4: points are folded in groups of four, then added
//   fold(a, b, acc)   of one point, where kGroup is 1
//   combine(x, y)     of two parts
// Include after tile_folds.h, between the pragmas of a file that chooses the path at run time: all
// below is compiled for the instruction set that the file asks for, so it includes nothing else.
#pragma once

#include "dojo/numerics/internal/tile_folds.h"

namespace dojo::numerics::avx512 {

// sequential
template <class V_>
struct FmaFold {
  using V = V_;
  using Vector = typename V::Vector;
  static constexpr int kGroup = 1;
  [[gnu::always_inline]] static Vector fold(Vector a, Vector b, Vector acc) {
    return V::fma(a, b, acc);
  }
  [[gnu::always_inline]] static Vector combine(Vector x, Vector y) { return V::add(x, y); }
};

// tile4
template <class V_>
struct GroupFold {
  using V = V_;
  using Vector = typename V::Vector;
  static constexpr int kGroup = 4;
  [[gnu::always_inline]] static Vector combine(Vector x, Vector y) { return V::add(x, y); }
};

// w21
template <class V_>
struct W21Fold {
  using V = V_;
  using Vector = typename V::Vector;
  static constexpr int kGroup = 1;
  [[gnu::always_inline]] static Vector fold(Vector a, Vector b, Vector acc) {
    return V::round_w21(V::fma(a, b, acc));
  }
  [[gnu::always_inline]] static Vector combine(Vector x, Vector y) {
    return V::round_w21(V::add(x, y));
  }
};

// Below, loops over a tile are unrolled and inlined whole, so that it stays in registers.
template <class Fold, int rows, int vectors>
struct Tile {
  using V = typename Fold::V;
  using Vector = typename V::Vector;

  // op(register, float index in the tile) for every vector.
  template <class Op>
  [[gnu::always_inline]] void for_each(const Op& op) {
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        op(acc[r][v], (r * vectors + v) * V::kLanes);
      }
    }
  }

  [[gnu::always_inline]] void fold(const float* row, const float* column) {
    Vector right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      right[v] = V::load(column + v * V::kLanes);
    }
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
      const Vector left = V::spread(row[r]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        acc[r][v] = Fold::fold(left, right[v], acc[r][v]);
      }
    }
  }

  // acc = acc + (the points folded from +0), for 1 to 4 points. A product in place of the first fma
  // may make a group -0 where the definition says +0; acc is never -0, so the sum is the same.
  template <int points>
  [[gnu::always_inline]] void add_group(const float* const (&row)[4],
                                        const float* const (&column)[4]) {
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
      Vector group[vectors];
#pragma GCC unroll 4
      for (int p = 0; p < points; ++p) {
        const Vector left = V::spread(row[p][r]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          const Vector right = V::load(column[p] + v * V::kLanes);
          group[v] = p == 0 ? V::multiply(left, right) : V::fma(left, right, group[v]);
        }
      }
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        acc[r][v] = V::add(acc[r][v], group[v]);
      }
    }
  }

  Vector acc[rows][vectors];
};

// The operands of a call, point after point.
template <bool indexed_a>
struct Walk {
  [[gnu::always_inline]] const float* row() {
    if constexpr (indexed_a) {
      return a + *a_offset++;
    }
    const float* at = a;
    a += pitch;
    return at;
  }
  [[gnu::always_inline]] const float* column() { return b + *b_offset++; }

  const float* a;
  const float* b;
  const std::int32_t* a_offset;
  const std::int32_t* b_offset;
  std::int64_t pitch;
};

// A line per point on its way to the L2.
struct Ahead {
  [[gnu::always_inline]] void fetch() {
    __builtin_prefetch(at, 0, 2);
    at += step;
  }

  const float* at;
  std::int64_t step;
};

// Rows that are about to be written, on their way to the L1.
[[gnu::always_inline]] inline void fetch_rows(const float* at, std::int64_t stride, int rows,
                                              int columns) {
  for (int r = 0; r < rows; ++r, at += stride) {
    __builtin_prefetch(at, 1);
    __builtin_prefetch(at + columns - 1, 1);
  }
}

template <class Fold, int rows, int vectors, bool indexed_a>
[[gnu::always_inline]] inline void fold_points(Tile<Fold, rows, vectors>& tile,
                                               Walk<indexed_a>& walk, Ahead& ahead,
                                               std::int32_t points) {
  if constexpr (Fold::kGroup == 1) {
    for (std::int32_t k = 0; k < points; ++k) {
      const float* row = walk.row();
      tile.fold(row, walk.column());
      ahead.fetch();
    }
  } else {
    const float* row[4];
    const float* column[4];
    for (std::int32_t k = 0; k + 4 <= points; k += 4) {
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        row[p] = walk.row();
        column[p] = walk.column();
      }
      tile.template add_group<4>(row, column);
    }
    for (std::int32_t p = 0; p < points % 4; ++p) {
      row[p] = walk.row();
      column[p] = walk.column();
    }
    switch (points % 4) {
      case 1:
        return tile.template add_group<1>(row, column);
      case 2:
        return tile.template add_group<2>(row, column);
      case 3:
        return tile.template add_group<3>(row, column);
      default:
        return;
    }
  }
}

// total = first ? value : total + value, for a whole tile in memory.
template <class Fold>
inline void close_level(float* total, const float* value, std::int64_t count, bool is_first) {
  using V = typename Fold::V;
  for (std::int64_t i = 0; i < count; i += V::kLanes) {
    const typename V::Vector x = V::load(value + i);
    V::store(total + i, is_first ? x : Fold::combine(V::load(total + i), x));
  }
}

// `rows` rows from `first_row` on of a call's tile of `tile_rows`.
template <class Fold, int rows, int vectors, bool indexed_a>
void run(const TileCall& call, std::int64_t first_row, std::int64_t tile_rows) {
  using V = typename Fold::V;
  using Vector = typename V::Vector;
  constexpr std::int64_t kSize = rows * vectors * V::kLanes;
  const std::int64_t level_size = tile_rows * vectors * V::kLanes;
  float* const state = call.state + first_row * vectors * V::kLanes;
  Tile<Fold, rows, vectors> tile;
  tile.for_each([&](Vector& acc, int at) { acc = call.resumes ? V::load(state + at) : V::zero(); });
  Walk<indexed_a> walk{call.a + first_row, call.b, call.a_offset, call.b_offset, tile_rows};
  Ahead ahead = call.ahead != nullptr ? Ahead{call.ahead, 2 * V::kLanes} : Ahead{call.b, 0};
  float* const out = call.out != nullptr ? call.out + first_row * call.out_stride : nullptr;
  if (out != nullptr) {
    fetch_rows(out, call.out_stride, rows, vectors * V::kLanes);
  }
  bool is_open = true;
  for (std::int64_t s = 0; s < call.segment_count; ++s) {
    const internal::Segment& segment = call.segments[s];
    fold_points(tile, walk, ahead, segment.points);
    is_open = segment.closes == 0;
    if (is_open) {
      continue;
    }
    float* total = state + level_size;
    const bool is_first = (segment.first & 1u) != 0;
    tile.for_each([&](Vector& acc, int at) {
      V::store(total + at, is_first ? acc : Fold::combine(V::load(total + at), acc));
      acc = V::zero();
    });
    for (std::int32_t level = 1; level < segment.closes; ++level) {
      const bool starts = ((segment.first >> level) & 1u) != 0;
      close_level<Fold>(total + level_size, total, kSize, starts);
      total += level_size;
    }
  }
  if (!is_open) {
    return;
  }
  tile.for_each([&](Vector& acc, int at) {
    constexpr int kColumns = vectors * V::kLanes;
    V::store(out != nullptr ? out + at / kColumns * call.out_stride + at % kColumns : state + at,
             acc);
  });
}

using Kernel = void (*)(const TileCall&, std::int64_t, std::int64_t);

template <class Fold, int vectors, bool indexed_a, int... rows>
constexpr std::array<Kernel, sizeof...(rows)> kernels_of(std::integer_sequence<int, rows...>) {
  return {run<Fold, rows + 1, vectors, indexed_a>...};
}

template <class Fold, int most_rows, int vectors, bool indexed_a>
constexpr std::array<Kernel, most_rows> kKernels =
    kernels_of<Fold, vectors, indexed_a>(std::make_integer_sequence<int, most_rows>());

// A tile of any rows, at most `most_rows` of them at a time.
template <class Fold, int most_rows>
void run_any(std::int64_t rows, std::int64_t vectors, const TileCall& call) {
  const auto& kernels =
      call.a_offset != nullptr
          ? (vectors == 2 ? kKernels<Fold, most_rows, 2, true> : kKernels<Fold, most_rows, 1, true>)
          : (vectors == 2 ? kKernels<Fold, most_rows, 2, false>
                          : kKernels<Fold, most_rows, 1, false>);
  const std::int64_t blocks = (rows + most_rows - 1) / most_rows;
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t first = rows * block / blocks;
    const std::int64_t end = rows * (block + 1) / blocks;
    kernels[static_cast<std::size_t>(end - first - 1)](call, first, rows);
  }
}

}  // namespace dojo::numerics::avx512
