#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/intrinsics.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace dojo::numerics::avx512 {
namespace {

constexpr std::int64_t kLanes = 8;

// Eight adjacent elements as FP32.
struct LoadFloats {
  static constexpr std::int64_t kBytes = 4;
  __m256 operator()(const std::byte* at) const {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
};

struct LoadBf16 {
  static constexpr std::int64_t kBytes = 2;
  __m256 operator()(const std::byte* at) const {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16));
  }
};

struct LoadBytes {
  static constexpr std::int64_t kBytes = 1;
  __m256 operator()(const std::byte* at) const {
    const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
    return _mm256_i32gather_ps(table, _mm256_cvtepu8_epi32(codes), 4);
  }
  const float* table;
};

void transpose_8x8(__m256 (&r)[8]) {
  __m256 t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  std::copy_n(t, 8, r);
}

// Whole blocks of 8 lanes are decoded in vectors, the rest, and formats that have no Load above,
// element by element.
class ScalarPacker : public internal::Packer {
 public:
  explicit ScalarPacker(const Storage& storage) : read_(storage) {}

  void pack(const internal::PanelExtent& from, std::int64_t width, std::int64_t panel,
            float* to) const override {
    for (std::int64_t lane = 0; lane < from.lanes; lane += width, to += panel) {
      const std::int64_t lanes = std::min(width, from.lanes - lane);
      const std::int64_t first = from.first + lane * from.lane_stride;
      std::int64_t done = 0;
      for (; done + kLanes <= lanes; done += kLanes) {
        if (!pack_eight(first + done * from.lane_stride, from, width, to + done)) {
          break;
        }
      }
      for (std::int64_t k = 0; k < from.points; ++k) {
        for (std::int64_t l = done; l < lanes; ++l) {
          to[k * width + l] = read_(first + l * from.lane_stride + k * from.point_stride);
        }
        std::fill(to + k * width + lanes, to + (k + 1) * width, 0.0F);
      }
    }
  }

 protected:
  // Eight lanes; false if it has no way to.
  virtual bool pack_eight(std::int64_t /*first*/, const internal::PanelExtent& /*from*/,
                          std::int64_t /*width*/, float* /*to*/) const {
    return false;
  }
  const ElementReader& read() const { return read_; }

 private:
  ElementReader read_;
};

template <class Load>
class VectorPacker final : public ScalarPacker {
 public:
  explicit VectorPacker(const Storage& storage) : ScalarPacker(storage) {}

 protected:
  bool pack_eight(std::int64_t first, const internal::PanelExtent& from, std::int64_t width,
                  float* to) const override {
    const Load load = make_load();
    const std::byte* data = read().bytes() + first * Load::kBytes;
    if (from.lane_stride == 1) {
      for (std::int64_t k = 0; k < from.points; ++k) {
        _mm256_storeu_ps(to + k * width, load(data + k * from.point_stride * Load::kBytes));
      }
      return true;
    }
    if (from.point_stride != 1) {
      return false;
    }
    std::int64_t k = 0;
    for (; k + 8 <= from.points; k += 8) {
      __m256 rows[8];
#pragma GCC unroll 8
      for (std::int64_t lane = 0; lane < 8; ++lane) {
        rows[lane] = load(data + (lane * from.lane_stride + k) * Load::kBytes);
      }
      transpose_8x8(rows);
#pragma GCC unroll 8
      for (std::int64_t point = 0; point < 8; ++point) {
        _mm256_storeu_ps(to + (k + point) * width, rows[point]);
      }
    }
    for (; k < from.points; ++k) {
      for (std::int64_t lane = 0; lane < 8; ++lane) {
        to[k * width + lane] = read()(first + lane * from.lane_stride + k);
      }
    }
    return true;
  }

 private:
  Load make_load() const {
    if constexpr (Load::kBytes == 1) {
      return Load{read().table().data()};
    } else {
      return Load{};
    }
  }
};

std::unique_ptr<internal::Packer> packer_of(const Storage& storage) {
  switch (storage.type.format) {
    case Format::F32:
      return std::make_unique<VectorPacker<LoadFloats>>(storage);
    case Format::Bf16:
      return std::make_unique<VectorPacker<LoadBf16>>(storage);
    default:
      if (bytes_of(storage.type.format) == 1) {
        return std::make_unique<VectorPacker<LoadBytes>>(storage);
      }
      return std::make_unique<ScalarPacker>(storage);
  }
}

void finish(const internal::FinishedTile& tile) {
  const Epilogue& epilogue = tile.epilogue;
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const float row_bias = epilogue.row_bias != nullptr ? epilogue.row_bias[r] : 0.0F;
    for (std::int64_t c = 0; c < tile.columns; ++c) {
      float x = tile.sums[r * tile.pitch + c];
      x = epilogue.row_bias != nullptr ? x + row_bias : x;
      x = epilogue.column_bias != nullptr ? x + epilogue.column_bias[c] : x;
      tile.to[r * tile.row_stride + c] = epilogue.activation == Activation::Relu ? relu(x) : x;
    }
  }
}

}  // namespace

const internal::GemmKernels& gemm_kernels_avx2() {
  static const internal::GemmKernels kernels{.lanes = kLanes,
                                             .points_per_unit = 1,
                                             .packer_of = packer_of,
                                             .run_tile = run_tile_avx2,
                                             .finish = finish};
  return kernels;
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
