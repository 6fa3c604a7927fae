// Mesh: the replicas of one plan and the grid of nodes of each.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/machine/region.h"
#include "dojo/place/place.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

inline constexpr int kBusyShares = 90;  // percent of the nodes, where weights have to lie tight

struct Mesh {
  program::Replicas replicas;
  std::optional<std::int64_t> replicas_in_run{};  // where sums over them are nested
  // All logical nodes of the first replica that work; of a pipeline those of its first stage.
  machine::Region region{};
  // A pipeline: stages of a replica, in rows and columns.
  machine::Shape stages{.rows = 1, .columns = 1};
  // Groups of `rows_per_group` node rows, one after the other; 1: no groups. They share the samples
  // of a replica out, or are free for any loop and all of them have all samples.
  std::int64_t groups = 1;
  std::int64_t samples_per_group = 1;
  // A group's (or the replica's) samples are worked on in so many turns.
  std::int64_t micro_batches = 1;
  Bytes room{};  // that one op's part of its tensors may take of a node
  // Weights lie in dimensions where that keeps so many percent of the nodes busy; else in shares.
  int least_busy = 50;
  // Optimiser states lie in the DRAM of the interface processors and come for their update.
  bool streams_states = false;
  // Bytes that the panels of one phase may take, both buffers; 0: as many as fit.
  Bytes panels{};
  // Splits other than the rules say, ascending by kind of op.
  std::vector<Deal> deals{};

  // Parts an axis can have.
  std::int64_t places(program::Axis axis) const;
  bool has_free_groups() const { return groups > 1 && samples_per_group >= replicas.block; }
  std::int64_t stage_count() const { return stages.count(); }
  // From the first stage to another, in dies: they stand in a snake, each beside the one before.
  machine::Shape way_to_stage(std::size_t stage) const;
  std::int64_t rows_per_group() const { return region.rows() / groups; }
  std::int64_t nodes() const { return region.nodes(); }
  // Of a group, if there are any, else of the replica; and how many of them are there at a time.
  std::int64_t samples() const { return groups > 1 ? samples_per_group : replicas.block; }
  std::int64_t samples_at_once() const { return (samples() + micro_batches - 1) / micro_batches; }
  // The first `rows` rows and `columns` columns of the replica's nodes, in whole dies where more
  // than one is needed.
  machine::Region lines(std::int64_t rows, std::int64_t columns) const;
};

// Bytes of a node that one op's part of its tensors may take.
Bytes room_of(const machine::MachineModel& machine);

// Samples per step: the first dimension of the first input that has one; 1 if there is none.
std::int64_t global_batch(const graph::Graph& graph);

// Works on the samples in `count` turns, or as many as blocks of equal size make of it.
Mesh with_micro_batches(Mesh mesh, std::int64_t count);

// Deals the rows of the mesh to groups of samples, where a replica has several at a time.
Mesh with_groups(Mesh mesh);

// Deals them to so many groups that share all samples.
Mesh with_free_groups(Mesh mesh, std::int64_t groups);

// How many free groups a mesh may have: none of its node rows is left over, and all groups cross
// the same edges of dies and tiles. Ascending, from 2 on.
std::vector<std::int64_t> free_groups(const Mesh& mesh, const machine::MachineModel& machine);

// How so many stages of `dies` each stand in a replica: as leaves room for most replicas, then as
// square as may be. nullopt: there is no room, or not all of them would cross the same edges.
std::optional<machine::Shape> grid_of_stages(machine::Shape dies, std::int64_t stages,
                                             const machine::MachineModel& machine);

// Replicas of `dies` with at least `block` samples each, as many as the batch needs; or of so many
// stages of `dies`, which have a grid.
Mesh mesh_of(machine::Shape dies, std::int64_t block, const machine::MachineModel& machine,
             std::int64_t batch, std::int64_t stages = 1);

// What the choice says of the replicas of this Graph. Errors: DoesNotFit, if there is no room for
// its stages.
Result<Mesh> mesh_for(const Choice& choice, const graph::Graph& graph,
                      const machine::MachineModel& machine);

// Plans to try, smallest replica first: 1, 2, 5, 25 dies (1x1, 1x2, 1x5, 5x5), then one tile and
// more of them, each time at least twice as many, then the whole machine; those that fit on the
// machine, each once. Of a pipeline: the same of one stage, where there is room for so many.
std::vector<Mesh> meshes(const machine::MachineModel& machine, std::int64_t batch,
                         std::int64_t stages = 1);

}  // namespace dojo::place::internal
