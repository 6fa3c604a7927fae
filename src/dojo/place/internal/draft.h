// Draft: the phases of a Program before their order and memory are final. Phases are named by their
// place in `phases`; `order` says when they run. What a phase keeps in SRAM are buffers, whose
// lives follow from the phases that touch them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dojo/place/internal/fetches.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/stages.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

using BufferId = std::size_t;
using DraftId = std::size_t;

struct Buffer {
  std::string name{};
  Bytes bytes{};
  bool is_pinned = false;  // lives through the whole step
  bool is_result = false;  // lives to the end of the step
  // Running statistics: phases that are done again may find them changed.
  bool is_statistic = false;
  // Its bytes are needed from one micro-batch to the next.
  bool is_carried = false;
  // Of a pipeline: what is there before the half that reads it, by turns of micro-batches, in so
  // many copies, and in so many where the backward half reads it, too.
  std::int64_t copies = 1;
  std::int64_t copies_backward = 1;
  bool is_arrival = false;  // another stage writes it
  bool is_alike = false;    // in all micro-batches: one copy is enough
  // A sum over samples, in parts in time: who adds to it is not done again.
  bool is_sum = false;
  // Nodes along each axis that hold the same bytes; 1 if every node has its own.
  std::int64_t copies_y = 1;
  std::int64_t copies_x = 1;
};

struct DraftPhase {
  program::Phase phase;         // `after` and `pipelined` hold DraftIds until numbered
  std::vector<BufferId> reads;  // ascending, each once
  std::vector<BufferId> writes;
  // The phase after which its target must be free: prefetches start beside the phase before them.
  std::optional<DraftId> beside;
  std::string block;  // of modules: "encoder.layer.3", "stages.1.layers.0"; empty without numbers
  bool is_forward = false;
  Turn turn = Turn::After;
  bool is_backward_half = false;  // of a pipeline
};

struct Draft {
  std::vector<DraftPhase> phases;
  std::vector<DraftId> order;
  std::vector<Buffer> buffers;
  std::int64_t lead = 1;  // of a pipeline's stage: micro-batches that it may have under way
};

// `panel_budget`: bytes that the panels of one matrix phase may take on a node, both buffers.
Draft draft_phases(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
                   const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches);

// The same of one stage of a pipeline, as if it stood where the first does.
Draft draft_stage(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
                  const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches,
                  const StagePlan& stages, int stage);

}  // namespace dojo::place::internal
