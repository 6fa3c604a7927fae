#include "dojo/mesh/internal/state_setup.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace dojo::mesh::internal {
namespace {

DimensionOrder dimension_order(Shape grid, RoutingKind kind) {
  DimensionOrder order;
  const auto bits_of = [](std::int64_t size) {
    return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size - 1)));
  };
  const bool is_x_first = kind != RoutingKind::YFirst;
  const int first_bits = bits_of(is_x_first ? grid.columns : grid.rows);
  order.columns = static_cast<std::uint32_t>(grid.columns);
  order.kind = kind;
  order.first_mask = (std::uint64_t{1} << first_bits) - 1;
  order.second_mask = 0xFFFFu & ~order.first_mask;
  const std::uint64_t second_step = std::uint64_t{1} << first_bits;
  order.step[kEast] = order.step[kWest] = is_x_first ? 1 : second_step;
  order.step[kSouth] = order.step[kNorth] = is_x_first ? second_step : 1;
  return order;
}

// Wide enough that no thread writes a slot that another has still to read (mesh.cc).
std::uint32_t wheel_slots(const RouterConfig& config) {
  const int across = std::max(config.flit_delay, config.credit_delay) +
                     std::min(config.flit_delay, config.credit_delay);
  const int within = 1 + std::max({config.source_credit_delay, config.eject_credit_delay,
                                   config.inject_delay, config.flit_delay, config.credit_delay});
  return std::bit_ceil(static_cast<std::uint32_t>(std::max(across, within)));
}

template <int kVcs>
void set_up_blocks(State& state) {
  using B = Block<kVcs>;
  state.blocks = (state.routers + B::kLanes - 1) / B::kLanes;
  state.block_bytes.resize(state.blocks * sizeof(B) + kRowBytes);
  B* const blocks = state.blocks_of<kVcs>();
  for (std::uint32_t i = 0; i < state.blocks; ++i) {
    B& b = *new (blocks + i) B();
    const auto all_outputs =
        static_cast<typename B::Word>((std::uint64_t{1} << (kCreditGroups * kVcs)) - 1);
    for (int plane = 0; plane < kPlanes; ++plane) {
      if (((state.config.depth >> plane) & 1) != 0) {
        b.slots[plane].fill(all_outputs);
      }
    }
    const auto from_zero = ~typename B::Word{0};
    for (auto& row : b.vc_from) {
      row.fill(from_zero);
    }
    for (auto& row : b.port_from) {
      row.fill(from_zero);
    }
    b.vc_next.fill(from_zero);
  }
}

bool is_regular(const Topology& topology, const Link& link, const State& state) {
  const LinkClass& of = topology.link_classes()[static_cast<std::size_t>(link.link_class)];
  return of.latency == Cycles{1} && of.rate == FlitRate{} && !of.slots.has_value() &&
         link.to.index == link.from.index + state.stride[static_cast<std::size_t>(index(link.out))];
}

LongLink long_link(const LinkClass& of, const Link& link, const State& state) {
  LongLink result;
  result.from = link.from.index;
  result.to = link.to.index;
  result.out = static_cast<std::uint8_t>(index(link.out));
  result.in = static_cast<std::uint8_t>(index(opposite(link.out)));
  result.delay = static_cast<std::uint16_t>(of.latency.count() - 1);
  result.num = of.rate.num;
  result.den = of.rate.den;
  result.account = of.rate.den + of.rate.num - 1;
  result.reserved = state.config.depth;
  if (of.slots.has_value() || result.delay > 0 || of.rate != FlitRate{}) {
    // What a link's loop takes beyond twice its latency: a head that does not speculate waits a
    // cycle.
    const int stages = state.config.flit_delay + state.config.credit_delay - 2 +
                       (state.config.speculation == Speculation::On ? 0 : 1);
    const int slots = of.slots.value_or(full_rate_slots(of, Cycles{stages}));
    result.reserved = state.traffic.packet_flits();
    result.shared = std::max(0, slots - result.reserved * state.config.vcs);
  }
  return result;
}

void index_long_links(State& state, std::uint32_t lanes) {
  LongLinks& longs = state.longs;
  longs.out_of.assign(std::size_t{state.routers} * kLocal, LongLinks::kNone);
  longs.into = longs.out_of;
  longs.from_block.resize(state.blocks);
  longs.to_block.resize(state.blocks);
  longs.out_lanes.resize(state.blocks);
  longs.in_lanes.resize(state.blocks);
  for (std::uint32_t id = 0; id < longs.links.size(); ++id) {
    const LongLink& link = longs.links[id];
    longs.out_of[link.from * kLocal + link.out] = id;
    longs.into[link.to * kLocal + link.in] = id;
    longs.from_block[link.from / lanes].push_back(id);
    longs.to_block[link.to / lanes].push_back(id);
    longs.out_lanes[link.from / lanes][link.out] |= 1u << (link.from % lanes);
    longs.in_lanes[link.to / lanes][link.in] |= 1u << (link.to % lanes);
  }
}

void set_up_long_links(State& state, const Topology& topology, std::uint32_t lanes) {
  LongLinks& longs = state.longs;
  int deepest = 1;
  int longest = 0;
  for (const Link& link : topology.links()) {
    if (!is_regular(topology, link, state)) {
      longs.links.push_back(long_link(
          topology.link_classes()[static_cast<std::size_t>(link.link_class)], link, state));
      const LongLink& last = longs.links.back();
      deepest = std::max(deepest, last.reserved + last.shared);
      longest = std::max(longest, int{last.delay});
    }
  }
  if (longs.links.empty()) {
    return;
  }
  longs.depth_bits = std::bit_width(static_cast<std::uint32_t>(deepest - 1));
  longs.wheel = std::bit_ceil(static_cast<std::uint32_t>(longest) + 2 * state.wheel);
  const auto vcs = static_cast<std::size_t>(state.config.vcs);
  for (std::size_t i = 0; i < longs.links.size(); ++i) {
    longs.links[i].first_flit = i * (vcs << longs.depth_bits);
    longs.links[i].first_byte = i * longs.wheel;
  }
  longs.flits.resize(longs.links.size() * (vcs << longs.depth_bits));
  longs.arrivals.resize(longs.links.size() * longs.wheel);
  longs.credits.resize(longs.arrivals.size());
  index_long_links(state, lanes);
}

void set_up_routing(State& state, const Topology& topology, const RoutingTable& routing) {
  const Shape grid = topology.grid();
  state.order = dimension_order(grid, routing.kind());
  if (routing.is_dimension_order() &&
      topology.routers() == static_cast<std::size_t>(grid.rows) * grid.columns) {
    return;
  }
  state.table = &routing;
  state.classes = routing.classes();
  for (int vc_class = 0; vc_class < state.classes; ++vc_class) {
    const VcRange range = routing.vcs(vc_class);
    for (int vc = range.first; vc < range.first + range.count; ++vc) {
      state.class_of_vc[static_cast<std::size_t>(vc)] = static_cast<std::uint8_t>(vc_class);
    }
  }
}

void set_up_sources(State& state, const Topology& topology) {
  state.wake.assign(state.padded, kNever);
  state.sources.resize(state.routers);
  for (std::uint32_t router = 0; router < state.routers; ++router) {
    if (!topology.has_node({router})) {
      continue;
    }
    if (router < static_cast<std::uint32_t>(topology.grid().rows * topology.grid().columns)) {
      state.nodes.push_back(router);
    }
    Source& source = state.sources[router];
    source.vc = static_cast<std::uint8_t>(state.config.vcs - 1);  // the first packet: VC 0
    source.stream = state.traffic.first_state(router);
    source.head = state.traffic.next(router, source.stream);
    state.wake[router] = source.head.generated;
  }
}

}  // namespace

DimensionOrder::Start DimensionOrder::start(std::uint32_t router, std::uint32_t destination) const {
  const auto x = static_cast<std::int32_t>(destination % columns - router % columns);
  const auto y = static_cast<std::int32_t>(destination / columns - router / columns);
  const auto x_links = static_cast<std::uint32_t>(std::abs(x));
  const auto y_links = static_cast<std::uint32_t>(std::abs(y));
  std::uint64_t flit = x_links * step[kEast] | y_links * step[kSouth];
  const bool is_x_first = kind != RoutingKind::YFirst;
  const std::uint64_t x_port = x < 0 ? 1u : 0u;  // kWest, kEast
  const std::uint64_t y_port = y < 0 ? 3u : 2u;  // kNorth, kSouth
  flit |= (is_x_first ? x_port : y_port) << Flit::kFirstShift;
  flit |= (is_x_first ? y_port : x_port) << Flit::kSecondShift;
  return {Flit::with_port(flit, port_left(flit, first_mask, second_mask)), x_links + y_links};
}

State first_state(const Topology& topology, const RoutingTable& routing, const RouterConfig& config,
                  const Traffic& traffic) {
  State state;
  state.config = config;
  state.traffic = traffic;
  state.routers = static_cast<std::uint32_t>(topology.routers());
  state.padded = (state.routers + kRowBytes - 1) / kRowBytes * kRowBytes;
  state.capacity_bits = std::bit_width(static_cast<std::uint32_t>(config.depth - 1));
  state.wheel = wheel_slots(config);
  const std::int32_t columns = topology.grid().columns;
  state.stride = {1, -1, columns, -columns};
  set_up_routing(state, topology, routing);
  with_vcs(config.vcs, [&](auto vcs) {
    set_up_blocks<vcs.value>(state);
    set_up_long_links(state, topology, Block<vcs.value>::kLanes);
  });

  const auto vcs = static_cast<std::size_t>(config.vcs);
  state.fifo.resize((state.routers * kPorts * vcs) << state.capacity_bits);
  state.read_at.resize(state.routers * kPorts * vcs);
  state.write_at.resize(state.routers * kCreditGroups * vcs);
  state.arrivals.resize(std::size_t{state.wheel} * kPorts * state.padded);
  state.credits.resize(std::size_t{state.wheel} * kCreditGroups * state.padded);
  if (state.table != nullptr) {
    state.choices.resize(state.routers * kPorts * vcs);
  }
  set_up_sources(state, topology);
  return state;
}

}  // namespace dojo::mesh::internal
