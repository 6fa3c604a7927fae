// Weight gradient: for each filter tap, the sum over images and output positions of output gradient
// times input. As a product: rows are output channels, columns are (ky, kx, c), and the reduction
// walks n, y, x. Images are decoded once into channel-last FP32 ("the stage"), so at each point the
// columns (kx, c) of a filter row are adjacent memory, and so are the rows. The order of the points
// is then nothing but two lists of offsets, whatever the cuts.
#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/convolution_avx512.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx512.h"
#include "dojo/numerics/internal/reduce_plan.h"
#include "dojo/numerics/internal/tile_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

// PERF: 128 points of both operands of a tile stay in a 48 KiB L1.
constexpr std::int64_t kChunkPoints = 128;
// PERF: what is decoded at a time stays within a 2 MiB L2.
constexpr std::int64_t kStageFloats = std::int64_t{3} << 17;
constexpr std::int64_t kSlack = 64;  // floats readable behind the last column

// 32 adjacent columns of one filter row.
struct ColumnTile {
  std::int64_t stage_offset = 0;  // of its first column at point (0, 0, 0)
  std::int64_t ky = 0;
  std::int64_t kx = 0;  // filter column and channel of its first column
  std::int64_t channel = 0;
  std::int64_t columns = 0;
};

using ParallelFor =
    std::function<void(std::int64_t, const std::function<void(std::int64_t, std::int64_t)>&)>;

class WeightGradient {
 public:
  WeightGradient(const ConvolutionShape& shape, const ImageOperand& output_gradient,
                 const ImageOperand& input, const ReduceCuts& cuts, float* out)
      : shape_(shape),
        gradient_(output_gradient),
        input_(input),
        cuts_(cuts),
        out_(out),
        height_(shape.out_height()),
        width_(shape.out_width()),
        stage_rows_((height_ - 1) * shape.stride_y + (shape.kernel_height - 1) * shape.dilation_y +
                    1),
        stage_columns_((width_ - 1) * shape.stride_x + (shape.kernel_width - 1) * shape.dilation_x +
                       1),
        load_gradient_(load_of(output_gradient.storage.type)),
        load_input_(load_of(input.storage.type)),
        row_tiles_(row_tiles(shape.group_out())) {
    const std::array<std::int64_t, 3> extent{shape.batch, height_, width_};
    levels_ = internal::cut_levels(extent, cuts);
    make_column_tiles();
    plan_steps();
  }

  std::int64_t scratch_size() const {
    return stage_images_ * (image_size() + gradient_size()) + 2 * kSlack +
           state_tile_size() * static_cast<std::int64_t>(row_tiles_.size() * column_tiles_.size());
  }

  // One group of channels; `parallel_for` may be serial.
  void run(std::int64_t group, float* scratch, const ParallelFor& parallel_for) const {
    float* const image_stage = scratch;
    float* const gradient_stage = image_stage + stage_images_ * image_size() + kSlack;
    float* const state = gradient_stage + stage_images_ * gradient_size() + kSlack;
    std::fill_n(image_stage + stage_images_ * image_size(), kSlack, 0.0F);
    for (const Step& step : steps_) {
      parallel_for(step.images * 2, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t image = i / 2;
          if (i % 2 == 0) {
            fill_image(group, step.first_image + image, image_stage + image * image_size());
          } else {
            fill_gradient(group, step.first_image + image,
                          gradient_stage + image * gradient_size());
          }
        }
      });
      const std::int64_t tiles = static_cast<std::int64_t>(column_tiles_.size());
      parallel_for(tiles, [&](std::int64_t begin, std::int64_t end) {
        run_tiles(step, begin, end, image_stage, gradient_stage, state);
      });
    }
    store(group, state);
  }

 private:
  // Points whose images are staged together; consecutive in the order of the reduction.
  struct Step {
    std::int64_t first_image = 0;
    std::int64_t images = 0;
    std::size_t plan = 0;  // steps alike share one
  };
  struct Plan {
    std::vector<std::int32_t> image_offset;
    std::vector<std::int32_t> gradient_offset;
    internal::Chunked chunked;
  };

  std::int64_t image_size() const { return stage_rows_ * stage_columns_ * shape_.group_in(); }
  std::int64_t gradient_size() const { return height_ * width_ * shape_.group_out(); }
  std::int64_t state_tile_size() const {
    return state_size(kMaxTileRows, kTileColumns / 16, levels_);
  }

  void make_column_tiles() {
    const std::int64_t channels = shape_.group_in();
    // Filter columns adjoin in the stage if they are not dilated.
    const std::int64_t joined = shape_.dilation_x == 1 ? shape_.kernel_width : 1;
    const std::int64_t length = joined * channels;
    for (std::int64_t ky = 0; ky < shape_.kernel_height; ++ky) {
      for (std::int64_t kx = 0; kx < shape_.kernel_width; kx += joined) {
        for (std::int64_t at = 0; at < length; at += kTileColumns) {
          column_tiles_.push_back(
              {(ky * shape_.dilation_y * stage_columns_ + kx * shape_.dilation_x) * channels + at,
               ky, kx + at / channels, at % channels, std::min(kTileColumns, length - at)});
        }
      }
    }
  }

  // Appends the points of a part; its image 0 is the `first_image`-th of the stage.
  void append(const internal::Part& part, std::int64_t first_image, Plan& plan) const {
    for (std::int64_t n = part.begin[0]; n < part.end[0]; ++n) {
      for (std::int64_t y = part.begin[1]; y < part.end[1]; ++y) {
        for (std::int64_t x = part.begin[2]; x < part.end[2]; ++x) {
          plan.image_offset.push_back(static_cast<std::int32_t>(
              (first_image + n) * image_size() +
              (y * shape_.stride_y * stage_columns_ + x * shape_.stride_x) * shape_.group_in()));
          plan.gradient_offset.push_back(static_cast<std::int32_t>(
              (first_image + n) * gradient_size() + (y * width_ + x) * shape_.group_out()));
        }
      }
    }
  }

  // If only n is cut, images follow one another and a step takes as many as the stage holds. If a
  // part spans some rows or columns of its images, the stage must hold all images of a block of n.
  void plan_steps() {
    const std::int64_t per_image = image_size() + gradient_size();
    const std::int64_t fitting = std::max<std::int64_t>(1, kStageFloats / per_image);
    const std::int64_t block = std::min(cuts_.block_of(0, shape_.batch), shape_.batch);
    const bool is_plane_cut =
        cuts_.block_of(1, height_) < height_ || cuts_.block_of(2, width_) < width_;
    stage_images_ = is_plane_cut ? std::max(block, fitting / block * block) : fitting;
    stage_images_ = std::min(shape_.batch, stage_images_);
    DOJO_CHECK(stage_images_ * std::max(image_size(), gradient_size()) < (std::int64_t{1} << 31));
    std::map<std::array<std::int64_t, 4>, std::size_t> known;
    for (std::int64_t n = 0; n < shape_.batch; n += stage_images_) {
      const std::int64_t images = std::min(stage_images_, shape_.batch - n);
      const std::array<std::int64_t, 4> key{images, n % block, n < block ? 1 : 0,
                                            n + images == shape_.batch ? 1 : 0};
      const auto [entry, is_new] = known.try_emplace(key, plans_.size());
      if (is_new) {
        plans_.push_back(plan_of(n, images, block));
      }
      steps_.push_back({n, images, entry->second});
    }
  }

  Plan plan_of(std::int64_t first_image, std::int64_t images, std::int64_t block) const {
    Plan plan;
    std::vector<internal::Segment> segments;
    const bool is_batch_cut = block < shape_.batch;
    const int inner_levels = levels_ - (is_batch_cut ? 1 : 0);
    const std::int64_t last_image = first_image + images;
    for (std::int64_t n = first_image; n < last_image;) {
      const std::int64_t block_end = std::min((n / block + 1) * block, shape_.batch);
      const std::int64_t end = std::min(block_end, last_image);
      const std::array<std::int64_t, 3> extent{end - n, height_, width_};
      ReduceCuts inner = cuts_;
      if (!inner.block.empty()) {
        inner.block[0] = end - n;
      }
      internal::for_each_part(extent, inner, [&](const internal::Part& part) {
        append(part, n - first_image, plan);
        segments.push_back(part.segment);
        segments.back().first |= n < block ? 1u << inner_levels : 0u;
      });
      segments.back().closes += is_batch_cut && end == block_end ? 1 : 0;
      n = end;
    }
    plan.chunked = internal::into_chunks(segments, kChunkPoints);
    plan.chunked.chunks.front().resumes = first_image % block != 0;
    return plan;
  }

  void fill_image(std::int64_t group, std::int64_t image, float* to) const {
    const ConvolutionShape& s = shape_;
    const std::array<std::int64_t, 4>& stride = input_.stride;
    const std::int64_t channels = s.group_in();
    const std::int64_t pitch = stage_columns_ * channels;
    const std::int64_t begin = std::clamp<std::int64_t>(s.padding_x, 0, stage_columns_);
    const std::int64_t end = std::clamp<std::int64_t>(s.width + s.padding_x, begin, stage_columns_);
    const std::int64_t bytes = bytes_of(input_.storage.type.format);
    with_load(load_input_, [&](const auto& load) {
      for (std::int64_t row = 0; row < stage_rows_; ++row, to += pitch) {
        const std::int64_t y = row - s.padding_y;
        if (y < 0 || y >= s.height) {
          std::fill_n(to, pitch, 0.0F);
          continue;
        }
        std::fill_n(to, begin * channels, 0.0F);
        std::fill_n(to + end * channels, (stage_columns_ - end) * channels, 0.0F);
        const std::int64_t at = input_.storage.offset + image * stride[0] +
                                group * channels * stride[1] + y * stride[2] +
                                (begin - s.padding_x) * stride[3];
        const Panel panel{static_cast<const std::byte*>(input_.storage.data) + at * bytes,
                          stride[1], stride[3], channels, end - begin};
        pack(load, panel, to + begin * channels, channels);
      }
    });
  }

  void fill_gradient(std::int64_t group, std::int64_t image, float* to) const {
    const std::array<std::int64_t, 4>& stride = gradient_.stride;
    const std::int64_t channels = shape_.group_out();
    const std::int64_t bytes = bytes_of(gradient_.storage.type.format);
    with_load(load_gradient_, [&](const auto& load) {
      for (std::int64_t y = 0; y < height_; ++y) {
        const std::int64_t at = gradient_.storage.offset + image * stride[0] +
                                group * channels * stride[1] + y * stride[2];
        const Panel panel{static_cast<const std::byte*>(gradient_.storage.data) + at * bytes,
                          stride[1], stride[3], channels, width_};
        pack(load, panel, to + y * width_ * channels, channels);
      }
    });
  }

  void run_tiles(const Step& step, std::int64_t begin, std::int64_t end, const float* images,
                 const float* gradients, float* state) const {
    const Plan& plan = plans_[step.plan];
    for (const internal::Chunk& chunk : plan.chunked.chunks) {
      TileCall call;
      call.a_offset = plan.gradient_offset.data() + chunk.first_point;
      call.b_offset = plan.image_offset.data() + chunk.first_point;
      call.segments = plan.chunked.segments.data() + chunk.first_segment;
      call.segment_count = chunk.segments;
      call.resumes = chunk.resumes;
      for (std::int64_t i = begin; i < end; ++i) {
        const ColumnTile& column = column_tiles_[static_cast<std::size_t>(i)];
        call.b = images + column.stage_offset;
        for (std::size_t r = 0; r < row_tiles_.size(); ++r) {
          call.a = gradients + row_tiles_[r].first;
          call.state = state + state_index(i, r) * state_tile_size();
          run_tile(row_tiles_[r].rows, column.columns > 16 ? 2 : 1, call);
        }
      }
    }
  }

  std::int64_t state_index(std::int64_t column_tile, std::size_t row_tile) const {
    return column_tile * static_cast<std::int64_t>(row_tiles_.size()) +
           static_cast<std::int64_t>(row_tile);
  }

  void store(std::int64_t group, const float* state) const {
    const std::int64_t channels = shape_.group_in();
    const std::int64_t taps = shape_.kernel_height * shape_.kernel_width;
    for (std::size_t i = 0; i < column_tiles_.size(); ++i) {
      const ColumnTile& tile = column_tiles_[i];
      const std::int64_t vectors = tile.columns > 16 ? 2 : 1;
      for (std::size_t r = 0; r < row_tiles_.size(); ++r) {
        const RowTile& rows = row_tiles_[r];
        const float* sums = state +
                            state_index(static_cast<std::int64_t>(i), r) * state_tile_size() +
                            result_offset(rows.rows, vectors, levels_);
        for (std::int64_t row = 0; row < rows.rows; ++row) {
          const std::int64_t o = group * shape_.group_out() + rows.first + row;
          for (std::int64_t column = 0; column < tile.columns; ++column) {
            const std::int64_t channel = tile.channel + column;
            const std::int64_t tap = tile.ky * shape_.kernel_width + tile.kx + channel / channels;
            out_[(o * channels + channel % channels) * taps + tap] =
                sums[row * vectors * 16 + column];
          }
        }
      }
    }
  }

  const ConvolutionShape& shape_;
  const ImageOperand& gradient_;
  const ImageOperand& input_;
  const ReduceCuts& cuts_;
  float* out_;
  std::int64_t height_;  // of the output
  std::int64_t width_;
  std::int64_t stage_rows_;  // of the padded input that the output reaches
  std::int64_t stage_columns_;
  AnyLoad load_gradient_;
  AnyLoad load_input_;
  std::vector<RowTile> row_tiles_;
  std::vector<ColumnTile> column_tiles_;
  int levels_ = 0;
  std::int64_t stage_images_ = 1;
  std::vector<Step> steps_;
  std::vector<Plan> plans_;
};

}  // namespace

void convolution_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                 const ImageOperand& output_gradient, const ImageOperand& input,
                                 const ReduceCuts& cuts, float* out) {
  const WeightGradient product(shape, output_gradient, input, cuts, out);
  if (shape.groups == 1) {
    internal::Buffer scratch(product.scratch_size());
    product.run(0, scratch.data(),
                [&](std::int64_t count, const auto& body) { pool.parallel_for(count, 1, body); });
    return;
  }
  internal::BufferPool scratch(product.scratch_size());
  pool.parallel_for(shape.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    internal::BufferPool::Lease lease(scratch);
    for (std::int64_t group = begin; group < end; ++group) {
      product.run(group, lease.data(),
                  [](std::int64_t count, const auto& body) { body(0, count); });
    }
  });
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
