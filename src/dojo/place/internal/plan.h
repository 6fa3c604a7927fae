// Plan: one mesh of replicas with everything decided on it; what a Program is written from.
#pragma once

#include <functional>
#include <optional>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/machine_model.h"
#include "dojo/place/internal/draft.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/remedies.h"

namespace dojo::place::internal {

struct Plan {
  Mesh mesh;
  LayoutPlan layouts;
  Draft draft;
  Fit fit;
  Bytes panels{};  // that the panels of one phase may take, both buffers
};

// The plan with the smallest replica that fits; `micro_batches`: in which it works on its samples,
// or fewer where it has fewer samples; none: one, or the fewest with which anything fits (powers of
// two, all samples). Errors: those of place().
Result<Plan> plan_step(const graph::Graph& graph, const machine::MachineModel& machine,
                       std::optional<std::int64_t> micro_batches = std::nullopt);

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

// Whether the machine's interface processors have DRAM with room for all optimiser states, with the
// sums of gradients that go on from one micro-batch to the next, if there are several.
bool has_dram_for_states(const graph::Graph& graph, const machine::MachineModel& machine,
                         std::int64_t micro_batches = 1);

}  // namespace dojo::place::internal
