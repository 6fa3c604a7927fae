// place: a lowered Graph laid out on a machine by rule, without a search (docs/placement.md has the
// rules). Deterministic: equal Graph and machine give the same Program, byte for byte.
//
// Where a rule deals a reduction to several nodes or replicas, the sum is cut there, which values
// depend on. So the cuts are proposed first and written into the lowered Graph before it runs
// anywhere; place() then holds the Graph to them and changes nothing.
#pragma once

#include <vector>

#include "dojo/base/ids.h"
#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/program/program.h"

namespace dojo::place {

// The cuts of one op's reduce loops, in the order of its nest.
struct OpCuts {
  OpId op;
  std::vector<graph::ReduceCut> cuts;
  friend bool operator==(const OpCuts&, const OpCuts&) = default;
};

// Every op of the lowered Graph that this placement cuts, ascending; k_parts that the Graph already
// has are not looked at. Errors: as place().
Result<std::vector<OpCuts>> propose_reduction_cuts(const graph::Graph& graph,
                                                   const machine::MachineModel& machine);

// Sets k_parts of every op to the proposal (and to none where there is none) and the machine's name
// in the head. Errors: as place().
Result<void> cut_reductions(graph::Graph& graph, const machine::MachineModel& machine);

// Errors: the Graph is not lowered (InvalidInput); its k_parts are not those of this machine
// (InvalidInput, names both machines); it does not fit (DoesNotFit: what it needs, what there is,
// the nearest setting that fits).
Result<program::Program> place(const graph::Graph& graph, const machine::MachineModel& machine);

}  // namespace dojo::place
