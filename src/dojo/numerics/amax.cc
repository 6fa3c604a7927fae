#include "dojo/numerics/amax.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <mutex>

namespace dojo::numerics {
namespace {

constexpr std::int64_t kRange = std::int64_t{1} << 15;

// PERF: magnitudes as integers, so that g++ vectorises the loop without -ffast-math.
std::int32_t finite_amax_bits(std::span<const float> values) {
  constexpr std::int32_t kInfinity = 0x7F800000;
  std::int32_t largest = 0;
  for (const float value : values) {
    const std::int32_t magnitude = std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF;
    largest = std::max(largest, magnitude < kInfinity ? magnitude : 0);
  }
  return largest;
}

}  // namespace

float finite_amax(ThreadPool& pool, std::span<const float> values) {
  std::mutex mutex;
  std::int32_t largest = 0;
  pool.parallel_for(
      static_cast<std::int64_t>(values.size()), kRange, [&](std::int64_t begin, std::int64_t end) {
        const std::int32_t bits = finite_amax_bits(
            values.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
        const std::lock_guard lock(mutex);
        largest = std::max(largest, bits);
      });
  return std::bit_cast<float>(largest);
}

}  // namespace dojo::numerics
