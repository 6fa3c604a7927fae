#include "dojo/mesh/traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <string>
#include <utility>

#include "dojo/base/text.h"

namespace dojo::mesh {
namespace {

constexpr std::array<std::string_view, 7> kPatternNames{
    "uniform", "neighbor", "transpose", "bitcomp", "tornado", "hotspot", "bursty"};
constexpr std::size_t kLongestGap = 4096;  // tabulated; longer ones are put together
constexpr int kGuideShift = 22;            // 1024 entries of guide

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): one 64-bit state per node.
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
std::uint64_t draw_bits(StreamState& state) {
  state.random += 0x9e3779b97f4a7c15u;
  return mix(state.random);
}

std::uint32_t scaled(std::uint32_t bits, std::uint32_t count) {
  return static_cast<std::uint32_t>((std::uint64_t{bits} * count) >> 32);
}

std::uint32_t fixed_destination(const SyntheticTraffic& what, std::uint32_t node) {
  const auto rows = static_cast<std::uint32_t>(what.rows);
  const auto columns = static_cast<std::uint32_t>(what.columns);
  const std::uint32_t nodes = rows * columns;
  const std::uint32_t x = node % columns;
  const std::uint32_t y = node / columns;
  switch (what.pattern) {
    case TrafficPattern::Neighbor:
      return (y + 1) % rows * columns + (x + 1) % columns;
    case TrafficPattern::Tornado:
      return (y + (rows + 1) / 2 - 1) % rows * columns + (x + (columns + 1) / 2 - 1) % columns;
    case TrafficPattern::Transpose: {
      const int half = std::countr_zero(nodes) / 2;
      return (node >> half) | ((node & ((1u << half) - 1)) << half);
    }
    case TrafficPattern::BitComp:
      return nodes - 1 - node;
    default:
      return node;
  }
}

std::uint32_t hotspot(const SyntheticTraffic& what) {
  return static_cast<std::uint32_t>(what.rows / 2 * what.columns + what.columns / 2);
}

bool has_one_destination(TrafficPattern pattern) {
  return pattern == TrafficPattern::Neighbor || pattern == TrafficPattern::Transpose ||
         pattern == TrafficPattern::BitComp || pattern == TrafficPattern::Tornado;
}

Result<void> check(const SyntheticTraffic& what) {
  if (!(what.rate >= 0 && what.rate <= 1)) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("rate {}: must be 0..1 flits per node and cycle", shortest(what.rate))};
  }
  if (what.packet_flits < 1 || what.packet_flits > 65535) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("packets of {} flits: must be 1..65535", what.packet_flits)};
  }
  if (what.burst_packets < 1 || what.hotspot_one_in < 1) {
    return Error{ErrorKind::InvalidInput, "bursts and hot spots: counts must be at least 1"};
  }
  const auto nodes = static_cast<std::uint32_t>(what.rows * what.columns);
  const bool power = std::has_single_bit(nodes);
  if (what.pattern == TrafficPattern::BitComp && !power) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("bitcomp on {} nodes: needs a power of two", nodes)};
  }
  if (what.pattern == TrafficPattern::Transpose && !(power && std::countr_zero(nodes) % 2 == 0)) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("transpose on {} nodes: needs an even power of two", nodes)};
  }
  return {};
}

}  // namespace

std::span<const std::string_view> pattern_names() { return kPatternNames; }

std::string_view name(TrafficPattern pattern) {
  return kPatternNames[static_cast<std::size_t>(pattern)];
}

Result<TrafficPattern> parse_pattern(std::string_view text) {
  const auto found = std::find(kPatternNames.begin(), kPatternNames.end(), text);
  if (found != kPatternNames.end()) {
    return static_cast<TrafficPattern>(found - kPatternNames.begin());
  }
  const std::vector<std::string> names(kPatternNames.begin(), kPatternNames.end());
  return Error{ErrorKind::NotFound, fmt::format("unknown traffic {}{}; there are: {}", quoted(text),
                                                suggestion(text, names), fmt::join(names, ", "))};
}

Result<Traffic> Traffic::synthetic(const SyntheticTraffic& what) {
  DOJO_TRY_VOID(check(what));
  Traffic traffic;
  traffic.what_ = what;
  traffic.what_.rate = what.rate / what.planes;
  traffic.packet_flits_ = what.packet_flits;
  const auto routers = static_cast<std::uint32_t>(what.rows * what.columns);
  traffic.nodes_ = what.nodes;
  if (what.nodes.empty()) {
    traffic.nodes_.resize(routers);
    std::iota(traffic.nodes_.begin(), traffic.nodes_.end(), 0u);
  }
  traffic.sites_ = routers;
  traffic.is_node_.resize(routers);
  for (const std::uint32_t node : traffic.nodes_) {
    traffic.is_node_[node] = true;
  }
  if (has_one_destination(what.pattern)) {
    for (std::uint32_t router = 0; router < routers; ++router) {
      const std::uint32_t destination = fixed_destination(what, router);
      traffic.fixed_.push_back(traffic.is_node_[destination] ? destination : kNever);
    }
  }
  if (what.pattern == TrafficPattern::Hotspot && !traffic.is_node_[hotspot(what)]) {
    return Error{ErrorKind::InvalidInput, "hotspot: there is no node at the centre"};
  }
  const double rate = traffic.what_.rate;
  double probability = rate / what.packet_flits;
  if (what.pattern == TrafficPattern::Bursty && rate < 1) {
    // A burst of b packets takes b P cycles; then b P (1 - rate) / rate cycles of silence. A gap of
    // probability p has a mean of 1 / p, and one cycle of it is no silence.
    const double burst = double{1} * what.burst_packets * what.packet_flits;
    probability = rate / (burst * (1 - rate) + rate);
  }
  traffic.tabulate_gaps(probability);
  return traffic;
}

Traffic Traffic::listed(std::vector<std::vector<Packet>> packets, int packet_flits) {
  Traffic traffic;
  traffic.packet_flits_ = packet_flits;
  traffic.listed_ = std::move(packets);
  return traffic;
}

// By recurrence, not by pow: the same bits everywhere.
void Traffic::tabulate_gaps(double probability) {
  constexpr double kAll = 4294967296.0;
  at_most_.assign(1, 0);
  double longer = kAll;
  while (probability > 0 && longer >= 0.5 && at_most_.size() <= kLongestGap) {
    longer *= 1 - probability;
    at_most_.push_back(static_cast<std::uint64_t>(kAll - longer + 0.5));
  }
  guide_.assign(std::size_t{1} << (32 - kGuideShift), 0);
  for (std::size_t i = 0; i < guide_.size(); ++i) {
    std::size_t gap = i == 0 ? 1 : guide_[i - 1];
    while (gap < at_most_.size() && at_most_[gap] <= (std::uint64_t{i} << kGuideShift)) {
      ++gap;
    }
    guide_[i] = static_cast<std::uint16_t>(gap);
  }
}

StreamState Traffic::first_state(std::uint32_t node) const {
  const std::uint32_t routers = sites_ * static_cast<std::uint32_t>(what_.planes);
  const bool sends =
      listed_.empty() ? node < routers && is_node_[node % sites_] : node < listed_.size();
  return {.random = mix(what_.seed * 0x9e3779b97f4a7c15u + node) ^ mix(what_.seed),
          .generated = kNever,  // so that the first gap counts from cycle -1
          .position = sends ? 0 : kNever};
}

// At least 1; kNever if nothing is ever generated.
Cycle Traffic::draw_gap(StreamState& state, std::uint32_t bits) const {
  if (at_most_.size() == 1) {
    return kNever;
  }
  // A geometric gap has no memory: beyond the table it is the table's length and another gap.
  Cycle before = 0;
  for (;;) {
    std::size_t gap = guide_[bits >> kGuideShift];
    while (gap < at_most_.size() && bits >= at_most_[gap]) {
      ++gap;
    }
    if (gap < at_most_.size()) {
      return before + static_cast<Cycle>(gap);
    }
    before += static_cast<Cycle>(at_most_.size() - 1);
    if (before >= (Cycle{1} << 30)) {
      return kNever;
    }
    bits = static_cast<std::uint32_t>(draw_bits(state) >> 32);
  }
}

Cycle Traffic::draw_burst_gap(StreamState& state) const {
  const auto flits = static_cast<Cycle>(packet_flits_);
  const std::uint64_t bits = draw_bits(state);
  const auto mean = static_cast<std::uint32_t>(what_.burst_packets);
  const bool ends = scaled(static_cast<std::uint32_t>(bits), mean) == 0;
  if (!ends || what_.rate >= 1) {
    return state.generated == kNever ? 1 : flits;
  }
  const Cycle silence = draw_gap(state, static_cast<std::uint32_t>(bits >> 32));
  return silence == kNever ? kNever : silence - 1 + flits;
}

std::uint32_t Traffic::destination(std::uint32_t node, StreamState& state,
                                   std::uint32_t bits) const {
  if (!fixed_.empty()) {
    return fixed_[node];
  }
  if (what_.pattern == TrafficPattern::Hotspot) {
    const auto choice = static_cast<std::uint32_t>(draw_bits(state) >> 32);
    if (scaled(choice, static_cast<std::uint32_t>(what_.hotspot_one_in)) == 0) {
      return hotspot(what_);
    }
  }
  return nodes_[scaled(bits, static_cast<std::uint32_t>(nodes_.size()))];
}

Packet Traffic::draw(std::uint32_t node, StreamState& state) const {
  if (state.position == kNever) {
    return {};
  }
  const std::uint64_t bits = draw_bits(state);
  const Cycle gap = what_.pattern == TrafficPattern::Bursty
                        ? draw_burst_gap(state)
                        : draw_gap(state, static_cast<std::uint32_t>(bits >> 32));
  const std::uint64_t generated = std::uint64_t{state.generated + 1} + gap - 1;
  if (gap == kNever || generated >= kNever) {
    return {};
  }
  state.generated = static_cast<Cycle>(generated);
  const std::uint32_t plane = node < sites_ ? 0 : sites_;  // its first router
  const std::uint32_t to = destination(node - plane, state, static_cast<std::uint32_t>(bits));
  return to == kNever ? Packet{} : Packet{state.generated, plane + to};
}

Packet Traffic::take_listed(std::uint32_t node, StreamState& state) const {
  if (state.position == kNever || state.position >= listed_[node].size()) {
    return {};
  }
  return listed_[node][state.position++];
}

}  // namespace dojo::mesh
