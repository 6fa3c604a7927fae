#include "dojo/mesh/internal/state_setup.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

namespace dojo::mesh::internal {
namespace {

int bits_of(std::int64_t size) {
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size - 1)));
}

// None if a flit has not enough bits for the way.
std::optional<DimensionOrder> dimension_order(const Topology& topology, RoutingKind kind) {
  const Shape grid = topology.grid();
  DimensionOrder order;
  for (const EdgePort& port : topology.spec().edge_ports) {
    order.edge_ports.push_back({.router = topology.router_at(port.site).index,
                                .side = static_cast<std::uint32_t>(port_of(port.side))});
  }
  const int exit_bits = order.edge_ports.empty() ? 0 : 1;
  if (bits_of(grid.rows) + bits_of(grid.columns) + exit_bits > Flit::kWayBits) {
    return std::nullopt;
  }
  const bool is_x_first = kind != RoutingKind::YFirst;
  const int first_bits = bits_of(is_x_first ? grid.columns : grid.rows);
  order.grid_routers = static_cast<std::uint32_t>(grid.rows * grid.columns);
  for (int row = 0; row < grid.rows; ++row) {
    for (int column = 0; column < grid.columns; ++column) {
      order.places.push_back({static_cast<std::uint16_t>(row), static_cast<std::uint16_t>(column)});
    }
  }
  order.kind = kind;
  const std::uint64_t way = (std::uint64_t{1} << (Flit::kWayBits - exit_bits)) - 1;
  order.axes.first_mask = (std::uint64_t{1} << first_bits) - 1;
  order.axes.second_mask = way & ~order.axes.first_mask;
  order.axes.first_port = is_x_first ? kEast : kSouth;
  order.axes.second_port = is_x_first ? kSouth : kEast;
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
  const auto grid = static_cast<std::uint32_t>(topology.grid().rows * topology.grid().columns);
  return of.latency == Cycles{1} && of.rate == FlitRate{} && !of.slots.has_value() &&
         (state.table != nullptr || std::max(link.to.index, link.from.index) < grid) &&
         link.to.index == link.from.index + state.stride[static_cast<std::size_t>(index(link.out))];
}

LongSender long_sender(const LinkClass& of, const Link& link, const State& state) {
  LongSender result;
  result.from = link.from.index;
  result.out = static_cast<std::uint8_t>(index(link.out));
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
  // On its way off the grid a flit loses that bit; on its way onto it, nothing.
  const bool leaves = link.to.index >= state.order.grid_routers;
  const bool comes = link.from.index >= state.order.grid_routers;
  result.step = leaves  ? DimensionOrder::AxesAndExit::kExitMask
                : comes ? 0
                        : state.order.step[static_cast<std::size_t>(index(link.out))];
  return result;
}

// By block of routers: the first of the ends, which are in the order of their routers.
template <class Ends, class RouterOf>
std::vector<std::uint32_t> first_of_blocks(const Ends& ends, std::uint32_t blocks,
                                           std::uint32_t lanes, const RouterOf& router_of) {
  std::vector<std::uint32_t> first(blocks + 1, 0);
  for (const auto& end : ends) {
    ++first[router_of(end) / lanes + 1];
  }
  for (std::uint32_t block = 0; block < blocks; ++block) {
    first[block + 1] += first[block];
  }
  return first;
}

void index_long_links(State& state, std::uint32_t lanes) {
  LongLinks& longs = state.longs;
  longs.out_of.assign(std::size_t{state.routers} * kLocal, LongLinks::kNone);
  longs.into = longs.out_of;
  longs.out_lanes.resize(state.blocks);
  longs.in_lanes.resize(state.blocks);
  for (std::uint32_t id = 0; id < longs.senders.size(); ++id) {
    const LongSender& from = longs.senders[id];
    longs.receivers[from.receiver].sender = id;
    longs.out_of[from.from * kLocal + from.out] = id;
    longs.out_lanes[from.from / lanes][from.out] |= 1u << (from.from % lanes);
    const LongReceiver& to = longs.receivers[id];
    longs.into[to.to * kLocal + to.in] = id;
    longs.in_lanes[to.to / lanes][to.in] |= 1u << (to.to % lanes);
  }
  longs.first_sender =
      first_of_blocks(longs.senders, state.blocks, lanes, [](auto& end) { return end.from; });
  longs.first_receiver =
      first_of_blocks(longs.receivers, state.blocks, lanes, [](auto& end) { return end.to; });
}

// The receiving ends, each sender told which is its.
void add_receivers(LongLinks& longs, const std::vector<LongReceiver>& by_sender) {
  std::vector<std::uint32_t> order(by_sender.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return by_sender[a].to < by_sender[b].to;
  });
  for (std::uint32_t id = 0; id < order.size(); ++id) {
    longs.receivers.push_back(by_sender[order[id]]);
    longs.senders[order[id]].receiver = id;
  }
}

void set_up_long_links(State& state, const Topology& topology, std::uint32_t lanes) {
  LongLinks& longs = state.longs;
  std::vector<Link> links;
  std::copy_if(topology.links().begin(), topology.links().end(), std::back_inserter(links),
               [&](const Link& link) { return !is_regular(topology, link, state); });
  if (links.empty()) {
    return;
  }
  std::stable_sort(links.begin(), links.end(),
                   [](const Link& a, const Link& b) { return a.from < b.from; });
  int deepest = 1;
  int longest = 0;
  std::vector<LongReceiver> receivers;
  for (const Link& link : links) {
    longs.senders.push_back(long_sender(
        topology.link_classes()[static_cast<std::size_t>(link.link_class)], link, state));
    const LongSender& last = longs.senders.back();
    deepest = std::max(deepest, last.reserved + last.shared);
    longest = std::max(longest, int{last.delay});
    LongReceiver end;
    end.to = link.to.index;
    end.in = static_cast<std::uint8_t>(index(opposite(link.out)));
    end.delay = last.delay;
    receivers.push_back(end);
  }
  add_receivers(longs, receivers);
  longs.depth_bits = std::bit_width(static_cast<std::uint32_t>(deepest - 1));
  longs.wheel = std::bit_ceil(static_cast<std::uint32_t>(longest) + 2 * state.wheel);
  const auto vcs = static_cast<std::size_t>(state.config.vcs);
  for (std::size_t i = 0; i < links.size(); ++i) {
    longs.senders[i].first_flit = longs.senders[i].receiver * (vcs << longs.depth_bits);
    longs.receivers[i].first_flit = i * (vcs << longs.depth_bits);
  }
  longs.flits.resize(links.size() * (vcs << longs.depth_bits));
  longs.arrivals.resize(links.size() * longs.wheel);
  longs.credits.resize(longs.arrivals.size());
  longs.queued.resize(links.size());
  longs.offer_at.resize(links.size());
  index_long_links(state, lanes);
}

void set_up_routing(State& state, const Topology& topology, const RoutingTable& routing) {
  if (routing.is_dimension_order()) {
    if (auto order = dimension_order(topology, routing.kind())) {
      state.order = *std::move(order);
      return;
    }
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
    if (router < state.sites) {
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
  if (router == destination) {
    return {Flit::with_port(0, kLocal), 0};
  }
  const EdgePort* const entry =
      router < grid_routers ? nullptr : &edge_ports[router - grid_routers];
  const EdgePort* const exit =
      destination < grid_routers ? nullptr : &edge_ports[destination - grid_routers];
  const Place from = places[entry == nullptr ? router : entry->router];
  const Place to = places[exit == nullptr ? destination : exit->router];
  const std::int32_t x = std::int32_t{to.column} - from.column;
  const std::int32_t y = std::int32_t{to.row} - from.row;
  const auto x_links = static_cast<std::uint32_t>(std::abs(x));
  const auto y_links = static_cast<std::uint32_t>(std::abs(y));
  std::uint64_t flit = x_links * step[kEast] | y_links * step[kSouth];
  const bool is_x_first = kind != RoutingKind::YFirst;
  const std::uint64_t x_back = x < 0 ? 1u : 0u;
  const std::uint64_t y_back = y < 0 ? 1u : 0u;
  const std::uint64_t first_back = is_x_first ? x_back : y_back;
  const std::uint64_t second_back = is_x_first ? y_back : x_back;
  if (has_exits()) {
    flit |= first_back << Flit::kFirstBackShift | second_back << Flit::kSecondBackShift;
  } else {
    flit |= (axes.first_port | first_back) << Flit::kFirstShift;
    flit |= (axes.second_port | second_back) << Flit::kSecondShift;
  }
  if (exit != nullptr) {
    flit |= AxesAndExit::kExitMask | (std::uint64_t{exit->side} << Flit::kExitShift);
  }
  const std::uint32_t links =
      x_links + y_links + (entry == nullptr ? 0 : 1) + (exit == nullptr ? 0 : 1);
  // From an edge port there is one way, back to the side it is on.
  return {Flit::with_port(flit, entry == nullptr ? port_left(flit) : entry->side ^ 1u), links};
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
  state.columns = static_cast<std::uint32_t>(columns);
  state.sites = static_cast<std::uint32_t>(topology.grid().rows * columns);
  state.planes = topology.planes();
  state.stride = {1, -1, columns, -columns};
  set_up_routing(state, topology, routing);
  with_vcs(config.vcs, [&](auto vcs) {
    set_up_blocks<vcs.value>(state);
    set_up_long_links(state, topology, Block<vcs.value>::kLanes);
  });

  const auto vcs = static_cast<std::size_t>(config.vcs);
  state.fifo.resize((state.routers * kPorts * vcs) << state.capacity_bits);
  state.source_at.resize(state.routers * vcs);
  state.arrivals.resize(std::size_t{state.wheel} * kPorts * state.padded);
  state.credits.resize(std::size_t{state.wheel} * kCreditGroups * state.padded);
  if (state.table != nullptr) {
    state.choices.resize(state.routers * kPorts * vcs);
  }
  state.stirred.assign(state.padded, 1);  // more than blocks: they are looked at in groups
  set_up_sources(state, topology);
  return state;
}

void let_routers_copy(State& state, const CopyTrees& trees) {
  state.trees = &trees;
  with_vcs(state.config.vcs, [&](auto vcs) {
    using C = CopyBlock<vcs.value>;
    state.copy_bytes.resize(state.blocks * sizeof(C) + kRowBytes);
    std::uninitialized_value_construct_n(state.copy_blocks_of<vcs.value>(), state.blocks);
  });
  state.next_copy.resize(std::size_t{state.routers} * kPorts *
                         static_cast<std::size_t>(state.config.vcs));
}

std::size_t bytes_of(const State& state) {
  const LongLinks& longs = state.longs;
  const auto sum = [](const auto&... vectors) {
    return (... + (vectors.capacity() * sizeof(vectors[0])));
  };
  return sum(state.block_bytes, state.fifo, state.source_at, state.arrivals, state.credits,
             state.choices, state.copy_bytes, state.next_copy, state.stirred, state.wake,
             state.sources, state.nodes, state.order.places) +
         sum(longs.senders, longs.receivers, longs.flits, longs.arrivals, longs.credits,
             longs.queued, longs.offer_at, longs.out_of, longs.into, longs.first_sender,
             longs.first_receiver, longs.out_lanes, longs.in_lanes);
}

}  // namespace dojo::mesh::internal
