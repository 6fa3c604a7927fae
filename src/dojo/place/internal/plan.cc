#include "dojo/place/internal/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/memory.h"

namespace dojo::place::internal {

using graph::Graph;
using machine::MachineModel;

namespace {

Bytes pinned_bytes(const Draft& draft) {
  Bytes sum{};
  for (const Buffer& buffer : draft.buffers) {
    sum += buffer.is_pinned ? buffer.bytes : Bytes(0);
  }
  return sum;
}

Bytes state_bytes(const Graph& graph, const LayoutPlan& layouts) {
  Bytes sum{};
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const graph::Value& value = graph.values[i];
    const bool is_state = value.kind == graph::ValueKind::Weight ||
                          value.kind == graph::ValueKind::State ||
                          value.kind == graph::ValueKind::Buffer;
    if (is_state) {
      sum += program::slice_bytes(layouts.held[i], value.shape, value.format);
    }
  }
  return sum;
}

Bytes capacity_of(const MachineModel& machine) { return machine.node.sram - machine.node.code; }

// Wide panels first; then the published buffers' size, then half, then the remedies.
void plan_phases(const Graph& graph, const MachineModel& machine, Plan& plan) {
  const Bytes buffers = machine.node.buffers;
  const std::array<Bytes, 3> budgets{2 * buffers, buffers, Bytes(buffers.count() / 2)};
  for (const Bytes budget : budgets) {
    plan.draft = draft_phases(graph, plan.layouts, plan.mesh, machine, budget);
    plan.fit.life = lives(plan.draft);
    plan.fit.plan = plan_memory(plan.draft, plan.fit.life);
    plan.fit.fits = plan.fit.plan.peak <= capacity_of(machine);
    if (plan.fit.fits) {
      if (budget < budgets.front()) {
        plan.fit.remedies.push_back({"panels", "", budgets.front() - budget});
      }
      return;
    }
  }
  plan.fit = make_fit(plan.draft, capacity_of(machine), plan.mesh, machine);
  plan.fit.remedies.insert(plan.fit.remedies.begin(),
                           {"panels", "", budgets.front() - budgets.back()});
}

Error does_not_fit(const Graph& graph, const MachineModel& machine, const Plan& plan) {
  const std::int64_t has = machine.node.sram.count();
  const std::int64_t code = machine.node.code.count();
  const std::int64_t needs = plan.fit.plan.peak.count() + code;
  const std::int64_t fixed = pinned_bytes(plan.draft).count();
  const program::Replicas& replicas = plan.mesh.replicas;
  const double per_sample = static_cast<double>(plan.fit.plan.peak.count() - fixed) /
                            static_cast<double>(std::max<std::int64_t>(1, replicas.block));
  const auto samples = static_cast<std::int64_t>(
      static_cast<double>(capacity_of(machine).count() - fixed) / std::max(1.0, per_sample));
  const std::string nearest =
      samples >= 1 && samples < replicas.block
          ? fmt::format("a batch of {} (now {})", samples * replicas.available, replicas.batch)
          : fmt::format("a machine with {:.1f} times as many nodes, or {} KB of SRAM per node",
                        static_cast<double>(needs - code) / static_cast<double>(has - code),
                        (needs + 999) / 1000);
  return Error{ErrorKind::DoesNotFit,
               fmt::format("graph {} does not fit machine {}: it needs {} KB per node with one "
                           "replica on {}x{} dies, a node has {} KB; nearest setting that fits: {}",
                           quoted(graph.name), machine.name, (needs + 999) / 1000,
                           replicas.dies.rows, replicas.dies.columns, has / 1000, nearest)};
}

// Whether most matrix work multiplies positions of sequences: products with several rows a sample.
bool is_of_sequences(const Graph& graph) {
  const std::int64_t batch = global_batch(graph);
  double positions = 0;
  double others = 0;
  for (const graph::Op& op : graph.ops) {
    if (op.info->group != graph::OpGroup::Matrix) {
      continue;
    }
    const graph::LoopNest nest = graph::nest_of(graph, op);
    const auto rows = nest.loop_named("m");
    const auto flops = static_cast<double>(graph::flops(nest).count());
    const std::int64_t extent =
        rows.has_value() ? nest.loops[static_cast<std::size_t>(*rows)].extent : 0;
    const bool has_positions =
        nest.loop_named("b").has_value() || (extent > batch && extent % batch == 0);
    (rows.has_value() && has_positions ? positions : others) += flops;
  }
  return positions > others;
}

// Everything decided on the mesh, as far as it fits.
Plan try_plan(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  Plan plan{.mesh = mesh, .layouts = plan_layouts(graph, mesh), .draft = {}, .fit = {}};
  plan_phases(graph, machine, plan);
  return plan;
}

bool has_room_for_state(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  return state_bytes(graph, plan_layouts(graph, mesh)) <= machine.node.tensor_sram();
}

}  // namespace

Result<Plan> plan_on(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  if (!has_room_for_state(graph, machine, mesh)) {
    return Error{
        ErrorKind::DoesNotFit,
        fmt::format("graph {}: weights and states alone do not fit {}x{} dies of machine {}",
                    quoted(graph.name), mesh.replicas.dies.rows, mesh.replicas.dies.columns,
                    machine.name)};
  }
  Plan plan = try_plan(graph, machine, mesh);
  if (!plan.fit.fits) {
    return does_not_fit(graph, machine, plan);
  }
  return plan;
}

Result<Plan> plan_step(const Graph& graph, const MachineModel& machine) {
  if (!graph.is_lowered()) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("graph {} is not lowered: give a recipe (--recipe)", quoted(graph.name))};
  }
  std::optional<Plan> last;
  std::int64_t refused = 0;
  std::vector<Mesh> candidates = meshes(machine, global_batch(graph));
  if (is_of_sequences(graph)) {
    std::transform(candidates.begin(), candidates.end(), candidates.begin(), with_groups);
  }
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i + 1 < candidates.size() && !has_room_for_state(graph, machine, candidates[i])) {
      continue;
    }
    Plan plan = try_plan(graph, machine, candidates[i]);
    if (plan.fit.fits) {
      if (refused > 0) {
        plan.fit.remedies.insert(
            plan.fit.remedies.begin(),
            {"replica", fmt::format("{} dies", plan.mesh.replicas.dies.count()), Bytes(0)});
      }
      return plan;
    }
    ++refused;
    last = std::move(plan);
  }
  return does_not_fit(graph, machine, *last);
}

}  // namespace dojo::place::internal
