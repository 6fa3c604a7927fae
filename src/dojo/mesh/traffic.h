// What the nodes send: synthetic patterns, or a given list of packets. A node's packets are a
// stream of its own, drawn when the node comes to them: a source that is behind needs no stored
// queue, and which thread simulates a node changes nothing.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"

namespace dojo::mesh {

using Cycle = std::uint32_t;
inline constexpr Cycle kNever = ~Cycle{0};

enum class TrafficPattern {
  Uniform,    // any node, itself included
  Neighbor,   // ((x + 1) mod columns, (y + 1) mod rows)
  Transpose,  // the halves of the node number's bits swapped; a power of 4 of nodes
  BitComp,    // ~n; a power of 2 of nodes
  Tornado,    // x + ceil(columns / 2) - 1 and likewise y, modulo
  Hotspot,    // one packet in `hotspot_one_in` to the centre, the others uniform
  Bursty,     // uniform, `burst_packets` on average back to back, then silence
};

Result<TrafficPattern> parse_pattern(std::string_view name);
std::string_view name(TrafficPattern pattern);
// The names of all patterns, in order.
std::span<const std::string_view> pattern_names();

struct SyntheticTraffic {
  TrafficPattern pattern = TrafficPattern::Uniform;
  int rows = 0;
  int columns = 0;
  double rate = 0;       // flits per node and cycle, 0..1
  int packet_flits = 1;  // 1..65535
  std::uint64_t seed = 1;
  // Of two planes each carries half: a node's packets stay in the plane they start in, and its
  // router in plane p is p x rows x columns + its site.
  int planes = 1;
  int hotspot_one_in = 5;
  int burst_packets = 8;
  // The sites, row x columns + column, that have a node; empty: all. Random destinations are
  // nodes; a node whose one destination is none sends nothing.
  std::vector<std::uint32_t> nodes{};
};

struct Packet {
  Cycle generated = kNever;  // kNever: there is none any more
  std::uint32_t destination = 0;

  friend bool operator==(const Packet&, const Packet&) = default;
};

// Where a node is in its stream.
struct StreamState {
  std::uint64_t random = 0;
  Cycle generated = 0;         // of the packet drawn last
  std::uint32_t position = 0;  // in its list; kNever: it never sends

  friend bool operator==(const StreamState&, const StreamState&) = default;
};

class Traffic {
 public:
  // Error: a rate outside 0..1, or a pattern that needs a power of two on another size.
  static Result<Traffic> synthetic(const SyntheticTraffic& what);

  // packets[node]: in the order of generation, at most one per cycle and node.
  static Traffic listed(std::vector<std::vector<Packet>> packets, int packet_flits);

  int packet_flits() const { return packet_flits_; }
  StreamState first_state(std::uint32_t node) const;

  // The node's next packet after those drawn before.
  Packet next(std::uint32_t node, StreamState& state) const {
    return listed_.empty() ? draw(node, state) : take_listed(node, state);
  }

 private:
  Packet draw(std::uint32_t node, StreamState& state) const;
  Packet take_listed(std::uint32_t node, StreamState& state) const;
  Cycle draw_gap(StreamState& state, std::uint32_t bits) const;
  Cycle draw_burst_gap(StreamState& state) const;
  std::uint32_t destination(std::uint32_t node, StreamState& state, std::uint32_t bits) const;
  void tabulate_gaps(double probability);

  SyntheticTraffic what_;
  int packet_flits_ = 1;
  std::vector<std::uint32_t> nodes_;
  std::uint32_t sites_ = 0;
  std::vector<bool> is_node_;
  // Destination of each site's node, where the pattern has just one; kNever: none.
  std::vector<std::uint32_t> fixed_;
  std::vector<std::vector<Packet>> listed_;

  // The inverse of the gaps' distribution: a gap is at most g with probability at_most_[g] / 2^32;
  // guide_[u >> 22] is the least gap that random bits u can mean.
  std::vector<std::uint64_t> at_most_;
  std::vector<std::uint16_t> guide_;
};

}  // namespace dojo::mesh
