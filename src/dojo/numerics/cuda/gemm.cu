// The exact product, as the CPU computes it: operands are decoded to FP32 panels, points (k) outer
// and lanes (rows or columns) inner, then every thread folds 8 x 8 outputs over ascending k.
#include <bit>
#include <string>

#include "dojo/numerics/cuda/gemm.h"
#include "dojo/numerics/cuda/internal/batch.cuh"
#include "dojo/numerics/cuda/internal/codec.cuh"
#include "dojo/numerics/cuda/internal/status.cuh"

namespace dojo::numerics::cuda {
namespace {

using internal::round_up;

// One block makes kTile x kTile outputs, 16 points at a time; four such pieces are under way. A
// thread has kRuns runs of four rows and as many of columns.
constexpr int kPoints = 16;
constexpr int kStages = 4;
constexpr int kThreads = 256;
template <int kRuns>
struct Tiling {
  static constexpr int kTile = 64 * kRuns;
  static constexpr int kPanelFloats = kTile * kPoints;
  static constexpr int kSharedBytes = kStages * 2 * kPanelFloats * 4;
};

// How the points of k lie in a panel: each part is filled up with points of +0, which fold to
// nothing, since fma(0, 0, acc) = acc for every acc that a fold from +0 can reach (never -0).
struct Points {
  std::int64_t k = 0;
  std::int64_t block = 0;         // points of a part
  std::int64_t padded_block = 0;  // with the fill
  std::int64_t parts = 1;
  constexpr std::int64_t padded() const { return parts * padded_block; }
};

Points points_of(std::int64_t k, const ReduceCuts& cuts) {
  const std::int64_t block = std::max<std::int64_t>(std::min(cuts.block_of(0, k), k), 1);
  return {.k = k,
          .block = block,
          .padded_block = round_up(block, kPoints),
          .parts = k == 0 ? 1 : (k + block - 1) / block};
}

// An operand as the device reads it.
struct Source {
  const std::byte* data;
  std::int64_t lane_stride;
  std::int64_t point_stride;
  std::int64_t lanes;
  internal::BatchStride batch_stride;
};

struct ReadF32 {
  __device__ float operator()(const std::byte* data, std::int64_t i) const {
    return reinterpret_cast<const float*>(data)[i];
  }
};
struct ReadBf16 {
  __device__ float operator()(const std::byte* data, std::int64_t i) const {
    return __uint_as_float(std::uint32_t{reinterpret_cast<const std::uint16_t*>(data)[i]} << 16);
  }
};
struct ReadU8 {
  __device__ float operator()(const std::byte* data, std::int64_t i) const {
    return static_cast<float>(reinterpret_cast<const std::uint8_t*>(data)[i]);
  }
};
template <class Code>
struct ReadConfigurable {
  internal::Codec by;
  __device__ float operator()(const std::byte* data, std::int64_t i) const {
    return internal::decoded(by, reinterpret_cast<const Code*>(data)[i]);
  }
};

// to[point * padded_lanes + lane], 32 x 32 elements a block, by way of shared memory so that both
// sides are read and written along their adjacent elements.
template <class Read>
__global__ void pack_kernel(Read read, Source from, internal::Batch batch, Points points,
                            std::int64_t padded_lanes, float* to) {
  __shared__ float tile[32][33];
  const bool is_along_points = from.point_stride == 1;
  const std::int64_t product = blockIdx.z;
  const std::int64_t base = from.batch_stride.offset(batch, product);
  const std::int64_t first_lane = std::int64_t{blockIdx.y} * 32;
  const std::int64_t first_point = std::int64_t{blockIdx.x} * 32;
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < 32; y += 8) {
    const std::int64_t lane = first_lane + (is_along_points ? y : x);
    const std::int64_t padded_point = first_point + (is_along_points ? x : y);
    const std::int64_t in_part = padded_point % points.padded_block;
    const std::int64_t point = padded_point / points.padded_block * points.block + in_part;
    const bool is_real = lane < from.lanes && in_part < points.block && point < points.k;
    tile[is_along_points ? x : y][is_along_points ? y : x] =
        is_real ? read(from.data, base + lane * from.lane_stride + point * from.point_stride)
                : 0.0F;
  }
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.y); y < 32; y += 8) {
    if (first_point + y < points.padded() && first_lane + x < padded_lanes) {
      to[(product * points.padded() + first_point + y) * padded_lanes + first_lane + x] =
          tile[y][x];
    }
  }
}

struct Result2d {
  float* data;
  std::int64_t row_stride;
  internal::BatchStride batch_stride;
  std::int64_t m;
  std::int64_t n;
};

// Runs of four: elements 0..3, apart + 0..3, ...
template <int kRuns>
__device__ void load_runs(const float* from, int apart, float (&to)[4 * kRuns]) {
#pragma unroll
  for (int run = 0; run < kRuns; ++run) {
    const float4 four = *reinterpret_cast<const float4*>(from + run * apart);
    to[run * 4] = four.x;
    to[run * 4 + 1] = four.y;
    to[run * 4 + 2] = four.z;
    to[run * 4 + 3] = four.w;
  }
}

template <int kRuns>
__device__ void fold_points(const float* a, const float* b, float (&acc)[4 * kRuns][4 * kRuns]) {
  constexpr int kTile = Tiling<kRuns>::kTile;
#pragma unroll
  for (int p = 0; p < kPoints; ++p) {
    float rows[4 * kRuns];
    float columns[4 * kRuns];
    load_runs<kRuns>(a + p * kTile, 16, rows);
    load_runs<kRuns>(b + p * kTile, 32, columns);
#pragma unroll
    for (int i = 0; i < 4 * kRuns; ++i) {
#pragma unroll
      for (int j = 0; j < 4 * kRuns; ++j) {
        acc[i][j] = __fmaf_rn(rows[i], columns[j], acc[i][j]);
      }
    }
  }
}

// Brings `kPoints` points of both panels to shared memory.
template <int kRuns>
__device__ void fetch(const float* a, const float* b, std::int64_t padded_m, std::int64_t padded_n,
                      float* stage) {
  using Tile = Tiling<kRuns>;
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int piece = static_cast<int>(threadIdx.x) + i * kThreads;  // a run of four floats
    const int point = piece / (Tile::kTile / 4);
    const int lane = piece % (Tile::kTile / 4) * 4;
    internal::copy_async(stage + point * Tile::kTile + lane, a + point * padded_m + lane);
    internal::copy_async(stage + Tile::kPanelFloats + point * Tile::kTile + lane,
                         b + point * padded_n + lane);
  }
}

// f(row, column, sum, result) for the outputs of this thread that are inside the result.
template <int kRuns, class F>
__device__ void each_output(const Result2d& out, std::int64_t row, std::int64_t column,
                            float (&acc)[4 * kRuns][4 * kRuns], const F& f) {
#pragma unroll
  for (int i = 0; i < 4 * kRuns; ++i) {
    const std::int64_t at_row = row + i % 4 + i / 4 * 16;
#pragma unroll
    for (int j = 0; j < 4 * kRuns; ++j) {
      const std::int64_t at_column = column + j % 4 + j / 4 * 32;
      if (at_row < out.m && at_column < out.n) {
        f(at_row, at_column, acc[i][j], out.data[at_row * out.row_stride + at_column]);
      }
    }
  }
}

// Between the parts of k, the totals so far lie in the result.
template <int kRuns, bool kHasParts>
__global__ void __launch_bounds__(kThreads, 2)
    fold_kernel(const float* a, const float* b, Points points, internal::Batch batch,
                std::int64_t padded_m, std::int64_t padded_n, Epilogue epilogue, Result2d out) {
  using Tile = Tiling<kRuns>;
  extern __shared__ float shared[];
  const std::int64_t product = blockIdx.z;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * Tile::kTile;
  const std::int64_t first_column = std::int64_t{blockIdx.x} * Tile::kTile;
  a += product * points.padded() * padded_m + first_row;
  b += product * points.padded() * padded_n + first_column;
  out.data += out.batch_stride.offset(batch, product);
  // 4 x 2 warps of 4 x 8 threads each.
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = warp % 4 * 16 * kRuns + lane / 8 * 4;
  const int column = warp / 4 * 32 * kRuns + lane % 8 * 4;

  const std::int64_t pieces = points.padded() / kPoints;
  const auto start_piece = [&](std::int64_t piece) {
    if (piece < pieces) {
      fetch<kRuns>(a + piece * kPoints * padded_m, b + piece * kPoints * padded_n, padded_m,
                   padded_n, shared + piece % kStages * 2 * Tile::kPanelFloats);
    }
    internal::commit_copies();
  };
  for (int stage = 0; stage + 1 < kStages; ++stage) {
    start_piece(stage);
  }
  float acc[4 * kRuns][4 * kRuns] = {};
  const std::int64_t pieces_of_part = points.padded_block / kPoints;
  std::int64_t left_of_part = pieces_of_part;
  bool has_total = false;
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    if (kHasParts && left_of_part == 0) {
      each_output<kRuns>(out, first_row + row, first_column + column, acc,
                         [&](std::int64_t, std::int64_t, float& part, float& total) {
                           total = has_total ? __fadd_rn(total, part) : part;
                           part = 0.0F;
                         });
      has_total = true;
      left_of_part = pieces_of_part;
    }
    --left_of_part;
    internal::wait_for_copies<kStages - 2>();
    __syncthreads();
    start_piece(piece + kStages - 1);
    const float* stage = shared + piece % kStages * 2 * Tile::kPanelFloats;
    fold_points<kRuns>(stage + row, stage + Tile::kPanelFloats + column, acc);
  }
  each_output<kRuns>(out, first_row + row, first_column + column, acc,
                     [&](std::int64_t at_row, std::int64_t at_column, float part, float& total) {
                       const float sum = kHasParts && has_total ? __fadd_rn(total, part) : part;
                       total = internal::finished(epilogue, sum, at_row, at_column);
                     });
}

template <class Read>
Result<void> launch_pack(const Read& read, const Source& from, const internal::Batch& batch,
                         const Points& points, std::int64_t padded_lanes, float* to,
                         cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>((points.padded() + 31) / 32),
                    static_cast<unsigned>(padded_lanes / 32), static_cast<unsigned>(batch.count()));
  pack_kernel<<<blocks, dim3(32, 8), 0, stream>>>(read, from, batch, points, padded_lanes, to);
  return internal::launched("packing an operand");
}

Result<void> pack(const Storage& storage, Source from, const internal::Batch& batch,
                  const Points& points, std::int64_t padded_lanes, float* to, cudaStream_t stream) {
  const StorageFormat& type = storage.type;
  from.data = static_cast<const std::byte*>(storage.data) + storage.offset * bytes_of(type.format);
  if (type.format == Format::F32) {
    return launch_pack(ReadF32{}, from, batch, points, padded_lanes, to, stream);
  }
  if (type.format == Format::Bf16) {
    return launch_pack(ReadBf16{}, from, batch, points, padded_lanes, to, stream);
  }
  if (type.format == Format::U8) {
    return launch_pack(ReadU8{}, from, batch, points, padded_lanes, to, stream);
  }
  if (type.format == Format::Shp) {
    const ReadConfigurable<std::uint16_t> read{internal::Codec(type)};
    return launch_pack(read, from, batch, points, padded_lanes, to, stream);
  }
  if (has_bias(type.format) && info(type.format).top_codes == TopCodes::Numbers) {
    const ReadConfigurable<std::uint8_t> read{internal::Codec(type)};
    return launch_pack(read, from, batch, points, padded_lanes, to, stream);
  }
  return Error{ErrorKind::Unsupported, "on a GPU operands are f32, bf16, u8, shp or CFloat8, not " +
                                           std::string(info(type.format).name)};
}

struct Panels {
  const float* a;
  const float* b;
  std::int64_t padded_m;
  std::int64_t padded_n;
};

template <int kRuns>
Result<void> launch_fold(const Panels& panels, const Points& points, const internal::Batch& batch,
                         const Epilogue& epilogue, const Result2d& result, cudaStream_t stream) {
  using Tile = Tiling<kRuns>;
  const auto kernel = points.parts > 1 ? fold_kernel<kRuns, true> : fold_kernel<kRuns, false>;
  DOJO_TRY_VOID(internal::ok(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kSharedBytes),
      "asking for shared memory"));
  const dim3 blocks(static_cast<unsigned>(panels.padded_n / Tile::kTile),
                    static_cast<unsigned>(panels.padded_m / Tile::kTile),
                    static_cast<unsigned>(batch.count()));
  kernel<<<blocks, kThreads, Tile::kSharedBytes, stream>>>(
      panels.a, panels.b, points, batch, panels.padded_m, panels.padded_n, epilogue, result);
  return internal::launched("the product");
}

// Whether tiles of 128 x 128 would leave multiprocessors idle.
Result<bool> wants_small_tiles(std::int64_t tiles) {
  int device = 0;
  int multiprocessors = 0;
  DOJO_TRY_VOID(internal::ok(cudaGetDevice(&device), "no CUDA device"));
  DOJO_TRY_VOID(
      internal::ok(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
                   "reading the device's properties"));
  return Result<bool>(tiles < multiprocessors);
}

}  // namespace

Result<void> gemm(const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
                  const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out,
                  cudaStream_t stream) {
  const internal::Batch batch(shape.batch);
  DOJO_CHECK(shape.m >= 0 && shape.n >= 0 && shape.k >= 0 && cuts.block.size() <= 1);
  if (shape.m == 0 || shape.n == 0 || batch.count() == 0) {
    return {};
  }
  constexpr std::int64_t kTile = Tiling<2>::kTile;
  const std::int64_t padded_m = round_up(shape.m, kTile);
  const std::int64_t padded_n = round_up(shape.n, kTile);
  constexpr std::int64_t kMostBlocks = 65'535;  // of CUDA's y and z
  if (batch.count() > kMostBlocks || std::max(padded_m, padded_n) / 32 > kMostBlocks) {
    return Error{ErrorKind::Unsupported,
                 "on a GPU a product has at most 65,535 matrices in its batch and about two "
                 "million rows or columns"};
  }
  if (cuts.order != SumOrder::Sequential) {
    return Error{ErrorKind::Unsupported,
                 "on a GPU sums are sequential, not " + std::string(name_of(cuts.order))};
  }
  const Points points = points_of(shape.k, cuts);
  if (cuts.run_of(0, points.parts) < points.parts) {
    return Error{ErrorKind::Unsupported, "on a GPU the parts of a sum are one chain, without runs"};
  }
  const std::int64_t floats_a = batch.count() * points.padded() * padded_m;
  const std::int64_t floats_b = batch.count() * points.padded() * padded_n;
  DOJO_TRY(const internal::Scratch scratch,
           internal::Scratch::allocate((floats_a + floats_b) * 4, stream));
  float* panel_a = scratch.as<float>();
  float* panel_b = panel_a + floats_a;
  const Source from_a{nullptr, a.row_stride, a.column_stride, shape.m,
                      internal::BatchStride(a.batch_stride)};
  const Source from_b{nullptr, b.column_stride, b.row_stride, shape.n,
                      internal::BatchStride(b.batch_stride)};
  DOJO_TRY_VOID(pack(a.storage, from_a, batch, points, padded_m, panel_a, stream));
  DOJO_TRY_VOID(pack(b.storage, from_b, batch, points, padded_n, panel_b, stream));

  const Panels panels{panel_a, panel_b, padded_m, padded_n};
  const Result2d result{out.data, out.row_stride, internal::BatchStride(out.batch_stride), shape.m,
                        shape.n};
  DOJO_TRY(const bool is_small,
           wants_small_tiles(padded_m / kTile * (padded_n / kTile) * batch.count()));
  return is_small ? launch_fold<1>(panels, points, batch, epilogue, result, stream)
                  : launch_fold<2>(panels, points, batch, epilogue, result, stream);
}

}  // namespace dojo::numerics::cuda
