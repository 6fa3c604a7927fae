// What a mesh counts. Integers only, so that sums do not depend on who adds first.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "dojo/mesh/traffic.h"

namespace dojo::mesh {

// Latencies of packets: exact below 64 cycles, then 32 bins per doubling (steps under 3.2 %).
class LatencyHistogram {
 public:
  static constexpr int kBins = 64 + 32 * 26;

  static int bin_of(std::uint32_t latency) {
    if (latency < 64) {
      return static_cast<int>(latency);
    }
    const int shift = std::bit_width(latency) - 6;  // keeps the top six bits
    return 64 + 32 * (shift - 1) + static_cast<int>((latency >> shift) - 32);
  }
  // The largest latency of a bin.
  static std::uint32_t top_of(int bin) {
    if (bin < 64) {
      return static_cast<std::uint32_t>(bin);
    }
    const int shift = (bin - 64) / 32 + 1;
    return (static_cast<std::uint32_t>((bin - 64) % 32 + 33) << shift) - 1;
  }

  void add(std::uint32_t latency) { ++counts_[static_cast<std::size_t>(bin_of(latency))]; }
  void add(const LatencyHistogram& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      counts_[i] += other.counts_[i];
    }
  }
  // The least bin top that a share of the packets does not exceed; 0 without packets.
  std::uint32_t percentile(double share) const;

  friend bool operator==(const LatencyHistogram&, const LatencyHistogram&) = default;

 private:
  std::array<std::uint64_t, kBins> counts_{};
};

// Since the start of the run; packets, since they are measured. A flit is counted when its last
// router grants it, with the cycle in which it then arrives at the node: run `eject_delay` cycles
// less to know exactly what arrived by a cycle. Latencies are in cycles.
struct Counters {
  // Packets that came to the head of their source's queue, and their flits. `generated_sum` adds up
  // the generation cycle of each of these flits.
  std::uint64_t entered_flits = 0;
  std::uint64_t entered_generated_sum = 0;
  std::uint64_t measured_entered = 0;
  std::uint64_t measured_routers = 0;  // routers visited on their way: links + 1
  std::uint64_t injected_flits = 0;

  // Flits at their node.
  std::uint64_t flits = 0;
  std::uint64_t flit_latency_sum = 0;    // from injection
  std::uint64_t flit_generated_sum = 0;  // of generation cycles
  Cycle last_arrival = 0;

  // Measured packets whose tail is at its node; from generation.
  std::uint64_t packets = 0;
  std::uint64_t latency_sum = 0;
  std::uint64_t latency_square_sum = 0;
  std::uint32_t latency_max = 0;
  LatencyHistogram histogram;

  void add(const Counters& other);
  void forget_packets();  // sets what is about measured packets to zero
  friend bool operator==(const Counters&, const Counters&) = default;
};

}  // namespace dojo::mesh
