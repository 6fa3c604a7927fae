// Forward convolution and input gradient. Both slide a filter over planes: the source of one task
// is decoded once into padded FP32 planes ("the stage"), laid out so that the operand of one filter
// tap, for consecutive output positions, is consecutive memory. Then a tap is nothing but an offset
// into the stage, and the GEMM micro-kernel reads its B operand in place: nothing is unrolled.
//
// A stage plane has `pitch` positions per row; positions of a task are numbered along whole stage
// rows, so a row ends in a few positions that are computed and dropped. Stride s in the forward
// direction splits a source plane into s x s phase planes (every s-th row and column); in the input
// gradient it splits the outputs into s x s passes, each with the taps that meet it.
#include <algorithm>
#include <cstring>
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

constexpr std::int64_t kChunkPoints = 256;
// PERF: a stage of 1 MiB leaves half of a 2 MiB L2 to the weights.
constexpr std::int64_t kStageFloats = std::int64_t{1} << 18;
constexpr std::int64_t kSlack = 64;  // floats readable behind the last position

// One filter tap of one source channel, and where in the stage the operand of position 0 lies.
struct Tap {
  std::int64_t channel = 0;  // source channel within the group
  std::int64_t ky = 0;
  std::int64_t kx = 0;
  std::int64_t slot = 0;  // phase plane
  std::int64_t row = 0;
  std::int64_t column = 0;
};

// A set of outputs that share their taps: output row = first_y + step_y * stage row, if it is
// inside; columns likewise. Weights are packed per group.
struct Pass {
  std::vector<Tap> taps;  // in the order of the reduction
  internal::Chunked chunked;
  std::vector<std::int32_t> offset;  // of each tap in the stage
  internal::Buffer weights;          // groups x taps x rows
  std::int64_t first_y = 0;
  std::int64_t first_x = 0;
};

// Where the decoded source of a task lies. Per channel one plane for each pair of stored phases:
// the source rows top + phase + step_y * j, and columns likewise.
struct Stage {
  std::int64_t step_y = 1;
  std::int64_t step_x = 1;
  std::vector<std::int64_t> phases_y{0};
  std::vector<std::int64_t> phases_x{0};
  std::int64_t channels = 0;  // per group
  std::int64_t rows = 0;      // of a plane, for one task
  std::int64_t pitch = 0;

  std::int64_t planes() const {
    return static_cast<std::int64_t>(phases_y.size() * phases_x.size());
  }
  std::int64_t plane_size() const { return rows * pitch; }
  std::int64_t channel_size() const { return planes() * plane_size(); }
  std::int64_t size() const { return channels * channel_size() + kSlack; }
  std::int64_t row_length() const { return pitch * step_x; }  // of a source row, padding included
};

// The problem in terms of the stage.
struct Problem {
  ImageOperand source;  // images n, channel, y, x
  std::int64_t source_height = 0;
  std::int64_t source_width = 0;
  std::int64_t batch = 0;
  std::int64_t groups = 0;
  std::int64_t rows = 0;           // output channels per group: the M of the products
  std::int64_t extra_rows = 0;     // stage rows that taps reach beyond a position
  std::int64_t row_positions = 0;  // positions of a row that count
  std::int64_t position_rows = 0;  // rows of positions in all
  std::int64_t top = 0;  // source row of phase 0 at position row 0; stage row 0 of the whole image
  std::int64_t left = 0;
  std::int64_t step_y = 1;  // from position to output
  std::int64_t step_x = 1;
  std::int64_t out_height = 0;
  std::int64_t out_width = 0;
  int levels = 0;
  const float* bias = nullptr;
  Activation activation = Activation::None;
  float* out = nullptr;
};

class StagedConvolution {
 public:
  StagedConvolution(const Problem& problem, const Stage& stage, std::vector<Pass> passes,
                    int threads)
      : problem_(problem),
        stage_(stage),
        passes_(std::move(passes)),
        tiles_(row_tiles(problem.rows)),
        load_(load_of(problem.source.storage.type)),
        bytes_(bytes_of(problem.source.storage.type.format)) {
    // The whole image if its stage is small enough and there are images for all threads.
    const std::int64_t wanted = threads > 1 ? 2 * threads : 1;
    const std::int64_t blocks_wanted =
        (wanted + problem_.batch * problem_.groups - 1) / (problem_.batch * problem_.groups);
    const std::int64_t per_row = stage_.channels * stage_.planes() * stage_.pitch;
    task_rows_ = std::max<std::int64_t>(kStageFloats / per_row - problem_.extra_rows, 4);
    task_rows_ = std::min(task_rows_, (problem_.position_rows + blocks_wanted - 1) / blocks_wanted);
    const std::int64_t blocks = (problem_.position_rows + task_rows_ - 1) / task_rows_;
    task_rows_ = (problem_.position_rows + blocks - 1) / blocks;
    stage_.rows = task_rows_ + problem_.extra_rows;
    place_taps();
  }

  void run(ThreadPool& pool) {
    internal::BufferPool scratch(scratch_size());
    const std::int64_t blocks = (problem_.position_rows + task_rows_ - 1) / task_rows_;
    pool.parallel_for(problem_.batch * problem_.groups * blocks, 1,
                      [&](std::int64_t begin, std::int64_t end) {
                        internal::BufferPool::Lease lease(scratch);
                        for (std::int64_t task = begin; task < end; ++task) {
                          run_task(task / blocks / problem_.groups, task / blocks % problem_.groups,
                                   task % blocks * task_rows_, lease.data());
                        }
                      });
  }

 private:
  std::int64_t scratch_size() const {
    std::int64_t state = 0;
    for (const Pass& pass : passes_) {
      const std::int64_t columns =
          pass.chunked.chunks.size() > 1 ? task_rows_ * stage_.pitch + kTileColumns : kTileColumns;
      const std::int64_t rows = pass.chunked.chunks.size() > 1 ? problem_.rows : kMaxTileRows;
      state = std::max(state, (problem_.levels + 1) * rows * columns);
    }
    return stage_.size() + 16 + stage_.row_length() + 32 + state;
  }

  void place_taps() {
    for (Pass& pass : passes_) {
      for (const Tap& tap : pass.taps) {
        const std::int64_t at = tap.channel * stage_.channel_size() +
                                tap.slot * stage_.plane_size() + tap.row * stage_.pitch +
                                tap.column;
        DOJO_CHECK(at < (std::int64_t{1} << 31));
        pass.offset.push_back(static_cast<std::int32_t>(at));
      }
    }
  }

  void run_task(std::int64_t image, std::int64_t group, std::int64_t first_row,
                float* scratch) const {
    float* stage = scratch;
    float* row = stage + (stage_.size() + 15) / 16 * 16;
    float* state = row + (stage_.row_length() + 15) / 16 * 16 + 16;
    const std::int64_t rows = std::min(task_rows_, problem_.position_rows - first_row);
    with_load(load_, [&](const auto& load) {
      fill_stage(load, image, group, first_row, rows + problem_.extra_rows, row, stage);
    });
    for (const Pass& pass : passes_) {
      run_pass(pass, image, group, first_row, rows, stage, state);
    }
  }

  template <class Load>
  void fill_stage(const Load& load, std::int64_t image, std::int64_t group, std::int64_t first_row,
                  std::int64_t rows, float* row, float* stage) const {
    const std::array<std::int64_t, 4>& stride = problem_.source.stride;
    const std::byte* data =
        static_cast<const std::byte*>(problem_.source.storage.data) +
        (problem_.source.storage.offset + image * stride[0] + group * stage_.channels * stride[1]) *
            bytes_;
    const std::int64_t slots = static_cast<std::int64_t>(stage_.phases_x.size());
    for (std::int64_t c = 0; c < stage_.channels; ++c) {
      float* plane = stage + c * stage_.channel_size();
      for (const std::int64_t phase : stage_.phases_y) {
        for (std::int64_t j = 0; j < rows; ++j) {
          const std::int64_t y = problem_.top + phase + (first_row + j) * stage_.step_y;
          float* to = plane + j * stage_.pitch;
          const std::byte* from = data + (c * stride[1] + y * stride[2]) * bytes_;
          if (y < 0 || y >= problem_.source_height) {
            for (std::int64_t slot = 0; slot < slots; ++slot) {
              std::fill_n(to + slot * stage_.plane_size(), stage_.pitch, 0.0F);
            }
          } else if (stage_.step_x == 1) {
            fill_row(load, from, stage_.pitch, to);
          } else {
            fill_row(load, from, stage_.row_length(), row);
            split_row(row, to);
          }
        }
        plane += slots * stage_.plane_size();
      }
    }
    std::fill_n(stage + stage_.channels * stage_.channel_size(), kSlack, 0.0F);
  }

  // to[i] = source column left + i, or 0 outside; `length` of them.
  template <class Load>
  void fill_row(const Load& load, const std::byte* from, std::int64_t length, float* to) const {
    const std::int64_t begin = std::clamp<std::int64_t>(-problem_.left, 0, length);
    const std::int64_t end =
        std::clamp<std::int64_t>(problem_.source_width - problem_.left, begin, length);
    std::fill_n(to, begin, 0.0F);
    std::fill_n(to + end, length - end, 0.0F);
    const std::int64_t stride = problem_.source.stride[3];
    from += (begin + problem_.left) * stride * Load::kBytes;
    if (stride == 1) {
      for (std::int64_t i = begin; i < end; i += 16, from += 16 * Load::kBytes) {
        const __mmask16 lanes = first_lanes(end - i);
        _mm512_mask_storeu_ps(to + i, lanes, load(from, lanes));
      }
      return;
    }
    for (std::int64_t i = begin; i < end; ++i, from += stride * Load::kBytes) {
      to[i] = element(load, from);
    }
  }

  // Deals a row out to its phase planes.
  void split_row(const float* row, float* to) const {
    for (const std::int64_t phase : stage_.phases_x) {
      if (stage_.step_x == 2) {
        pick_every_second(row, phase, to);
      } else {
        for (std::int64_t x = 0; x < stage_.pitch; ++x) {
          to[x] = row[x * stage_.step_x + phase];
        }
      }
      to += stage_.plane_size();
    }
  }

  void pick_every_second(const float* row, std::int64_t phase, float* to) const {
    const __m512i index = _mm512_add_epi32(
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
        _mm512_set1_epi32(static_cast<int>(phase)));
    for (std::int64_t x = 0; x < stage_.pitch; x += 16) {
      const std::int64_t left = stage_.pitch - x;
      const __m512 low = _mm512_maskz_loadu_ps(first_lanes(2 * left), row + 2 * x);
      const __m512 high = left > 8
                              ? _mm512_maskz_loadu_ps(first_lanes(2 * left - 16), row + 2 * x + 16)
                              : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(to + x, first_lanes(left), _mm512_permutex2var_ps(low, index, high));
    }
  }

  // The outputs that a tile of columns holds, as runs of adjacent lanes.
  struct Run {
    std::int64_t lane = 0;
    std::int64_t count = 0;
    std::int64_t to = 0;  // offset in the output plane of the first lane
  };

  void runs_of(const Pass& pass, std::int64_t first_row, std::int64_t position, std::int64_t end,
               std::vector<Run>& runs) const {
    runs.clear();
    for (std::int64_t at = position; at < end;) {
      const std::int64_t y = at / stage_.pitch;
      const std::int64_t x = at % stage_.pitch;
      const std::int64_t next = std::min(end, (y + 1) * stage_.pitch);
      const std::int64_t out_y = pass.first_y + (first_row + y) * problem_.step_y;
      if (out_y >= 0 && out_y < problem_.out_height) {
        // Positions of this row whose column is inside the output.
        const std::int64_t last_x = std::min(x + next - at, problem_.row_positions);
        const std::int64_t low = pass.first_x >= 0 ? 0 : -pass.first_x;
        const std::int64_t begin = std::max(x, (low + problem_.step_x - 1) / problem_.step_x);
        const std::int64_t inside =
            (problem_.out_width - pass.first_x + problem_.step_x - 1) / problem_.step_x;
        const std::int64_t count = std::min(last_x, inside) - begin;
        if (count > 0) {
          runs.push_back({at - position + begin - x, count,
                          out_y * problem_.out_width + pass.first_x + begin * problem_.step_x});
        }
      }
      at = next;
    }
  }

  void run_pass(const Pass& pass, std::int64_t image, std::int64_t group, std::int64_t first_row,
                std::int64_t rows, const float* stage, float* scratch_state) const {
    const std::int64_t positions = (rows - 1) * stage_.pitch + problem_.row_positions;
    const std::int64_t taps = static_cast<std::int64_t>(pass.taps.size());
    const float* weights = pass.weights.data() + group * problem_.rows * taps;
    const std::int64_t plane = problem_.out_height * problem_.out_width;
    float* out = problem_.out + (image * problem_.groups + group) * problem_.rows * plane;
    const float* bias = problem_.bias != nullptr ? problem_.bias + group * problem_.rows : nullptr;
    const bool keeps_state = pass.chunked.chunks.size() > 1;
    std::vector<Run> runs;
    for (const internal::Chunk& chunk : pass.chunked.chunks) {
      const bool is_last = &chunk == &pass.chunked.chunks.back();
      float* state = scratch_state;
      TileCall call;
      call.b_offset = pass.offset.data() + chunk.first_point;
      call.segments = pass.chunked.segments.data() + chunk.first_segment;
      call.segment_count = chunk.segments;
      call.resumes = chunk.resumes;
      for (std::int64_t at = 0; at < positions; at += kTileColumns) {
        const std::int64_t end = std::min(at + kTileColumns, positions);
        const std::int64_t vectors = end - at > 16 ? 2 : 1;
        call.b = stage + at;
        if (is_last) {
          runs_of(pass, first_row, at, end, runs);
        }
        for (const RowTile& tile : tiles_) {
          call.a = weights + tile.first * taps + chunk.first_point * tile.rows;
          call.state = state;
          run_tile(tile.rows, vectors, call);
          if (is_last) {
            store(tile, runs, state + result_offset(tile.rows, vectors, problem_.levels),
                  vectors * 16, bias, plane, out);
          }
          state += keeps_state ? state_size(tile.rows, vectors, problem_.levels) : 0;
        }
      }
    }
  }

  void store(const RowTile& tile, const std::vector<Run>& runs, const float* sums,
             std::int64_t pitch, const float* bias, std::int64_t plane, float* out) const {
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const std::int64_t row = tile.first + r;
      const __m512 added = _mm512_set1_ps(bias != nullptr ? bias[row] : 0.0F);
      for (const Run& run : runs) {
        for (std::int64_t i = 0; i < run.count; i += 16) {
          const __mmask16 lanes = first_lanes(run.count - i);
          __m512 x = _mm512_maskz_loadu_ps(lanes, sums + r * pitch + run.lane + i);
          x = bias != nullptr ? _mm512_add_ps(x, added) : x;
          x = problem_.activation == Activation::Relu ? relu(x) : x;
          float* to = out + row * plane + run.to + i * problem_.step_x;
          if (problem_.step_x == 1) {
            _mm512_mask_storeu_ps(to, lanes, x);
          } else {
            const __m512i index = _mm512_mullo_epi32(
                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                _mm512_set1_epi32(static_cast<int>(problem_.step_x)));
            _mm512_mask_i32scatter_ps(to, lanes, index, x, 4);
          }
        }
      }
    }
  }

  Problem problem_;
  Stage stage_;
  std::vector<Pass> passes_;
  std::vector<RowTile> tiles_;
  AnyLoad load_;
  std::int64_t bytes_;
  std::int64_t task_rows_ = 1;
};

// Taps of (channels, kernel) in reduction order, those for which `meets` says so, with their
// segments.
template <class Meets>
Pass pass_of(const std::array<std::int64_t, 3>& extent, const ReduceCuts& cuts,
             const Meets& meets) {
  Pass pass;
  std::vector<internal::Segment> segments;
  internal::for_each_part(extent, cuts, [&](const internal::Part& part) {
    internal::Segment segment = part.segment;
    segment.points = 0;
    for (std::int64_t c = part.begin[0]; c < part.end[0]; ++c) {
      for (std::int64_t ky = part.begin[1]; ky < part.end[1]; ++ky) {
        for (std::int64_t kx = part.begin[2]; kx < part.end[2]; ++kx) {
          if (meets(ky, kx)) {
            pass.taps.push_back({.channel = c, .ky = ky, .kx = kx});
            ++segment.points;
          }
        }
      }
    }
    segments.push_back(segment);
  });
  const std::int64_t taps = static_cast<std::int64_t>(pass.taps.size());
  const bool is_short = taps <= kChunkPoints + kChunkPoints / 2;
  pass.chunked =
      internal::into_chunks(segments, is_short ? std::max<std::int64_t>(taps, 1) : kChunkPoints);
  return pass;
}

// Strides of the weights as one direction of convolution reads them.
struct WeightStrides {
  std::int64_t group = 0;
  std::int64_t row = 0;      // output channel of the product
  std::int64_t channel = 0;  // channel of a tap
  std::int64_t ky = 0;
  std::int64_t kx = 0;
};

// Packs weights tile by tile: [group][tile][tap][row].
void pack_weights(ThreadPool& pool, const Storage& weight, const WeightStrides& stride,
                  std::int64_t groups, std::int64_t rows, Pass& pass) {
  const AnyLoad any_load = load_of(weight.type);
  const std::int64_t bytes = bytes_of(weight.type.format);
  const std::byte* data = static_cast<const std::byte*>(weight.data) + weight.offset * bytes;
  const std::int64_t taps = static_cast<std::int64_t>(pass.taps.size());
  std::vector<std::int64_t> at;  // of each tap
  for (const Tap& tap : pass.taps) {
    at.push_back(tap.channel * stride.channel + tap.ky * stride.ky + tap.kx * stride.kx);
  }
  pass.weights = internal::Buffer(std::max<std::int64_t>(groups * rows * taps, 1));
  const std::vector<RowTile> tiles = row_tiles(rows);
  const std::int64_t count = static_cast<std::int64_t>(tiles.size());
  const auto pack_tile = [&](const auto& load, std::int64_t group, const RowTile& tile) {
    const std::byte* from = data + (group * stride.group + tile.first * stride.row) * bytes;
    float* to = pass.weights.data() + (group * rows + tile.first) * taps;
    for (std::size_t k = 0; k < at.size();) {  // runs of taps that adjoin in storage
      std::size_t end = k + 1;
      while (end < at.size() && at[end] == at[end - 1] + 1) {
        ++end;
      }
      const std::int64_t points = static_cast<std::int64_t>(end - k);
      pack(load, Panel{from + at[k] * bytes, stride.row, 1, tile.rows, points}, to, tile.rows);
      to += points * tile.rows;
      k = end;
    }
  };
  pool.parallel_for(groups * count, 1, [&](std::int64_t begin, std::int64_t end) {
    with_load(any_load, [&](const auto& load) {
      for (std::int64_t i = begin; i < end; ++i) {
        pack_tile(load, i / count, tiles[static_cast<std::size_t>(i % count)]);
      }
    });
  });
}

// The residues modulo `stride` that the taps of a filter reach, ascending.
std::vector<std::int64_t> phases_of(std::int64_t taps, std::int64_t dilation, std::int64_t stride) {
  std::vector<std::int64_t> phases;
  for (std::int64_t k = 0; k < taps; ++k) {
    phases.push_back(k * dilation % stride);
  }
  std::sort(phases.begin(), phases.end());
  phases.erase(std::unique(phases.begin(), phases.end()), phases.end());
  return phases;
}

std::int64_t index_of(const std::vector<std::int64_t>& values, std::int64_t value) {
  return std::find(values.begin(), values.end(), value) - values.begin();
}

}  // namespace

void convolution(ThreadPool& pool, const ConvolutionShape& s, const ImageOperand& input,
                 const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                 Activation activation, float* out) {
  const std::array<std::int64_t, 3> extent{s.group_in(), s.kernel_height, s.kernel_width};
  Stage stage;
  stage.step_y = s.stride_y;
  stage.step_x = s.stride_x;
  stage.phases_y = phases_of(s.kernel_height, s.dilation_y, s.stride_y);
  stage.phases_x = phases_of(s.kernel_width, s.dilation_x, s.stride_x);
  stage.channels = s.group_in();
  stage.pitch = s.out_width() + (s.kernel_width - 1) * s.dilation_x / s.stride_x;

  std::vector<Pass> passes(1);
  Pass& pass = passes.front();
  pass = pass_of(extent, cuts, [](std::int64_t, std::int64_t) { return true; });
  for (Tap& tap : pass.taps) {
    const std::int64_t y = tap.ky * s.dilation_y;
    const std::int64_t x = tap.kx * s.dilation_x;
    tap.slot = index_of(stage.phases_y, y % s.stride_y) *
                   static_cast<std::int64_t>(stage.phases_x.size()) +
               index_of(stage.phases_x, x % s.stride_x);
    tap.row = y / s.stride_y;
    tap.column = x / s.stride_x;
  }
  const std::array<std::int64_t, 4>& stride = weight.stride;
  pack_weights(pool, weight.storage,
               {s.group_out() * stride[0], stride[0], stride[1], stride[2], stride[3]}, s.groups,
               s.group_out(), pass);

  Problem problem;
  problem.source = input;
  problem.source_height = s.height;
  problem.source_width = s.width;
  problem.batch = s.batch;
  problem.groups = s.groups;
  problem.rows = s.group_out();
  problem.extra_rows = (s.kernel_height - 1) * s.dilation_y / s.stride_y;
  problem.row_positions = s.out_width();
  problem.position_rows = s.out_height();
  problem.top = -s.padding_y;
  problem.left = -s.padding_x;
  problem.out_height = s.out_height();
  problem.out_width = s.out_width();
  problem.levels = internal::cut_levels(extent, cuts);
  problem.bias = bias;
  problem.activation = activation;
  problem.out = out;
  StagedConvolution(problem, stage, std::move(passes), pool.threads()).run(pool);
}

void convolution_input_gradient(ThreadPool& pool, const ConvolutionShape& s,
                                const ImageOperand& output_gradient, const ImageOperand& weight,
                                const ReduceCuts& cuts, float* out) {
  const std::array<std::int64_t, 3> extent{s.group_out(), s.kernel_height, s.kernel_width};
  // Input row y and filter row ky meet at output row (y + padding - ky dilation) / stride. With
  // y + padding = stride j + phase that is j - (ky dilation - phase) / stride: position row j less
  // a shift of the tap, for the taps of that phase.
  const std::int64_t shift_y = (s.kernel_height - 1) * s.dilation_y / s.stride_y;
  const std::int64_t shift_x = (s.kernel_width - 1) * s.dilation_x / s.stride_x;
  const std::int64_t first_j = s.padding_y / s.stride_y;
  const std::int64_t first_i = s.padding_x / s.stride_x;

  Problem problem;
  problem.source = output_gradient;
  problem.source_height = s.out_height();
  problem.source_width = s.out_width();
  problem.batch = s.batch;
  problem.groups = s.groups;
  problem.rows = s.group_in();
  problem.extra_rows = shift_y;
  problem.row_positions = (s.width - 1 + s.padding_x) / s.stride_x - first_i + 1;
  problem.position_rows = (s.height - 1 + s.padding_y) / s.stride_y - first_j + 1;
  problem.top = first_j - shift_y;
  problem.left = first_i - shift_x;
  problem.step_y = s.stride_y;
  problem.step_x = s.stride_x;
  problem.out_height = s.height;
  problem.out_width = s.width;
  problem.levels = internal::cut_levels(extent, cuts);
  problem.out = out;
  Stage stage;
  stage.channels = s.group_out();
  stage.pitch = problem.row_positions + shift_x;

  const std::array<std::int64_t, 4>& stride = weight.stride;
  std::vector<Pass> passes;
  for (std::int64_t phase = 0; phase < s.stride_y * s.stride_x; ++phase) {
    const std::int64_t phase_y = phase / s.stride_x;
    const std::int64_t phase_x = phase % s.stride_x;
    Pass pass = pass_of(extent, cuts, [&](std::int64_t ky, std::int64_t kx) {
      return ky * s.dilation_y % s.stride_y == phase_y && kx * s.dilation_x % s.stride_x == phase_x;
    });
    for (Tap& tap : pass.taps) {
      tap.row = shift_y - (tap.ky * s.dilation_y - phase_y) / s.stride_y;
      tap.column = shift_x - (tap.kx * s.dilation_x - phase_x) / s.stride_x;
    }
    pass.first_y = first_j * s.stride_y + phase_y - s.padding_y;
    pass.first_x = first_i * s.stride_x + phase_x - s.padding_x;
    pack_weights(pool, weight.storage,
                 {s.group_out() * stride[0], stride[1], stride[0], stride[2], stride[3]}, s.groups,
                 s.group_in(), pass);
    passes.push_back(std::move(pass));
  }
  StagedConvolution(problem, stage, std::move(passes), pool.threads()).run(pool);
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
