// Where replicas stand, and what transfers between them cost.
#pragma once

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost {

// North-west die of replica `index`: row by row, every second row backwards.
machine::Site replica_site(const program::Replicas& replicas, std::int64_t index,
                           const machine::MachineModel& machine);

// An ordered all-reduce over the replicas (Scope::Across: of each node's `bytes`, with its equals
// in the other replicas; Scope::Through: of the partials of all nodes of a line in all replicas).
// A chain is the quicker of: reduce-scatter and all-gather along the chain of replicas; everything
// to the replica in the middle, which adds in ascending order, and back. Nested (of a rectangle of
// R rows of C replicas): the quickest of: reduce-scatter along rows, then of the shares along
// columns, all-gather along columns, then rows; each row to its middle, which adds, their sums to
// the middle of that column, and back; everything to the replica in the middle. Where the last row
// is not full, its idle places add, store and send on, too.
TransferCost replica_all_reduce(program::Scope scope, const machine::Pattern& pattern,
                                const machine::Region& region, const program::Replicas& replicas,
                                const machine::MachineModel& machine, int spacing = 1);

// Every replica ends with the `bytes` per node of all (`Across` only): an all-gather of V = count x
// bytes along the chain.
TransferCost replica_all_gather(const machine::Region& region, Bytes bytes,
                                const program::Replicas& replicas,
                                const machine::MachineModel& machine);

}  // namespace dojo::cost
