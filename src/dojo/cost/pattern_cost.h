// What a transfer costs: T = A + L / pace, with A the latency of the longest dependent path and L
// the busy cycles of the busiest resource (docs/placement.md has every formula with its source).
//
// V is the gathered or summed result of one line or group in packets, n the nodes of a line, R x C
// a region, s = 2 + alpha one store-and-forward stage; a stage that adds takes reduce_stage more.
// Ports move one packet a cycle each way, a node link one packet a cycle (at the published rates);
// where a line crosses a die or tile edge, A grows by the crossing's latency and the load of that
// cut is divided by its rate.
#pragma once

#include <array>
#include <cstdint>

#include "dojo/base/units.h"
#include "dojo/machine/machine_model.h"
#include "dojo/machine/pattern.h"
#include "dojo/machine/region.h"
#include "dojo/program/program.h"

namespace dojo::cost {

// Bytes through the busiest unit of each link class (one link, one port, one edge).
using LinkBytes = std::array<double, machine::kLinkClassCount>;

// What a transfer moves, all its nodes together: what its energy follows from. Bytes.
struct Traffic {
  double sram = 0;                                       // read and written
  double hops = 0;                                       // times links crossed, inside dies
  std::array<double, machine::kLinkClassCount> outer{};  // through edges, processors, ...

  Traffic& operator+=(const Traffic& other);
  Traffic operator*(double times) const;
};

struct TransferCost {
  Cycles latency{};  // A
  double busy = 0;   // L in cycles at full rate, pace not yet applied
  machine::LinkClass busiest = machine::LinkClass::PortIn;
  LinkBytes bytes{};
  Traffic traffic{};

  // A + L / pace, rounded up.
  Cycles total(double pace) const;
  // Patterns of one phase, one after the other.
  TransferCost& operator+=(const TransferCost& next);
};

// One pattern inside a region; `reach` is program::Move's. Zero if the region has one node. Its
// traffic is that of all nodes of the region; hops are counted between logical neighbours.
TransferCost pattern_cost(const machine::Pattern& pattern, const machine::Region& region,
                          const machine::MachineModel& machine, int reach = 1);

// No schedule of the pattern can be quicker: the catalogue's bound column, in cycles.
double pattern_lower_bound(const machine::Pattern& pattern, const machine::Region& region,
                           const machine::MachineModel& machine);

// A region_move from a stage of a pipeline to another one, so many whole dies away.
TransferCost onward_cost(const machine::Pattern& pattern, const machine::Region& region,
                         const machine::MachineModel& machine);

// One move of a Program's transfer: inside the replica as above, or along the chain of replicas.
TransferCost move_cost(const program::Move& move, const program::Replicas& replicas,
                       const machine::MachineModel& machine);

// All nodes of the region tell each other that they are done: the small all-reduce over its centre.
Cycles barrier_cost(const machine::Region& region, const machine::MachineModel& machine);

}  // namespace dojo::cost
