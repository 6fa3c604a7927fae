#include "dojo/numerics/internal/gemm_exact_avx512.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "dojo/numerics/internal/batch.h"
#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

constexpr std::int64_t kColumns = 16;  // of a tile: two vectors of FP64
constexpr std::int64_t kChunkPoints = 256;
constexpr std::int64_t kBlockRows = 8 * kMaxTileRows;
constexpr std::int64_t kBlockColumns = 256;
constexpr int kMostProducts = 9;  // of pieces

__extension__ using Int128 = __int128;

std::int64_t blocks_of(std::int64_t extent, std::int64_t block) {
  return (extent + block - 1) / block;
}

// sums[r][c] (+)= sum over k of a[k * rows + r] b[k * 16 + c].
template <int rows>
void run(const double* a, const double* b, std::int64_t points, double* sums) {
  __m512d acc[rows][2];
#pragma GCC unroll 32
  for (int r = 0; r < rows; ++r) {
    acc[r][0] = _mm512_loadu_pd(sums + r * kColumns);
    acc[r][1] = _mm512_loadu_pd(sums + r * kColumns + 8);
  }
  for (std::int64_t k = 0; k < points; ++k, a += rows, b += kColumns) {
    const __m512d left = _mm512_loadu_pd(b);
    const __m512d right = _mm512_loadu_pd(b + 8);
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) {
      const __m512d x = _mm512_set1_pd(a[r]);
      acc[r][0] = _mm512_fmadd_pd(x, left, acc[r][0]);
      acc[r][1] = _mm512_fmadd_pd(x, right, acc[r][1]);
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < rows; ++r) {
    _mm512_storeu_pd(sums + r * kColumns, acc[r][0]);
    _mm512_storeu_pd(sums + r * kColumns + 8, acc[r][1]);
  }
}

using Kernel = void (*)(const double*, const double*, std::int64_t, double*);

template <int... rows>
constexpr std::array<Kernel, sizeof...(rows)> kernels_of(std::integer_sequence<int, rows...>) {
  return {run<rows + 1>...};
}
constexpr std::array<Kernel, kMaxTileRows> kKernels =
    kernels_of(std::make_integer_sequence<int, kMaxTileRows>());

// Cuts `count` values into pieces: piece i goes to to[i * stride + ...]. The highest first, each
// rounded towards zero; what it leaves is exact.
void cut(const float* from, std::int64_t count, const Pieces& pieces, std::int64_t stride,
         double* to) {
  const __m512d to_units = _mm512_set1_pd(std::ldexp(1.0, -pieces.unit));
  for (std::int64_t i = 0; i < count; i += 8) {
    __m512d rest = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(from + i)), to_units);
    for (int piece = pieces.count - 1; piece >= 0; --piece) {
      const int shift = piece * pieces.width;
      const __m512d scaled = _mm512_mul_pd(rest, _mm512_set1_pd(std::ldexp(1.0, -shift)));
      const __m512d whole = _mm512_roundscale_pd(scaled, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
      _mm512_storeu_pd(to + piece * stride + i, whole);
      rest = _mm512_fnmadd_pd(whole, _mm512_set1_pd(std::ldexp(1.0, shift)), rest);
    }
  }
}

class ExactGemm {
 public:
  ExactGemm(const ExactPlan& plan, const GemmShape& shape, const MatrixOperand& a,
            const MatrixOperand& b, const Epilogue& epilogue, const MatrixOutput& out)
      : plan_(plan),
        shape_(shape),
        a_(a),
        b_(b),
        epilogue_(epilogue),
        out_(out),
        pack_a_(gemm_kernels().packer_of(a.storage)),
        pack_b_(gemm_kernels().packer_of(b.storage)),
        points_(std::min(kChunkPoints, std::max<std::int64_t>(shape.k, 1))) {}

  std::int64_t tasks() const {
    return internal::batch_count(shape_) * blocks_of(shape_.m, kBlockRows) *
           blocks_of(shape_.n, kBlockColumns);
  }
  // In floats.
  std::int64_t scratch_size() const {
    return 2 * (plan_.a.count * a_size() + plan_.b.count * b_size() + products() * kSums) +
           std::max(kMaxTileRows, kColumns) * points_ + 16;
  }

  void run(std::int64_t task, float* scratch) const {
    const std::int64_t column_blocks = blocks_of(shape_.n, kBlockColumns);
    const std::int64_t row_blocks = blocks_of(shape_.m, kBlockRows);
    Block block;
    block.at = internal::batch_offset(shape_, a_, b_, out_, task / column_blocks / row_blocks);
    block.row = task / column_blocks % row_blocks * kBlockRows;
    block.column = task % column_blocks * kBlockColumns;
    block.columns = std::min(kBlockColumns, shape_.n - block.column);
    block.tiles = row_tiles(std::min(kBlockRows, shape_.m - block.row));
    block.a = reinterpret_cast<double*>(scratch);
    block.b = block.a + plan_.a.count * a_size();
    block.sums = block.b + plan_.b.count * b_size();
    block.decoded = reinterpret_cast<float*>(block.sums + products() * kSums);
    std::fill_n(block.sums, products() * kSums, 0.0);
    for (std::int64_t point = 0; point < shape_.k; point += points_) {
      fold(block, point, std::min(points_, shape_.k - point));
    }
    finish(block);
  }

 private:
  static constexpr std::int64_t kSums = kBlockRows * kBlockColumns;

  struct Block {
    internal::BatchOffset at;
    std::int64_t row = 0;
    std::int64_t column = 0;
    std::int64_t columns = 0;
    std::vector<RowTile> tiles;
    double* a = nullptr;
    double* b = nullptr;
    double* sums = nullptr;  // products x column panels x rows x 16
    float* decoded = nullptr;
  };

  std::int64_t a_size() const { return kBlockRows * points_; }
  std::int64_t b_size() const { return kBlockColumns * points_; }
  std::int64_t products() const { return std::int64_t{plan_.a.count} * plan_.b.count; }

  double* sums_of(const Block& block, std::int64_t product, std::int64_t column,
                  std::int64_t row) const {
    return block.sums + product * kSums + column * kBlockRows + row * kColumns;
  }

  void fold(const Block& block, std::int64_t point, std::int64_t points) const {
    for (const RowTile& rows : block.tiles) {
      pack_a_->pack(
          {block.at.a + (block.row + rows.first) * a_.row_stride + point * a_.column_stride,
           a_.row_stride, a_.column_stride, rows.rows, points},
          rows.rows, 0, block.decoded);
      cut(block.decoded, rows.rows * points, plan_.a, a_size(), block.a + rows.first * points);
    }
    for (std::int64_t column = 0; column < block.columns; column += kColumns) {
      pack_b_->pack(
          {block.at.b + (block.column + column) * b_.column_stride + point * b_.row_stride,
           b_.column_stride, b_.row_stride, std::min(kColumns, block.columns - column), points},
          kColumns, 0, block.decoded);
      cut(block.decoded, kColumns * points, plan_.b, b_size(), block.b + column * points);
    }
    for (std::int64_t product = 0; product < products(); ++product) {
      const double* a = block.a + product / plan_.b.count * a_size();
      const double* b = block.b + product % plan_.b.count * b_size();
      for (std::int64_t column = 0; column < block.columns; column += kColumns) {
        for (const RowTile& rows : block.tiles) {
          kKernels[static_cast<std::size_t>(rows.rows - 1)](
              a + rows.first * points, b + column * points, points,
              sums_of(block, product, column, rows.first));
        }
      }
    }
  }

  // The integer sum of all products of pieces, rounded once.
  float rounded(const double* sums) const {
    Int128 total = 0;
    for (int i = 0; i < plan_.a.count; ++i) {
      for (int j = 0; j < plan_.b.count; ++j, sums += kSums) {
        const Int128 weight = Int128{1} << (i * plan_.a.width + j * plan_.b.width);
        total += static_cast<Int128>(*sums) * weight;
      }
    }
    return std::ldexp(static_cast<float>(total), plan_.a.unit + plan_.b.unit);
  }

  void round_row(const double* sums, float* to) const {
    if (products() > 1) {
      for (std::int64_t c = 0; c < kColumns; ++c) {
        to[c] = rounded(sums + c);
      }
      return;
    }
    const __m512d unit = _mm512_set1_pd(std::ldexp(1.0, plan_.a.unit + plan_.b.unit));
    for (std::int64_t c = 0; c < kColumns; c += 8) {
      _mm256_storeu_ps(to + c, _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_loadu_pd(sums + c), unit)));
    }
  }

  void finish(const Block& block) const {
    const std::int64_t rows = block.tiles.back().first + block.tiles.back().rows;
    for (std::int64_t column = 0; column < block.columns; column += kColumns) {
      for (std::int64_t row = 0; row < rows; ++row) {
        alignas(64) float sums[kColumns];
        round_row(sums_of(block, 0, column, row), sums);
        const std::int64_t r = block.row + row;
        const std::int64_t c = block.column + column;
        internal::FinishedTile tile{sums,
                                    kColumns,
                                    1,
                                    std::min(kColumns, block.columns - column),
                                    epilogue_,
                                    out_.data + block.at.out + r * out_.row_stride + c,
                                    out_.row_stride};
        tile.epilogue.row_bias += tile.epilogue.row_bias != nullptr ? r : 0;
        tile.epilogue.column_bias += tile.epilogue.column_bias != nullptr ? c : 0;
        gemm_kernels().finish(tile);
      }
    }
  }

  const ExactPlan& plan_;
  const GemmShape& shape_;
  const MatrixOperand& a_;
  const MatrixOperand& b_;
  const Epilogue& epilogue_;
  const MatrixOutput& out_;
  std::unique_ptr<internal::Packer> pack_a_;
  std::unique_ptr<internal::Packer> pack_b_;
  std::int64_t points_;  // of a chunk
};

}  // namespace

std::optional<ExactPlan> exact_plan(const internal::ValueRange& a, const internal::ValueRange& b,
                                    std::int64_t k) {
  constexpr int kExactBits = 53;
  constexpr int kIntegerBits = 126;
  constexpr int kLowestUnit = -149;  // of FP32: rounding to 24 bits is the only rounding
  const int sums = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(k)));
  const int bits_a = std::max(1, a.top - a.unit);
  const int bits_b = std::max(1, b.top - b.unit);
  if (!a.is_finite || !b.is_finite || bits_a + bits_b + sums > kIntegerBits ||
      a.unit + b.unit < kLowestUnit) {
    return std::nullopt;
  }
  std::optional<ExactPlan> best;
  for (int count_a = 1; count_a <= kMostProducts; ++count_a) {
    const int width_a = (bits_a + count_a - 1) / count_a;
    const int width_b = std::min(bits_b, kExactBits - sums - width_a);
    if (width_b < 1) {
      continue;
    }
    const int count_b = (bits_b + width_b - 1) / width_b;
    const int least = best.has_value() ? best->a.count * best->b.count : kMostProducts + 1;
    if (count_a * count_b < least) {
      best = ExactPlan{{a.unit, width_a, count_a}, {b.unit, width_b, count_b}};
    }
  }
  return best;
}

void gemm_exact(const ExactPlan& plan, ThreadPool& pool, const GemmShape& shape,
                const MatrixOperand& a, const MatrixOperand& b, const Epilogue& epilogue,
                const MatrixOutput& out) {
  if (shape.m == 0 || shape.n == 0 || internal::batch_count(shape) == 0) {
    return;
  }
  const ExactGemm product(plan, shape, a, b, epilogue, out);
  internal::BufferPool scratch(product.scratch_size());
  pool.parallel_for(product.tasks(), 1, [&](std::int64_t begin, std::int64_t end) {
    internal::BufferPool::Lease lease(scratch);
    for (std::int64_t task = begin; task < end; ++task) {
      product.run(task, lease.data());
    }
  });
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
