// Extremes of 16-bit codes in the widest registers; callers have made sure that the CPU has them.
#pragma once

#include <cstdint>
#include <utility>

namespace dojo::numerics::avx512 {

// The least and the largest magnitude but zero, without the top bit; 0 where all are zero.
std::pair<std::uint16_t, std::uint16_t> extremes(const std::uint16_t* code, std::int64_t count);

}  // namespace dojo::numerics::avx512
