// All-reduce over rings that are no mesh: point-to-point links from each member to the next, as
// clusters have between boxes and as analytical simulators of collectives assume (ASTRA-sim's ring
// and its rings of rings). Dojo's own plane is a mesh and has pattern_cost.h.
//
// Members are numbered over the dimensions, the first one innermost. Reduce-scatter goes along the
// first dimension, then along the next on what each member holds of the sum, and so on; the
// all-gathers go back the same way: 2 (n - 1) steps in a ring of n, a message each. A member sends
// the message of a step when it has received that of the step before.
#pragma once

#include <cstdint>
#include <span>

#include "dojo/base/units.h"

namespace dojo::cost {

// From a member to the next one of each of its rings.
struct RingLink {
  BytesPerSecond rate{};
  Picoseconds latency{};
};

// When the last member has the whole sum, each one starting at time zero with `bytes`: the sum over
// dimensions of 2 (n - 1) (latency + message / rate), a message being bytes / (n x the members of
// the dimensions before), and at least a byte. Rounded up to a picosecond per message.
Picoseconds ring_all_reduce(std::span<const int> dimensions, Bytes bytes, const RingLink& link);

// The same by sending every single message, in the order of time: what the formula is held to, and
// what a simulator of collectives does.
struct RingRun {
  Picoseconds end{};
  std::int64_t messages = 0;
};
RingRun run_ring_all_reduce(std::span<const int> dimensions, Bytes bytes, const RingLink& link);

}  // namespace dojo::cost
