#include "dojo/numerics/internal/extremes_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

// PERF: a plain loop, which the compiler turns into one minimum and one maximum of 32 codes.
std::pair<std::uint16_t, std::uint16_t> extremes(const std::uint16_t* code, std::int64_t count) {
  std::uint16_t least = 0xFFFF;  // less one, so that zero is the largest number
  std::uint16_t most = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<std::uint16_t>(code[i] & 0x7FFF);
    const auto before = static_cast<std::uint16_t>(magnitude - 1);
    least = before < least ? before : least;
    most = magnitude > most ? magnitude : most;
  }
  return {static_cast<std::uint16_t>(least + 1), most};
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
