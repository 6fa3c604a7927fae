// place: a lowered Graph laid out on a machine by rule (docs/placement.md has the rules).
// Deterministic: equal Graph and machine give the same Program, byte for byte. What a replica is
// the rules choose, too, unless a Choice says it (library search tries several).
//
// Where a rule deals a reduction to several nodes or replicas, the sum is cut there, which values
// depend on. So the cuts are proposed first and written into the lowered Graph before it runs
// anywhere; place() then holds the Graph to them and changes nothing.
#pragma once

#include <optional>
#include <vector>

#include "dojo/base/ids.h"
#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/program/program.h"

namespace dojo::place {

// A split other than the rules say: which loop of its nest runs over groups, which over node.y and
// which over node.x in all ops of one kind; its number of loops: none (over groups of samples the
// rules' own).
struct Deal {
  int kind = 0;
  int group_loop = 0;
  int row_loop = 0;
  int column_loop = 0;
  friend bool operator==(const Deal&, const Deal&) = default;
};

// What a search may choose of a step; the rules do the rest.
struct Choice {
  machine::Shape dies{};    // of one replica, or of each of its stages
  std::int64_t stages = 1;  // of a pipeline that each replica is
  std::int64_t block = 1;   // samples of one replica, at least
  bool has_groups = false;  // its node rows are dealt to groups of samples
  // Without those: its node rows are dealt to so many groups for whatever loops; 1: to none.
  std::int64_t free_groups = 1;
  std::int64_t micro_batches = 1;  // in which a replica works on its samples
  bool has_even_weights = false;   // weights lie in even shares wherever dimensions leave many idle
  bool streams_states = false;     // optimiser states lie in DRAM
  // That the panels of one phase may take, both buffers; 0: the widest that fit.
  Bytes panels{};
  std::vector<Deal> deals{};  // ascending by kind, one of each
  friend bool operator==(const Choice&, const Choice&) = default;
};

// By op of the Graph: its kind. Ops that are alike (same op, loops, maps and formats) are of one
// kind, numbered as they first appear.
std::vector<int> op_kinds(const graph::Graph& graph);

// All loops that can be dealt together on the choice's replica, and what is dealt now; none for a
// kind that the Graph has not or whose split is settled by what it works on (updates, look-ups,
// shares, views).
struct Deals {
  Deal now{};
  std::vector<Deal> all;
};
Deals deals_of(const graph::Graph& graph, const machine::MachineModel& machine,
               const Choice& choice, int kind);

// Samples per step: the first extent of the first input that has one; 1 without any.
std::int64_t batch_of(const graph::Graph& graph);

// All that differ: rectangles of dies that divide the machine's (and one and two dies), smallest
// first; each with the fewest samples that use all replicas, then twice as many and so on; each
// without and with groups.
std::vector<Choice> choices(const graph::Graph& graph, const machine::MachineModel& machine);

// Pipelines that a search may try: of 2, 3, 4, 6, 8, 12 and so on stages (or as many as are asked
// for), the most first; of each number the rectangles of dies that leave fewest nodes without work,
// with one replica and with several. One sample at a time, states in DRAM where there is room. None
// for fewer than four samples.
std::vector<Choice> pipelines(const graph::Graph& graph, const machine::MachineModel& machine,
                              std::optional<std::int64_t> stages = std::nullopt);

// The same replica with its node rows dealt to free groups, the fewest first: of as many dies each,
// so that every group crosses the same edges, or several of the same size in each row of dies. None
// of a choice with groups of samples.
std::vector<Choice> with_free_groups(const machine::MachineModel& machine, const Choice& choice);

// Whether the machine has DRAM with room for all optimiser states, in as many micro-batches.
bool has_dram_for_states(const graph::Graph& graph, const machine::MachineModel& machine,
                         const Choice& choice);

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

// What a user may settle before the rules choose.
struct Asked {
  // Fewer where a replica has fewer samples. None: one, or the fewest with which anything fits
  // (powers of two, all samples); of a pipeline four for each stage, as far as samples go.
  std::optional<std::int64_t> micro_batches{};
  std::int64_t stages = 1;  // of a pipeline that each replica is
};

// The same as the rules choose, and what that is. Errors: as place().
struct RuledStep {
  Choice choice;
  PlacedStep step;
};
Result<RuledStep> place_by_rule(const graph::Graph& lowered, const machine::MachineModel& machine,
                                const Asked& asked = {});

// For searches: the phases of place_as() as they would be if every node had room for all: quick to
// make and good to compare, and not a Program to run (its memory has no map). Errors: DoesNotFit,
// if not even weights and states would.
Result<program::Program> sketch_as(const graph::Graph& lowered,
                                   const machine::MachineModel& machine, const Choice& choice);

// Sets k_parts of every op to the proposal (and to none where there is none) and the machine's name
// in the head. Errors: as place().
Result<void> cut_reductions(graph::Graph& graph, const machine::MachineModel& machine);

// Errors: the Graph is not lowered (InvalidInput); its k_parts are not those of this machine
// (InvalidInput, names both machines); it does not fit (DoesNotFit: what it needs, what there is,
// the nearest setting that fits).
Result<program::Program> place(const graph::Graph& graph, const machine::MachineModel& machine);

}  // namespace dojo::place
