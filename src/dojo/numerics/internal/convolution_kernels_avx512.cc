#include "dojo/numerics/internal/convolution_kernels_avx512.h"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

using internal::PanelExtent;
using internal::Piece;
using internal::TileStore;

constexpr int kFewLanes = 4;

// Interleaves up to four rows of 16, so that the elements of a column become adjacent: for each
// vector of the result, which element of rows 0 and 1 (or 2 and 3) a lane takes, and whether it is
// of rows 2 and 3.
struct Interleave {
  constexpr explicit Interleave(int rows) {
    for (int at = 0; at < rows * 16; ++at) {
      index[at / 16][at % 16] = at / rows + 16 * (at % rows % 2);
      upper[at / 16] |= at % rows >= 2 ? 1u << (at % 16) : 0u;
    }
  }

  alignas(64) std::int32_t index[kFewLanes][16] = {};
  std::uint32_t upper[kFewLanes] = {};
};
constexpr Interleave kInterleaves[]{Interleave(1), Interleave(2), Interleave(3), Interleave(4)};

// `columns` of at most 16 of `rows` rows.
void store_interleaved(const __m512 (&row)[kFewLanes], std::int64_t rows, std::int64_t columns,
                       float* to) {
  const Interleave& by = kInterleaves[rows - 1];
  for (std::int64_t v = 0; v * 16 < columns * rows; ++v) {
    const __m512i index = _mm512_load_si512(by.index[v]);
    const __m512 low = _mm512_permutex2var_ps(row[0], index, row[1]);
    const __m512 high = _mm512_permutex2var_ps(row[2], index, row[3]);
    _mm512_mask_storeu_ps(to + v * 16, first_lanes(columns * rows - v * 16),
                          _mm512_mask_blend_ps(static_cast<__mmask16>(by.upper[v]), low, high));
  }
}

template <class Load>
class Reader final : public internal::OperandReader {
 public:
  Reader(const Load& load, const Storage& storage)
      : load_(load),
        data_(static_cast<const std::byte*>(storage.data) + storage.offset * Load::kBytes),
        packer_(gemm_kernels().packer_of(storage)) {}

  void read_rows(const internal::RowsOf& rows, float* to, std::int64_t pitch) const override {
    const std::int64_t whole = rows.count / 16 * 16;
    const __mmask16 rest = first_lanes(rows.count - whole);
    for (std::int64_t row = 0; row < rows.rows; ++row, to += pitch) {
      const std::byte* from = data_ + (rows.first + row * rows.row_stride) * Load::kBytes;
      if (rows.stride == 1) {
        for (std::int64_t i = 0; i < whole; i += 16, from += 16 * Load::kBytes) {
          _mm512_storeu_ps(to + i, load_(from));
        }
        if (rest != 0) {
          _mm512_mask_storeu_ps(to + whole, rest, load_(from, rest));
        }
        continue;
      }
      for (std::int64_t i = 0; i < rows.count; ++i, from += rows.stride * Load::kBytes) {
        to[i] = element(load_, from);
      }
    }
  }

  void read_panel(const PanelExtent& from, float* to, std::int64_t pitch) const override {
    const std::byte* data = data_ + from.first * Load::kBytes;
    // PERF: packing three channels as sixteen took 40 % of the weight gradient of a first layer.
    if (from.lanes <= kFewLanes && pitch == from.lanes && from.point_stride == 1) {
      for (std::int64_t k = 0; k < from.points; k += 16) {
        const __mmask16 valid = first_lanes(from.points - k);
        __m512 row[kFewLanes];
        for (std::int64_t r = 0; r < kFewLanes; ++r) {
          row[r] = r < from.lanes ? load_(data + (r * from.lane_stride + k) * Load::kBytes, valid)
                                  : _mm512_setzero_ps();
        }
        store_interleaved(row, from.lanes, std::min<std::int64_t>(16, from.points - k),
                          to + k * pitch);
      }
      return;
    }
    packer_->pack(from, pitch, 0, to);
  }

 private:
  Load load_;
  const std::byte* data_;
  std::unique_ptr<internal::Packer> packer_;  // of panels
};

std::unique_ptr<internal::OperandReader> reader_of(const Storage& storage) {
  std::unique_ptr<internal::OperandReader> reader;
  with_load(load_of(storage.type), [&](const auto& load) {
    reader = std::make_unique<Reader<std::decay_t<decltype(load)>>>(load, storage);
  });
  return reader;
}

// Vector by vector of all rows, for rows are mostly short.
void pick_every_second(const internal::PickedRows& rows) {
  const __m512i index =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  for (std::int64_t x = 0; x < rows.count; x += 16) {
    const std::int64_t left = rows.count - x;
    const __mmask16 low_lanes = first_lanes(2 * left - 1);
    const __mmask16 high_lanes = left > 8 ? first_lanes(2 * left - 17) : __mmask16{0};
    const __mmask16 lanes = first_lanes(left);
    const float* from = rows.from + 2 * x;
    float* to = rows.to + x;
    for (std::int64_t r = 0; r < rows.rows; ++r, from += rows.from_pitch, to += rows.to_pitch) {
      const __m512 low = _mm512_maskz_loadu_ps(low_lanes, from);
      const __m512 high = _mm512_maskz_loadu_ps(high_lanes, from + 16);
      _mm512_mask_storeu_ps(to, lanes, _mm512_permutex2var_ps(low, index, high));
    }
  }
}

void pick(const internal::PickedRows& rows) {
  if (rows.step == 2) {
    pick_every_second(rows);
    return;
  }
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const float* from = rows.from + r * rows.from_pitch;
    float* to = rows.to + r * rows.to_pitch;
    for (std::int64_t x = 0; x < rows.count; ++x) {
      to[x] = from[x * rows.step];
    }
  }
}

// The lanes of one vector, as loads that fill some lanes each.
struct MergedLoads {
  static constexpr std::size_t kMost = 16;

  void add(const Piece& piece) {
    const std::int64_t lane = piece.lane % 16;
    from[count] = piece.from - lane;
    lanes[count] = static_cast<__mmask16>(first_lanes(piece.count) << lane);
    ++count;
  }

  // known: `count`, if the compiler is to know it, or 0.
  template <std::size_t known>
  [[gnu::always_inline]] __m512 at(const float* base) const {
    __m512 x = _mm512_maskz_loadu_ps(lanes[0], base + from[0]);
#pragma GCC unroll 8
    for (std::size_t i = 1; i < (known > 0 ? known : count); ++i) {
      x = _mm512_mask_loadu_ps(x, lanes[i], base + from[i]);
    }
    return x;
  }

  std::size_t count = 0;
  std::int64_t from[kMost] = {};  // of lane 0
  __mmask16 lanes[kMost] = {};
};

template <std::size_t count>
void gather_vector(const MergedLoads& loads, const float* from, const std::int32_t* offset,
                   std::int64_t points, float* to) {
  for (std::int64_t k = 0; k < points; ++k) {
    _mm512_storeu_ps(to + k * kTileColumns, loads.at<count>(from + offset[k]));
  }
}

// Takes the pieces that share a vector together: body(loads, vector).
template <class Body>
void for_each_vector(std::span<const Piece> pieces, const Body& body) {
  for (std::size_t i = 0; i < pieces.size();) {
    const std::int64_t vector = pieces[i].lane / 16;
    MergedLoads loads;
    for (; i < pieces.size() && pieces[i].lane / 16 == vector; ++i) {
      loads.add(pieces[i]);
    }
    body(loads, vector);
  }
}

template <std::size_t count>
void gather_vector_of_pairs(const MergedLoads& loads, const float* from, const std::int32_t* first,
                            const std::int32_t* second, std::int64_t units, float* to) {
  for (std::int64_t k = 0; k < units; ++k, to += kTileColumns) {
    const __m512i high = _mm512_castps_si512(loads.at<count>(from + first[k]));
    const __m512i low = second[k] < 0 ? _mm512_setzero_si512()
                                      : _mm512_castps_si512(loads.at<count>(from + second[k]));
    _mm512_storeu_si512(to, _mm512_or_si512(high, _mm512_srli_epi32(low, 16)));
  }
}

// PERF: the number of pieces that a vector mostly has is known to the compiler: body<count>().
template <class Body>
void with_count(std::size_t count, const Body& body) {
  switch (count) {
    case 1:
      return body.template operator()<1>();
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    case 4:
      return body.template operator()<4>();
    case 5:
      return body.template operator()<5>();
    case 6:
      return body.template operator()<6>();
    default:
      return body.template operator()<0>();
  }
}

void gather(const float* from, const std::int32_t* offset, std::int64_t points,
            std::span<const Piece> pieces, float* panel) {
  for_each_vector(pieces, [&](const MergedLoads& loads, std::int64_t vector) {
    with_count(loads.count, [&]<std::size_t count> {
      gather_vector<count>(loads, from, offset, points, panel + vector * 16);
    });
  });
}

void gather_pairs(const float* from, const std::int32_t* first, const std::int32_t* second,
                  std::int64_t units, std::span<const Piece> pieces, float* panel) {
  for_each_vector(pieces, [&](const MergedLoads& loads, std::int64_t vector) {
    with_count(loads.count, [&]<std::size_t count> {
      gather_vector_of_pairs<count>(loads, from, first, second, units, panel + vector * 16);
    });
  });
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
                                                    .gather_pairs = gather_pairs,
                                                    .run_tile = run_tile,
                                                    .store = store,
                                                    .transpose = transpose};
  return kernels;
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
