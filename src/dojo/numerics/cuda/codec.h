// Arrays between FP32 and codes on a GPU: the values of encode.h and decode, bit for bit, random
// bits included; the tests hold them equal to the CPU's for every FP32 input.
// Formats: cf8_1_4_3, cf8_1_5_2 and shp, to and from FP32. Rounding: nearest even and stochastic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dojo/numerics/cuda/device.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics::cuda {

// `in`: count floats; `out`: count codes; `stats`: one DeviceStats, added to, or nullptr. All
// device pointers, in and out aligned to 32 bytes, rounding.first_element a multiple of 8.
// Errors: another format; what the runtime says.
struct DeviceStats {
  std::uint32_t amax_bits = 0;  // of the largest finite magnitude
  unsigned long long saturated = 0;
  unsigned long long zeroed = 0;
  unsigned long long not_finite = 0;
  std::uint32_t flags = 0;  // 1 invalid, 2 denormal, 4 overflow, 8 underflow

  EncodeStats on_host() const;
};
Result<void> encode(const float* in, std::int64_t count, const StorageFormat& to,
                    const RoundingSpec& rounding, std::byte* out, DeviceStats* stats,
                    cudaStream_t stream);

Result<void> decode(const std::byte* in, std::int64_t count, const StorageFormat& from, float* out,
                    cudaStream_t stream);

}  // namespace dojo::numerics::cuda
