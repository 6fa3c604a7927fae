// Where replicas stand, and what transfers between them cost.
#pragma once

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost {

// North-west die of replica `index`: row by row, every second row backwards.
machine::Site replica_site(const program::Replicas& replicas, std::int64_t index,
                           const machine::MachineModel& machine);

// An ordered all-reduce along the chain of replicas (Scope::Across: of each node's `bytes`, with
// its equals in the other replicas; Scope::Through: of the partials of all nodes of a column in
// all replicas). The quicker of: reduce-scatter and all-gather along the chain; everything to the
// replica in the middle, which adds in ascending order, and back.
TransferCost replica_all_reduce(program::Scope scope, machine::Axis axis,
                                const machine::Region& region, Bytes bytes,
                                const program::Replicas& replicas,
                                const machine::MachineModel& machine, int spacing = 1);

// Every replica ends with the `bytes` per node of all (`Across` only): an all-gather of V = count x
// bytes along the chain.
TransferCost replica_all_gather(const machine::Region& region, Bytes bytes,
                                const program::Replicas& replicas,
                                const machine::MachineModel& machine);

}  // namespace dojo::cost
