#include "dojo/numerics/mx.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>
#include <vector>

#include "dojo/base/check.h"

namespace dojo::numerics {
namespace {

constexpr int kScaleBias = 127;
constexpr std::uint8_t kNanScale = 255;
constexpr std::int64_t kTile = 1024;  // elements scaled and rounded at a time

StorageFormat element_type(Format element) {
  DOJO_CHECK(element == Format::E4m3 || element == Format::E5m2);
  return {.format = element, .bias = info(element).bias};
}

// floor(log2(amax)) - emax, as the code of a scale.
std::uint8_t scale_code(float amax, Format element) {
  if (amax == 0) {
    return 0;
  }
  const CFloatSpec spec = element_type(element).spec();
  const int max_exponent =
      static_cast<int>(spec.max_magnitude() >> spec.mantissa_bits) - info(element).bias;
  return static_cast<std::uint8_t>(
      std::clamp(std::ilogb(amax) - max_exponent + kScaleBias, 0, kNanScale - 1));
}

// What is scaled and rounded at a time: some blocks along the last axis, which are one row; or the
// rows of one block along another axis, for some adjacent positions of the axes behind it.
struct Tile {
  std::int64_t first = 0;        // element
  std::int64_t first_scale = 0;  // index
  std::int64_t rows = 0;         // of `width` adjacent elements
  std::int64_t width = 0;
  std::int64_t row_stride = 0;
  bool is_along_rows = false;  // 32 elements of the row share a scale; else those of a column
};

// body(tile) for all tiles of the blocks begin .. end - 1 of [outer, blocks].
template <class Body>
void for_tiles(const MxShape& shape, std::int64_t begin, std::int64_t end, const Body& body) {
  const std::int64_t blocks = shape.blocks();
  for (std::int64_t index = begin; index < end;) {
    const std::int64_t outer = index / blocks;
    const std::int64_t block = index % blocks;
    const std::int64_t line = outer * shape.length * shape.inner;
    if (shape.inner == 1) {
      const std::int64_t count = std::min({kTile / kMxBlock, blocks - block, end - index});
      const std::int64_t width = std::min(count * kMxBlock, shape.length - block * kMxBlock);
      body(Tile{line + block * kMxBlock, index, 1, width, width, true});
      index += count;
      continue;
    }
    const std::int64_t rows = std::min(kMxBlock, shape.length - block * kMxBlock);
    for (std::int64_t at = 0; at < shape.inner; at += kTile / kMxBlock) {
      const std::int64_t width = std::min(kTile / kMxBlock, shape.inner - at);
      body(Tile{line + block * kMxBlock * shape.inner + at, index * shape.inner + at, rows, width,
                shape.inner, false});
    }
    ++index;
  }
}

// Of the scales of a tile, the one of a column; and how many they are.
std::int64_t scale_of(const Tile& tile, std::int64_t column) {
  return tile.is_along_rows ? column / kMxBlock : column;
}
std::int64_t scales_of(const Tile& tile) {
  return tile.is_along_rows ? (tile.width + kMxBlock - 1) / kMxBlock : tile.width;
}

class TileEncoder {
 public:
  TileEncoder(std::span<const float> in, Format element, const RoundingSpec& rounding,
              std::span<std::byte> codes, std::span<std::uint8_t> scales, Isa isa)
      : in_(in),
        type_(element_type(element)),
        rounding_(rounding),
        codes_(codes),
        scales_(scales),
        isa_(isa) {}

  void encode_tile(const Tile& tile) {
    float amax[kTile / kMxBlock] = {};
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      const float* x = in_.data() + tile.first + row * tile.row_stride;
      for (std::int64_t i = 0; i < tile.width; ++i) {
        const float magnitude = std::fabs(x[i]);
        stats_.flags.denormal |= std::fpclassify(magnitude) == FP_SUBNORMAL;
        float& largest = amax[scale_of(tile, i)];
        largest = magnitude < HUGE_VALF && magnitude > largest ? magnitude : largest;
      }
    }
    float factor[kTile / kMxBlock];
    for (std::int64_t i = 0; i < scales_of(tile); ++i) {
      const std::uint8_t code = scale_code(amax[i], type_.format);
      scales_[static_cast<std::size_t>(tile.first_scale + i)] = code;
      factor[i] = std::ldexp(1.0F, kScaleBias - code);
      stats_.amax = std::max(stats_.amax, amax[i]);
    }
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      encode_row(tile, tile.first + row * tile.row_stride, factor);
    }
  }
  const EncodeStats& stats() const { return stats_; }

 private:
  void encode_row(const Tile& tile, std::int64_t first, const float* factor) {
    // Exact but where a product is below FP32's normal numbers, which is far below the element's.
    float scaled[kTile];
    for (std::int64_t i = 0; i < tile.width; ++i) {
      scaled[i] = in_[static_cast<std::size_t>(first + i)] * factor[scale_of(tile, i)];
    }
    const std::size_t count = static_cast<std::size_t>(tile.width);
    const std::span<std::byte> codes = codes_.subspan(static_cast<std::size_t>(first), count);
    RoundingSpec part = rounding_;
    part.first_element += static_cast<std::uint64_t>(first);
    EncodeStats stats{.flags = stats_.flags};
    encode_and_add(std::span(scaled, count), type_, part, codes, stats, isa_);
    stats_.saturated += stats.saturated;
    stats_.not_finite += stats.not_finite;
    stats.flags.denormal = stats_.flags.denormal;  // of what was read, not of what was scaled
    stats_.flags = stats.flags;
    for (std::size_t i = 0; i < count; ++i) {
      const bool is_zero = (codes[i] & std::byte{0x7F}) == std::byte{0};
      stats_.zeroed += is_zero && in_[static_cast<std::size_t>(first) + i] != 0 ? 1 : 0;
    }
    stats_.flags.underflow |= stats_.zeroed != 0;
  }

  std::span<const float> in_;
  StorageFormat type_;
  const RoundingSpec& rounding_;
  std::span<std::byte> codes_;
  std::span<std::uint8_t> scales_;
  Isa isa_;
  EncodeStats stats_;
};

void check_sizes(const MxShape& shape, std::size_t values, std::size_t codes, std::size_t scales) {
  DOJO_CHECK(shape.outer >= 0 && shape.length >= 0 && shape.inner >= 0);
  DOJO_CHECK(values == static_cast<std::size_t>(shape.elements()) && codes == values);
  DOJO_CHECK(scales == static_cast<std::size_t>(shape.scales()));
}

// Blocks per task, so that one is worth its start.
std::int64_t grain(const MxShape& shape) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 15) / (kMxBlock * shape.inner));
}

}  // namespace

float mx_scale(std::uint8_t code) {
  return code == kNanScale ? std::nanf("") : std::ldexp(1.0F, code - kScaleBias);
}

EncodeStats encode_mx(ThreadPool& pool, std::span<const float> in, const MxShape& shape,
                      Format element, const RoundingSpec& rounding, std::span<std::byte> codes,
                      std::span<std::uint8_t> scales, Isa isa) {
  check_sizes(shape, in.size(), codes.size(), scales.size());
  EncodeStats total;
  if (in.empty()) {
    return total;
  }
  std::mutex mutex;
  pool.parallel_for(
      shape.outer * shape.blocks(), grain(shape), [&](std::int64_t begin, std::int64_t end) {
        TileEncoder encoder(in, element, rounding, codes, scales, isa);
        for_tiles(shape, begin, end, [&](const Tile& tile) { encoder.encode_tile(tile); });
        const std::lock_guard lock(mutex);
        total += encoder.stats();
      });
  return total;
}

void decode_mx(ThreadPool& pool, std::span<const std::byte> codes,
               std::span<const std::uint8_t> scales, const MxShape& shape, Format element,
               std::span<float> out, Isa isa) {
  check_sizes(shape, out.size(), codes.size(), scales.size());
  if (out.empty()) {
    return;
  }
  const StorageFormat type = element_type(element);
  pool.parallel_for(
      shape.outer * shape.blocks(), grain(shape), [&](std::int64_t begin, std::int64_t end) {
        for_tiles(shape, begin, end, [&](const Tile& tile) {
          float scale[kTile / kMxBlock];
          for (std::int64_t i = 0; i < scales_of(tile); ++i) {
            scale[i] = mx_scale(scales[static_cast<std::size_t>(tile.first_scale + i)]);
          }
          for (std::int64_t row = 0; row < tile.rows; ++row) {
            const auto first = static_cast<std::size_t>(tile.first + row * tile.row_stride);
            const auto count = static_cast<std::size_t>(tile.width);
            const std::span<float> values = out.subspan(first, count);
            decode(codes.subspan(first, count), type, values, isa);
            for (std::int64_t i = 0; i < tile.width; ++i) {
              values[static_cast<std::size_t>(i)] *= scale[scale_of(tile, i)];
            }
          }
        });
      });
}

}  // namespace dojo::numerics
