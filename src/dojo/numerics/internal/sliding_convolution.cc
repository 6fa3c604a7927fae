#include "dojo/numerics/internal/sliding_convolution.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/buffer.h"

namespace dojo::numerics::internal {
namespace {

using avx512::row_tiles;
using avx512::RowTile;
using avx512::TileCall;

constexpr std::int64_t kSlack = 64;  // floats readable behind the last position

std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

// The weights of all passes, each as [group][tile of rows][unit][row] with room for every tap.
class PackedWeights {
 public:
  PackedWeights(ThreadPool& pool, const SlidePlan& plan, std::span<const RowTile> tiles)
      : plan_(plan), tiles_(tiles), reader_(plan.products.kernels->reader_of(plan.weight)) {
    find_runs();
    for (const SlidePass& pass : plan.passes) {
      const std::int64_t taps = static_cast<std::int64_t>(pass.taps.size());
      packed_.emplace_back(std::max<std::int64_t>(plan.groups * plan.rows * taps, 1));
    }
    const std::int64_t count = static_cast<std::int64_t>(tiles.size());
    pool.parallel_for(plan.groups * count, 1, [&](std::int64_t begin, std::int64_t end) {
      Buffer scratch(longest_ * plan.products.kernels->tile_rows);
      for (std::int64_t i = begin; i < end; ++i) {
        pack(i / count, tiles_[static_cast<std::size_t>(i % count)], scratch.data());
      }
    });
  }

  const float* of(std::size_t pass, std::int64_t group, const RowTile& tile) const {
    const std::int64_t taps = static_cast<std::int64_t>(plan_.passes[pass].taps.size());
    return packed_[pass].data() + (group * plan_.rows + tile.first) * taps;
  }

 private:
  // Which tap of which pass.
  struct Place {
    std::int64_t at = 0;  // element of row 0
    std::size_t pass = 0;
    std::int64_t tap = 0;
  };
  // Taps that lie at equal distances; one panel. If they follow one another in one pass too, they
  // are read straight into place.
  struct TapRun {
    std::size_t first = 0;
    std::int64_t taps = 0;
    std::int64_t distance = 1;
    bool is_direct = true;
  };

  void find_runs() {
    const WeightStrides& stride = plan_.weight_stride;
    for (std::size_t p = 0; p < plan_.passes.size(); ++p) {
      std::int64_t index = 0;
      for (const Tap& tap : plan_.passes[p].taps) {
        std::int64_t at = tap.channel * stride.channel;
        for (std::size_t a = 0; a < 3; ++a) {
          at += tap.kernel[a] * stride.kernel[a];
        }
        places_.push_back({at, p, index++});
      }
    }
    // Passes share what is adjacent in storage.
    if (plan_.passes.size() > 1) {
      std::stable_sort(places_.begin(), places_.end(),
                       [](const Place& a, const Place& b) { return a.at < b.at; });
    }
    for (std::size_t k = 0; k < places_.size();) {
      TapRun run{.first = k, .taps = 1};
      if (stride.row == 1 && k + 1 < places_.size()) {
        run.distance = places_[k + 1].at - places_[k].at;
      }
      for (++k; k < places_.size() && places_[k].at == places_[k - 1].at + run.distance; ++k) {
        run.is_direct = run.is_direct && places_[k].pass == places_[k - 1].pass &&
                        places_[k].tap == places_[k - 1].tap + 1;
        ++run.taps;
      }
      longest_ = std::max(longest_, run.is_direct ? 0 : run.taps);
      runs_.push_back(run);
    }
  }

  float* destination(const Place& place, std::int64_t group, const RowTile& tile) {
    const std::int64_t taps = static_cast<std::int64_t>(plan_.passes[place.pass].taps.size());
    return packed_[place.pass].data() + (group * plan_.rows + tile.first) * taps +
           place.tap * tile.rows;
  }

  void pack(std::int64_t group, const RowTile& tile, float* scratch) {
    const WeightStrides& stride = plan_.weight_stride;
    const std::int64_t first = group * stride.group + tile.first * stride.row;
    for (const TapRun& run : runs_) {
      const PanelExtent panel{first + places_[run.first].at, stride.row, run.distance, tile.rows,
                              run.taps};
      if (run.is_direct) {
        reader_->read_panel(panel, destination(places_[run.first], group, tile), tile.rows);
        continue;
      }
      reader_->read_panel(panel, scratch, tile.rows);
      for (std::int64_t k = 0; k < run.taps; ++k) {
        std::copy_n(scratch + k * tile.rows, tile.rows,
                    destination(places_[run.first + static_cast<std::size_t>(k)], group, tile));
      }
    }
    if (plan_.products.has_pairs()) {
      join_pairs(group, tile);
    }
  }

  // Taps of pairs move up: no unit lies behind its first tap.
  void join_pairs(std::int64_t group, const RowTile& tile) {
    for (std::size_t p = 0; p < plan_.passes.size(); ++p) {
      const Units& units = plan_.passes[p].units;
      float* taps = destination({.pass = p}, group, tile);
      for (std::size_t k = 0; k < units.first.size(); ++k) {
        const float* second = units.second[k] < 0 ? nullptr : taps + units.second[k] * tile.rows;
        join(taps + units.first[k] * tile.rows, second, tile.rows,
             taps + static_cast<std::int64_t>(k) * tile.rows);
      }
    }
  }

  const SlidePlan& plan_;
  std::span<const RowTile> tiles_;
  std::unique_ptr<OperandReader> reader_;
  std::vector<Place> places_;
  std::vector<TapRun> runs_;
  std::int64_t longest_ = 1;
  std::vector<Buffer> packed_;  // by pass
};

class SlidingConvolution {
 public:
  SlidingConvolution(ThreadPool& pool, const SlidePlan& plan, const float* bias,
                     Activation activation, float* out)
      : plan_(plan),
        kernels_(*plan.products.kernels),
        bias_(bias),
        activation_(activation),
        out_(out),
        tiles_(row_tiles(plan.rows)),
        weights_(pool, plan, tiles_),
        reader_(kernels_.reader_of(plan.source.storage)),
        division_(divide(plan, pool.threads())) {
    division_.row_blocks = std::min(division_.row_blocks, static_cast<std::int64_t>(tiles_.size()));
    size_scratch();
  }

  void run(ThreadPool& pool) const {
    BufferPool scratch(stage_size_ + row_size_ + panel_size_ + state_size_);
    const std::int64_t boxes = static_cast<std::int64_t>(division_.boxes.size());
    pool.parallel_for(boxes * plan_.groups * division_.row_blocks, 1,
                      [&](std::int64_t begin, std::int64_t end) {
                        BufferPool::Lease lease(scratch);
                        for (std::int64_t task = begin; task < end; ++task) {
                          run_task(task, lease.data());
                        }
                      });
  }

 private:
  struct Scratch {
    float* stage = nullptr;
    float* row = nullptr;
    float* panel = nullptr;
    float* state = nullptr;
  };

  void size_scratch() {
    const Box& box = division_.largest;
    const StageLayout layout = layout_of(plan_, box);
    stage_size_ = round_up(plan_.channels * plan_.planes() * layout.slot_size(box) + kSlack, 16);
    DOJO_CHECK(stage_size_ < (std::int64_t{1} << 31));
    row_size_ = plan_.axis[2].step > 1
                    ? round_up(layout.rows * plan_.axis[1].step * plan_.axis[2].source + 32, 16)
                    : 0;
    std::int64_t chunks = 1;
    std::int64_t longest = 0;
    for (const SlidePass& pass : plan_.passes) {
      chunks = std::max(chunks, static_cast<std::int64_t>(pass.chunked.chunks.size()));
      for (const Chunk& chunk : pass.chunked.chunks) {
        longest = std::max(longest, chunk.points);
      }
    }
    panel_size_ = longest * kernels_.tile_columns + 16;
    for (std::int64_t k = 0; k < longest; ++k) {
      panel_offset_.push_back(static_cast<std::int32_t>(k * kernels_.tile_columns));
    }
    const std::int64_t columns =
        chunks > 1
            ? box.images * box.count[0] * (box.count[1] * layout.pitch + kernels_.tile_columns)
            : kernels_.tile_columns;
    const std::int64_t rows = chunks > 1 ? plan_.rows : kernels_.tile_rows;
    state_size_ = (plan_.levels + 1) * rows * round_up(columns, 16);
  }

  void run_task(std::int64_t task, float* scratch) const {
    const std::int64_t row_block = task % division_.row_blocks;
    const std::int64_t group = task / division_.row_blocks % plan_.groups;
    const Box& box =
        division_.boxes[static_cast<std::size_t>(task / division_.row_blocks / plan_.groups)];
    const Scratch at{scratch, scratch + stage_size_, scratch + stage_size_ + row_size_,
                     scratch + stage_size_ + row_size_ + panel_size_};
    const std::int64_t count = static_cast<std::int64_t>(tiles_.size());
    const std::int64_t first = count * row_block / division_.row_blocks;
    const std::int64_t end = count * (row_block + 1) / division_.row_blocks;
    const std::span<const RowTile> tiles = std::span(tiles_).subspan(
        static_cast<std::size_t>(first), static_cast<std::size_t>(end - first));
    fill_stage(box, group, at);
    ColumnTiles columns;
    Offsets offsets;
    const std::int64_t rows = tiles.back().first + tiles.back().rows - tiles.front().first;
    for (std::size_t p = 0; p < plan_.passes.size(); ++p) {
      tile_columns(plan_, plan_.passes[p], box, rows, columns);
      place_units(plan_.passes[p], box, offsets);
      run_pass(p, box, group, tiles, columns, offsets, at);
    }
  }

  // Where in the stage the points of each unit lie.
  struct Offsets {
    std::vector<std::int32_t> first;
    std::vector<std::int32_t> second;  // of pairs; -1: none
  };

  void place_units(const SlidePass& pass, const Box& box, Offsets& offsets) const {
    const StageLayout layout = layout_of(plan_, box);
    const auto offset_of = [&](std::int32_t index) {
      const Tap& tap = pass.taps[static_cast<std::size_t>(index)];
      return static_cast<std::int32_t>(
          (tap.channel * plan_.planes() + tap.slot) * layout.slot_size(box) +
          (tap.shift[0] * layout.rows + tap.shift[1]) * layout.pitch + tap.shift[2]);
    };
    offsets.first.clear();
    offsets.second.clear();
    for (const std::int32_t index : pass.units.first) {
      offsets.first.push_back(offset_of(index));
    }
    for (const std::int32_t index : pass.units.second) {
      offsets.second.push_back(index < 0 ? -1 : offset_of(index));
    }
  }

  // --- the stage ---
  // Stage indices along an axis whose source exists, for one phase: [begin, end) of `count` from
  // `first` on; `source` is that of `begin`.
  struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t source = 0;

    std::int64_t count() const { return end - begin; }
  };
  Range range_of(std::size_t a, std::int64_t phase, std::int64_t first, std::int64_t count) const {
    const SlideAxis& axis = plan_.axis[a];
    const std::int64_t at = axis.first + axis.phases[static_cast<std::size_t>(phase)] +
                            axis.step * first;  // source of index 0
    Range range;
    range.begin = at >= 0 ? 0 : std::min((-at + axis.step - 1) / axis.step, count);
    range.end = at < axis.source
                    ? std::clamp((axis.source - at + axis.step - 1) / axis.step, range.begin, count)
                    : range.begin;
    range.source = at + axis.step * range.begin;
    return range;
  }

  void fill_stage(const Box& box, std::int64_t group, const Scratch& at) const {
    const StageLayout layout = layout_of(plan_, box);
    const std::int64_t channel_size = plan_.planes() * layout.slot_size(box);
    std::fill_n(at.stage, plan_.channels * channel_size + kSlack, 0.0F);
    const std::int64_t slots_of_z = plan_.axis[1].stored_phases() * plan_.axis[2].stored_phases();
    for (std::int64_t i = 0; i < plan_.axis[0].stored_phases(); ++i) {
      const Range z = range_of(0, i, box.first[0], layout.planes);
      float* const to = at.stage + i * slots_of_z * layout.slot_size(box);
      for (std::int64_t c = 0; c < plan_.channels; ++c) {
        for (std::int64_t n = 0; n < box.images; ++n) {
          for (std::int64_t jz = z.begin; jz < z.end; ++jz) {
            const ImageStrides& stride = plan_.source.stride;
            const std::int64_t from = (box.image + n) * stride[0] +
                                      (group * plan_.channels + c) * stride[1] +
                                      (z.source + (jz - z.begin) * plan_.axis[0].step) * stride[2];
            fill_plane(
                box, layout, from, at.row,
                to + c * channel_size + n * layout.image_size() + jz * layout.rows * layout.pitch);
          }
        }
      }
    }
  }

  // One z of a channel: its phases of y and x are slots one behind the other.
  void fill_plane(const Box& box, const StageLayout& layout, std::int64_t from, float* scratch,
                  float* to) const {
    const SlideAxis& x = plan_.axis[2];
    const SlideAxis& axis_y = plan_.axis[1];
    const std::int64_t row_stride = plan_.source.stride[3];
    const std::int64_t stride = plan_.source.stride[4];
    if (x.step == 1) {
      const Range range = range_of(2, 0, 0, layout.pitch);
      for (std::int64_t i = 0; i < axis_y.stored_phases(); ++i, to += layout.slot_size(box)) {
        const Range y = range_of(1, i, box.first[1], layout.rows);
        reader_->read_rows({from + y.source * row_stride + range.source * stride,
                            row_stride * axis_y.step, stride, y.count(), range.count()},
                           to + y.begin * layout.pitch + range.begin, layout.pitch);
      }
      return;
    }
    // Rows that adjoin in storage are read as one if all of them are needed.
    const bool is_joined = row_stride == x.source * stride && axis_y.stored_phases() == axis_y.step;
    const std::int64_t top = axis_y.first + axis_y.step * box.first[1];
    const std::int64_t low = std::clamp<std::int64_t>(top, 0, axis_y.source);
    const std::int64_t high =
        std::clamp<std::int64_t>(top + axis_y.step * layout.rows, low, axis_y.source);
    if (is_joined) {
      const std::int64_t count = (high - low) * x.source;
      reader_->read_rows({from + low * row_stride, 0, stride, 1, count}, scratch, count);
    }
    for (std::int64_t i = 0; i < axis_y.stored_phases(); ++i) {
      const Range y = range_of(1, i, box.first[1], layout.rows);
      const float* rows = scratch;
      if (is_joined) {
        rows += (y.source - low) * x.source;
      } else {
        reader_->read_rows(
            {from + y.source * row_stride, row_stride * axis_y.step, stride, y.count(), x.source},
            scratch, x.source);
      }
      for (std::int64_t k = 0; k < x.stored_phases(); ++k, to += layout.slot_size(box)) {
        const Range range = range_of(2, k, 0, layout.pitch);
        kernels_.pick({.from = rows + range.source,
                       .from_pitch = x.source * (is_joined ? axis_y.step : 1),
                       .step = x.step,
                       .rows = y.count(),
                       .count = range.count(),
                       .to = to + y.begin * layout.pitch + range.begin,
                       .to_pitch = layout.pitch});
      }
    }
  }

  // --- the products ---
  void run_pass(std::size_t p, const Box& box, std::int64_t group, std::span<const RowTile> tiles,
                const ColumnTiles& columns, const Offsets& offsets, const Scratch& at) const {
    const SlidePass& pass = plan_.passes[p];
    const bool keeps_state = pass.chunked.chunks.size() > 1;
    for (const Chunk& chunk : pass.chunked.chunks) {
      const bool is_last = &chunk == &pass.chunked.chunks.back();
      float* state = at.state;
      TileCall call;
      call.fold = plan_.products.fold;
      call.segments = pass.chunked.segments.data() + chunk.first_segment;
      call.segment_count = chunk.segments;
      call.resumes = chunk.resumes;
      for (const ColumnTile& tile : columns.tiles) {
        read_columns(columns, tile, offsets, chunk, at, call);
        for (const RowTile& rows : tiles) {
          call.a = weights_.of(p, group, rows) + chunk.first_point * rows.rows;
          call.state = state;
          kernels_.run_tile(rows.rows, tile.vectors, call);
          if (is_last) {
            store(box, group, rows, columns, tile, state);
          }
          state += keeps_state ? kernels_.state_floats(rows.rows, tile.vectors, plan_.levels) : 0;
        }
      }
    }
  }

  // Where the tile reads its columns: in the stage, or in a panel made for all rows.
  void read_columns(const ColumnTiles& columns, const ColumnTile& tile, const Offsets& offsets,
                    const Chunk& chunk, const Scratch& at, TileCall& call) const {
    const std::int32_t* first = offsets.first.data() + chunk.first_point;
    if (tile.is_in_place) {
      call.b = at.stage + tile.from;
      call.b_offset = first;
      return;
    }
    const std::span<const Piece> pieces = columns.pieces_of(tile);
    if (plan_.products.has_pairs()) {
      kernels_.gather_pairs(at.stage, first, offsets.second.data() + chunk.first_point,
                            chunk.points, pieces, at.panel);
    } else {
      kernels_.gather(at.stage, first, chunk.points, pieces, at.panel);
    }
    call.b = at.panel;
    call.b_offset = panel_offset_.data();
  }

  void store(const Box& box, std::int64_t group, const RowTile& rows, const ColumnTiles& columns,
             const ColumnTile& tile, const float* state) const {
    const std::int64_t first_row = group * plan_.rows + rows.first;
    TileStore to;
    to.sums = state + kernels_.sums_offset(rows.rows, tile.vectors, plan_.levels);
    to.pitch = tile.vectors * kernels_.lanes;
    to.rows = rows.rows;
    to.bias = bias_ != nullptr ? bias_ + first_row : nullptr;
    to.activation = activation_;
    to.row_stride = plan_.out_volume();
    to.to = out_ + (box.image * plan_.groups * plan_.rows + first_row) * to.row_stride;
    to.step = plan_.axis[2].out_step;
    kernels_.store(to, columns.pieces_of(tile));
  }

  const SlidePlan& plan_;
  const ConvolutionKernels& kernels_;
  const float* bias_;
  Activation activation_;
  float* out_;
  std::vector<RowTile> tiles_;
  PackedWeights weights_;
  std::unique_ptr<OperandReader> reader_;
  Division division_;
  std::vector<std::int32_t> panel_offset_;
  std::int64_t stage_size_ = 0;
  std::int64_t row_size_ = 0;
  std::int64_t panel_size_ = 0;
  std::int64_t state_size_ = 0;
};

}  // namespace

void run_sliding(ThreadPool& pool, const SlidePlan& plan, const float* bias, Activation activation,
                 float* out) {
  SlidingConvolution(pool, plan, bias, activation, out).run(pool);
}

}  // namespace dojo::numerics::internal
