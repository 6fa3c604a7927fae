// Forward convolution and input gradient in common terms. Both slide a filter over an image, "the
// source". It is decoded into padded FP32 planes, "the stage", laid out so that what one filter tap
// reads for adjacent outputs is adjacent memory: a tap is nothing but an offset into the stage.
//
// Stride s in the forward direction deals the source out to phase planes (every s-th row and
// column); in the input gradient it deals the outputs out to passes, each with the taps that meet
// it. Outputs of a pass are numbered by positions (z, y, x).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dojo/numerics/convolution.h"
#include "dojo/numerics/internal/convolution_kernels.h"
#include "dojo/numerics/internal/product_units.h"
#include "dojo/numerics/internal/reduce_plan.h"

namespace dojo::numerics::internal {

// Along one axis, stage index j of phase p holds the source index first + p + step * j (zero where
// there is none), and position i of a tap reads stage index i + shift of the tap.
struct SlideAxis {
  std::int64_t source = 1;  // extent of the source
  std::int64_t first = 0;
  std::int64_t step = 1;
  std::vector<std::int64_t> phases{0};
  std::int64_t positions = 1;
  std::int64_t reach = 0;  // largest shift
  std::int64_t out = 1;    // extent of the output
  std::int64_t out_step = 1;

  std::int64_t stored_phases() const { return static_cast<std::int64_t>(phases.size()); }
};

// One filter tap of one source channel.
struct Tap {
  std::int64_t channel = 0;  // source channel within the group
  Axes kernel{};             // kz, ky, kx
  std::int64_t slot = 0;     // phase plane
  Axes shift{};
};

// A set of outputs that share their taps: output index = first_out + out_step * position, if it is
// inside.
struct SlidePass {
  std::vector<Tap> taps;  // in the order of the reduction
  Units units;            // of taps
  Chunked chunked;        // counts units
  Axes first_out{};
};

struct WeightStrides {
  std::int64_t group = 0;
  std::int64_t row = 0;      // output channel of the product
  std::int64_t channel = 0;  // source channel
  Axes kernel{};
};

struct SlidePlan {
  ImageOperand source;
  std::int64_t batch = 0;
  std::int64_t groups = 0;
  std::int64_t channels = 0;  // of the source, per group
  std::int64_t rows = 0;      // output channels per group: the M of the products
  std::array<SlideAxis, 3> axis;
  std::vector<SlidePass> passes;
  Storage weight;
  WeightStrides weight_stride;
  int levels = 0;
  Products products;

  std::int64_t out_volume() const { return axis[0].out * axis[1].out * axis[2].out; }
  std::int64_t planes() const {
    return axis[0].stored_phases() * axis[1].stored_phases() * axis[2].stored_phases();
  }
};

SlidePlan forward_plan(const ConvolutionShape& shape, const ImageOperand& input,
                       const ImageOperand& weight, const ReduceCuts& cuts,
                       const Products& products);
SlidePlan input_gradient_plan(const ConvolutionShape& shape, const ImageOperand& output_gradient,
                              const ImageOperand& weight, const ReduceCuts& cuts,
                              const Products& products);

// Floats from one stage row to the next. The zeros after a row may be those before the next one.
std::int64_t stage_pitch(const SlideAxis& x);

// Some positions of some images: what one task computes.
struct Box {
  std::int64_t image = 0;
  std::int64_t images = 1;
  Axes first{0, 0, 0};
  Axes count{1, 1, 1};  // all positions along x
};

// How the work is divided; it moves no bit.
struct Division {
  std::vector<Box> boxes;
  std::int64_t row_blocks = 1;  // the output channels of a box, in as many tasks
  Box largest;                  // extents only
};
Division divide(const SlidePlan& plan, int threads);

// Columns of a product: adjacent lanes and where they come from and go to.
struct ColumnTile {
  std::int64_t vectors = 1;
  std::size_t first_piece = 0;
  std::size_t pieces = 0;
  // Lane l of a point whose offset is 0 lies at from + l for all pieces: no copy is needed.
  bool is_in_place = false;
  std::int64_t from = 0;
};
struct ColumnTiles {
  std::vector<ColumnTile> tiles;
  std::vector<Piece> pieces;

  std::span<const Piece> pieces_of(const ColumnTile& tile) const {
    return std::span(pieces).subspan(tile.first_piece, tile.pieces);
  }
};

// Where a box lies in its stage.
struct StageLayout {
  std::int64_t pitch = 0;
  std::int64_t rows = 0;    // per z
  std::int64_t planes = 0;  // z
  std::int64_t image_size() const { return planes * rows * pitch; }
  std::int64_t slot_size(const Box& box) const { return box.images * image_size(); }
};
StageLayout layout_of(const SlidePlan& plan, const Box& box);

// The outputs of a pass in a box, in tiles: either packed (as few tiles as possible, operands
// copied to panels where rows end within a tile) or along the stage (operands read in place, lanes
// wasted between rows), whichever costs less for `rows` output channels. Pairs are always copied.
void tile_columns(const SlidePlan& plan, const SlidePass& pass, const Box& box, std::int64_t rows,
                  ColumnTiles& out);

}  // namespace dojo::numerics::internal
