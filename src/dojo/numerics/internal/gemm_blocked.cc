#include "dojo/numerics/internal/gemm_blocked.h"

#include <algorithm>
#include <array>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/batch.h"
#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/product_units.h"
#include "dojo/numerics/internal/reduce_plan.h"

namespace dojo::numerics::internal {
namespace {

using avx512::kMaxTileRows;
using avx512::RowTile;
using avx512::TileCall;
using avx512::TileFold;

// PERF: a B panel of 256 units x 32 lanes takes two thirds of a 48 KiB L1; 256 x 224 of A and the
// sums of 224 x 512 outputs take 0.7 MiB of the L2, while panels of B stream by from beyond it.
constexpr std::int64_t kChunkUnits = 256;
constexpr std::int64_t kPackedTiles = 16;  // row tiles of A packed at a time
constexpr std::size_t kPackedChunks = 16;  // chunks of B packed at a time
constexpr std::int64_t kTaskRows = 80 * kMaxTileRows;
constexpr std::int64_t kTaskColumns = 512;

std::int64_t blocks_of(std::int64_t extent, std::int64_t block) {
  return (extent + block - 1) / block;
}
std::int64_t round_up(std::int64_t x, std::int64_t to) { return blocks_of(x, to) * to; }

// How C is split into tasks.
struct Blocking {
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  std::int64_t tasks(const GemmShape& s) const {
    return batch_count(s) * blocks_of(s.m, rows) * blocks_of(s.n, columns);
  }
};

// Equal tasks, at least two a thread if they stay large enough to be worth their packing.
Blocking blocking_of(const GemmShape& shape, int threads, std::int64_t tile_columns) {
  const std::int64_t wanted = threads > 1 ? 2 * threads : 1;
  std::int64_t row_blocks = blocks_of(shape.m, kTaskRows);
  std::int64_t column_blocks = blocks_of(shape.n, kTaskColumns);
  const auto blocking = [&] {
    return Blocking{round_up(blocks_of(shape.m, row_blocks), kMaxTileRows),
                    round_up(blocks_of(shape.n, column_blocks), tile_columns)};
  };
  Blocking by = blocking();
  while (by.tasks(shape) < wanted) {
    const bool rows_can_shrink = by.rows > 4 * kMaxTileRows;
    const bool columns_can_shrink = by.columns > 4 * tile_columns;
    if (!rows_can_shrink && !columns_can_shrink) {
      break;
    }
    const bool takes_rows = rows_can_shrink && (by.rows >= by.columns || !columns_can_shrink);
    ++(takes_rows ? row_blocks : column_blocks);
    by = blocking();
  }
  return by;
}

class BlockedGemm {
 public:
  BlockedGemm(const GemmKernels& kernels, const GemmShape& shape, const MatrixOperand& a,
              const MatrixOperand& b, const ReduceCuts& cuts, const Epilogue& epilogue,
              const MatrixOutput& out, int threads)
      : kernels_(kernels),
        shape_(shape),
        a_(a),
        b_(b),
        epilogue_(epilogue),
        out_(out),
        columns_(2 * kernels.lanes),
        by_(blocking_of(shape, threads, columns_)),
        fold_(fold_of(cuts.order, kernels.points_per_unit == 2)),
        pack_a_(kernels.packer_of(a.storage)),
        pack_b_(kernels.packer_of(b.storage)) {
    const std::array<std::int64_t, 1> extent{shape.k};
    levels_ = cut_levels(extent, cuts);
    std::vector<Segment> segments;
    for_each_part(extent, cuts, [&](const Part& part) { segments.push_back(part.segment); });
    const std::int64_t limit = kChunkUnits * kernels.points_per_unit;
    const bool is_short = shape.k <= limit + limit / 2;
    const std::int64_t group = cuts.order == SumOrder::Tile4 ? 4 : kernels.points_per_unit;
    chunked_ = into_chunks(segments, is_short ? std::max(shape.k, group) : limit, group);
    take_units();
  }

  std::int64_t tasks() const { return by_.tasks(shape_); }

  std::int64_t scratch_size() const {
    const std::int64_t slots = keeps_state() ? state_tiles() * (by_.columns / columns_) : 1;
    return by_.columns * most_packed_ + a_size() + slots * slot_size();
  }

  void run(std::int64_t task, float* scratch) const {
    const std::int64_t column_blocks = blocks_of(shape_.n, by_.columns);
    const std::int64_t row_blocks = blocks_of(shape_.m, by_.rows);
    Block block;
    block.at = batch_offset(shape_, a_, b_, out_, task / column_blocks / row_blocks);
    block.row = task / column_blocks % row_blocks * by_.rows;
    block.column = task % column_blocks * by_.columns;
    block.columns = std::min(by_.columns, shape_.n - block.column);
    block.tiles = avx512::row_tiles(std::min(by_.rows, shape_.m - block.row));
    block.packed_b = scratch;
    block.packed_a = block.packed_b + by_.columns * most_packed_;
    block.state = block.packed_a + a_size();
    const std::int64_t tiles = static_cast<std::int64_t>(block.tiles.size());
    for (std::size_t first = 0; first < chunked_.chunks.size(); first += kPackedChunks) {
      const std::size_t last = std::min(first + kPackedChunks, chunked_.chunks.size());
      pack_columns(block, first, last);
      for (std::int64_t tile = 0; tile < tiles; tile += kPackedTiles) {
        const std::int64_t end = std::min(tile + kPackedTiles, tiles);
        for (std::size_t chunk = first; chunk < last; ++chunk) {
          pack_rows(block, chunk, tile, end);
          run_tiles(block, chunk, tile, end);
        }
      }
    }
  }

 private:
  struct Block {
    BatchOffset at;
    std::int64_t row = 0;
    std::int64_t column = 0;
    std::int64_t columns = 0;
    std::vector<RowTile> tiles;
    float* packed_b = nullptr;
    float* packed_a = nullptr;
    float* state = nullptr;
  };

  bool keeps_state() const { return chunked_.chunks.size() > 1; }
  std::int64_t slot_size() const { return (levels_ + 1) * kMaxTileRows * columns_; }
  std::int64_t a_size() const {
    return std::min(kPackedTiles * kMaxTileRows, by_.rows) * most_units_;
  }
  // Row tiles whose sums are kept from chunk to chunk.
  std::int64_t state_tiles() const {
    const std::int64_t tiles = blocks_of(by_.rows, kMaxTileRows);
    return chunked_.chunks.size() > kPackedChunks ? tiles : std::min(tiles, kPackedTiles);
  }

  // Points of the chunks into units; a segment begins with a unit of its own.
  void take_units() {
    const std::int64_t per_unit = kernels_.points_per_unit;
    std::size_t segment = 0;
    for (const Chunk& chunk : chunked_.chunks) {
      std::vector<Run> runs;
      std::int64_t point = chunk.first_point;
      std::int64_t unit = 0;
      for (std::int64_t s = 0; s < chunk.segments; ++s, ++segment) {
        std::int32_t& points = chunked_.segments[segment].points;
        if (per_unit > 1 || s == 0) {
          runs.push_back({point, per_unit > 1 ? points : chunk.points, unit});
        }
        point += points;
        points = static_cast<std::int32_t>(blocks_of(points, per_unit));
        unit += points;
      }
      most_units_ = std::max(most_units_, unit);
      const bool is_first = units_.size() % kPackedChunks == 0;
      unit_.push_back(is_first ? 0 : unit_.back() + units_.back());
      units_.push_back(unit);
      most_packed_ = std::max(most_packed_, unit_.back() + unit);
      runs_.push_back(std::move(runs));
    }
    b_offset_.resize(static_cast<std::size_t>(most_units_));
    for (std::size_t unit = 0; unit < b_offset_.size(); ++unit) {
      b_offset_[unit] = static_cast<std::int32_t>(unit) * static_cast<std::int32_t>(columns_);
    }
  }

  void pack_columns(const Block& block, std::size_t chunk, std::size_t last) const {
    for (; chunk < last; ++chunk) {
      float* to = block.packed_b + by_.columns * unit_[chunk];
      for (const Run& run : runs_[chunk]) {
        const PanelExtent from{
            block.at.b + block.column * b_.column_stride + run.point * b_.row_stride,
            b_.column_stride, b_.row_stride, block.columns, run.points};
        pack_b_->pack(from, columns_, units_[chunk] * columns_, to + run.unit * columns_);
      }
    }
  }

  void pack_rows(const Block& block, std::size_t chunk, std::int64_t tile, std::int64_t end) const {
    const std::int64_t first = block.tiles[static_cast<std::size_t>(tile)].first;
    for (; tile < end; ++tile) {
      const RowTile& rows = block.tiles[static_cast<std::size_t>(tile)];
      float* to = block.packed_a + (rows.first - first) * units_[chunk];
      for (const Run& run : runs_[chunk]) {
        const PanelExtent from{
            block.at.a + (block.row + rows.first) * a_.row_stride + run.point * a_.column_stride,
            a_.row_stride, a_.column_stride, rows.rows, run.points};
        pack_a_->pack(from, rows.rows, 0, to + run.unit * rows.rows);
      }
    }
  }

  void run_tiles(const Block& block, std::size_t at_chunk, std::int64_t tile,
                 std::int64_t end) const {
    const Chunk& chunk = chunked_.chunks[at_chunk];
    const std::int64_t units = units_[at_chunk];
    const std::int64_t tiles = state_tiles();
    const std::int64_t first_row = block.tiles[static_cast<std::size_t>(tile)].first;
    const bool is_last = at_chunk + 1 == chunked_.chunks.size();
    TileCall call;
    call.fold = fold_;
    call.b_offset = b_offset_.data();
    call.segments = chunked_.segments.data() + chunk.first_segment;
    call.segment_count = chunk.segments;
    call.resumes = chunk.resumes;
    for (std::int64_t column = 0; column < block.columns; column += columns_) {
      const std::int64_t columns = std::min(columns_, block.columns - column);
      const std::int64_t vectors = columns > kernels_.lanes ? 2 : 1;
      call.b = block.packed_b + by_.columns * unit_[at_chunk] + column * units;
      for (std::int64_t t = tile; t < end; ++t) {
        const RowTile& rows = block.tiles[static_cast<std::size_t>(t)];
        call.a = block.packed_a + (rows.first - first_row) * units;
        const std::int64_t slot = keeps_state() ? column / columns_ * tiles + t % tiles : 0;
        call.state = block.state + slot * slot_size();
        kernels_.run_tile(rows.rows, vectors, call);
        if (is_last) {
          const std::int64_t pitch = vectors * kernels_.lanes;
          finish(block, rows, column, columns, call.state + levels_ * rows.rows * pitch, pitch);
        }
      }
    }
  }

  void finish(const Block& block, const RowTile& rows, std::int64_t column, std::int64_t columns,
              const float* sums, std::int64_t pitch) const {
    const std::int64_t first_row = block.row + rows.first;
    const std::int64_t first_column = block.column + column;
    FinishedTile tile{
        sums,           pitch,
        rows.rows,      columns,
        epilogue_,      out_.data + block.at.out + first_row * out_.row_stride + first_column,
        out_.row_stride};
    tile.epilogue.row_bias += tile.epilogue.row_bias != nullptr ? first_row : 0;
    tile.epilogue.column_bias += tile.epilogue.column_bias != nullptr ? first_column : 0;
    kernels_.finish(tile);
  }

  // Points of a chunk that are packed in one go.
  struct Run {
    std::int64_t point = 0;
    std::int64_t points = 0;
    std::int64_t unit = 0;  // in the chunk
  };

  const GemmKernels& kernels_;
  const GemmShape& shape_;
  const MatrixOperand& a_;
  const MatrixOperand& b_;
  const Epilogue& epilogue_;
  const MatrixOutput& out_;
  std::int64_t columns_;  // of a tile
  Blocking by_;
  TileFold fold_;
  std::unique_ptr<Packer> pack_a_;
  std::unique_ptr<Packer> pack_b_;
  int levels_ = 0;
  Chunked chunked_;                     // segments count units
  std::vector<std::int64_t> units_;     // of each chunk
  std::vector<std::int64_t> unit_;      // the first of each among the chunks packed together
  std::vector<std::vector<Run>> runs_;  // of each chunk
  std::int64_t most_units_ = 0;         // of a chunk
  std::int64_t most_packed_ = 0;        // of the chunks packed together
  std::vector<std::int32_t> b_offset_;
};

}  // namespace

void gemm_blocked(const GemmKernels& kernels, ThreadPool& pool, const GemmShape& shape,
                  const MatrixOperand& a, const MatrixOperand& b, const ReduceCuts& cuts,
                  const Epilogue& epilogue, const MatrixOutput& out) {
  if (shape.m == 0 || shape.n == 0 || batch_count(shape) == 0) {
    return;
  }
  const BlockedGemm product(kernels, shape, a, b, cuts, epilogue, out, pool.threads());
  BufferPool scratch(product.scratch_size());
  pool.parallel_for(product.tasks(), 1, [&](std::int64_t begin, std::int64_t end) {
    BufferPool::Lease lease(scratch);
    for (std::int64_t task = begin; task < end; ++task) {
      product.run(task, lease.data());
    }
  });
}

}  // namespace dojo::numerics::internal
