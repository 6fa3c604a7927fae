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

// PERF: a B panel of 256 units x 32 lanes takes two thirds of a 48 KiB L1. A group of row tiles
// shares it there; 256 x 112 of A and the sums of 112 x 1024 outputs take 0.6 MiB of the L2, while
// panels of B stream by from beyond it.
constexpr std::int64_t kChunkUnits = 256;
constexpr std::int64_t kGroupTiles = 8;
constexpr std::int64_t kGroupColumns = 1024;
constexpr std::int64_t kPackedUnits = std::int64_t{4} << 20;  // of B at a time: 16 MiB
constexpr std::int64_t kFewestColumns = 256;                  // of B where its columns are long
constexpr std::int64_t kSlicedColumns = 1024;  // where B is used up by one group of rows
constexpr std::int64_t kJobTiles = 80;         // where sums of all of them are kept

std::int64_t blocks_of(std::int64_t extent, std::int64_t block) {
  return (extent + block - 1) / block;
}
std::int64_t round_up(std::int64_t x, std::int64_t to) { return blocks_of(x, to) * to; }

// A product and what of it is the result, or C turned: then its rows are columns of the tiles.
struct Product {
  GemmShape shape;
  MatrixOperand a;
  MatrixOperand b;
  Epilogue epilogue;
  MatrixOutput out;
  bool is_turned = false;
};

// Columns come in vectors, rows one by one: where few columns leave much of a vector empty, the
// product of the transposed matrices is the quicker one. A tile of few rows waits for its sums.
bool is_better_turned(const GemmShape& s, const Epilogue& epilogue, std::int64_t lanes) {
  const auto cost = [&](std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kFewRows = 4;
    return static_cast<double>(std::max(rows, kFewRows) * round_up(columns, lanes));
  };
  const bool has_both = epilogue.row_bias != nullptr && epilogue.column_bias != nullptr;
  return !has_both && cost(s.n, s.m) < 0.95 * cost(s.m, s.n);
}

MatrixOperand transposed(const MatrixOperand& x) {
  return {x.storage, x.column_stride, x.row_stride, x.batch_stride};
}

Product product_of(const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
                   const Epilogue& epilogue, const MatrixOutput& out, std::int64_t lanes) {
  if (!is_better_turned(shape, epilogue, lanes)) {
    return {shape, a, b, epilogue, out, false};
  }
  return {{shape.n, shape.m, shape.k, shape.batch},
          transposed(b),
          transposed(a),
          {epilogue.column_bias, epilogue.row_bias, epilogue.activation},
          out,
          true};
}

// The product is done in jobs, each with some columns of B: it packs them, then every group of its
// rows is multiplied with them. Either each thread takes jobs, or all threads share each job. Where
// there is one group, it packs two panels of B at a time as it comes to them.
class BlockedGemm {
 public:
  BlockedGemm(const GemmKernels& kernels, const Product& product, const ReduceCuts& cuts,
              int threads)
      : kernels_(kernels),
        product_(product),
        shape_(product_.shape),
        columns_(2 * kernels.lanes),
        fold_(fold_of(cuts.order, kernels.points_per_unit == 2)),
        pack_a_(kernels.packer_of(product.a.storage)),
        pack_b_(kernels.packer_of(product.b.storage)) {
    cut_points(cuts);
    cut_jobs(threads);
    take_units();
  }

  void run(ThreadPool& pool) const {
    ThreadPool alone(1);
    BufferPool packed(packed_columns() * most_packed_ + (keeps_all() ? job_state_size() : 0));
    const int sharing = shares_jobs_ ? pool.threads() : 1;
    const Tasks tasks = tasks_of(sharing);
    BufferPool scratch(tasks.a_size + (keeps_all() ? 0 : tasks.state_size));
    (shares_jobs_ ? alone : pool)
        .parallel_for(jobs(), 1, [&](std::int64_t begin, std::int64_t end) {
          BufferPool::Lease lease(packed);
          for (std::int64_t at = begin; at < end; ++at) {
            run_job(shares_jobs_ ? pool : alone, job_of(at), tasks, lease.data(), scratch);
          }
        });
  }

 private:
  // Points of a chunk that are packed in one go.
  struct Run {
    std::int64_t point = 0;
    std::int64_t points = 0;
    std::int64_t unit = 0;  // in the chunk
  };

  struct Job {
    BatchOffset at;
    std::int64_t row = 0;
    std::int64_t column = 0;
    std::int64_t columns = 0;
    std::vector<RowTile> tiles;
    float* packed_b = nullptr;
    float* state = nullptr;  // where sums of all tiles are kept
  };

  // How a job is split: groups of its row tiles x blocks of its columns.
  struct Tasks {
    std::int64_t groups = 1;
    std::int64_t columns = 0;  // of a block
    std::int64_t a_size = 0;
    std::int64_t state_size = 0;
  };

  // One of them, with its memory.
  struct Block {
    std::int64_t tile = 0;
    std::int64_t end_tile = 0;
    std::int64_t column = 0;
    std::int64_t end_column = 0;
    float* packed_a = nullptr;
    float* state = nullptr;
  };

  bool has_chunks() const { return chunked_.chunks.size() > 1; }
  // Sums of a job outlast the chunks of B that are packed together.
  bool keeps_all() const { return chunked_.chunks.size() > packed_chunks_; }
  std::int64_t slot_size() const { return (levels_ + 1) * kMaxTileRows * columns_; }
  std::int64_t job_tiles() const { return blocks_of(job_rows_, kMaxTileRows); }
  std::int64_t job_state_size() const {
    return job_tiles() * (job_columns_ / columns_) * slot_size();
  }
  std::int64_t packed_columns() const {
    return is_sliced_ ? std::min(2 * columns_, job_columns_) : job_columns_;
  }
  std::int64_t jobs() const { return batch_count(shape_) * row_jobs_ * column_jobs_; }

  void cut_points(const ReduceCuts& cuts) {
    const std::array<std::int64_t, 1> extent{shape_.k};
    levels_ = cut_levels(extent, cuts);
    std::vector<Segment> segments;
    for_each_part(extent, cuts, [&](const Part& part) { segments.push_back(part.segment); });
    const std::int64_t limit = kChunkUnits * kernels_.points_per_unit;
    const bool is_short = shape_.k <= limit + limit / 2;
    const std::int64_t group = cuts.order == SumOrder::Tile4 ? 4 : kernels_.points_per_unit;
    chunked_ = into_chunks(segments, is_short ? std::max(shape_.k, group) : limit, group);
  }

  void cut_jobs(int threads) {
    const std::int64_t units = std::max(blocks_of(shape_.k, kernels_.points_per_unit), kChunkUnits);
    const std::int64_t tiles = blocks_of(shape_.m, kMaxTileRows);
    packed_chunks_ = chunked_.chunks.size();
    std::int64_t columns = std::max(kPackedUnits / units, kFewestColumns);
    is_sliced_ = tiles <= kGroupTiles;
    if (is_sliced_) {
      packed_chunks_ = 1;
      columns = kSlicedColumns;
    } else if (columns * units > kPackedUnits) {
      packed_chunks_ = static_cast<std::size_t>(kPackedUnits / columns / kChunkUnits);
    }
    row_jobs_ = keeps_all() ? blocks_of(tiles, kJobTiles) : 1;
    column_jobs_ = blocks_of(shape_.n, columns);
    const std::int64_t others = batch_count(shape_) * row_jobs_;
    const auto is_even = [&] {
      return others * column_jobs_ >= 8 * threads || others * column_jobs_ % threads == 0;
    };
    while (is_sliced_ && !is_even() && column_jobs_ < shape_.n / columns_) {
      ++column_jobs_;
    }
    shares_jobs_ = threads > 1 && !is_sliced_ && !is_even();
    job_rows_ = blocks_of(tiles, row_jobs_) * kMaxTileRows;
    job_columns_ = round_up(blocks_of(shape_.n, column_jobs_), columns_);
    column_jobs_ = blocks_of(shape_.n, job_columns_);
    row_jobs_ = blocks_of(shape_.m, job_rows_);
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
      const bool is_first = units_.size() % packed_chunks_ == 0;
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

  Job job_of(std::int64_t index) const {
    Job job;
    const std::int64_t batch = index / column_jobs_ / row_jobs_;
    job.at = batch_offset(shape_, product_.a, product_.b, product_.out, batch);
    job.row = index / column_jobs_ % row_jobs_ * job_rows_;
    job.column = index % column_jobs_ * job_columns_;
    job.columns = std::min(job_columns_, shape_.n - job.column);
    job.tiles = avx512::row_tiles(std::min(job_rows_, shape_.m - job.row));
    return job;
  }

  // As many groups as fit the caches; if several threads share the job, at least two tasks each
  // where they stay large enough to be worth their packing.
  Tasks tasks_of(int threads) const {
    constexpr std::int64_t kFewestTiles = 4;
    const std::int64_t tiles = job_tiles();
    const std::int64_t wanted = threads > 1 ? 2 * threads : 1;
    Tasks tasks;
    tasks.groups = blocks_of(tiles, kGroupTiles);
    if (tasks.groups < 4 * wanted) {
      tasks.groups =
          std::min(round_up(tasks.groups, wanted), std::max(tiles / kFewestTiles, tasks.groups));
    }
    std::int64_t blocks = has_chunks() ? blocks_of(job_columns_, kGroupColumns) : 1;
    if (tasks.groups < wanted) {
      const std::int64_t most = std::max<std::int64_t>(job_columns_ / (4 * columns_), blocks);
      blocks = std::min(most, std::max(blocks, blocks_of(wanted, tasks.groups)));
    }
    tasks.columns = round_up(blocks_of(job_columns_, blocks), columns_);
    const std::int64_t group = blocks_of(tiles, tasks.groups);
    tasks.a_size = group * kMaxTileRows * most_units_;
    tasks.state_size = (has_chunks() ? group * (tasks.columns / columns_) : 1) * slot_size();
    return tasks;
  }

  void run_job(ThreadPool& pool, Job job, const Tasks& tasks, float* memory,
               BufferPool& scratch) const {
    job.packed_b = memory;
    job.state = memory + packed_columns() * most_packed_;
    const std::int64_t column_blocks = blocks_of(job.columns, tasks.columns);
    for (std::size_t first = 0; first < chunked_.chunks.size(); first += packed_chunks_) {
      const std::size_t last = std::min(first + packed_chunks_, chunked_.chunks.size());
      if (!is_sliced_) {
        pack_columns(pool, job, first, last);
      }
      pool.parallel_for(tasks.groups * column_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
        BufferPool::Lease lease(scratch);
        for (std::int64_t task = begin; task < end; ++task) {
          run_block(job, block_of(job, tasks, task, lease.data()), first, last);
        }
      });
    }
  }

  void pack_columns(ThreadPool& pool, const Job& job, std::size_t first, std::size_t last) const {
    const std::int64_t slice =
        pool.threads() > 1 ? 2 * columns_ : round_up(job.columns, 2 * columns_);
    const std::int64_t slices = blocks_of(job.columns, slice);
    const std::int64_t count = slices * static_cast<std::int64_t>(last - first);
    const std::int64_t grain = std::max<std::int64_t>(1, count / (4 * pool.threads()));
    pool.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end; ++at) {
        const std::size_t chunk = first + static_cast<std::size_t>(at / slices);
        const std::int64_t column = at % slices * slice;
        pack_slice(job, chunk, column, std::min(slice, job.columns - column));
      }
    });
  }

  void pack_slice(const Job& job, std::size_t chunk, std::int64_t column,
                  std::int64_t columns) const {
    const MatrixOperand& b = product_.b;
    float* to = panel_of(job, chunk, column);
    for (const Run& run : runs_[chunk]) {
      const std::int64_t first =
          job.at.b + (job.column + column) * b.column_stride + run.point * b.row_stride;
      pack_b_->pack({first, b.column_stride, b.row_stride, columns, run.points}, columns_,
                    units_[chunk] * columns_, to + run.unit * columns_);
    }
  }

  float* panel_of(const Job& job, std::size_t chunk, std::int64_t column) const {
    return job.packed_b + packed_columns() * unit_[chunk] +
           column % packed_columns() * units_[chunk];
  }

  Block block_of(const Job& job, const Tasks& tasks, std::int64_t task, float* memory) const {
    const std::int64_t tiles = static_cast<std::int64_t>(job.tiles.size());
    const std::int64_t group = task % tasks.groups;
    Block block;
    block.tile = tiles * group / tasks.groups;
    block.end_tile = tiles * (group + 1) / tasks.groups;
    block.column = task / tasks.groups * tasks.columns;
    block.end_column = std::min(block.column + tasks.columns, job.columns);
    block.packed_a = memory;
    block.state = memory + tasks.a_size;
    return block;
  }

  void run_block(const Job& job, const Block& block, std::size_t first, std::size_t last) const {
    if (block.tile == block.end_tile) {
      return;
    }
    for (std::size_t chunk = first; chunk < last; ++chunk) {
      pack_rows(job, block, chunk);
      run_tiles(job, block, chunk);
    }
  }

  void pack_rows(const Job& job, const Block& block, std::size_t chunk) const {
    const MatrixOperand& a = product_.a;
    const std::int64_t first = tile_of(job, block.tile).first;
    for (std::int64_t tile = block.tile; tile < block.end_tile; ++tile) {
      const RowTile& rows = tile_of(job, tile);
      float* to = block.packed_a + (rows.first - first) * units_[chunk];
      for (const Run& run : runs_[chunk]) {
        const PanelExtent from{
            job.at.a + (job.row + rows.first) * a.row_stride + run.point * a.column_stride,
            a.row_stride, a.column_stride, rows.rows, run.points};
        pack_a_->pack(from, rows.rows, 0, to + run.unit * rows.rows);
      }
    }
  }

  static const RowTile& tile_of(const Job& job, std::int64_t tile) {
    return job.tiles[static_cast<std::size_t>(tile)];
  }

  float* state_of(const Job& job, const Block& block, std::int64_t tile,
                  std::int64_t column) const {
    if (keeps_all()) {
      return job.state + (column / columns_ * job_tiles() + tile) * slot_size();
    }
    const std::int64_t slot =
        (column - block.column) / columns_ * (block.end_tile - block.tile) + tile - block.tile;
    return block.state + (has_chunks() ? slot * slot_size() : 0);
  }

  void run_tiles(const Job& job, const Block& block, std::size_t at_chunk) const {
    const Chunk& chunk = chunked_.chunks[at_chunk];
    const std::int64_t units = units_[at_chunk];
    const std::int64_t first_row = tile_of(job, block.tile).first;
    TileCall call;
    call.fold = fold_;
    call.b_offset = b_offset_.data();
    call.segments = chunked_.segments.data() + chunk.first_segment;
    call.segment_count = chunk.segments;
    call.resumes = chunk.resumes;
    for (std::int64_t column = block.column; column < block.end_column; column += columns_) {
      const std::int64_t columns = std::min(columns_, block.end_column - column);
      const bool has_next = !is_sliced_ && column + columns_ < block.end_column;
      if (is_sliced_ && column % packed_columns() == 0) {
        pack_slice(job, at_chunk, column, std::min(packed_columns(), block.end_column - column));
      }
      call.b = panel_of(job, at_chunk, column);
      for (std::int64_t tile = block.tile; tile < block.end_tile; ++tile) {
        const RowTile& rows = tile_of(job, tile);
        call.a = block.packed_a + (rows.first - first_row) * units;
        call.state = state_of(job, block, tile, column);
        // The last two tiles fetch the next panel, half of its columns each.
        const std::int64_t left = block.end_tile - tile;
        call.ahead = has_next && left <= 2
                         ? call.b + (units * columns_) + (2 - left) * kernels_.lanes
                         : nullptr;
        run_tile(job, rows, column, columns, at_chunk, call);
      }
    }
  }

  void run_tile(const Job& job, const RowTile& rows, std::int64_t column, std::int64_t columns,
                std::size_t at_chunk, TileCall& call) const {
    const std::int64_t vectors = columns > kernels_.lanes ? 2 : 1;
    const std::int64_t pitch = vectors * kernels_.lanes;
    const bool is_last = at_chunk + 1 == chunked_.chunks.size();
    const MatrixOutput& out = product_.out;
    const std::int64_t row = job.row + rows.first;
    const std::int64_t first = job.column + column;
    float* to = out.data + job.at.out;
    to += product_.is_turned ? first * out.row_stride + row : row * out.row_stride + first;
    const Epilogue& epilogue = product_.epilogue;
    const bool is_plain = epilogue.row_bias == nullptr && epilogue.column_bias == nullptr &&
                          epilogue.activation == Activation::None;
    const bool is_direct =
        is_last && levels_ == 0 && is_plain && !product_.is_turned && columns == pitch;
    call.out = is_direct ? to : nullptr;
    call.out_stride = out.row_stride;
    kernels_.run_tile(rows.rows, vectors, call);
    if (!is_last || is_direct) {
      return;
    }
    FinishedTile tile{call.state + levels_ * rows.rows * pitch,
                      pitch,
                      rows.rows,
                      columns,
                      epilogue,
                      to,
                      out.row_stride,
                      product_.is_turned};
    tile.epilogue.row_bias += tile.epilogue.row_bias != nullptr ? row : 0;
    tile.epilogue.column_bias += tile.epilogue.column_bias != nullptr ? first : 0;
    kernels_.finish(tile);
  }

  const GemmKernels& kernels_;
  const Product& product_;
  const GemmShape& shape_;
  std::int64_t columns_;  // of a tile
  TileFold fold_;
  std::unique_ptr<Packer> pack_a_;
  std::unique_ptr<Packer> pack_b_;
  int levels_ = 0;
  std::size_t packed_chunks_ = 1;  // of B at a time
  std::int64_t row_jobs_ = 1;
  std::int64_t column_jobs_ = 1;
  std::int64_t job_rows_ = 0;
  std::int64_t job_columns_ = 0;
  bool shares_jobs_ = false;
  bool is_sliced_ = false;
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
  const Product product = product_of(shape, a, b, epilogue, out, kernels.lanes);
  BlockedGemm(kernels, product, cuts, pool.threads()).run(pool);
}

}  // namespace dojo::numerics::internal
