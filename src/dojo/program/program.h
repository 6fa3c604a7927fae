// Program: where and when a lowered Graph runs on a machine. Phases on regions of nodes, slices of
// loops, transfers as patterns, a memory map, dependencies. It never says how long anything takes
// (library cost does, from a machine) and holds no choice that changes a value (the Graph does).
//
// All replicas do the same on their own samples, so a Program tells what one of them does, on the
// region of the first; transfers across replicas say so. Work and bytes are those of the busiest
// node, with totals over the machine beside them. Sizes are per step, and of phases that run for
// each micro-batch per micro-batch, but totals, which are always of the whole step.
//
// Micro-batches: phases [first, end) run `count` times, each time on the next samples; those before
// them run once before, those behind once at the end. Sums over samples go on from one micro-batch
// to the next in bytes that nobody else uses meanwhile.
//
// Pipeline: a replica may be several stages, each on dies of its own with its own weights. The
// phases of a stage stand together, those of the first stage first; what runs for each micro-batch
// is its forward half, then its backward half. When a half runs says nothing but this:
// - stage s of S runs the forward halves of its first S - s micro-batches (its lead; fewer if there
//   are fewer), then a backward and a forward half in turn, then the backward halves that are left;
//   one begins when the one before is over;
// - a forward half begins when the stage before has run its own of the same micro-batch, and the
//   stage behind its own of the one two before; a backward half likewise, the other way round;
// - all phases before the micro-batches run first; those behind them when the last backward half of
//   the stage is over, and those of the stages that it names.
// What crosses stages is sent within the half that makes it. What a stage needs of a micro-batch
// beyond the half that made it lies in so many copies, by turns, as micro-batches can be under way.
//
// Invariants (verify_program): phase i depends only on phases before i; no phase reads what only a
// later one writes (but leaves that are updated in place); regions stand on the replica's dies;
// blocks of a split nest and cover the loop; no two memory entries overlap in bytes while both
// live; a pipelined phase follows the transfers it names; only phases that run for each micro-batch
// wait for some of the one before; what such a phase has from before them lives until all have run.
// Of a pipeline also: stages stand on dies of their own, their phases wait for none of another
// stage; what a phase reads and its stage does not make has been sent there by then.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dojo/base/ids.h"
#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/machine/pattern.h"
#include "dojo/machine/region.h"
#include "dojo/program/split.h"

namespace dojo::program {

// One matrix product on the busiest node: `batch` products of m x k by k x n.
struct MatrixWork {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t batch = 1;
  std::int64_t panel = 0;  // points of k per panel; the partial is stored and reloaded in between
  int left_bytes = 0;      // per element, as stored
  int right_bytes = 0;
  // FP32 operands run on the vector pipe: one multiply-add per lane and cycle.
  bool on_vector_pipe = false;
  friend bool operator==(const MatrixWork&, const MatrixWork&) = default;
};

// What one phase asks of its busiest node, and the sums over all nodes of all replicas.
struct NodeWork {
  std::vector<MatrixWork> matrix{};
  std::int64_t vector_ops = 0;    // FP32 lane operations
  std::int64_t special_ops = 0;   // exp, rsqrt, divisions, ...
  Bytes loaded{};                 // from SRAM, without the matrix unit's operands
  Bytes stored{};                 // to SRAM
  Bytes rounded{};                // the part of `stored` that was rounded to a smaller format
  std::int64_t points = 0;        // of the slice's loops, all stages
  std::int64_t macs = 0;          // of the slice
  std::int64_t total_points = 0;  // over machine and step, without work done twice
  std::int64_t total_macs = 0;
  bool is_whole = false;  // not divisible: one node works, the others wait
  friend bool operator==(const NodeWork&, const NodeWork&) = default;
};

// What a phase of the graph part it comes from.
struct Compute {
  std::vector<OpId> ops{};  // of the Graph; several if fused
  std::string kinds{};      // "aten.convolution+aten.relu"
  std::string module{};     // path of the module of the first op
  graph::Phase part = graph::Phase::Forward;
  Split split{};
  NodeWork work{};
  // Transfers whose panels this phase consumes as they come; ascending.
  std::vector<PhaseId> pipelined{};
  bool is_recomputed = false;  // done again to save memory
  friend bool operator==(const Compute&, const Compute&) = default;
};

// Which nodes a transfer joins.
enum class Scope : std::uint8_t {
  Inside,   // the nodes of a replica, in all replicas at once
  Across,   // the equal nodes of all replicas: each line goes through the replicas in their order
  Through,  // each line of nodes, continued through all replicas in their order
            // (of both: nested sums first within each row of replicas, then over the rows)
  Memory,   // every node of all replicas, and the DRAM of the interface processors
  Onward,   // every node of a stage, to the equal node of another stage of the replica
};
std::string_view name(Scope scope);  // "inside", "across", "through", "memory", "onward"
std::optional<Scope> scope_named(std::string_view name);

// One pattern of a transfer. Patterns of one phase run one after the other.
struct Move {
  std::string tensor{};  // name of the value, without %
  Scope scope = Scope::Inside;
  machine::Region region{};  // of the first replica
  machine::Pattern pattern{};
  // Halo: the farthest node that a byte comes from, in nodes. Others: nodes of a line are every
  // `reach`-th of the region's (one of each group); the lines between them go side by side.
  int reach = 1;
  friend bool operator==(const Move&, const Move&) = default;
};

struct Transfer {
  std::vector<Move> moves{};
  std::int64_t panels = 1;   // equal pieces; a pipelined phase starts after the first
  bool is_fallback = false;  // no single step of the resharding table fits
  friend bool operator==(const Transfer&, const Transfer&) = default;
};

// Bytes that come from outside (host, PCIe, interface processor, tile edge, nodes) for the next
// step, while this one runs.
struct Ingest {
  std::vector<std::string> tensors{};
  Bytes bytes{};  // of all replicas
  Bytes bytes_per_replica{};
  friend bool operator==(const Ingest&, const Ingest&) = default;
};

using PhaseBody = std::variant<Compute, Transfer, Ingest>;

struct Phase {
  machine::Region region{};  // of the first replica
  PhaseBody body{};
  std::vector<PhaseId> after{};      // ascending
  std::vector<PhaseId> previous{};   // the same, as they ran for the micro-batch before; ascending
  std::vector<std::string> reads{};  // values, without %
  std::vector<std::string> writes{};
  friend bool operator==(const Phase&, const Phase&) = default;
};

struct MicroBatches {
  std::int64_t count = 1;
  PhaseId first{};  // phases [first, end) run for each of them; of a pipeline none stand here
  PhaseId end{};
  friend bool operator==(const MicroBatches&, const MicroBatches&) = default;
};

// When in a step a phase of a pipeline runs.
enum class Part : std::uint8_t { Before, Forward, Backward, Behind };
inline constexpr std::size_t kPartCount = 4;
std::string_view name(Part part);  // "before", "forward", "backward", "behind"

// Of a pipeline. Its phases by part: [begins[part], begins[part + 1]), the last of them up to end.
struct Stage {
  machine::Region region{};  // all its nodes, of the first replica
  std::array<PhaseId, kPartCount> begins{};
  PhaseId end{};
  std::vector<std::int64_t> after{};  // stages whose last part is over before its own; ascending
  friend bool operator==(const Stage&, const Stage&) = default;

  PhaseId begin_of(Part part) const { return begins[static_cast<std::size_t>(part)]; }
  PhaseId end_of(Part part) const {
    return part == Part::Behind ? end : begins[static_cast<std::size_t>(part) + 1];
  }
  Part part_of(PhaseId phase) const;
};

// Replicas stand in rectangles of dies, row by row over the machine, every second row backwards, so
// that consecutive ones are neighbours.
struct Replicas {
  std::int64_t count = 1;      // that work
  std::int64_t available = 1;  // that the machine has room for
  machine::Shape dies{};       // of one replica
  std::int64_t stages = 1;     // that share its dies, if it is a pipeline
  std::int64_t batch = 1;      // global samples per step
  std::int64_t block = 1;      // samples of one replica (the last may have fewer)
  friend bool operator==(const Replicas&, const Replicas&) = default;
};

// Places in one of those rows.
std::int64_t replicas_per_row(const Replicas& replicas, const machine::MachineModel& machine);

// How many consecutive replicas make a run, where sums over them are nested: those of a row.
// nullopt: one row, rows of one, or one replica in a second row, which a chain adds last, too. It
// looks at no rate, so that values do not depend on any.
std::optional<std::int64_t> replicas_in_run(const Replicas& replicas,
                                            const machine::MachineModel& machine);

// Whether waits of stages for each other (Stage::after, by stage) never end.
bool wait_in_a_circle(const std::vector<std::vector<std::int64_t>>& after);

// Of how many micro-batches a stage of a pipeline has to keep what another one sends it: what stage
// `from` makes in part `made` and stage `to` reads, in its backward half or not.
std::int64_t copies_of_arrival(std::size_t stages, std::int64_t micro_batches, std::size_t from,
                               Part made, std::size_t to, bool is_read_backward);

// What a stage has been sent lies under the value's name and this.
inline constexpr std::string_view kArrived = ":arrived";

// Bytes of one tensor's largest share at one offset, from the first to the last phase that uses it.
// All nodes of a replica, or of a stage, have the same map.
struct MemoryEntry {
  std::string tensor{};  // value name, with a suffix for copies: "w0.c:gathered"
  Bytes offset{};
  Bytes bytes{};            // of all copies
  std::int64_t copies = 1;  // of a pipeline: micro-batches that have theirs, by turns
  PhaseId first{};
  PhaseId last{};
  friend bool operator==(const MemoryEntry&, const MemoryEntry&) = default;
};

// What was done to make it fit.
struct Remedy {
  std::string what{};    // "slice", "recompute", "checkpoint", "panels", "replica", "hbm"
  std::string tensor{};  // or module
  Bytes freed{};         // per node
  friend bool operator==(const Remedy&, const Remedy&) = default;
};

struct Program {
  std::string name{};
  std::string graph_sha256{};
  std::string recipe{};  // that the Graph was lowered with
  std::string machine{};
  std::string machine_digest{};
  Replicas replicas{};
  MicroBatches micro{};
  std::vector<Stage> stages{};  // of a pipeline: two or more; else none
  std::vector<Phase> phases{};  // in order of issue
  Bytes reserved{};             // per node: code
  std::vector<MemoryEntry> memory{};
  std::vector<Remedy> remedies{};
  friend bool operator==(const Program&, const Program&) = default;

  // How often the phase runs in a step.
  std::int64_t runs(std::size_t phase) const;
  // Of a pipeline: the number of the phase's stage.
  std::size_t stage_of(std::size_t phase) const;
  // Micro-batches that the stage may have under way: run forward, and not yet back.
  std::int64_t lead(std::size_t stage) const {
    return std::min(micro.count, static_cast<std::int64_t>(stages.size() - stage));
  }

  // Highest byte in use on a node, the reserved part included.
  Bytes sram_peak() const;
  std::int64_t fallbacks() const;
  // To and from the DRAM of the interface processors in a step, of all nodes of all replicas.
  Bytes hbm_bytes() const;
  // Of matrix products and convolutions, all replicas, without what is done again to save memory:
  // those of the Graph.
  Flops flops() const;
};

// The same with the phases of the first `count` micro-batches one after the other; phase i of the
// result is phase of[i] of the Program. Totals of work stay those of the step.
struct WrittenOut {
  Program program;
  std::vector<PhaseId> of;
  std::vector<std::int64_t> micro_batch;  // that it runs for; 0 before them, count - 1 behind them
};
WrittenOut write_out(const Program& program, std::int64_t count);

// Phases [begin, end) alone, of one stage or half, and what lies in memory meanwhile. Waits for
// others are left out: they are over before.
Program only(const Program& program, PhaseId begin, PhaseId end);

// One stage of a pipeline as a Program of its own, forward and backward half as one after the
// other.
Program only_stage(const Program& program, std::size_t stage);

// The invariants at the head of this file, for a machine. Errors name the phase.
Result<void> verify_program(const Program& program, const machine::MachineModel& machine);

// Whether the Program was made of this lowered Graph (by its hash), and whether it was made for
// this very machine (by its digest): an Error says what it was made of or for.
Result<void> check_graph(const Program& program, const graph::Graph& lowered);
Result<void> check_machine(const Program& program, const machine::MachineModel& machine);

}  // namespace dojo::program
