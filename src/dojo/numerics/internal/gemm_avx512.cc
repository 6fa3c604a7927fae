#include "dojo/numerics/internal/gemm_avx512.h"

#include <algorithm>
#include <numeric>

#include "dojo/numerics/internal/batch.h"
#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx512.h"
#include "dojo/numerics/internal/reduce_plan.h"
#include "dojo/numerics/internal/tile_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

// PERF: a B panel of 256 x 32 floats fills two thirds of a 48 KiB L1; a block of 256 x 512 of B,
// 256 x 224 of A and its 224 x 512 sums stay within a 2 MiB L2.
constexpr std::int64_t kChunkPoints = 256;
constexpr std::int64_t kBlockRows = 224;
constexpr std::int64_t kBlockColumns = 512;

std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

// How C is split into tasks. It moves no bit: every output is folded by one task in one order.
struct Blocking {
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  std::int64_t row_blocks(const GemmShape& s) const { return (s.m + rows - 1) / rows; }
  std::int64_t column_blocks(const GemmShape& s) const { return (s.n + columns - 1) / columns; }
  std::int64_t tasks(const GemmShape& s) const {
    return internal::batch_count(s) * row_blocks(s) * column_blocks(s);
  }
};

Blocking blocking_of(const GemmShape& shape, int threads) {
  Blocking by;
  by.rows = std::min(kBlockRows, shape.m);
  by.columns = std::min(kBlockColumns, round_up(shape.n, kTileColumns));
  const std::int64_t wanted = threads > 1 ? 3 * threads : 1;
  while (by.tasks(shape) < wanted && (by.columns > 128 || by.rows > 56)) {
    if (by.columns > 128 && by.columns >= by.rows) {
      by.columns = round_up(by.columns / 2, kTileColumns);
    } else if (by.rows > 56) {
      by.rows = round_up(by.rows / 2, kMaxTileRows);
    } else {
      break;
    }
  }
  return by;
}

class Gemm {
 public:
  Gemm(const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
       const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out,
       const Blocking& by)
      : shape_(shape),
        a_(a),
        b_(b),
        epilogue_(epilogue),
        out_(out),
        by_(by),
        load_a_(load_of(a.storage.type)),
        load_b_(load_of(b.storage.type)),
        bytes_a_(bytes_of(a.storage.type.format)),
        bytes_b_(bytes_of(b.storage.type.format)) {
    const std::array<std::int64_t, 1> extent{shape.k};
    levels_ = internal::cut_levels(extent, cuts);
    std::vector<internal::Segment> segments;
    internal::for_each_part(extent, cuts,
                            [&](const internal::Part& part) { segments.push_back(part.segment); });
    const bool is_short = shape.k <= kChunkPoints + kChunkPoints / 2;
    chunked_ = internal::into_chunks(segments,
                                     is_short ? std::max<std::int64_t>(shape.k, 1) : kChunkPoints);
    for (const internal::Chunk& chunk : chunked_.chunks) {
      longest_ = std::max(longest_, chunk.points);
    }
    b_offset_.resize(static_cast<std::size_t>(longest_));
    for (std::size_t k = 0; k < b_offset_.size(); ++k) {
      b_offset_[k] = static_cast<std::int32_t>(k * kTileColumns);
    }
  }

  std::int64_t scratch_size() const {
    const std::int64_t columns = round_up(by_.columns, kTileColumns);
    const std::int64_t slots =
        chunked_.chunks.size() > 1 ? by_.rows * columns : kMaxTileRows * kTileColumns;
    return by_.rows * longest_ + 64 + columns * longest_ + (levels_ + 1) * slots;
  }

  void run(std::int64_t task, float* scratch) const {
    const std::int64_t column_blocks = by_.column_blocks(shape_);
    const std::int64_t row_blocks = by_.row_blocks(shape_);
    const std::int64_t column_block = task % column_blocks;
    const std::int64_t row_block = task / column_blocks % row_blocks;
    const internal::BatchOffset at =
        internal::batch_offset(shape_, a_, b_, out_, task / column_blocks / row_blocks);
    Block block;
    block.at = at;
    block.row = row_block * by_.rows;
    block.column = column_block * by_.columns;
    block.columns = std::min(by_.columns, shape_.n - block.column);
    block.tiles = row_tiles(std::min(by_.rows, shape_.m - block.row));
    block.packed_b = scratch;
    block.packed_a = block.packed_b + round_up(by_.columns, kTileColumns) * longest_;
    block.state = block.packed_a + round_up(by_.rows * longest_, 16);
    for (const internal::Chunk& chunk : chunked_.chunks) {
      pack_chunk(block, chunk);
      run_chunk(block, chunk);
    }
  }

 private:
  struct Block {
    internal::BatchOffset at;
    std::int64_t row = 0;
    std::int64_t column = 0;
    std::int64_t columns = 0;
    std::vector<RowTile> tiles;
    float* packed_b = nullptr;
    float* packed_a = nullptr;
    float* state = nullptr;
  };

  void pack_chunk(const Block& block, const internal::Chunk& chunk) const {
    const std::byte* a = static_cast<const std::byte*>(a_.storage.data) +
                         (a_.storage.offset + block.at.a + block.row * a_.row_stride +
                          chunk.first_point * a_.column_stride) *
                             bytes_a_;
    const std::byte* b = static_cast<const std::byte*>(b_.storage.data) +
                         (b_.storage.offset + block.at.b + block.column * b_.column_stride +
                          chunk.first_point * b_.row_stride) *
                             bytes_b_;
    with_load(load_a_, [&](const auto& load) {
      for (const RowTile& tile : block.tiles) {
        const Panel panel{a + tile.first * a_.row_stride * bytes_a_, a_.row_stride,
                          a_.column_stride, tile.rows, chunk.points};
        pack(load, panel, block.packed_a + tile.first * chunk.points, tile.rows);
      }
    });
    with_load(load_b_, [&](const auto& load) {
      for (std::int64_t column = 0; column < block.columns; column += kTileColumns) {
        const Panel panel{b + column * b_.column_stride * bytes_b_, b_.column_stride, b_.row_stride,
                          std::min(kTileColumns, block.columns - column), chunk.points};
        pack(load, panel, block.packed_b + column * chunk.points, kTileColumns);
      }
    });
  }

  void run_chunk(const Block& block, const internal::Chunk& chunk) const {
    const bool keeps_state = chunked_.chunks.size() > 1;
    const bool is_last = &chunk == &chunked_.chunks.back();
    float* state = block.state;
    TileCall call;
    call.b_offset = b_offset_.data();
    call.segments = chunked_.segments.data() + chunk.first_segment;
    call.segment_count = chunk.segments;
    call.resumes = chunk.resumes;
    for (std::int64_t column = 0; column < block.columns; column += kTileColumns) {
      const std::int64_t columns = std::min(kTileColumns, block.columns - column);
      const std::int64_t vectors = columns > 16 ? 2 : 1;
      call.b = block.packed_b + column * chunk.points;
      for (const RowTile& tile : block.tiles) {
        call.a = block.packed_a + tile.first * chunk.points;
        call.state = state;
        run_tile(tile.rows, vectors, call);
        if (is_last) {
          finish(block, tile, column, columns, state + result_offset(tile.rows, vectors, levels_),
                 vectors * 16);
        }
        state += keeps_state ? state_size(tile.rows, vectors, levels_) : 0;
      }
    }
  }

  void finish(const Block& block, const RowTile& tile, std::int64_t column, std::int64_t columns,
              const float* sums, std::int64_t pitch) const {
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      const std::int64_t row = block.row + tile.first + r;
      float* to = out_.data + block.at.out + row * out_.row_stride + block.column + column;
      for (std::int64_t c = 0; c < columns; c += 16) {
        const __mmask16 lanes = first_lanes(columns - c);
        __m512 x = _mm512_loadu_ps(sums + r * pitch + c);
        if (epilogue_.row_bias != nullptr) {
          x = _mm512_add_ps(x, _mm512_set1_ps(epilogue_.row_bias[row]));
        }
        if (epilogue_.column_bias != nullptr) {
          x = _mm512_add_ps(
              x, _mm512_maskz_loadu_ps(lanes, epilogue_.column_bias + block.column + column + c));
        }
        if (epilogue_.activation == Activation::Relu) {
          x = relu(x);
        }
        _mm512_mask_storeu_ps(to + c, lanes, x);
      }
    }
  }

  const GemmShape& shape_;
  const MatrixOperand& a_;
  const MatrixOperand& b_;
  const Epilogue& epilogue_;
  const MatrixOutput& out_;
  Blocking by_;
  AnyLoad load_a_;
  AnyLoad load_b_;
  std::int64_t bytes_a_;
  std::int64_t bytes_b_;
  int levels_ = 0;
  internal::Chunked chunked_;
  std::int64_t longest_ = 0;  // points of the longest chunk
  std::vector<std::int32_t> b_offset_;
};

}  // namespace

void gemm(ThreadPool& pool, const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
          const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out) {
  if (shape.m == 0 || shape.n == 0) {
    return;
  }
  const Blocking by = blocking_of(shape, pool.threads());
  const Gemm product(shape, a, b, cuts, epilogue, out, by);
  internal::BufferPool scratch(product.scratch_size());
  pool.parallel_for(by.tasks(shape), 1, [&](std::int64_t begin, std::int64_t end) {
    internal::BufferPool::Lease lease(scratch);
    for (std::int64_t task = begin; task < end; ++task) {
      product.run(task, lease.data());
    }
  });
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
