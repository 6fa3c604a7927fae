// What cycle_plain.cc, cycle_avx2.cc and cycle_avx512.cc have in common. Everything else is
// included before the instruction set is chosen, so that nothing shared is compiled for it.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/mesh/internal/copy_trees.h"
#include "dojo/mesh/internal/intrinsics.h"
#include "dojo/mesh/internal/kernel.h"
#include "dojo/mesh/internal/message_source.h"
#include "dojo/mesh/internal/state.h"

// Last: it changes the target.
#include "dojo/mesh/internal/cycle.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <int kVcs>
void run_cycle(State& state, Counters& counters, std::span<const std::uint32_t> blocks, Cycle now) {
  Cycles<kVcs> cycles(state, counters);
  constexpr std::size_t kGroup = Cycles<kVcs>::kGroup;
  for (std::size_t i = 0; i < blocks.size();) {
    const std::uint32_t block = blocks[i];
    bool is_group = block % kGroup == 0 && i + kGroup <= blocks.size();
    for (std::uint32_t next = 1; next < kGroup && is_group; ++next) {
      is_group = blocks[i + next] == block + next;
    }
    if (is_group && cycles.is_group_quiet(block, now)) {
      i += kGroup;
      continue;
    }
    for (std::size_t end = is_group ? i + kGroup : i + 1; i < end; ++i) {
      cycles.run(blocks[i], now);
    }
  }
}

template <std::size_t... kIndex>
CycleFunction pick(int vcs, std::index_sequence<kIndex...> /*all*/) {
  constexpr std::array<CycleFunction, kMaxVcs> kFunctions{
      &run_cycle<static_cast<int>(kIndex) + 1>...};
  return kFunctions[static_cast<std::size_t>(vcs - 1)];
}

// NOLINTNEXTLINE(misc-definitions-in-headers): each file that includes this has its own namespace
CycleFunction cycle_function(int vcs) { return pick(vcs, std::make_index_sequence<kMaxVcs>()); }

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA

#if DOJO_MESH_BYTES > 16
#pragma GCC pop_options
#endif
