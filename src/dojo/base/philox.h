// Philox4x32-10, a counter-based generator: the output is a pure function of key and counter, so
// random bits do not depend on threads, tiling or resuming.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace dojo {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

constexpr PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

// The random bits of one tensor in one step (reference/numerics: key = 64-bit seed, counter =
// element index div 8 (64 bits), tensor id, step; each of the eight 16-bit fields of the result
// serves one element, field = index mod 8, low half of word 0 first).
struct RandomStream {
  std::uint64_t seed = 0;
  std::uint32_t tensor = 0;
  std::uint32_t step = 0;

  constexpr PhiloxCounter block(std::uint64_t block_index) const {
    return philox4x32_10(
        {static_cast<std::uint32_t>(block_index), static_cast<std::uint32_t>(block_index >> 32),
         tensor, step},
        {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  }
  constexpr std::uint16_t bits16(std::uint64_t element) const {
    const PhiloxCounter words = block(element / 8);
    const std::uint32_t word = words[(element % 8) / 2];
    return static_cast<std::uint16_t>((element % 2) == 0 ? word : word >> 16);
  }
};

}  // namespace dojo
