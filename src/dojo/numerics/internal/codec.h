// The vector paths of encode.h: the same functions in two namespaces. Callers have made sure that
// the CPU has the instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dojo/base/philox.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics {

// Whether codes are left in the caches, or written around them.
enum class Caching : std::uint8_t { Cached, PastCaches };

namespace avx512 {
void encode(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
            std::byte* out, Caching caching, EncodeStats& stats);
void decode(const std::byte* in, const StorageFormat& from, std::span<float> out);
void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random);
}  // namespace avx512

namespace avx2 {
void encode(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
            std::byte* out, Caching caching, EncodeStats& stats);
void decode(const std::byte* in, const StorageFormat& from, std::span<float> out);
void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random);
}  // namespace avx2

}  // namespace dojo::numerics
