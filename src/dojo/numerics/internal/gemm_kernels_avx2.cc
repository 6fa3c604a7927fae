#include <algorithm>
#include <utility>

#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/internal/pack_avx2.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::numerics::avx2 {
namespace {

template <class Load>
class PackerOf final : public internal::Packer {
 public:
  PackerOf(const Load& load, const Storage& storage)
      : load_(load),
        data_(static_cast<const std::byte*>(storage.data) + storage.offset * Load::kBytes) {}

  void pack(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
            float* to) const override {
    for (std::int64_t lane = 0; lane < from.lanes; lane += width, to += panel) {
      const std::byte* data = data_ + (from.first + lane * from.lane_stride) * Load::kBytes;
      const std::int64_t lanes = std::min(width, from.lanes - lane);
      avx2::pack(load_, Panel{data, from.lane_stride, from.point_stride, lanes, from.points}, to,
                 width);
      const std::int64_t packed = (lanes + kLanes - 1) / kLanes * kLanes;
      for (std::int64_t k = 0; packed < width && k < from.points; ++k) {
        std::fill(to + k * width + packed, to + (k + 1) * width, 0.0F);
      }
    }
  }

 private:
  Load load_;
  const std::byte* data_;
};

std::unique_ptr<internal::Packer> packer_of(const Storage& storage) {
  std::unique_ptr<internal::Packer> packer;
  with_load(load_of(storage.type), [&](const auto& load) {
    packer = std::make_unique<PackerOf<std::decay_t<decltype(load)>>>(load, storage);
  });
  return packer;
}

void finish(const internal::FinishedTile& tile) {
  const Epilogue& epilogue = tile.epilogue;
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const float row_bias = epilogue.row_bias != nullptr ? epilogue.row_bias[r] : 0.0F;
    for (std::int64_t c = 0; c < tile.columns; ++c) {
      float x = tile.sums[r * tile.pitch + c];
      x = epilogue.row_bias != nullptr ? x + row_bias : x;
      x = epilogue.column_bias != nullptr ? x + epilogue.column_bias[c] : x;
      float& to = tile.to[tile.is_turned ? c * tile.row_stride + r : r * tile.row_stride + c];
      to = epilogue.activation == Activation::Relu ? relu(x) : x;
    }
  }
}

}  // namespace

const internal::GemmKernels& gemm_kernels() {
  static const internal::GemmKernels kernels{.lanes = kLanes,
                                             .points_per_unit = 1,
                                             .packer_of = packer_of,
                                             .run_tile = avx512::run_tile_avx2,
                                             .finish = finish};
  return kernels;
}

}  // namespace dojo::numerics::avx2

#pragma GCC pop_options
