// What it costs to bring tensors from the DRAM of the interface processors to the nodes, or back.
#pragma once

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost {

// `bytes` of each node of the region, in all replicas at once (program::Scope::Memory). The dies in
// use have their part of the machine's processors; A is the sum of latencies on the way, L the
// busiest of: DRAM, processor links, rim edges, the first edge of a row of dies (fed from as many
// ends as have processors), the rows of nodes of a die, a node's port. The machine has Hbm and
// processors.
TransferCost memory_cost(const machine::Region& region, Bytes bytes,
                         const program::Replicas& replicas, const machine::MachineModel& machine);

}  // namespace dojo::cost
