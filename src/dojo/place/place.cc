#include "dojo/place/place.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/place/internal/memory.h"
#include "dojo/place/internal/op_kinds.h"
#include "dojo/place/internal/plan.h"
#include "dojo/place/internal/program_of.h"
#include "dojo/place/internal/room.h"

namespace dojo::place {

using graph::Graph;
using internal::LayoutPlan;
using machine::MachineModel;
using program::Program;

namespace {

Program make_program(const Graph& graph, const MachineModel& machine, const internal::Plan& plan) {
  Program program = internal::program_of(graph, machine, plan);
  program.graph_sha256 = graph::graph_sha256(graph);
  return program;
}

std::vector<OpCuts> cuts_of(const LayoutPlan& layouts) {
  std::vector<OpCuts> out;
  for (std::uint32_t i = 0; i < layouts.ops.size(); ++i) {
    const internal::SplitNest& split = layouts.ops[i].split;
    std::vector<graph::ReduceCut> cuts =
        program::reduction_cuts(split.nest(), split.split(), layouts.replicas_in_run);
    if (!cuts.empty()) {
      out.push_back({OpId{i}, std::move(cuts)});
    }
  }
  return out;
}

void set_cuts(Graph& graph, const MachineModel& machine, std::vector<OpCuts> cuts) {
  for (graph::Op& op : graph.ops) {
    op.k_parts.clear();
  }
  for (OpCuts& one : cuts) {
    graph.ops[one.op.index].k_parts = std::move(one.cuts);
  }
  graph.lowering->machine = machine.name;
}

std::string describe(const std::vector<graph::ReduceCut>& cuts) {
  std::string text = "{";
  for (const graph::ReduceCut& one : cuts) {
    text += fmt::format("{}{}", text.size() > 1 ? ", " : "", graph::print_cut(one));
  }
  return text + "}";
}

// The Graph's own cuts against those of the plan.
Result<void> check_cuts(const Graph& graph, const MachineModel& machine,
                        const std::vector<OpCuts>& wanted) {
  auto next = wanted.begin();
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
    const bool is_cut = next != wanted.end() && next->op.index == i;
    const std::vector<graph::ReduceCut> none;
    const std::vector<graph::ReduceCut>& cuts = is_cut ? next->cuts : none;
    if (graph.ops[i].k_parts != cuts) {
      const std::string whose =
          graph.lowering->machine == machine.name
              ? fmt::format("another description of machine {}", quoted(machine.name))
              : fmt::format("machine {}, not {}", quoted(graph.lowering->machine),
                            quoted(machine.name));
      return Error{
          ErrorKind::InvalidInput,
          fmt::format("graph {} is lowered for {}: {} of module {} has k_parts={}, here "
                      "it is {}; use --relower",
                      quoted(graph.name), whose, graph.ops[i].info->name,
                      quoted(graph.ops[i].module), describe(graph.ops[i].k_parts), describe(cuts))};
    }
    if (is_cut) {
      ++next;
    }
  }
  return {};
}

Choice choice_of(const internal::Plan& plan) {
  const internal::Mesh& mesh = plan.mesh;
  return {.dies = {.rows = mesh.replicas.dies.rows / mesh.stages.rows,
                   .columns = mesh.replicas.dies.columns / mesh.stages.columns},
          .stages = mesh.stage_count(),
          .block = mesh.replicas.block,
          .has_groups = mesh.groups > 1 && !mesh.has_free_groups(),
          .free_groups = mesh.has_free_groups() ? mesh.groups : 1,
          .micro_batches = mesh.micro_batches,
          .has_even_weights = mesh.least_busy == internal::kBusyShares,
          .streams_states = mesh.streams_states,
          .panels = plan.panels,
          .deals = mesh.deals};
}

PlacedStep placed_step(const Graph& lowered, const MachineModel& machine,
                       const internal::Plan& plan) {
  PlacedStep placed{lowered, {}};
  set_cuts(placed.graph, machine, cuts_of(plan.layouts));
  placed.program = make_program(placed.graph, machine, plan);
  return placed;
}

}  // namespace

Result<std::vector<OpCuts>> propose_reduction_cuts(const Graph& graph,
                                                   const MachineModel& machine) {
  DOJO_TRY(const internal::Plan plan, internal::plan_step(graph, machine));
  return cuts_of(plan.layouts);
}

Result<void> cut_reductions(Graph& graph, const MachineModel& machine) {
  DOJO_TRY(std::vector<OpCuts> cuts, propose_reduction_cuts(graph, machine));
  set_cuts(graph, machine, std::move(cuts));
  return {};
}

std::int64_t batch_of(const Graph& graph) { return internal::global_batch(graph); }

namespace {

// Rectangles of dies that divide the machine's, and one and two dies; the smallest first.
std::vector<machine::Shape> rectangles(const MachineModel& machine) {
  const machine::Shape all = machine.dies();
  std::vector<machine::Shape> shapes;
  for (int rows = 1; rows <= all.rows; ++rows) {
    for (int columns = 1; columns <= all.columns; ++columns) {
      const bool divides = all.rows % rows == 0 && all.columns % columns == 0;
      if (divides || (rows == 1 && columns == 2)) {
        shapes.push_back({.rows = rows, .columns = columns});
      }
    }
  }
  std::stable_sort(shapes.begin(), shapes.end(),
                   [](machine::Shape a, machine::Shape b) { return a.count() < b.count(); });
  return shapes;
}

}  // namespace

std::vector<Choice> choices(const Graph& graph, const MachineModel& machine) {
  const std::int64_t batch = internal::global_batch(graph);
  std::vector<Choice> out;
  for (const machine::Shape dies : rectangles(machine)) {
    std::int64_t block = internal::mesh_of(dies, 1, machine, batch).replicas.block;
    while (true) {
      const internal::Mesh mesh = internal::mesh_of(dies, block, machine, batch);
      out.push_back({.dies = dies, .block = block});
      if (internal::with_groups(mesh).groups > 1) {
        out.push_back({.dies = dies, .block = block, .has_groups = true});
      }
      if (block >= batch) {
        break;
      }
      block = std::min(batch, 2 * block);
    }
  }
  return out;
}

std::vector<Choice> pipelines(const Graph& graph, const MachineModel& machine,
                              std::optional<std::int64_t> stages) {
  constexpr std::int64_t kLeastSamples = 4;
  const std::int64_t batch = internal::global_batch(graph);
  std::vector<std::int64_t> counts;
  for (std::int64_t two = 2; two <= machine.dies().count() && !stages.has_value(); two *= 2) {
    counts.push_back(two);
    counts.push_back(two + two / 2);
  }
  if (stages.has_value()) {
    counts = {*stages};
  }
  std::sort(counts.rbegin(), counts.rend());
  std::vector<Choice> out;
  for (const std::int64_t count : counts) {
    std::vector<std::pair<std::int64_t, Choice>> ranked;  // by nodes that work
    for (const machine::Shape dies : rectangles(machine)) {
      if (count < 2 || batch < kLeastSamples ||
          !internal::grid_of_stages(dies, count, machine).has_value()) {
        continue;
      }
      const internal::Mesh mesh = internal::mesh_of(dies, 1, machine, batch, count);
      Choice choice{.dies = dies,
                    .stages = count,
                    .block = mesh.replicas.block,
                    .micro_batches = mesh.replicas.block};
      choice.streams_states = has_dram_for_states(graph, machine, choice);
      if (choice.micro_batches > 1) {
        ranked.emplace_back(mesh.replicas.count * count * dies.count(), choice);
      }
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    const auto alone = std::find_if(ranked.begin(), ranked.end(),
                                    [&](const auto& one) { return one.second.block == batch; });
    if (alone != ranked.end()) {
      out.push_back(alone->second);
    }
    if (!ranked.empty() && alone != ranked.begin()) {
      out.push_back(ranked.front().second);
    }
  }
  return out;
}

std::vector<Choice> with_free_groups(const MachineModel& machine, const Choice& choice) {
  std::vector<Choice> out;
  if (!choice.has_groups) {
    const internal::Mesh mesh = internal::mesh_of(choice.dies, choice.block, machine, 1);
    for (const std::int64_t groups : internal::free_groups(mesh, machine)) {
      out.push_back(choice);
      out.back().free_groups = groups;
    }
  }
  return out;
}

bool has_dram_for_states(const Graph& graph, const MachineModel& machine, const Choice& choice) {
  return internal::has_dram_for_states(graph, machine, choice.micro_batches);
}

std::vector<int> op_kinds(const Graph& graph) { return internal::kinds_of(graph); }

Deals deals_of(const Graph& graph, const MachineModel& machine, const Choice& choice, int kind) {
  const Result<internal::Mesh> known = internal::mesh_for(choice, graph, machine);
  if (!known.has_value()) {
    return {};
  }
  const internal::Mesh& mesh = *known;
  const internal::LayoutPlan layouts = internal::plan_layouts(graph, mesh);
  const std::vector<int> kinds = internal::kinds_of(graph);
  const auto first =
      static_cast<std::size_t>(std::find(kinds.begin(), kinds.end(), kind) - kinds.begin());
  Deals out;
  if (first == kinds.size() || !internal::may_be_dealt(graph.ops[first], layouts.ops[first])) {
    return out;
  }
  const internal::SplitNest& chosen = layouts.ops[first].split;
  const int loops = static_cast<int>(chosen.nest().loops.size());
  const auto loop_on = [&](program::Axis axis) {
    return chosen.on(axis).has_value() ? chosen.on(axis)->loop : loops;
  };
  out.now = {kind, mesh.has_free_groups() ? loop_on(program::Axis::Group) : loops,
             loop_on(program::Axis::NodeY), loop_on(program::Axis::NodeX)};
  for (int groups = mesh.has_free_groups() ? 0 : loops; groups <= loops; ++groups) {
    for (int rows = 0; rows <= loops; ++rows) {
      for (int columns = 0; columns <= loops; ++columns) {
        const Deal deal{kind, groups, rows, columns};
        if (internal::dealt(chosen, deal, mesh).has_value()) {
          out.all.push_back(deal);
        }
      }
    }
  }
  return out;
}

Result<PlacedStep> place_as(const Graph& lowered, const MachineModel& machine,
                            const Choice& choice) {
  DOJO_TRY(const internal::Mesh mesh, internal::mesh_for(choice, lowered, machine));
  DOJO_TRY(internal::Plan plan, internal::plan_on(lowered, machine, mesh));
  return placed_step(lowered, machine, plan);
}

Result<RuledStep> place_by_rule(const Graph& lowered, const MachineModel& machine,
                                const Asked& asked) {
  DOJO_TRY(internal::Plan plan, internal::plan_step(lowered, machine, asked));
  Choice choice = choice_of(plan);
  return RuledStep{std::move(choice), placed_step(lowered, machine, plan)};
}

Result<Program> sketch_as(const Graph& lowered, const MachineModel& machine, const Choice& choice) {
  DOJO_TRY(const internal::Mesh mesh, internal::mesh_for(choice, lowered, machine));
  DOJO_TRY(internal::Plan plan, internal::sketch_on(lowered, machine, mesh));
  return internal::program_of(lowered, machine, plan);
}

Result<Program> place(const Graph& graph, const MachineModel& machine) {
  // PERF: a Graph that carries the cuts of a layout needs no other to be tried.
  const auto has_its_cuts = [&](const LayoutPlan& layouts) {
    return check_cuts(graph, machine, cuts_of(layouts)).has_value();
  };
  if (graph.is_lowered()) {
    if (auto plan = internal::plan_with(graph, machine, has_its_cuts)) {
      return make_program(graph, machine, *plan);
    }
  }
  DOJO_TRY(internal::Plan plan, internal::plan_step(graph, machine));
  DOJO_TRY_VOID(check_cuts(graph, machine, cuts_of(plan.layouts)));
  return make_program(graph, machine, plan);
}

}  // namespace dojo::place
