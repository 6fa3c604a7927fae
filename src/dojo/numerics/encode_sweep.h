// For tests: encodes FP32 magnitudes in ascending order through the array encoder and holds each
// code against the oracle. Ascending order makes the oracle a walk along its midpoints, so a sweep
// over billions of inputs takes seconds.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "dojo/numerics/encode.h"
#include "dojo/numerics/grid_oracle.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics::testing {

struct SweepResult {
  std::int64_t inputs = 0;
  std::int64_t mismatches = 0;
  std::int64_t wrong_counts = 0;  // ranges whose EncodeStats are not the oracle's
  float example = 0;              // the first mismatch
};

// Magnitudes first, first + stride, ... below `end` (bits), signs alternating.
inline SweepResult sweep_nearest(const StorageFormat& type, std::uint64_t first, std::uint64_t end,
                                 std::uint64_t stride, Isa isa) {
  constexpr std::size_t kBlock = 4096;
  const GridOracle oracle(cfloat_spec(type.format, type.bias, type.denormals));
  // The first FP32 bits that round above magnitude i: a tie stays at an even i.
  std::vector<std::uint64_t> last;
  for (std::size_t i = 0; i < oracle.middles().size(); ++i) {
    const float middle = static_cast<float>(oracle.middles()[i]);  // exact
    last.push_back(i % 2 == 0 ? bits_of(middle) : bits_of(middle) - 1u);
  }
  last.push_back(std::numeric_limits<std::uint64_t>::max());
  const std::uint64_t overflow = bits_of(static_cast<float>(oracle.overflow()));
  SweepResult result;
  std::vector<float> x(kBlock);
  std::vector<std::byte> code(kBlock);
  std::size_t at = 0;
  for (std::uint64_t base = first; base < end; base += kBlock * stride) {
    std::size_t count = 0;
    for (std::uint64_t bits = base; count < kBlock && bits < end; bits += stride, ++count) {
      const std::uint32_t sign = static_cast<std::uint32_t>(count % 2) << 31;
      x[count] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) | sign);
    }
    const EncodeStats stats =
        encode(std::span(x).first(count), type, RoundingSpec{}, std::span(code).first(count), isa);
    EncodeStats wanted;
    std::int64_t mismatches = 0;
    for (std::size_t i = 0; i < count;) {
      // All inputs up to the next midpoint have one code.
      const std::uint64_t bits = base + i * stride;
      while (bits > last[at]) {
        ++at;
      }
      std::size_t run = count - i;
      if (last[at] < bits + (run - 1) * stride) {
        run = static_cast<std::size_t>((last[at] - bits) / stride + 1);
      }
      for (std::size_t j = i; j < i + run; ++j) {
        const std::uint32_t wanted_code =
            static_cast<std::uint32_t>(at) | static_cast<std::uint32_t>(j % 2) << 7;
        mismatches += static_cast<std::uint32_t>(code[j]) != wanted_code ? 1 : 0;
      }
      if (mismatches != 0 && result.mismatches == 0) {
        result.example = x[i];
      }
      if (at == 0) {
        wanted.zeroed += static_cast<std::int64_t>(run) - (bits == 0 ? 1 : 0);
      }
      i += run;
    }
    const std::uint64_t top = base + (count - 1) * stride;
    if (top >= overflow) {
      for (std::size_t i = 0; i < count; ++i) {
        wanted.saturated += base + i * stride >= overflow ? 1 : 0;
        wanted.not_finite += base + i * stride >= 0x7F800000u ? 1 : 0;
      }
    }
    result.wrong_counts += stats.zeroed != wanted.zeroed || stats.saturated != wanted.saturated ||
                           stats.not_finite != wanted.not_finite;
    const float amax = top < 0x7F800000u ? std::fabs(x[count - 1]) : stats.amax;
    result.wrong_counts += stats.amax != amax;
    result.mismatches += mismatches;
    result.inputs += static_cast<std::int64_t>(count);
  }
  return result;
}

}  // namespace dojo::numerics::testing
