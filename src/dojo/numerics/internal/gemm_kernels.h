// What a blocked GEMM needs of an instruction set. Blocks and order are decided in scalar code
// (gemm_blocked); work at the scale of a panel or a tile is done by these functions.
#pragma once

#include <cstdint>
#include <memory>

#include "dojo/numerics/gemm.h"
#include "dojo/numerics/internal/tile_avx512.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics::internal {

// A part of an operand: lanes are rows of A or columns of B, points run along k. Strides and
// `first` count elements, `first` from the first of the storage.
struct PanelExtent {
  std::int64_t first = 0;
  std::int64_t lane_stride = 0;
  std::int64_t point_stride = 0;
  std::int64_t lanes = 0;
  std::int64_t points = 0;
};

// Decodes one operand into panels of `width` lanes. A unit is 32 bits of a lane: FP32 of one point,
// or two points in bfloat16, the first in the upper half and 0 for one that is missing at the end.
class Packer {
 public:
  virtual ~Packer() = default;
  // Unit u of lane l goes to to[l / width * panel + u * width + l % width]; lanes that the last
  // panel lacks become 0.
  virtual void pack(const PanelExtent& from, std::int64_t width, std::int64_t panel,
                    float* to) const = 0;
};

// Finished sums of a tile, `pitch` floats a row, on their way to C.
struct FinishedTile {
  const float* sums = nullptr;
  std::int64_t pitch = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  Epilogue epilogue{};  // biases of the tile's first row and column
  float* to = nullptr;
  std::int64_t row_stride = 0;
  bool is_turned = false;  // column c goes to row c of C
};

struct GemmKernels {
  std::int64_t lanes = 0;            // of a vector; a tile has up to two of them
  std::int64_t points_per_unit = 1;  // 2: bfloat16 pairs, sequential order only
  std::unique_ptr<Packer> (*packer_of)(const Storage& storage) = nullptr;
  void (*run_tile)(std::int64_t rows, std::int64_t vectors, const avx512::TileCall& call) = nullptr;
  void (*finish)(const FinishedTile& tile) = nullptr;
};

}  // namespace dojo::numerics::internal

namespace dojo::numerics::avx512 {

const internal::GemmKernels& gemm_kernels();
const internal::GemmKernels& gemm_kernels_of_pairs();  // needs avx512_bf16

}  // namespace dojo::numerics::avx512

namespace dojo::numerics::avx2 {

const internal::GemmKernels& gemm_kernels();

}  // namespace dojo::numerics::avx2
