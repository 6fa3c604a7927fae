#include "dojo/numerics/internal/convolution_kernels_avx512.h"

#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

using internal::PanelOf;
using internal::Piece;
using internal::TileStore;

constexpr std::int64_t kFewLanes = 4;

// Interleaves up to four rows of 16: the elements of a column become adjacent.
class Interleave {
 public:
  explicit Interleave(std::int64_t rows) : rows_(rows) {
    for (std::int64_t v = 0; v < rows; ++v) {
      alignas(64) std::int32_t index[16];
      __mmask16 upper = 0;
      for (std::int64_t lane = 0; lane < 16; ++lane) {
        const std::int64_t at = v * 16 + lane;
        index[lane] = static_cast<std::int32_t>(at / rows + 16 * (at % rows % 2));
        upper = static_cast<__mmask16>(upper | (at % rows >= 2 ? 1u << lane : 0u));
      }
      index_[v] = _mm512_load_si512(index);
      upper_[v] = upper;
    }
  }

  // `columns` of at most 16; row[i] for i < rows.
  void store(const __m512 (&row)[kFewLanes], std::int64_t columns, float* to) const {
    for (std::int64_t v = 0; v * 16 < columns * rows_; ++v) {
      const __m512 low = _mm512_permutex2var_ps(row[0], index_[v], row[1]);
      const __m512 high = _mm512_permutex2var_ps(row[2], index_[v], row[3]);
      _mm512_mask_storeu_ps(to + v * 16, first_lanes(columns * rows_ - v * 16),
                            _mm512_mask_blend_ps(upper_[v], low, high));
    }
  }

 private:
  std::int64_t rows_;
  __m512i index_[kFewLanes];
  __mmask16 upper_[kFewLanes];
};

template <class Load>
class Reader final : public internal::OperandReader {
 public:
  Reader(const Load& load, const Storage& storage)
      : load_(load),
        data_(static_cast<const std::byte*>(storage.data) + storage.offset * Load::kBytes) {}

  void read_row(std::int64_t first, std::int64_t stride, std::int64_t count,
                float* to) const override {
    const std::byte* from = data_ + first * Load::kBytes;
    if (stride == 1) {
      for (std::int64_t i = 0; i < count; i += 16, from += 16 * Load::kBytes) {
        const __mmask16 lanes = first_lanes(count - i);
        _mm512_mask_storeu_ps(to + i, lanes, load_(from, lanes));
      }
      return;
    }
    for (std::int64_t i = 0; i < count; ++i, from += stride * Load::kBytes) {
      to[i] = element(load_, from);
    }
  }

  void read_panel(const PanelOf& from, float* to, std::int64_t pitch) const override {
    const std::byte* data = data_ + from.first * Load::kBytes;
    // PERF: packing three channels as sixteen took 40 % of the weight gradient of a first layer.
    if (from.lanes <= kFewLanes && pitch == from.lanes && from.point_stride == 1) {
      const Interleave interleave(from.lanes);
      for (std::int64_t k = 0; k < from.points; k += 16) {
        const __mmask16 valid = first_lanes(from.points - k);
        __m512 row[kFewLanes];
        for (std::int64_t r = 0; r < kFewLanes; ++r) {
          row[r] = r < from.lanes ? load_(data + (r * from.lane_stride + k) * Load::kBytes, valid)
                                  : _mm512_setzero_ps();
        }
        interleave.store(row, std::min<std::int64_t>(16, from.points - k), to + k * pitch);
      }
      return;
    }
    pack(load_, Panel{data, from.lane_stride, from.point_stride, from.lanes, from.points}, to,
         pitch);
  }

 private:
  Load load_;
  const std::byte* data_;
};

std::unique_ptr<internal::OperandReader> reader_of(const Storage& storage) {
  std::unique_ptr<internal::OperandReader> reader;
  with_load(load_of(storage.type), [&](const auto& load) {
    reader = std::make_unique<Reader<std::decay_t<decltype(load)>>>(load, storage);
  });
  return reader;
}

void pick_every_second(const float* row, std::int64_t count, float* to) {
  const __m512i index =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  for (std::int64_t x = 0; x < count; x += 16) {
    const std::int64_t left = count - x;
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(2 * left - 1), row + 2 * x);
    const __m512 high = left > 8
                            ? _mm512_maskz_loadu_ps(first_lanes(2 * left - 17), row + 2 * x + 16)
                            : _mm512_setzero_ps();
    _mm512_mask_storeu_ps(to + x, first_lanes(left), _mm512_permutex2var_ps(low, index, high));
  }
}

void pick(const float* row, std::int64_t step, std::int64_t phase, std::int64_t count, float* to) {
  if (step == 2) {
    pick_every_second(row + phase, count, to);
    return;
  }
  for (std::int64_t x = 0; x < count; ++x) {
    to[x] = row[phase + x * step];
  }
}

void gather(const float* from, const std::int32_t* offset, std::int64_t points,
            std::span<const Piece> pieces, float* panel) {
  for (const Piece& piece : pieces) {
    const float* base = from + piece.from;
    float* to = panel + piece.lane;
    if (piece.count == 16) {
      for (std::int64_t k = 0; k < points; ++k) {
        _mm512_storeu_ps(to + k * kTileColumns, _mm512_loadu_ps(base + offset[k]));
      }
      continue;
    }
    const __mmask16 lanes = first_lanes(piece.count);
    for (std::int64_t k = 0; k < points; ++k) {
      _mm512_mask_storeu_ps(to + k * kTileColumns, lanes, _mm512_loadu_ps(base + offset[k]));
    }
  }
}

// to[2 i] = x[i] for the first `count`; what lies between them stays.
void store_every_second(float* to, std::int64_t count, __m512 x) {
  const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const __mmask16 even = 0x5555;
  _mm512_mask_storeu_ps(to, even & first_lanes(2 * count), _mm512_permutexvar_ps(low, x));
  if (count > 8) {
    _mm512_mask_storeu_ps(to + 16, even & first_lanes(2 * count - 16),
                          _mm512_permutexvar_ps(high, x));
  }
}

void store_lanes(float* to, std::int64_t step, std::int64_t count, __m512 x) {
  if (step == 1) {
    _mm512_mask_storeu_ps(to, first_lanes(count), x);
  } else if (step == 2) {
    store_every_second(to, count, x);
  } else {
    const __m512i index =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(static_cast<int>(step)));
    _mm512_mask_i32scatter_ps(to, first_lanes(count), index, x, 4);
  }
}

void store(const TileStore& tile, std::span<const Piece> pieces) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const __m512 added = _mm512_set1_ps(tile.bias != nullptr ? tile.bias[r] : 0.0F);
    for (const Piece& piece : pieces) {
      __m512 x =
          _mm512_maskz_loadu_ps(first_lanes(piece.count), tile.sums + r * tile.pitch + piece.lane);
      x = tile.bias != nullptr ? _mm512_add_ps(x, added) : x;
      x = tile.activation == Activation::Relu ? relu(x) : x;
      store_lanes(tile.to + r * tile.row_stride + piece.to, tile.step, piece.count, x);
    }
  }
}

void transpose(std::span<const float* const> from, std::int64_t columns, float* to) {
  const std::int64_t rows = static_cast<std::int64_t>(from.size());
  for (std::int64_t row = 0; row < rows; row += 16) {
    const std::int64_t count = std::min<std::int64_t>(16, rows - row);
    for (std::int64_t column = 0; column < columns; column += 16) {
      const __mmask16 valid = first_lanes(columns - column);
      __m512 r[16];
      for (std::int64_t i = 0; i < 16; ++i) {
        r[i] = i < count
                   ? _mm512_maskz_loadu_ps(valid, from[static_cast<std::size_t>(row + i)] + column)
                   : _mm512_setzero_ps();
      }
      transpose_16x16(r);
      const std::int64_t end = std::min<std::int64_t>(16, columns - column);
      for (std::int64_t i = 0; i < end; ++i) {
        _mm512_mask_storeu_ps(to + (column + i) * rows + row, first_lanes(count), r[i]);
      }
    }
  }
}

}  // namespace

const internal::ConvolutionKernels& convolution_kernels() {
  static const internal::ConvolutionKernels kernels{.lanes = 16,
                                                    .tile_rows = kMaxTileRows,
                                                    .tile_columns = kTileColumns,
                                                    .reader_of = reader_of,
                                                    .pick = pick,
                                                    .gather = gather,
                                                    .run_tile = run_tile,
                                                    .store = store,
                                                    .transpose = transpose};
  return kernels;
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
