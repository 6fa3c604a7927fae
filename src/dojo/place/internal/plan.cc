#include "dojo/place/internal/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/memory.h"
#include "dojo/place/internal/refusals.h"
#include "dojo/place/internal/stage_cut.h"

namespace dojo::place::internal {

using graph::Graph;
using machine::MachineModel;

namespace {

// What needs so many times a node's memory no remedy saves, and so many after the remedies no other
// way on the same nodes.
constexpr std::int64_t kHopeless = 16;
constexpr std::int64_t kFarOff = 6;
constexpr std::int64_t kTurnsOfStage = 4;  // micro-batches for each stage of a pipeline

// On a node; of a pipeline's stages the one that has most. What lies in DRAM is left out, but not
// the codes made of it.
Bytes state_bytes(const Graph& graph, const Plan& plan) {
  std::vector<Bytes> sum(static_cast<std::size_t>(plan.mesh.stage_count()));
  const auto add = [&](std::size_t value) {
    const int stage = plan.stages.has_value() ? plan.stages->of_value[value] : 0;
    const graph::Value& one = graph.values[value];
    if (stage != StagePlan::kAll) {
      sum[static_cast<std::size_t>(stage)] +=
          program::slice_bytes(plan.layouts.held[value], one.shape, one.format);
    }
  };
  const std::vector<bool>& in_memory = plan.layouts.in_memory;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const graph::ValueKind kind = graph.values[i].kind;
    const bool is_state = (kind == graph::ValueKind::Weight && !in_memory[i]) ||
                          (kind == graph::ValueKind::State && !plan.mesh.streams_states) ||
                          kind == graph::ValueKind::Buffer;
    if (is_state) {
      add(i);
    }
  }
  for (const graph::Op& op : graph.ops) {
    const bool is_of_resident = op.info->group != graph::OpGroup::Update && !op.inputs.empty() &&
                                op.inputs.front().has_value() &&
                                in_memory[op.inputs.front()->index];
    if (is_of_resident && op.outputs.front().has_value()) {
      add(op.outputs.front()->index);
    }
  }
  return *std::max_element(sum.begin(), sum.end());
}

Bytes capacity_of(const MachineModel& machine) { return machine.node.sram - machine.node.code; }

Fit fit_as_it_is(const Draft& draft, Bytes capacity) {
  Fit fit;
  fit.life = lives(draft);
  // PERF: no map can be smaller than what lives at one time; it is made only where that fits.
  fit.plan.peak = live_peak(draft, fit.life).bytes;
  if (fit.plan.peak <= capacity) {
    fit.plan = plan_memory(draft, fit.life);
    fit.fits = fit.plan.peak <= capacity;
  }
  return fit;
}

// Wide panels first; then the published buffers' size, then half, then the remedies; then both,
// with narrow panels. What does not fit is left as it came closest. The Bytes: of the panels.
std::pair<Drafted, Bytes> plan_phases(const MachineModel& machine, const Mesh& mesh,
                                      const std::function<Draft(Bytes)>& drafted) {
  const std::int64_t buffers = machine.node.buffers.count();
  const Bytes capacity = capacity_of(machine);
  const Bytes widest(2 * buffers);
  Drafted out;
  Bytes panels{};
  const auto note_panels = [&](Bytes budget) {
    panels = budget;
    if (budget < widest) {
      out.fit.remedies.insert(out.fit.remedies.begin(), {"panels", "", widest - budget});
    }
  };
  std::vector<Bytes> wide{widest, Bytes(buffers), Bytes(buffers / 2)};
  std::vector<Bytes> narrow{Bytes(buffers / 2), Bytes(buffers / 16)};
  if (mesh.panels > Bytes(0)) {
    wide = narrow = {mesh.panels};
  }
  for (const Bytes budget : wide) {
    out.draft = drafted(budget);
    out.fit = fit_as_it_is(out.draft, capacity);
    if (out.fit.fits) {
      note_panels(budget);
      return {std::move(out), panels};
    }
  }
  // Blocks that are computed again save most where little else is kept, and all copies of it.
  const std::int64_t hopeless =
      (mesh.micro_batches > 1 ? 4 * kHopeless : kHopeless) * out.draft.lead;
  if (out.fit.plan.peak > capacity * hopeless) {
    return {std::move(out), panels};
  }
  for (const Bytes budget : narrow) {
    Draft draft = drafted(budget);
    Fit fit = make_fit(draft, capacity, mesh, machine);
    if (fit.plan.peak < out.fit.plan.peak) {
      out.draft = std::move(draft);
      out.fit = std::move(fit);
      note_panels(budget);
    }
    if (out.fit.fits) {
      break;
    }
  }
  return {std::move(out), panels};
}

// Of one stage, or of all there is.
Draft draft_of(const Graph& graph, const MachineModel& machine, const Plan& plan, Bytes panels,
               Fetches& fetches, int stage) {
  return plan.stages.has_value()
             ? draft_stage(graph, plan.layouts, plan.mesh, machine, panels, fetches, *plan.stages,
                           stage)
             : draft_phases(graph, plan.layouts, plan.mesh, machine, panels, fetches);
}

// The phases of every stage, or of the one there is; up to the first stage that does not fit.
void plan_all_phases(const Graph& graph, const MachineModel& machine, Plan& plan) {
  Fetches fetches(graph, plan.layouts, plan.mesh, machine);
  plan.drafted.clear();
  for (int stage = 0; stage < static_cast<int>(plan.mesh.stage_count()); ++stage) {
    auto [drafted, panels] = plan_phases(machine, plan.mesh, [&](Bytes budget) {
      return draft_of(graph, machine, plan, budget, fetches, stage);
    });
    plan.panels = stage == 0 || plan.panels == panels ? panels : Bytes(0);
    plan.drafted.push_back(std::move(drafted));
    if (!plan.fits()) {
      return;
    }
  }
}

// Layouts, and which stage does what. What stands in the way of micro-batches or of a pipeline is a
// sentence; empty: nothing.
Plan laid_out(const Graph& graph, const MachineModel& machine, const Mesh& mesh,
              std::string& in_the_way) {
  Plan plan{.mesh = mesh, .layouts = plan_layouts(graph, mesh), .drafted = {}, .stages = {}};
  in_the_way = plan.layouts.in_the_way;
  if (mesh.stage_count() == 1 || !in_the_way.empty()) {
    return plan;
  }
  if (mesh.micro_batches < 2) {
    in_the_way = "a pipeline works on several micro-batches, and there is one";
    return plan;
  }
  plan.stages = cut_step(graph, machine, plan.layouts, mesh);
  in_the_way = plan.stages->in_the_way;
  return plan;
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

bool has_room_for_state(const Graph& graph, const MachineModel& machine, const Plan& plan) {
  return state_bytes(graph, plan) <= machine.node.tensor_sram();
}

// No layout holds the states on fewer nodes. Of weights that may lie in DRAM there are codes of a
// byte at least.
bool can_hold_state(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  double sum = 0;
  for (const graph::Value& value : graph.values) {
    const bool is_state = value.kind == graph::ValueKind::Weight ||
                          (value.kind == graph::ValueKind::State && !mesh.streams_states);
    const bool may_be_codes =
        value.kind == graph::ValueKind::Weight && mesh.streams_states && mesh.micro_batches > 1;
    const std::int64_t bytes =
        may_be_codes ? graph::element_count(value.shape) : graph::stored_bytes(value).count();
    sum += is_state ? static_cast<double>(bytes) : 0.0;
  }
  const double nodes = static_cast<double>(mesh.replicas.dies.count()) *
                       static_cast<double>(machine.logical.count());
  return sum <= nodes * static_cast<double>(machine.node.tensor_sram().count());
}

// Ways to lay a step out on one mesh, best first: samples in groups or not, as suits the network;
// then weights in shares that leave nobody idle.
std::vector<Mesh> variants(const Mesh& mesh, bool is_of_sequences) {
  const Mesh grouped = with_groups(mesh);
  std::vector<Mesh> out{mesh};
  if (grouped.groups > 1) {
    out.insert(is_of_sequences ? out.begin() : out.end(), grouped);
  }
  const std::size_t count = out.size();
  for (std::size_t i = 0; i < count; ++i) {
    out.push_back(out[i]);
    out.back().least_busy = kBusyShares;
  }
  return out;
}

struct Attempt {
  std::optional<Plan> fits;
  std::optional<Plan> closest;  // of those that do not
  std::string in_the_way;       // of micro-batches, in the last way that they were tried
  bool can_be_cut = false;      // in some way
};

using Wanted = std::function<bool(const LayoutPlan&)>;

// All ways on one mesh; true if one fits. `is_last`: one is tried even without room for its state.
bool try_mesh(const Graph& graph, const MachineModel& machine, const std::vector<Mesh>& ways,
              const Wanted& wanted, bool is_last, Attempt& out) {
  for (const Mesh& mesh : ways) {
    std::string in_the_way;
    Plan plan = laid_out(graph, machine, mesh, in_the_way);
    if (!in_the_way.empty()) {
      out.in_the_way = in_the_way;
      continue;
    }
    out.can_be_cut = out.can_be_cut || mesh.micro_batches > 1;
    const bool is_wanted = wanted == nullptr || wanted(plan.layouts);
    const bool is_tried =
        has_room_for_state(graph, machine, plan) || (is_last && !out.closest.has_value());
    if (!is_wanted || !is_tried) {
      continue;
    }
    plan_all_phases(graph, machine, plan);
    if (plan.fits()) {
      out.fits = std::move(plan);
      return true;
    }
    const bool is_far_off = plan.peak() > capacity_of(machine) * kFarOff;
    if (!out.closest.has_value() || plan.peak() < out.closest->peak()) {
      out.closest = std::move(plan);
    }
    if (is_far_off && !is_last) {
      return false;
    }
  }
  return false;
}

void note_how_it_fits(Plan& plan, bool was_refused, bool streams) {
  std::vector<program::Remedy>& remedies = plan.drafted.front().fit.remedies;
  if (streams) {
    remedies.insert(
        remedies.begin(),
        {"hbm",
         plan.mesh.micro_batches > 1 ? "optimiser states, weights, sums" : "optimiser states",
         Bytes(0)});
  }
  if (was_refused) {
    remedies.insert(remedies.begin(),
                    {"replica", fmt::format("{} dies", plan.mesh.replicas.dies.count()), Bytes(0)});
  }
}

// The smallest replica that fits; where none does, with its optimiser states in DRAM. `wanted`:
// only layouts of which it says so are tried; none: all are.
void attempt_in(std::int64_t micro_batches, std::int64_t stages, bool is_last_count,
                const Graph& graph, const MachineModel& machine, const Wanted& wanted,
                Attempt& out) {
  const bool is_sequential = is_of_sequences(graph);
  const std::vector<Mesh> candidates = meshes(machine, global_batch(graph), stages);
  for (const bool streams : {false, true}) {
    if (streams && !has_dram_for_states(graph, machine, micro_batches)) {
      break;
    }
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const bool is_last = i + 1 == candidates.size();
      const bool is_last_of_all = is_last && is_last_count;
      Mesh mesh = with_micro_batches(candidates[i], micro_batches);
      mesh.streams_states = streams;
      const bool is_known =
          stages == 1 && micro_batches > 1 && 2 * mesh.micro_batches <= micro_batches;
      if (is_known || (!is_last && !can_hold_state(graph, machine, mesh))) {
        continue;
      }
      const bool was_refused = out.closest.has_value();
      if (try_mesh(graph, machine, variants(mesh, is_sequential), wanted, is_last_of_all, out)) {
        note_how_it_fits(*out.fits, was_refused, streams);
        return;
      }
    }
  }
}

// All samples of a replica at once, or the fewest micro-batches that make the step fit; or what is
// asked for.
Attempt attempt(const Graph& graph, const MachineModel& machine, const Wanted& wanted,
                const Asked& asked) {
  Attempt out;
  const std::int64_t batch = global_batch(graph);
  if (asked.stages > 1) {
    const std::int64_t wished = asked.micro_batches.value_or(kTurnsOfStage * asked.stages);
    attempt_in(std::min(wished, batch), asked.stages, true, graph, machine, wanted, out);
    return out;
  }
  for (std::int64_t count = std::min(asked.micro_batches.value_or(1), batch);;
       count = std::min(2 * count, batch)) {
    attempt_in(count, 1, asked.micro_batches.has_value() || count >= batch, graph, machine, wanted,
               out);
    const bool is_hopeless = count > 1 && !out.can_be_cut;
    if (out.fits.has_value() || asked.micro_batches.has_value() || count >= batch || is_hopeless) {
      return out;
    }
  }
}

// The least memory per node, in steps of an eighth from what the closest plan needs, with which
// the step is placed on the same nodes; nullopt: none up to twice that.
std::optional<Bytes> memory_that_fits(const Graph& graph, const MachineModel& machine,
                                      const Plan& closest) {
  const std::int64_t needs = (closest.peak() + machine.node.code).count();
  for (std::int64_t eighths = 8; eighths <= 16; ++eighths) {
    MachineModel larger = machine;
    larger.node.sram = Bytes((needs * eighths / 8 + 999) / 1000 * 1000);
    Mesh mesh = closest.mesh;
    mesh.room = room_of(larger);
    Attempt tried;
    if (try_mesh(graph, larger, {mesh}, {}, true, tried)) {
      return larger.node.sram;
    }
  }
  return std::nullopt;
}

// Layouts alone. Errors: DoesNotFit, if not even the states would; what stands in the way.
Result<Plan> plan_with_room_for_state(const Graph& graph, const MachineModel& machine,
                                      const Mesh& mesh) {
  std::string in_the_way;
  Plan plan = laid_out(graph, machine, mesh, in_the_way);
  if (!in_the_way.empty()) {
    return cannot_be_cut(graph, mesh.stage_count(), in_the_way);
  }
  // Buffers can shrink; what is left for them at their full size is no reason to refuse.
  if (state_bytes(graph, plan) > capacity_of(machine)) {
    return Error{
        ErrorKind::DoesNotFit,
        fmt::format("graph {}: weights and states alone do not fit {}x{} dies of machine {}",
                    quoted(graph.name), mesh.replicas.dies.rows, mesh.replicas.dies.columns,
                    machine.name)};
  }
  return plan;
}

}  // namespace

bool Plan::fits() const {
  return std::all_of(drafted.begin(), drafted.end(),
                     [](const Drafted& one) { return one.fit.fits; });
}

Bytes Plan::peak() const {
  Bytes peak{};
  for (const Drafted& one : drafted) {
    peak = std::max(peak, one.fit.plan.peak);
  }
  return peak;
}

bool has_dram_for_states(const Graph& graph, const MachineModel& machine,
                         std::int64_t micro_batches) {
  double sum = 0;
  double others = 0;  // weights, and sums of gradients
  for (const graph::Value& value : graph.values) {
    const auto stored = static_cast<double>(graph::stored_bytes(value).count());
    if (value.kind == graph::ValueKind::State) {
      sum += stored;
    } else if (micro_batches > 1 && value.kind == graph::ValueKind::Weight) {
      others += stored;
    } else if (micro_batches > 1 && value.role == graph::Role::WeightGradient) {
      others += static_cast<double>(graph::element_count(value.shape) * bytes_of(Format::F32));
    }
  }
  sum += sum > 0 ? others : 0;
  const double dram = static_cast<double>(machine.processor_hbm.count()) *
                      static_cast<double>(machine.processors.size());
  return machine.has(machine::LinkClass::Hbm) && sum > 0 && sum <= dram;
}

Result<Plan> sketch_on(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  DOJO_TRY(Plan plan, plan_with_room_for_state(graph, machine, mesh));
  Fetches fetches(graph, plan.layouts, plan.mesh, machine);
  plan.panels = mesh.panels > Bytes(0) ? mesh.panels : Bytes(2 * machine.node.buffers.count());
  for (int stage = 0; stage < static_cast<int>(mesh.stage_count()); ++stage) {
    Drafted& one = plan.drafted.emplace_back();
    one.draft = draft_of(graph, machine, plan, plan.panels, fetches, stage);
    one.fit.life.resize(one.draft.buffers.size());  // nothing has a place
  }
  return plan;
}

Result<Plan> plan_on(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  DOJO_TRY(Plan plan, plan_with_room_for_state(graph, machine, mesh));
  plan_all_phases(graph, machine, plan);
  if (!plan.fits()) {
    return does_not_fit(graph, machine, plan, state_bytes(graph, plan), "");
  }
  return plan;
}

std::optional<Plan> plan_with(const Graph& graph, const MachineModel& machine,
                              const Wanted& wanted) {
  return attempt(graph, machine, wanted, {}).fits;
}

Result<Plan> plan_step(const Graph& graph, const MachineModel& machine, const Asked& asked) {
  if (!graph.is_lowered()) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("graph {} is not lowered: give a recipe (--recipe)", quoted(graph.name))};
  }
  Attempt tried = attempt(graph, machine, {}, asked);
  if (tried.fits.has_value()) {
    return std::move(*tried.fits);
  }
  if (!tried.closest.has_value()) {
    return cannot_be_cut(graph, asked.stages,
                         !tried.in_the_way.empty()
                             ? tried.in_the_way
                             : fmt::format("machine {} has no room for so many", machine.name));
  }
  const auto memory = memory_that_fits(graph, machine, *tried.closest);
  const std::string no_dram = has_dram_for_states(graph, machine)
                                  ? ""
                                  : ", and it has no interface processors with DRAM for states";
  const std::string not_cut =
      tried.can_be_cut || tried.in_the_way.empty()
          ? ""
          : fmt::format("; it cannot be cut into micro-batches: {}", tried.in_the_way);
  return does_not_fit(
      graph, machine, *tried.closest, state_bytes(graph, *tried.closest),
      no_dram + not_cut +
          (memory.has_value()
               ? fmt::format("; nearest setting that fits: nodes with {} (placed, to be sure)",
                             kilobytes(memory->count()))
               : ""));
}

}  // namespace dojo::place::internal
