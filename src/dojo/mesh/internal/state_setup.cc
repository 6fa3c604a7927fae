#include "dojo/mesh/internal/state_setup.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace dojo::mesh::internal {
namespace {

Routes dimension_order(int rows, int columns) {
  Routes routes;
  const auto x_bits = static_cast<int>(std::bit_width(static_cast<std::uint32_t>(columns - 1)));
  const std::uint64_t x_mask = (std::uint64_t{1} << x_bits) - 1;
  routes.columns = static_cast<std::uint32_t>(columns);
  routes.routers = static_cast<std::uint32_t>(rows * columns);
  routes.first_mask = x_mask;
  routes.second_mask = 0xFFFFu & ~x_mask;
  routes.step[kEast] = routes.step[kWest] = 1;
  routes.step[kSouth] = routes.step[kNorth] = std::uint64_t{1} << x_bits;
  return routes;
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

}  // namespace

Routes::Start Routes::start(std::uint32_t router, std::uint32_t destination) const {
  const auto x = static_cast<std::int32_t>(destination % columns - router % columns);
  const auto y = static_cast<std::int32_t>(destination / columns - router / columns);
  const auto x_links = static_cast<std::uint32_t>(std::abs(x));
  const auto y_links = static_cast<std::uint32_t>(std::abs(y));
  std::uint64_t flit = x_links * step[kEast] | y_links * step[kSouth];
  flit |= std::uint64_t{x < 0} << Flit::kFirstShift;
  flit |= std::uint64_t{y < 0 ? 3u : 2u} << Flit::kSecondShift;  // kNorth, kSouth
  return {Flit::with_port(flit, port_left(flit, first_mask, second_mask)), x_links + y_links};
}

State first_state(const MeshSpec& spec, const Traffic& traffic) {
  State state;
  state.config = spec.router;
  state.traffic = traffic;
  state.routers = static_cast<std::uint32_t>(spec.rows * spec.columns);
  state.padded = (state.routers + kRowBytes - 1) / kRowBytes * kRowBytes;
  state.capacity_bits = std::bit_width(static_cast<std::uint32_t>(spec.router.depth - 1));
  state.wheel = wheel_slots(spec.router);
  state.stride = {1, -1, spec.columns, -spec.columns};
  state.routes = dimension_order(spec.rows, spec.columns);
  with_vcs(spec.router.vcs, [&](auto vcs) { set_up_blocks<vcs.value>(state); });

  const auto vcs = static_cast<std::size_t>(spec.router.vcs);
  state.fifo.resize((state.routers * kPorts * vcs) << state.capacity_bits);
  state.read_at.resize(state.routers * kPorts * vcs);
  state.write_at.resize(state.routers * kCreditGroups * vcs);
  state.arrivals.resize(std::size_t{state.wheel} * kPorts * state.padded);
  state.credits.resize(std::size_t{state.wheel} * kCreditGroups * state.padded);
  state.wake.assign(state.padded, kNever);
  state.sources.resize(state.routers);
  for (std::uint32_t router = 0; router < state.routers; ++router) {
    Source& source = state.sources[router];
    source.vc = static_cast<std::uint8_t>(spec.router.vcs - 1);  // the first packet starts at VC 0
    source.stream = traffic.first_state(router);
    source.head = traffic.next(router, source.stream);
    state.wake[router] = source.head.generated;
  }
  return state;
}

}  // namespace dojo::mesh::internal
