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
#include "dojo/place/internal/room.h"

namespace dojo::place {

using graph::Graph;
using internal::BufferId;
using internal::Draft;
using internal::DraftId;
using internal::DraftPhase;
using internal::Fit;
using internal::LayoutPlan;
using machine::MachineModel;
using program::Program;

namespace {

// --- numbering ---
enum class Kind : std::uint8_t { Compute, Transfer, Ingest };

Kind kind_of(const DraftPhase& phase) { return static_cast<Kind>(phase.phase.body.index()); }

// Last phases that touched some bytes, by kind; phases of one kind run one after the other, so the
// last of each stands for all.
struct LastTouch {
  std::array<std::optional<std::size_t>, 3> position{};

  void note(Kind kind, std::size_t at) {
    auto& last = position[static_cast<std::size_t>(kind)];
    last = std::max(last.value_or(0), at);
  }
  // What a phase of `kind` at position `before` has to wait for: all of other kinds before it.
  void add_others(Kind kind, std::size_t before, LastTouch& waits) const {
    for (std::size_t other = 0; other < position.size(); ++other) {
      if (other != static_cast<std::size_t>(kind) && position[other].has_value() &&
          *position[other] < before) {
        waits.note(static_cast<Kind>(other), *position[other]);
      }
    }
  }
};

// Waits that the memory plan makes: whoever writes bytes waits for all that used them before.
class Waits {
 public:
  Waits(const Draft& draft, const Fit& fit)
      : draft_(draft), fit_(fit), by_buffer_(draft.buffers.size()), in_each_(draft.buffers.size()) {
    for (std::size_t at = 0; at < draft.order.size(); ++at) {
      const DraftPhase& phase = draft.phases[draft.order[at]];
      for (const auto* list : {&phase.reads, &phase.writes}) {
        for (const BufferId buffer : *list) {
          by_buffer_[buffer].note(kind_of(phase), at);
          if (phase.turn == internal::Turn::Each) {
            in_each_[buffer].note(kind_of(phase), at);
          }
        }
      }
    }
    for (BufferId buffer = 0; buffer < draft.buffers.size(); ++buffer) {
      if (fit.life[buffer].has_value() && draft.buffers[buffer].bytes > Bytes(0)) {
        by_offset_.push_back(buffer);
      }
    }
    std::stable_sort(by_offset_.begin(), by_offset_.end(), [&](BufferId a, BufferId b) {
      return *fit.plan.offset[a] < *fit.plan.offset[b];
    });
  }

  bool is_sketch() const { return by_offset_.empty(); }  // nothing has a place

  // What used the buffer's bytes for the micro-batch before, behind this position.
  std::vector<PhaseId> of_previous(BufferId buffer, std::size_t at) const {
    LastTouch waits;
    const Kind kind = kind_of(draft_.phases[draft_.order[at]]);
    for (const BufferId other : by_offset_) {
      if (overlap(buffer, other)) {
        in_each_[other].add_others(kind, draft_.order.size(), waits);
      }
    }
    std::vector<PhaseId> out;
    for (const auto& position : waits.position) {
      if (position.has_value() && *position > at) {
        out.push_back({static_cast<std::uint32_t>(*position)});
      }
    }
    return out;
  }

  // For the phase at a position that is the first to write the buffer.
  void of_reuse(BufferId buffer, std::size_t at, LastTouch& after) const {
    if (is_sketch()) {
      return;
    }
    const Bytes end = *fit_.plan.offset[buffer] + draft_.buffers[buffer].bytes;
    const Kind kind = kind_of(draft_.phases[draft_.order[at]]);
    for (const BufferId other : by_offset_) {
      if (*fit_.plan.offset[other] >= end) {
        break;
      }
      if (other != buffer && overlap(buffer, other) &&
          fit_.life[other]->last < fit_.life[buffer]->first) {
        by_buffer_[other].add_others(kind, at, after);
      }
    }
  }

 private:
  bool overlap(BufferId a, BufferId b) const {
    const auto& offset = fit_.plan.offset;
    return *offset[a] < *offset[b] + draft_.buffers[b].bytes &&
           *offset[b] < *offset[a] + draft_.buffers[a].bytes;
  }

  const Draft& draft_;
  const Fit& fit_;
  std::vector<LastTouch> by_buffer_;
  std::vector<LastTouch> in_each_;  // in phases that run for each micro-batch
  std::vector<BufferId> by_offset_;
};

std::vector<program::Phase> number_phases(const Draft& draft, const Fit& fit) {
  std::vector<std::uint32_t> number(draft.phases.size(), 0);
  for (std::size_t at = 0; at < draft.order.size(); ++at) {
    number[draft.order[at]] = static_cast<std::uint32_t>(at);
  }
  const Waits waits(draft, fit);
  std::vector<LastTouch> so_far(draft.buffers.size());
  std::vector<bool> is_written(draft.buffers.size(), false);
  std::vector<program::Phase> phases;
  for (std::size_t at = 0; at < draft.order.size(); ++at) {
    const DraftPhase& from = draft.phases[draft.order[at]];
    program::Phase phase = from.phase;
    std::set<std::uint32_t> after;
    for (const PhaseId before : phase.after) {
      after.insert(number[before.index]);
    }
    LastTouch memory;
    std::set<PhaseId> previous;
    for (const BufferId buffer : from.writes) {
      if (from.turn == internal::Turn::Each && !is_written[buffer] && !waits.is_sketch()) {
        const std::vector<PhaseId> those = waits.of_previous(buffer, at);
        previous.insert(those.begin(), those.end());
      }
      so_far[buffer].add_others(kind_of(from), at, memory);
      if (!is_written[buffer]) {
        waits.of_reuse(buffer, at, memory);
        is_written[buffer] = true;
      }
    }
    for (const auto& position : memory.position) {
      if (position.has_value()) {
        after.insert(static_cast<std::uint32_t>(*position));
      }
    }
    for (const auto* list : {&from.reads, &from.writes}) {
      for (const BufferId buffer : *list) {
        so_far[buffer].note(kind_of(from), at);
      }
    }
    phase.previous.assign(previous.begin(), previous.end());
    phase.after.clear();
    for (const std::uint32_t one : after) {
      phase.after.push_back({one});
    }
    if (auto* compute = std::get_if<program::Compute>(&phase.body)) {
      for (PhaseId& source : compute->pipelined) {
        source = {number[source.index]};
      }
      std::sort(compute->pipelined.begin(), compute->pipelined.end());
    }
    phases.push_back(std::move(phase));
  }
  return phases;
}

Program make_sketch(const Graph& graph, const MachineModel& machine, internal::Plan plan) {
  Program program;
  program.name = graph.name;
  program.recipe = graph.lowering->recipe;
  program.machine = machine.name;
  program.machine_digest = machine.digest;
  program.replicas = plan.mesh.replicas;
  program.reserved = machine.node.code;
  if (const auto body = internal::body_of(plan.draft)) {
    program.micro = {.count = plan.mesh.micro_batches,
                     .first = {static_cast<std::uint32_t>(body->first)},
                     .end = {static_cast<std::uint32_t>(body->last) + 1}};
  }
  program.phases = number_phases(plan.draft, plan.fit);
  for (BufferId buffer = 0; buffer < plan.draft.buffers.size(); ++buffer) {
    const auto& life = plan.fit.life[buffer];
    if (life.has_value()) {
      program.memory.push_back({.tensor = plan.draft.buffers[buffer].name,
                                .offset = *plan.fit.plan.offset[buffer],
                                .bytes = plan.draft.buffers[buffer].bytes,
                                .first = {static_cast<std::uint32_t>(life->first)},
                                .last = {static_cast<std::uint32_t>(life->last)}});
    }
  }
  std::stable_sort(program.memory.begin(), program.memory.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  program.remedies = std::move(plan.fit.remedies);
  return program;
}

Program make_program(const Graph& graph, const MachineModel& machine, internal::Plan plan) {
  Program program = make_sketch(graph, machine, std::move(plan));
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
  return {.dies = mesh.replicas.dies,
          .block = mesh.replicas.block,
          .has_groups = mesh.groups > 1 && !mesh.has_free_groups(),
          .free_groups = mesh.has_free_groups() ? mesh.groups : 1,
          .micro_batches = mesh.micro_batches,
          .has_even_weights = mesh.least_busy == internal::kBusyShares,
          .streams_states = mesh.streams_states,
          .panels = plan.panels,
          .deals = mesh.deals};
}

PlacedStep placed_step(const Graph& lowered, const MachineModel& machine, internal::Plan plan) {
  PlacedStep placed{lowered, {}};
  set_cuts(placed.graph, machine, cuts_of(plan.layouts));
  placed.program = make_program(placed.graph, machine, std::move(plan));
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

std::vector<Choice> choices(const Graph& graph, const MachineModel& machine) {
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
  const std::int64_t batch = internal::global_batch(graph);
  std::vector<Choice> out;
  for (const machine::Shape dies : shapes) {
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
  const internal::Mesh mesh = internal::mesh_for(choice, graph, machine);
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
  DOJO_TRY(internal::Plan plan,
           internal::plan_on(lowered, machine, internal::mesh_for(choice, lowered, machine)));
  return placed_step(lowered, machine, std::move(plan));
}

Result<RuledStep> place_by_rule(const Graph& lowered, const MachineModel& machine,
                                std::optional<std::int64_t> micro_batches) {
  DOJO_TRY(internal::Plan plan, internal::plan_step(lowered, machine, micro_batches));
  Choice choice = choice_of(plan);
  return RuledStep{std::move(choice), placed_step(lowered, machine, std::move(plan))};
}

Result<Program> sketch_as(const Graph& lowered, const MachineModel& machine, const Choice& choice) {
  DOJO_TRY(internal::Plan plan,
           internal::sketch_on(lowered, machine, internal::mesh_for(choice, lowered, machine)));
  return make_sketch(lowered, machine, std::move(plan));
}

Result<Program> place(const Graph& graph, const MachineModel& machine) {
  // PERF: a Graph that carries the cuts of a layout needs no other to be tried.
  const auto has_its_cuts = [&](const LayoutPlan& layouts) {
    return check_cuts(graph, machine, cuts_of(layouts)).has_value();
  };
  if (graph.is_lowered()) {
    if (auto plan = internal::plan_with(graph, machine, has_its_cuts)) {
      return make_program(graph, machine, *std::move(plan));
    }
  }
  DOJO_TRY(internal::Plan plan, internal::plan_step(graph, machine));
  DOJO_TRY_VOID(check_cuts(graph, machine, cuts_of(plan.layouts)));
  return make_program(graph, machine, std::move(plan));
}

}  // namespace dojo::place
