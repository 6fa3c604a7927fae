// Where each value of a step lies in the one arena: values whose lifetimes do not meet share bytes.
// First fit by offset: values in order of bytes (descending), then first use, then index; each
// takes the lowest aligned offset that is free over its whole lifetime.
//
// Invariants (tested): two values that live at one time never overlap; every offset is a multiple
// of kArenaAlignment; the plan depends on nothing but its input.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dojo/base/units.h"

namespace dojo::run {

inline constexpr std::int64_t kArenaAlignment = 64;  // bytes: a cache line and an AVX-512 register

// A value lives from step `first` to step `last`, both included.
struct Lifetime {
  std::int64_t first = 0;
  std::int64_t last = 0;
  Bytes size;
};

struct MemoryPlan {
  std::vector<std::int64_t> offsets;  // bytes from the arena's begin, by index of the lifetime
  Bytes size;                         // of the arena
  Bytes largest_live_sum;             // no plan can be smaller
};

MemoryPlan plan_memory(std::span<const Lifetime> lifetimes);

}  // namespace dojo::run
