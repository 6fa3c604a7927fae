// The traffic of the golden totals (docs/mesh.md): no random library needed.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "dojo/mesh/traffic.h"

namespace dojo::mesh {

struct GoldenRow {
  int side;
  const char* router;
  int packet_flits;
  std::uint64_t threshold;
  std::uint64_t packets, latency_sum, latency_square_sum;
  std::uint32_t latency_max;
  std::uint64_t flit_latency_sum;
  Cycle last_arrival;
};

inline constexpr std::array kGoldenRows{
    GoldenRow{8, "booksim-v4", 1, 6442451, 203, 5143, 150073, 50, 5143, 2016},
    GoldenRow{8, "booksim-v4", 1, 1546188227, 46127, 1480355, 56967271, 111, 1480355, 2060},
    GoldenRow{8, "booksim-v4", 4, 386547057, 11720, 618774, 42720760, 291, 2137641, 2100},
    GoldenRow{8, "booksim-v4", 8, 161061274, 4919, 279462, 19196240, 238, 1636331, 2081},
    GoldenRow{8, "booksim-v1", 1, 644245094, 19432, 622965, 23795333, 98, 622965, 2060},
    GoldenRow{8, "booksim-v1", 4, 214748365, 6513, 249103, 11354689, 133, 906864, 2058},
    GoldenRow{8, "booksim-v8s", 1, 1546188227, 46127, 1205149, 38457489, 96, 1205149, 2045},
    GoldenRow{8, "booksim-v8s", 4, 386547057, 11720, 582728, 40009134, 263, 1870027, 2092},
    GoldenRow{5, "booksim-v4", 1, 3865470566, 45113, 21989142, 15484068460, 1190, 4527058, 3152},
    GoldenRow{5, "booksim-v8s", 4, 966367642, 11317, 5409084, 4011473674, 1402, 5865279, 3121},
    GoldenRow{18, "booksim-v4", 1, 773094113, 116604, 7379898, 571364592, 196, 7379898, 2120},
};

// Node s generates a packet in cycle t, 0 <= t < cycles, iff the upper half of
// h = mix(65536 t + s) is below the threshold; the lower half modulo the nodes is its destination.
inline Traffic golden_traffic(int nodes, std::uint64_t threshold, int packet_flits,
                              Cycle cycles = 2000) {
  std::vector<std::vector<Packet>> packets(static_cast<std::size_t>(nodes));
  for (Cycle t = 0; t < cycles; ++t) {
    for (std::uint32_t s = 0; s < packets.size(); ++s) {
      std::uint64_t z = std::uint64_t{t} * 65536 + s + 0x9e3779b97f4a7c15u;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      z ^= z >> 31;
      if ((z >> 32) < threshold) {
        packets[s].push_back(
            {t, static_cast<std::uint32_t>(z) % static_cast<std::uint32_t>(nodes)});
      }
    }
  }
  return Traffic::listed(std::move(packets), packet_flits);
}

}  // namespace dojo::mesh
