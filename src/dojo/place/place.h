// place: a lowered Graph laid out on a machine by rule (docs/placement.md has the rules).
// Deterministic: equal Graph and machine give the same Program, byte for byte. What a replica is
// the rules choose, too, unless a Choice says it (library search tries several).
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

// A replica of the step: the rules do the rest.
struct Choice {
  machine::Shape dies{};    // of one replica
  std::int64_t block = 1;   // samples of one replica, at least
  bool has_groups = false;  // its node rows are dealt to groups of samples
  friend bool operator==(const Choice&, const Choice&) = default;
};

// Samples per step: the first extent of the first input that has one; 1 without any.
std::int64_t batch_of(const graph::Graph& graph);

// All that differ: rectangles of dies that divide the machine's (and one and two dies), smallest
// first; each with the fewest samples that use all replicas, then twice as many and so on; each
// without and with groups.
std::vector<Choice> choices(const graph::Graph& graph, const machine::MachineModel& machine);

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

// The same for a given replica, whose k_parts the Graph is given. Errors: DoesNotFit.
struct PlacedStep {
  graph::Graph graph;
  program::Program program;
};
Result<PlacedStep> place_as(const graph::Graph& lowered, const machine::MachineModel& machine,
                            const Choice& choice);

// Sets k_parts of every op to the proposal (and to none where there is none) and the machine's name
// in the head. Errors: as place().
Result<void> cut_reductions(graph::Graph& graph, const machine::MachineModel& machine);

// Errors: the Graph is not lowered (InvalidInput); its k_parts are not those of this machine
// (InvalidInput, names both machines); it does not fit (DoesNotFit: what it needs, what there is,
// the nearest setting that fits).
Result<program::Program> place(const graph::Graph& graph, const machine::MachineModel& machine);

}  // namespace dojo::place
