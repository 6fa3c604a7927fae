#include "dojo/numerics/internal/weight_gradient.h"

#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/weight_gradient_plan.h"

namespace dojo::numerics::internal {
namespace {

using avx512::row_tiles;
using avx512::RowTile;
using avx512::TileCall;

constexpr std::int64_t kSlack = 64;  // floats readable behind the last column

using ParallelFor =
    std::function<void(std::int64_t, const std::function<void(std::int64_t, std::int64_t)>&)>;

class WeightGradient {
 public:
  WeightGradient(const ConvolutionShape& shape, const ImageOperand& output_gradient,
                 const ImageOperand& input, const ReduceCuts& cuts, const Products& products,
                 float* out)
      : shape_(shape),
        gradient_(output_gradient),
        input_(input),
        kernels_(*products.kernels),
        out_(out),
        row_tiles_(row_tiles(shape.group_out())),
        plan_(shape, cuts, products, row_tiles_),
        read_gradient_(kernels_.reader_of(output_gradient.storage)),
        read_input_(kernels_.reader_of(input.storage)) {
    for (const GradientWalk& walk : plan_.walks) {
      for (const Chunk& chunk : walk.chunked.chunks) {
        longest_ = std::max(longest_, chunk.points);
      }
    }
    for (std::int64_t k = 0; k < longest_; ++k) {
      panel_offset_.push_back(static_cast<std::int32_t>(k * kernels_.tile_columns));
    }
  }

  std::int64_t scratch_size() const {
    return stage_size() + plan_.panels * panel_size() +
           state_tile_size() * static_cast<std::int64_t>(row_tiles_.size() * plan_.columns.size());
  }
  std::int64_t panel_scratch_size() const { return longest_ * kernels_.tile_columns + 16; }

  // One group of channels; `parallel_for` may be serial, `panels` are of panel_scratch_size().
  void run(std::int64_t group, float* scratch, BufferPool& panels,
           const ParallelFor& parallel_for) const {
    const std::int64_t tiles = static_cast<std::int64_t>(row_tiles_.size());
    float* const images = scratch;
    float* const gradients = images + stage_size();
    float* const state = gradients + plan_.panels * panel_size();
    for (const GradientStep& step : plan_.steps) {
      // Per image: its pixels, and its gradients for each panel.
      const std::int64_t parts = plan_.panels + 1;
      parallel_for(step.images * parts, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t image = i / parts;
          if (i % parts == plan_.panels) {
            fill_image(group, step, image, images + image * plan_.image_floats(step));
          } else {
            fill_gradient(group, step, image, i % parts, gradients);
          }
        }
      });
      std::fill_n(images + step.images * plan_.image_floats(step), kSlack, 0.0F);
      if (plan_.products.has_pairs()) {
        parallel_for(plan_.panels, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t panel = begin; panel < end; ++panel) {
            join_pairs(plan_.walks[step.walk], gradients + panel * panel_size());
          }
        });
      }
      parallel_for(static_cast<std::int64_t>(plan_.columns.size()),
                   [&](std::int64_t begin, std::int64_t end) {
                     BufferPool::Lease panel(panels);
                     for (std::int64_t i = begin; i < end; ++i) {
                       run_columns(step, i, images, gradients, panel.data(), state);
                     }
                   });
    }
    parallel_for(plan_.blocks * tiles, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        store(group, i / tiles, static_cast<std::size_t>(i % tiles), state);
      }
    });
  }

 private:
  std::int64_t stage_size() const {
    return plan_.largest.images * plan_.image_floats(plan_.largest) + kSlack;
  }
  std::int64_t panel_size() const {
    return plan_.largest.images * volume(plan_.points_of(plan_.largest)) * plan_.panel_pitch + 16;
  }
  std::int64_t state_tile_size() const {
    return kernels_.state_floats(kernels_.tile_rows, kernels_.tile_columns / kernels_.lanes,
                                 plan_.levels);
  }
  float* state_of(float* state, std::size_t column, std::size_t row) const {
    return state + static_cast<std::int64_t>(column * row_tiles_.size() + row) * state_tile_size();
  }

  // Channel-last, padded.
  void fill_image(std::int64_t group, const GradientStep& step, std::int64_t image,
                  float* to) const {
    const std::int64_t channels = shape_.group_in();
    const Axes stage = plan_.stage_of(step);
    const ImageStrides& stride = input_.stride;
    const std::int64_t begin = std::clamp<std::int64_t>(shape_.padding[2], 0, stage[2]);
    const std::int64_t end =
        std::clamp<std::int64_t>(shape_.size[2] + shape_.padding[2], begin, stage[2]);
    const std::int64_t first = (step.image + image) * stride[0] + group * channels * stride[1] +
                               (begin - shape_.padding[2]) * stride[4];
    // Rows that adjoin in storage and in the stage are one.
    const bool is_joined = end == stage[2] && begin == 0 && stride[3] == stage[2] * stride[4];
    const std::int64_t pitch = stage[2] * channels;
    for (std::int64_t z = 0; z < stage[0]; ++z, to += stage[1] * pitch) {
      Axes at{z - shape_.padding[0], -shape_.padding[1], 0};
      at[plan_.split] += step.first * shape_.stride[plan_.split];
      const bool is_inside = at[0] >= 0 && at[0] < shape_.size[0];
      const std::int64_t top = is_inside ? std::clamp<std::int64_t>(-at[1], 0, stage[1]) : stage[1];
      const std::int64_t bottom = std::clamp<std::int64_t>(shape_.size[1] - at[1], top, stage[1]);
      std::fill_n(to, top * pitch, 0.0F);
      std::fill_n(to + bottom * pitch, (stage[1] - bottom) * pitch, 0.0F);
      const std::int64_t rows = is_joined ? bottom - top : 1;
      for (std::int64_t y = top; y < bottom; y += rows) {
        float* row = to + y * pitch;
        std::fill_n(row, begin * channels, 0.0F);
        std::fill_n(row + end * channels, (stage[2] - end) * channels, 0.0F);
        read_input_->read_panel({first + at[0] * stride[2] + (at[1] + y) * stride[3], stride[1],
                                 stride[4], channels, rows * (end - begin)},
                                row + begin * channels, channels);
      }
    }
  }

  void fill_gradient(std::int64_t group, const GradientStep& step, std::int64_t image,
                     std::int64_t panel, float* gradients) const {
    const RowTile rows = plan_.rows_of(panel);
    const Axes points = plan_.points_of(step);
    const ImageStrides& stride = gradient_.stride;
    Axes at{};
    at[plan_.split] = step.first;
    std::int64_t first = (step.image + image) * stride[0] +
                         (group * shape_.group_out() + rows.first) * stride[1] + at[0] * stride[2] +
                         at[1] * stride[3];
    float* to = gradients + panel * panel_size() + image * volume(points) * plan_.panel_pitch;
    // Rows that adjoin in storage are one.
    const bool is_joined = stride[3] == points[2] * stride[4];
    const std::int64_t lines = is_joined ? 1 : points[1];
    const std::int64_t length = is_joined ? points[1] * points[2] : points[2];
    for (std::int64_t z = 0; z < points[0]; ++z) {
      for (std::int64_t y = 0; y < lines; ++y, to += length * plan_.panel_pitch) {
        read_gradient_->read_panel(
            {first + z * stride[2] + y * stride[3], stride[1], stride[4], rows.rows, length}, to,
            plan_.panel_pitch);
      }
    }
  }

  // The gradients of a pair lie where those of its first point were.
  void join_pairs(const GradientWalk& walk, float* panel) const {
    for (std::size_t k = 0; k < walk.gradient_offset.size(); ++k) {
      float* first = panel + walk.gradient_offset[k];
      const float* second = walk.gradient_second[k] < 0 ? nullptr : panel + walk.gradient_second[k];
      join(first, second, plan_.panel_pitch, first);
    }
  }

  void run_columns(const GradientStep& step, std::int64_t column, const float* images,
                   const float* gradients, float* panel, float* state) const {
    const GradientWalk& walk = plan_.walks[step.walk];
    const GradientColumns& tile = plan_.columns[static_cast<std::size_t>(column)];
    const std::int64_t vectors = tile.columns > kernels_.lanes ? 2 : 1;
    for (const Chunk& chunk : walk.chunked.chunks) {
      const std::int32_t* points = walk.image_offset.data() + chunk.first_point;
      TileCall call;
      call.fold = plan_.products.fold;
      call.a_offset = walk.gradient_offset.data() + chunk.first_point;
      call.segments = walk.chunked.segments.data() + chunk.first_segment;
      call.segment_count = chunk.segments;
      call.resumes = chunk.resumes;
      if (tile.is_in_place) {
        call.b = images + tile.pieces.front().from;
        call.b_offset = points;
      } else {
        call.b = panel;
        call.b_offset = panel_offset_.data();
        if (plan_.products.has_pairs()) {
          kernels_.gather_pairs(images, points, walk.image_second.data() + chunk.first_point,
                                chunk.points, tile.pieces, panel);
        } else {
          kernels_.gather(images, points, chunk.points, tile.pieces, panel);
        }
      }
      for (std::size_t r = 0; r < row_tiles_.size(); ++r) {
        const std::int64_t in_panel = static_cast<std::int64_t>(r) / plan_.kPanelTiles;
        call.a = gradients + in_panel * panel_size() + row_tiles_[r].first -
                 plan_.rows_of(in_panel).first;
        call.state = state_of(state, static_cast<std::size_t>(column), r);
        kernels_.run_tile(row_tiles_[r].rows, vectors, call);
      }
    }
  }

  // The sums of a tile of rows and a block of channels.
  void store(std::int64_t group, std::int64_t block, std::size_t row_tile, float* state) const {
    const RowTile& rows = row_tiles_[row_tile];
    const std::int64_t channels = shape_.group_in();
    const std::int64_t taps = volume(shape_.kernel);
    std::vector<const float*> sums(static_cast<std::size_t>(taps));
    for (std::int64_t row = 0; row < rows.rows; ++row) {
      float* to = out_ + (group * shape_.group_out() + rows.first + row) * channels * taps;
      if (plan_.block_channels == kernels_.tile_columns) {
        store_block(rows, row, block, row_tile, state, sums,
                    to + block * plan_.block_channels * taps);
      } else {
        store_row(rows, row, row_tile, state, to);
      }
    }
  }

  const float* sums_of(const RowTile& rows, std::int64_t row, std::size_t column,
                       std::size_t row_tile, float* state) const {
    const std::int64_t vectors = plan_.columns[column].columns > kernels_.lanes ? 2 : 1;
    return state_of(state, column, row_tile) +
           kernels_.sums_offset(rows.rows, vectors, plan_.levels) + row * vectors * kernels_.lanes;
  }

  // One tile per tap becomes [channel][tap].
  void store_block(const RowTile& rows, std::int64_t row, std::int64_t block, std::size_t row_tile,
                   float* state, std::span<const float*> sums, float* to) const {
    const std::size_t first = static_cast<std::size_t>(block) * sums.size();
    for (std::size_t tap = 0; tap < sums.size(); ++tap) {
      sums[tap] = sums_of(rows, row, first + tap, row_tile, state);
    }
    kernels_.transpose(sums, plan_.columns[first].columns, to);
  }

  // Columns are (tap, c) in a row.
  void store_row(const RowTile& rows, std::int64_t row, std::size_t row_tile, float* state,
                 float* to) const {
    const std::int64_t channels = shape_.group_in();
    const std::int64_t taps = volume(shape_.kernel);
    std::int64_t at = 0;
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      const float* sums = sums_of(rows, row, i, row_tile, state);
      for (std::int64_t column = 0; column < plan_.columns[i].columns; ++column, ++at) {
        to[at % channels * taps + at / channels] = sums[column];
      }
    }
  }

  const ConvolutionShape& shape_;
  const ImageOperand& gradient_;
  const ImageOperand& input_;
  const ConvolutionKernels& kernels_;
  float* out_;
  std::vector<RowTile> row_tiles_;
  WeightGradientPlan plan_;
  std::unique_ptr<OperandReader> read_gradient_;
  std::unique_ptr<OperandReader> read_input_;
  std::int64_t longest_ = 1;  // points of a chunk
  std::vector<std::int32_t> panel_offset_;
};

}  // namespace

void run_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                         const ImageOperand& output_gradient, const ImageOperand& input,
                         const ReduceCuts& cuts, const Products& products, float* out) {
  const WeightGradient product(shape, output_gradient, input, cuts, products, out);
  BufferPool panels(product.panel_scratch_size());
  if (shape.groups == 1) {
    Buffer scratch(product.scratch_size());
    product.run(0, scratch.data(), panels,
                [&](std::int64_t count, const auto& body) { pool.parallel_for(count, 1, body); });
    return;
  }
  BufferPool scratch(product.scratch_size());
  pool.parallel_for(shape.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    BufferPool::Lease lease(scratch);
    for (std::int64_t group = begin; group < end; ++group) {
      product.run(group, lease.data(), panels,
                  [](std::int64_t count, const auto& body) { body(0, count); });
    }
  });
}

}  // namespace dojo::numerics::internal
