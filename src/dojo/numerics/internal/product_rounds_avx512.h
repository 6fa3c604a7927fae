// Loops of independent instructions without memory, to time the units of a CPU; and what the BF16
// dot instruction computes. Callers have made sure that the CPU has them.
#pragma once

#include <cstdint>
#include <span>

namespace dojo::numerics::avx512 {

inline constexpr std::int64_t kProductsPerFmaRound = std::int64_t{20} * 16;
inline constexpr std::int64_t kProductsPerDotRound = std::int64_t{20} * 32;

// The value is of no use but to keep the loop.
float fma_rounds(std::int64_t rounds);
float dot_rounds(std::int64_t rounds);

// acc[i] as one vdpbf16ps leaves it, from pairs of bfloat16; 16 of each.
void dot_pairs(std::span<float, 16> acc, std::span<const std::uint32_t, 16> a,
               std::span<const std::uint32_t, 16> b);

}  // namespace dojo::numerics::avx512
