#include <algorithm>
#include <utility>

#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/gemm_pack_bytes_avx512.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

constexpr std::int64_t kRowsAhead = 12;  // PERF: rows of B are far apart, no hardware prefetch

template <class Load, int step>
class PackerOf final : public internal::Packer {
 public:
  PackerOf(const Load& load, const Storage& storage)
      : load_(load),
        data_(static_cast<const std::byte*>(storage.data) + storage.offset * Load::kBytes) {}

  void pack(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
            float* to) const override {
    std::int64_t lane = 0;
    if (from.lane_stride == 1 && width == kTileColumns) {
      for (; lane + 2 * width <= from.lanes; lane += 2 * width, to += 2 * panel) {
        pack_two(from, lane, panel, to);
      }
    }
    for (; lane < from.lanes; lane += width, to += panel) {
      const std::byte* data = data_ + (from.first + lane * from.lane_stride) * Load::kBytes;
      avx512::pack<step>(load_,
                         Panel{data, from.lane_stride, from.point_stride,
                               std::min(width, from.lanes - lane), from.points},
                         to, width);
    }
  }

 private:
  // Two panels of adjacent lanes: 64 codes of a byte are one cache line.
  void pack_two(const internal::PanelExtent& from, std::int64_t lane, std::int64_t panel,
                float* to) const {
    const std::byte* data = data_ + (from.first + lane) * Load::kBytes;
    const std::int64_t stride = from.point_stride * Load::kBytes;
    for (std::int64_t k = 0; k < from.points; k += step, data += step * stride) {
      _mm_prefetch(reinterpret_cast<const char*>(data) + kRowsAhead * stride, _MM_HINT_T0);
#pragma GCC unroll 4
      for (std::int64_t v = 0; v < 4; ++v) {
        __m512 points[step];
#pragma GCC unroll 2
        for (std::int64_t p = 0; p < step; ++p) {
          points[p] = k + p < from.points ? load_(data + p * stride + v * 16 * Load::kBytes)
                                          : _mm512_setzero_ps();
        }
        _mm512_storeu_ps(to + v / 2 * panel + k / step * kTileColumns + v % 2 * 16,
                         join<step>(points));
      }
    }
  }

  Load load_;
  const std::byte* data_;
};

template <int step>
std::unique_ptr<internal::Packer> packer_of(const Storage& storage) {
  std::unique_ptr<internal::Packer> packer;
  with_load(load_of(storage.type), [&](const auto& load) {
    packer = std::make_unique<PackerOf<std::decay_t<decltype(load)>, step>>(load, storage);
  });
  if (can_pack_bytes(storage.type)) {
    return byte_packer_of(storage, step, std::move(packer));
  }
  return packer;
}

__m512 finished(const internal::FinishedTile& tile, std::int64_t r, std::int64_t c,
                __mmask16 lanes) {
  const Epilogue& epilogue = tile.epilogue;
  __m512 x = _mm512_loadu_ps(tile.sums + r * tile.pitch + c);
  if (epilogue.row_bias != nullptr) {
    x = _mm512_add_ps(x, _mm512_set1_ps(epilogue.row_bias[r]));
  }
  if (epilogue.column_bias != nullptr) {
    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, epilogue.column_bias + c));
  }
  return epilogue.activation == Activation::Relu ? relu(x) : x;
}

void finish_turned(const internal::FinishedTile& tile) {
  const __mmask16 rows = first_lanes(tile.rows);
  for (std::int64_t c = 0; c < tile.columns; c += 16) {
    const __mmask16 lanes = first_lanes(tile.columns - c);
    __m512 x[16] = {};
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      x[r] = finished(tile, r, c, lanes);
    }
    transpose_16x16(x);
    const std::int64_t columns = std::min<std::int64_t>(16, tile.columns - c);
    for (std::int64_t i = 0; i < columns; ++i) {
      _mm512_mask_storeu_ps(tile.to + (c + i) * tile.row_stride, rows, x[i]);
    }
  }
}

void finish(const internal::FinishedTile& tile) {
  if (tile.is_turned) {
    finish_turned(tile);
    return;
  }
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    for (std::int64_t c = 0; c < tile.columns; c += 16) {
      const __mmask16 lanes = first_lanes(tile.columns - c);
      _mm512_mask_storeu_ps(tile.to + r * tile.row_stride + c, lanes, finished(tile, r, c, lanes));
    }
  }
}

}  // namespace

const internal::GemmKernels& gemm_kernels() {
  static const internal::GemmKernels kernels{.lanes = 16,
                                             .points_per_unit = 1,
                                             .packer_of = packer_of<1>,
                                             .run_tile = run_tile,
                                             .finish = finish};
  return kernels;
}

const internal::GemmKernels& gemm_kernels_of_pairs() {
  static const internal::GemmKernels kernels{.lanes = 16,
                                             .points_per_unit = 2,
                                             .packer_of = packer_of<2>,
                                             .run_tile = run_tile,
                                             .finish = finish};
  return kernels;
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
