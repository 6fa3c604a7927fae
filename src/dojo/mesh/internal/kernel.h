// The engine's inner loop, chosen once per run: one function per instruction set and count of VCs.
// All give the same bits.
#pragma once

#include <cstdint>
#include <span>

#include "dojo/mesh/internal/state.h"
#include "dojo/mesh/isa.h"

namespace dojo::mesh::internal {

// Simulates one cycle of the given blocks; counts into `counters`.
using CycleFunction = void (*)(State& state, Counters& counters,
                               std::span<const std::uint32_t> blocks, Cycle now);

// vcs: 1..kMaxVcs; `isa` must be one that this CPU has.
CycleFunction cycle_function(Isa isa, int vcs);

namespace plain {
CycleFunction cycle_function(int vcs);
}
namespace avx2 {
CycleFunction cycle_function(int vcs);
}
namespace avx512 {
CycleFunction cycle_function(int vcs);
}

}  // namespace dojo::mesh::internal
