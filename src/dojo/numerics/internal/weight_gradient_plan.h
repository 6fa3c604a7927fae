// How a weight gradient is walked. Some images, or a band of one, are decoded at a time ("a step"):
// images channel-last, so that at a point the columns (tap, c) of a filter row are adjacent memory;
// gradients as panels of some rows each. The order of the points is then two lists of offsets,
// whatever the cuts.
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

// Consecutive points in the order of the reduction: whole images, or some positions along one axis
// of one image.
struct GradientStep {
  std::int64_t image = 0;
  std::int64_t images = 1;
  std::int64_t first = 0;  // along the split axis, of the output
  std::int64_t count = 0;
  std::size_t walk = 0;  // steps alike share one
};

// The points of a step.
struct GradientWalk {
  std::vector<std::int32_t> image_offset;     // of a unit's first point, in the stage of images
  std::vector<std::int32_t> image_second;     // of pairs; -1: none
  std::vector<std::int32_t> gradient_offset;  // in a panel of gradients
  std::vector<std::int32_t> gradient_second;  // of pairs; -1: none
  Chunked chunked;                            // counts units
};

struct GradientColumns {
  std::int64_t columns = 0;
  bool is_in_place = false;
  std::vector<Piece> pieces;
};

struct WeightGradientPlan {
  WeightGradientPlan(const ConvolutionShape& shape, const ReduceCuts& cuts,
                     const Products& products, std::span<const avx512::RowTile> tiles);

  std::int64_t image_points() const { return volume(out); }
  Axes stage_of(const GradientStep& step) const;  // extents of an image in the stage
  std::int64_t image_floats(const GradientStep& step) const {
    return volume(stage_of(step)) * shape.group_in();
  }
  Axes points_of(const GradientStep& step) const;  // positions of an image in the step
  avx512::RowTile rows_of(std::int64_t panel) const;

  const ConvolutionShape& shape;
  const ReduceCuts& cuts;
  Products products;
  const ConvolutionKernels& kernels;
  Axes out;
  std::size_t split = 1;   // the axis along which an image may be split
  std::int64_t group = 1;  // points that are folded together (sum_order.h)
  // Gradients of some tiles of rows lie in a panel: [point][row], `panel_pitch` floats a point.
  // PERF: eight tiles of 14 rows are seven vectors, so that a panel is transposed without waste.
  static constexpr std::int64_t kPanelTiles = 8;
  std::span<const avx512::RowTile> row_tiles;
  std::int64_t panels = 1;
  std::int64_t panel_pitch = 0;
  int levels = 0;
  std::vector<GradientStep> steps;
  std::vector<GradientWalk> walks;
  GradientStep largest;
  // Blocks of up to a tile of channels, each with one tile per tap; if there are few channels, one
  // block whose columns are (tap, c) in a row.
  std::vector<GradientColumns> columns;
  std::int64_t block_channels = 0;
  std::int64_t blocks = 1;

 private:
  void make_columns();
  void make_steps();
  // Images of a step that lie in one block of n, and which levels of n end with them.
  struct ImagesOfBlock {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int32_t closes = 0;
    std::uint32_t first = 0;  // as in Segment
  };
  void share_walks(std::int64_t block);
  static void take_pairs(const Units& units, GradientWalk& walk);
  void walk_of(const GradientStep& step, bool resumes, std::span<const ImagesOfBlock> parts);
  void append(const Part& part, std::int64_t image, const GradientStep& step,
              GradientWalk& walk) const;
};

}  // namespace dojo::numerics::internal
