// Plan: one mesh of replicas with everything decided on it; what a Program is written from.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/place/internal/draft.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/remedies.h"

namespace dojo::place::internal {

// What one set of nodes does: those of all replicas, or of a stage of theirs.
struct Drafted {
  Draft draft;
  Fit fit;
};

struct Plan {
  Mesh mesh;
  LayoutPlan layouts;
  std::vector<Drafted> drafted;     // of a pipeline by stage, else one
  std::optional<StagePlan> stages;  // of a pipeline
  // That the panels of one phase may take, both buffers; 0: stages differ, as many as fit.
  Bytes panels{};

  bool fits() const;
  Bytes peak() const;  // of the fullest node
};

// The plan with the smallest replica that fits. Errors: those of place().
Result<Plan> plan_step(const graph::Graph& graph, const machine::MachineModel& machine,
                       const Asked& asked = {});

// The same of a step whose layouts have to be `wanted`; nullopt: none of those fits.
std::optional<Plan> plan_with(const graph::Graph& graph, const machine::MachineModel& machine,
                              const std::function<bool(const LayoutPlan&)>& wanted);

// The plan on one mesh. Errors: DoesNotFit.
Result<Plan> plan_on(const graph::Graph& graph, const machine::MachineModel& machine,
                     const Mesh& mesh);

// The same as if every node had room for all: no lives, no places in memory. Errors: DoesNotFit, if
// not even the states would.
Result<Plan> sketch_on(const graph::Graph& graph, const machine::MachineModel& machine,
                       const Mesh& mesh);

// Whether the machine's interface processors have DRAM with room for all optimiser states; if there
// are several micro-batches, with the weights, and sums of gradients that go on from one to the
// next.
bool has_dram_for_states(const graph::Graph& graph, const machine::MachineModel& machine,
                         std::int64_t micro_batches = 1);

}  // namespace dojo::place::internal
