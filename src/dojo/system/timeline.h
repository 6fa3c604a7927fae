// Timeline: when each phase of a Program begins and ends on a machine, and what bound it.
//
// Three lanes: the nodes' pipes (compute phases), the network (transfers),
// the way in from the hosts (ingest). A lane runs one phase at a time, in Program order. A phase
// begins when all it comes after have ended and its lane is free; a pipelined compute phase begins
// when the first panel of each of its transfers has arrived, and ends no earlier than one panel's
// work after the last. Ingest fetches the next step's inputs while this one runs; where they lie in
// the machine's own DRAM, what `dram.overlap` leaves of it comes before the step. So each begin is
// a maximum of ends before it: making any duration shorter makes nothing later (monotone; tested).
//
// Micro-batches: the phases between run that often, one micro-batch behind the other in each lane.
// Once two in a row shift every phase by the same time, so do all that follow: they are counted,
// not walked. Of these phases the times of the last run are given.
//
// Pipeline: the phases of a half are timed so by themselves, and the halves follow each other as
// program.h says (pipeline.h).
//
// That is stated sharing: every transfer has the network to itself. With max-min sharing up to
// kInFlight transfers are under way at once and share it (cost/flow.h); they still begin in Program
// order, and a wait for one is a wait for all before it. What uses bytes that others used before
// waits for all phases up to their last. A transfer that begins sooner may slow another one that
// matters more, so a quicker machine can come out slower; how much is tested on placed steps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/ids.h"
#include "dojo/base/units.h"
#include "dojo/cost/pattern_cost.h"
#include "dojo/machine/machine_model.h"
#include "dojo/program/program.h"

namespace dojo::system {

enum class Lane : std::uint8_t { Compute, Transfer, Ingest };
std::string_view name(Lane lane);  // "compute", "transfer", "ingest"

enum class Sharing : std::uint8_t { Stated, MaxMin };
inline constexpr std::size_t kSharingCount = 2;
std::string_view name(Sharing sharing);  // "stated", "max-min"

// Transfers under way at once with max-min sharing: one for each of three virtual channels, the
// fewest with which flits kept to these rates (docs/placement.md).
inline constexpr std::size_t kInFlight = 3;

struct PhaseTiming {
  Lane lane = Lane::Compute;
  Picoseconds begin{};
  Picoseconds end{};
  Picoseconds work{};       // its own duration, were nothing in its way
  Picoseconds first{};      // transfers: from begin until the first panel has arrived
  std::string bound_by{};   // cost::bound_of: "matrix", a link class, "latency", ...
  cost::LinkBytes bytes{};  // through the busiest unit of each link class
};

struct Timeline {
  std::vector<PhaseTiming> phases{};  // by phase of the Program; of several runs the last
  Picoseconds computed{};             // when the last compute phase or transfer has ended
  Picoseconds step{};                 // from one step to the next: also no shorter than ingest
};

// The Program must be verified for the machine.
Timeline time_program(const program::Program& program, const machine::MachineModel& machine,
                      Sharing sharing = Sharing::Stated);

// No schedule of the Program is quicker than `lower` (the nodes' pipes or the busiest class of
// links, without latencies and at full pace), nor slower than `serial` (all phases one after the
// other).
struct Bounds {
  Picoseconds lower{};
  Picoseconds serial{};
};
Bounds bounds_of(const program::Program& program, const machine::MachineModel& machine);

}  // namespace dojo::system
