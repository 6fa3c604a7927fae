#include "dojo/place/internal/stage_cut.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "dojo/cost/phase_cost.h"
#include "dojo/place/internal/draft.h"

namespace dojo::place::internal {

using graph::Graph;
using machine::MachineModel;

namespace {

// Where a micro-batch spends its time, by piece of the forward part: that of its phases, backward
// ones included, in pipes or in the network, whichever is more.
std::vector<double> seconds_of_pieces(const Graph& graph, const MachineModel& machine,
                                      const LayoutPlan& layouts, const Mesh& mesh,
                                      const StagePlan& pieces) {
  Fetches fetches(graph, layouts, mesh, machine);
  const Draft draft =
      draft_phases(graph, layouts, mesh, machine, Bytes(2 * machine.node.buffers.count()), fetches);
  const auto count = static_cast<std::size_t>(pieces.count);
  std::vector<double> computing(count, 0);
  std::vector<double> moving(count, 0);
  double before_op = 0;  // of the transfers for the next computation
  for (const DraftPhase& phase : draft.phases) {
    if (phase.turn != Turn::Each) {
      continue;
    }
    if (const auto* const transfer = std::get_if<program::Transfer>(&phase.phase.body)) {
      before_op += to_seconds(cost::transfer_time(*transfer, mesh.replicas, machine).total);
    } else if (const auto* const compute = std::get_if<program::Compute>(&phase.phase.body)) {
      const int piece = pieces.of_op[compute->ops.front().index];
      if (piece != StagePlan::kAll) {
        computing[static_cast<std::size_t>(piece)] +=
            to_seconds(cost::compute_time(*compute, machine).total);
        moving[static_cast<std::size_t>(piece)] += std::exchange(before_op, 0);
      }
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    computing[i] = std::max(computing[i], moving[i]);
  }
  return computing;
}

}  // namespace

StagePlan cut_step(const Graph& graph, const MachineModel& machine, const LayoutPlan& layouts,
                   const Mesh& mesh) {
  StagePlan pieces = plan_pieces(graph, layouts);
  if (pieces.count < mesh.stage_count()) {
    pieces.in_the_way = fmt::format("its forward part has {} blocks, too few for {} stages",
                                    pieces.count, mesh.stage_count());
    return pieces;
  }
  return plan_stages(graph, layouts, pieces,
                     cut_into_stages(seconds_of_pieces(graph, machine, layouts, mesh, pieces),
                                     static_cast<int>(mesh.stage_count())));
}

}  // namespace dojo::place::internal
