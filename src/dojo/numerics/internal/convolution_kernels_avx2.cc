// The products are AVX2 code; what surrounds them is plain code, which the compiler vectorises for
// the instructions that every x86-64 CPU has.
#include "dojo/numerics/internal/convolution_kernels_avx2.h"

#include <algorithm>

#include "dojo/numerics/internal/tile_avx512.h"

namespace dojo::numerics::avx2 {
namespace {

using internal::PanelExtent;
using internal::Piece;
using internal::RowsOf;
using internal::TileStore;

constexpr std::int64_t kLanes = 8;
constexpr std::int64_t kColumns = 2 * kLanes;

class Reader final : public internal::OperandReader {
 public:
  explicit Reader(const Storage& storage) : read_(storage) {}

  void read_rows(const RowsOf& from, float* to, std::int64_t pitch) const override {
    for (std::int64_t row = 0; row < from.rows; ++row, to += pitch) {
      const std::int64_t first = from.first + row * from.row_stride;
      for (std::int64_t i = 0; i < from.count; ++i) {
        to[i] = read_(first + i * from.stride);
      }
    }
  }

  void read_panel(const PanelExtent& from, float* to, std::int64_t pitch) const override {
    for (std::int64_t lane = 0; lane < from.lanes; ++lane) {
      const std::int64_t first = from.first + lane * from.lane_stride;
      for (std::int64_t point = 0; point < from.points; ++point) {
        to[point * pitch + lane] = read_(first + point * from.point_stride);
      }
    }
  }

 private:
  ElementReader read_;
};

std::unique_ptr<internal::OperandReader> reader_of(const Storage& storage) {
  return std::make_unique<Reader>(storage);
}

void pick(const internal::PickedRows& rows) {
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const float* from = rows.from + r * rows.from_pitch;
    float* to = rows.to + r * rows.to_pitch;
    for (std::int64_t x = 0; x < rows.count; ++x) {
      to[x] = from[x * rows.step];
    }
  }
}

void gather(const float* from, const std::int32_t* offset, std::int64_t points,
            std::span<const Piece> pieces, float* panel) {
  for (std::int64_t k = 0; k < points; ++k, panel += kColumns) {
    std::fill_n(panel, kColumns, 0.0F);
    for (const Piece& piece : pieces) {
      std::copy_n(from + offset[k] + piece.from, piece.count, panel + piece.lane);
    }
  }
}

void store(const TileStore& tile, std::span<const Piece> pieces) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    for (const Piece& piece : pieces) {
      const float* sums = tile.sums + r * tile.pitch + piece.lane;
      float* to = tile.to + r * tile.row_stride + piece.to;
      for (std::int64_t i = 0; i < piece.count; ++i) {
        const float sum = tile.bias != nullptr ? sums[i] + tile.bias[r] : sums[i];
        to[i * tile.step] = tile.activation == Activation::Relu ? relu(sum) : sum;
      }
    }
  }
}

void transpose(std::span<const float* const> from, std::int64_t columns, float* to) {
  for (std::int64_t column = 0; column < columns; ++column) {
    for (const float* row : from) {
      *to++ = row[column];
    }
  }
}

}  // namespace

const internal::ConvolutionKernels& convolution_kernels() {
  static const internal::ConvolutionKernels kernels{.lanes = kLanes,
                                                    .tile_rows = avx512::kMaxTileRows,
                                                    .tile_columns = kColumns,
                                                    .reader_of = reader_of,
                                                    .pick = pick,
                                                    .gather = gather,
                                                    .run_tile = avx512::run_tile_avx2,
                                                    .store = store,
                                                    .transpose = transpose};
  return kernels;
}

}  // namespace dojo::numerics::avx2
