// Time of one phase of a Program on a machine. Placement rules and the Timeline call these same
// functions.
#pragma once

#include <string>

#include "dojo/base/units.h"
#include "dojo/cost/node_cost.h"
#include "dojo/cost/pattern_cost.h"
#include "dojo/program/program.h"

namespace dojo::cost {

struct ComputeTime {
  NodeCost cost{};
  Picoseconds total{};
};
ComputeTime compute_time(const program::Compute& compute, const machine::MachineModel& machine);

struct TransferTime {
  TransferCost cost{};  // of all moves, one after the other
  Picoseconds total{};  // A + L / pace
  Picoseconds first{};  // until the first of its panels has arrived: A + L / (pace x panels)
};
TransferTime transfer_time(const program::Transfer& transfer, const program::Replicas& replicas,
                           const machine::MachineModel& machine);

// Host decode, PCIe, interface processor, tile edge, die edges, ports: A is the sum of latencies on
// the way, L the busiest of them. A machine without interface processors is fed through the edges
// of its western dies; its host side is then not modelled. One with DRAM of its own reads it there.
TransferTime ingest_time(const program::Ingest& ingest, const program::Replicas& replicas,
                         const machine::Region& region, const machine::MachineModel& machine);

// What bounds a phase, in words of the report: "matrix", "vector", "load", "store", a link class
// ("port_in", "die_edge", ...), or "latency" where A is the larger part.
std::string bound_of(const ComputeTime& time);
std::string bound_of(const TransferTime& time, const machine::MachineModel& machine);

}  // namespace dojo::cost
