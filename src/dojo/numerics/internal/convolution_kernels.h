// What a convolution needs of an instruction set. Geometry and order are decided in scalar code
// (sliding_convolution, weight_gradient); work at the scale of a row, a panel or a tile of outputs
// is done by these functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "dojo/numerics/gemm.h"
#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/tile_avx512.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics::internal {

// `rows` x `count` elements of an operand.
struct RowsOf {
  std::int64_t first = 0;
  std::int64_t row_stride = 0;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
  std::int64_t count = 0;
};

// Reads elements of one operand as FP32, exactly.
class OperandReader {
 public:
  virtual ~OperandReader() = default;
  // to[row * pitch + i] = element(row, i).
  virtual void read_rows(const RowsOf& from, float* to, std::int64_t pitch) const = 0;
  // to[point * pitch + lane] = element(lane, point), the lanes within a pitch. Further lanes within
  // the pitch may be set to 0.
  virtual void read_panel(const PanelExtent& from, float* to, std::int64_t pitch) const = 0;
};

// Adjacent lanes of a tile of columns, at most a vector: where in the stage their operand lies at
// a point whose offset is 0, and where in the output their results go.
struct Piece {
  std::int64_t lane = 0;
  std::int64_t count = 0;
  std::int64_t from = 0;
  std::int64_t to = 0;
};

// The finished sums of a tile, `pitch` floats a row, go to to[row * row_stride + piece.to + lane *
// step], with one bias a row (or nullptr) and the activation.
struct TileStore {
  const float* sums = nullptr;
  std::int64_t pitch = 0;
  std::int64_t rows = 0;
  const float* bias = nullptr;
  Activation activation = Activation::None;
  float* to = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t step = 1;
};

// Every step-th element of some rows.
struct PickedRows {
  const float* from = nullptr;
  std::int64_t from_pitch = 0;
  std::int64_t step = 1;
  std::int64_t rows = 0;
  std::int64_t count = 0;
  float* to = nullptr;
  std::int64_t to_pitch = 0;
};

struct ConvolutionKernels {
  std::int64_t lanes = 0;  // of a vector
  std::int64_t tile_rows = 0;
  std::int64_t tile_columns = 0;  // two vectors

  // Floats of the state of a tile (tile_avx512.h), and where its finished sums are.
  std::int64_t state_floats(std::int64_t rows, std::int64_t vectors, int levels) const {
    return (levels + 1) * rows * vectors * lanes;
  }
  std::int64_t sums_offset(std::int64_t rows, std::int64_t vectors, int levels) const {
    return levels * rows * vectors * lanes;
  }

  std::unique_ptr<OperandReader> (*reader_of)(const Storage& storage) = nullptr;
  // to[row * to_pitch + i] = from[row * from_pitch + i * step].
  void (*pick)(const PickedRows& rows) = nullptr;
  // panel[k * tile_columns + piece.lane + i] = from[offset[k] + piece.from + i]; lanes of a vector
  // that no piece has become 0. Pieces are in the order of their lanes.
  void (*gather)(const float* from, const std::int32_t* offset, std::int64_t points,
                 std::span<const Piece> pieces, float* panel) = nullptr;
  // The same with the elements at first[k] and second[k] as one unit (product_units.h); a second
  // offset of -1 is none. nullptr: this instruction set has no pairs.
  void (*gather_pairs)(const float* from, const std::int32_t* first, const std::int32_t* second,
                       std::int64_t units, std::span<const Piece> pieces, float* panel) = nullptr;
  void (*run_tile)(std::int64_t rows, std::int64_t vectors, const avx512::TileCall& call) = nullptr;
  void (*store)(const TileStore& tile, std::span<const Piece> pieces) = nullptr;
  // to[column * rows + row] = from[row][column]: a few rows, each at a place of its own.
  void (*transpose)(std::span<const float* const> from, std::int64_t columns, float* to) = nullptr;
};

// The kernels of one call, and how they take its points.
struct Products {
  const ConvolutionKernels* kernels = nullptr;
  avx512::TileFold fold = avx512::TileFold::Fma;

  bool has_pairs() const { return fold == avx512::TileFold::Bf16Pair; }
};

}  // namespace dojo::numerics::internal
