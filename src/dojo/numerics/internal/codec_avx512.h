// The AVX-512 path of encode.h. Callers have made sure that the CPU has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dojo/base/philox.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics::avx512 {

// `rounding.mode` is NearestEven or Stochastic.
EncodeStats encode_cfloat(std::span<const float> in, const CFloatSpec& spec,
                          const RoundingSpec& rounding, std::uint8_t* out);
EncodeStats encode_bf16(std::span<const float> in, const RoundingSpec& rounding, std::byte* out);
EncodeStats copy_f32(std::span<const float> in, std::byte* out);
void decode(const std::byte* in, const StorageFormat& from, std::span<float> out);
void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random);

}  // namespace dojo::numerics::avx512
