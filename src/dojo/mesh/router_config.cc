#include "dojo/mesh/router_config.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "dojo/base/text.h"

namespace dojo::mesh {
namespace {

// BookSim2's router with delays of one cycle for link, credit wire, both allocations, traversal.
constexpr RouterConfig booksim(int vcs, Speculation speculation) {
  return {.vcs = vcs, .depth = 8, .speculation = speculation};
}

// Assumed: both allocations in one cycle, a flit granted in s usable at the neighbour in s + 1,
// and so is its credit. The slot loop, grant to grant, is 2 cycles: 2 slots keep a VC streaming.
constexpr RouterConfig kD1{.vcs = 3,
                           .depth = 8,
                           .speculation = Speculation::On,
                           .flit_delay = 1,
                           .eject_delay = 1,
                           .credit_delay = 1,
                           .source_credit_delay = 1,
                           .eject_credit_delay = 2,
                           .inject_delay = 0};

// Nine cycles a hop as Tenstorrent's Wormhole was measured; its 32 B flits, 16 VCs shown as 4.
constexpr RouterConfig kWormhole{.vcs = 4,
                                 .depth = 15,
                                 .speculation = Speculation::On,
                                 .flit_delay = 9,
                                 .eject_delay = 1,
                                 .credit_delay = 2,
                                 .source_credit_delay = 1,
                                 .eject_credit_delay = 2,
                                 .inject_delay = 1};

// One cycle a hop, two cycles between processor and router in each direction (the ramp).
constexpr RouterConfig kWse2{.vcs = 2,
                             .depth = 8,
                             .speculation = Speculation::On,
                             .flit_delay = 1,
                             .eject_delay = 2,
                             .credit_delay = 1,
                             .source_credit_delay = 1,
                             .eject_credit_delay = 3,
                             .inject_delay = 2};

constexpr std::array kPresets{
    RouterPreset{"d1", "one cycle a hop, 3 VCs x 8 flits of 64 B", kD1},
    RouterPreset{"booksim-v4", "4 VCs x 8 flits, hop to hop 4 cycles",
                 booksim(4, Speculation::Off)},
    RouterPreset{"booksim-v1", "1 VC x 8 flits, hop to hop 4 cycles", booksim(1, Speculation::Off)},
    RouterPreset{"booksim-v8s", "8 VCs x 8 flits, speculative, hop to hop 3 cycles",
                 booksim(8, Speculation::On)},
    RouterPreset{"wormhole", "nine cycles a hop, 32 B flits", kWormhole},
    RouterPreset{"wse2", "one cycle a hop, 4 B flits, two cycles on a ramp", kWse2},
};

Result<void> in_range(std::string_view what, int value, int low, int high) {
  if (value < low || value > high) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("router: {} is {}, must be {}..{}", what, value, low, high)};
  }
  return {};
}

}  // namespace

std::string_view name(Allocator allocator) {
  return allocator == Allocator::Islip ? "islip" : "round-robin";
}

std::optional<Allocator> allocator_named(std::string_view text) {
  for (const Allocator allocator : {Allocator::Islip, Allocator::RoundRobin}) {
    if (name(allocator) == text) {
      return allocator;
    }
  }
  return std::nullopt;
}

std::span<const RouterPreset> router_presets() { return kPresets; }

Result<RouterConfig> router_preset(std::string_view name) {
  std::vector<std::string> names;
  for (const RouterPreset& preset : kPresets) {
    if (preset.name == name) {
      return preset.config;
    }
    names.emplace_back(preset.name);
  }
  return Error{ErrorKind::NotFound, fmt::format("unknown router {}{}; presets: {}", quoted(name),
                                                suggestion(name, names), fmt::join(names, ", "))};
}

RouterConfig router_of(const machine::MachineModel& machine) {
  if (!machine.router.has_value()) {
    return kD1;
  }
  const machine::RouterModel& router = *machine.router;
  const auto stages = static_cast<int>(router.stages.count());
  const auto credit = static_cast<int>(router.credit.count());
  return {.vcs = router.vcs,
          .depth = router.depth,
          .speculation = router.speculates ? Speculation::On : Speculation::Off,
          .allocator = router.allocator == machine::RouterAllocator::Islip ? Allocator::Islip
                                                                           : Allocator::RoundRobin,
          .flit_delay = stages,
          .eject_delay = stages,
          .credit_delay = credit,
          .source_credit_delay = credit,
          .eject_credit_delay = stages + credit,
          .inject_delay = 0};
}

Result<void> check(const RouterConfig& config) {
  DOJO_TRY_VOID(in_range("vcs", config.vcs, 1, kMaxVcs));
  DOJO_TRY_VOID(in_range("depth", config.depth, 1, kMaxDepth));
  DOJO_TRY_VOID(in_range("flit_delay", config.flit_delay, 1, kMaxDelay));
  DOJO_TRY_VOID(in_range("eject_delay", config.eject_delay, 1, kMaxDelay));
  DOJO_TRY_VOID(in_range("credit_delay", config.credit_delay, 1, kMaxDelay));
  DOJO_TRY_VOID(in_range("source_credit_delay", config.source_credit_delay, 1, kMaxDelay));
  DOJO_TRY_VOID(in_range("eject_credit_delay", config.eject_credit_delay, 1, kMaxDelay));
  return in_range("inject_delay", config.inject_delay, 0, kMaxDelay);
}

}  // namespace dojo::mesh
