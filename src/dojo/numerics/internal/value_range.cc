#include "dojo/numerics/internal/value_range.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>

#include "dojo/numerics/internal/batch.h"
#include "dojo/numerics/internal/extremes_avx512.h"
#include "dojo/numerics/isa.h"

namespace dojo::numerics::internal {
namespace {

// Least and largest magnitude among codes; zeros count for neither.
template <class Code>
struct Extremes {
  Code low = 0;  // 0: none yet
  Code high = 0;

  static constexpr Code kMagnitude = std::numeric_limits<Code>::max() >> 1;

  void take(const Code* code, std::int64_t count, std::int64_t stride) {
    Code least = static_cast<Code>(low - 1);
    Code most = high;
    for (std::int64_t i = 0; i < count; ++i) {
      const Code magnitude = code[i * stride] & kMagnitude;
      least = std::min(least, static_cast<Code>(magnitude - 1));  // of zero: the largest number
      most = std::max(most, magnitude);
    }
    low = static_cast<Code>(least + 1);
    high = most;
  }
  void take_adjoining(const Code* code, std::int64_t count) {
    if constexpr (sizeof(Code) == 2) {
      if (best_isa() == Isa::Avx512) {
        const auto [least, most] = avx512::extremes(code, count);
        take(Extremes{least, most});
        return;
      }
    }
    take(code, count, 1);
  }
  void take(const Extremes& other) {
    low = static_cast<Code>(std::min<Code>(low - 1, other.low - 1) + 1);
    high = std::max(high, other.high);
  }
};

template <class Code>
ValueRange range_of(const Extremes<Code>& seen, int exponent_bits) {
  const int mantissa_bits = std::numeric_limits<Code>::digits - 1 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int top_field = (1 << exponent_bits) - 1;
  const int low = std::max(1, static_cast<int>(seen.low >> mantissa_bits));
  const int high = std::max(1, static_cast<int>(seen.high >> mantissa_bits));
  if (seen.high == 0) {
    return {};
  }
  return {low - bias - mantissa_bits, high - bias + 1, high < top_field};
}

// A nest of loops over an operand; the innermost has the smallest stride.
struct Scan {
  std::array<std::int64_t, 5> extent;
  std::array<std::int64_t, 5> stride;

  std::int64_t offset_of(std::int64_t line) const {
    std::int64_t at = 0;
    for (std::size_t i = 4; i-- > 0;) {
      at += line % extent[i] * stride[i];
      line /= extent[i];
    }
    return at;
  }
};

template <class Code>
ValueRange scan(ThreadPool& pool, const Scan& loops, const Code* data, int exponent_bits) {
  const std::int64_t lines = loops.extent[0] * loops.extent[1] * loops.extent[2] * loops.extent[3];
  const std::int64_t grain = std::max<std::int64_t>(
      1, (std::int64_t{1} << 16) / std::max<std::int64_t>(1, loops.extent[4]));
  Extremes<Code> all;
  std::mutex mutex;
  pool.parallel_for(lines, grain, [&](std::int64_t begin, std::int64_t end) {
    Extremes<Code> seen;
    for (std::int64_t line = begin; line < end; ++line) {
      const Code* row = data + loops.offset_of(line);
      if (loops.stride[4] == 1) {
        seen.take_adjoining(row, loops.extent[4]);
      } else {
        seen.take(row, loops.extent[4], loops.stride[4]);
      }
    }
    const std::lock_guard lock(mutex);
    all.take(seen);
  });
  return range_of(all, exponent_bits);
}

}  // namespace

ValueRange value_range(ThreadPool& pool, const MatrixOperand& operand, std::int64_t rows,
                       std::int64_t columns, const BatchExtents& batch, Specials specials) {
  const StorageFormat& type = operand.storage.type;
  const auto& about = info(type.format);
  if (type.format == Format::U8) {
    return {0, 8, true};
  }
  const bool has_specials = about.top_codes != TopCodes::Numbers;
  const bool is_scanned = type.format == Format::F32 || type.format == Format::Bf16;
  if (!is_scanned && (!has_specials || specials == Specials::Ignore)) {
    const CFloatSpec spec = type.spec();
    const float least = decode(spec, 1) != 0 ? decode(spec, 1)
                                             : decode(spec, spec.min_normal_magnitude()) *
                                                   std::ldexp(1.0F, -spec.mantissa_bits);
    return {std::ilogb(least), std::ilogb(decode(spec, spec.max_magnitude())) + 1, !has_specials};
  }
  if (!is_scanned) {
    return {0, 0, false};  // not looked at: as if it had some
  }
  // A broadcast dimension is looked at once; the innermost loop is the one with adjacent elements.
  Scan loops{{batch[0], batch[1], batch[2], rows, columns},
             {operand.batch_stride[0], operand.batch_stride[1], operand.batch_stride[2],
              operand.row_stride, operand.column_stride}};
  for (std::size_t i = 0; i < 5; ++i) {
    loops.extent[i] =
        loops.stride[i] == 0 ? std::min<std::int64_t>(1, loops.extent[i]) : loops.extent[i];
  }
  if (loops.stride[4] != 1) {
    std::swap(loops.extent[3], loops.extent[4]);
    std::swap(loops.stride[3], loops.stride[4]);
  }
  return type.format == Format::F32
             ? scan(
                   pool, loops,
                   static_cast<const std::uint32_t*>(operand.storage.data) + operand.storage.offset,
                   8)
             : scan(
                   pool, loops,
                   static_cast<const std::uint16_t*>(operand.storage.data) + operand.storage.offset,
                   8);
}

bool is_exact_in_bf16(Format format) {
  return format == Format::U8 || (is_float(format) && info(format).mantissa_bits <= 7);
}

bool fits_bf16_dot(const ValueRange& a, const ValueRange& b, std::int64_t k) {
  constexpr int kLowest = -126;
  const int sums = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(k)));
  return std::min({a.unit, b.unit, a.unit + b.unit}) >= kLowest && a.top + b.top + sums <= 127;
}

}  // namespace dojo::numerics::internal
