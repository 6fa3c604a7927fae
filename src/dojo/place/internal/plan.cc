#include "dojo/place/internal/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/memory.h"

namespace dojo::place::internal {

using graph::Graph;
using machine::MachineModel;

namespace {

// What needs so many times a node's memory no remedy saves, and so many after the remedies no other
// way on the same nodes.
constexpr std::int64_t kHopeless = 16;
constexpr std::int64_t kFarOff = 6;

// On a node.
Bytes state_bytes(const Graph& graph, const LayoutPlan& layouts, const Mesh& mesh) {
  Bytes sum{};
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    const graph::Value& value = graph.values[i];
    const bool is_state = value.kind == graph::ValueKind::Weight ||
                          (value.kind == graph::ValueKind::State && !mesh.streams_states) ||
                          value.kind == graph::ValueKind::Buffer;
    if (is_state) {
      sum += program::slice_bytes(layouts.held[i], value.shape, value.format);
    }
  }
  return sum;
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
// with narrow panels. What does not fit is left as it came closest.
void plan_phases(const Graph& graph, const MachineModel& machine, Plan& plan) {
  const std::int64_t buffers = machine.node.buffers.count();
  const Bytes capacity = capacity_of(machine);
  const Bytes widest(2 * buffers);
  Fetches fetches(graph, plan.layouts, plan.mesh, machine);
  const auto drafted = [&](Bytes budget) {
    return draft_phases(graph, plan.layouts, plan.mesh, machine, budget, fetches);
  };
  const auto note_panels = [&](Bytes budget) {
    plan.panels = budget;
    if (budget < widest) {
      plan.fit.remedies.insert(plan.fit.remedies.begin(), {"panels", "", widest - budget});
    }
  };
  std::vector<Bytes> wide{widest, Bytes(buffers), Bytes(buffers / 2)};
  std::vector<Bytes> narrow{Bytes(buffers / 2), Bytes(buffers / 16)};
  if (plan.mesh.panels > Bytes(0)) {
    wide = narrow = {plan.mesh.panels};
  }
  for (const Bytes budget : wide) {
    plan.draft = drafted(budget);
    plan.fit = fit_as_it_is(plan.draft, capacity);
    if (plan.fit.fits) {
      note_panels(budget);
      return;
    }
  }
  // Blocks that are computed again save most where little else is kept.
  const std::int64_t hopeless = plan.mesh.micro_batches > 1 ? 4 * kHopeless : kHopeless;
  if (plan.fit.plan.peak > capacity * hopeless) {
    return;
  }
  for (const Bytes budget : narrow) {
    Draft draft = drafted(budget);
    Fit fit = make_fit(draft, capacity, plan.mesh, machine);
    if (fit.plan.peak < plan.fit.plan.peak) {
      plan.draft = std::move(draft);
      plan.fit = std::move(fit);
      note_panels(budget);
    }
    if (plan.fit.fits) {
      return;
    }
  }
}

std::string kilobytes(std::int64_t bytes) { return fmt::format("{} KB", (bytes + 999) / 1000); }

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

bool has_room_for_state(const Graph& graph, const MachineModel& machine, const LayoutPlan& layouts,
                        const Mesh& mesh) {
  return state_bytes(graph, layouts, mesh) <= machine.node.tensor_sram();
}

// No layout holds the states on fewer nodes.
bool can_hold_state(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  double sum = 0;
  for (const graph::Value& value : graph.values) {
    const bool is_state = value.kind == graph::ValueKind::Weight ||
                          (value.kind == graph::ValueKind::State && !mesh.streams_states);
    sum += is_state ? static_cast<double>(graph::stored_bytes(value).count()) : 0.0;
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
    Plan plan{.mesh = mesh, .layouts = plan_layouts(graph, mesh), .draft = {}, .fit = {}};
    if (!plan.layouts.in_the_way.empty()) {
      out.in_the_way = plan.layouts.in_the_way;
      continue;
    }
    out.can_be_cut = out.can_be_cut || mesh.micro_batches > 1;
    const bool is_wanted = wanted == nullptr || wanted(plan.layouts);
    const bool is_tried = has_room_for_state(graph, machine, plan.layouts, mesh) ||
                          (is_last && !out.closest.has_value());
    if (!is_wanted || !is_tried) {
      continue;
    }
    plan_phases(graph, machine, plan);
    if (plan.fit.fits) {
      out.fits = std::move(plan);
      return true;
    }
    const bool is_far_off = plan.fit.plan.peak > capacity_of(machine) * kFarOff;
    if (!out.closest.has_value() || plan.fit.plan.peak < out.closest->fit.plan.peak) {
      out.closest = std::move(plan);
    }
    if (is_far_off && !is_last) {
      return false;
    }
  }
  return false;
}

void note_how_it_fits(Plan& plan, bool was_refused, bool streams) {
  std::vector<program::Remedy>& remedies = plan.fit.remedies;
  if (streams) {
    remedies.insert(
        remedies.begin(),
        {"hbm", plan.mesh.micro_batches > 1 ? "optimiser states, sums" : "optimiser states",
         Bytes(0)});
  }
  if (was_refused) {
    remedies.insert(remedies.begin(),
                    {"replica", fmt::format("{} dies", plan.mesh.replicas.dies.count()), Bytes(0)});
  }
}

// The smallest replica that fits; where none does, with its optimiser states in DRAM. `wanted`:
// only layouts of which it says so are tried; none: all are.
void attempt_in(std::int64_t micro_batches, const Graph& graph, const MachineModel& machine,
                const Wanted& wanted, Attempt& out) {
  const bool is_sequential = is_of_sequences(graph);
  const std::vector<Mesh> candidates = meshes(machine, global_batch(graph));
  for (const bool streams : {false, true}) {
    if (streams && !has_dram_for_states(graph, machine, micro_batches)) {
      break;
    }
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const bool is_last = i + 1 == candidates.size();
      Mesh mesh = with_micro_batches(candidates[i], micro_batches);
      mesh.streams_states = streams;
      const bool is_known = micro_batches > 1 && 2 * mesh.micro_batches <= micro_batches;
      if (is_known || (!is_last && !can_hold_state(graph, machine, mesh))) {
        continue;
      }
      const bool was_refused = out.closest.has_value();
      if (try_mesh(graph, machine, variants(mesh, is_sequential), wanted, is_last, out)) {
        note_how_it_fits(*out.fits, was_refused, streams);
        return;
      }
    }
  }
}

// All samples of a replica at once, or the fewest micro-batches that make the step fit; or as many
// as are asked for.
Attempt attempt(const Graph& graph, const MachineModel& machine, const Wanted& wanted,
                std::optional<std::int64_t> asked) {
  Attempt out;
  const std::int64_t batch = global_batch(graph);
  for (std::int64_t count = std::min(asked.value_or(1), batch);;
       count = std::min(2 * count, batch)) {
    attempt_in(count, graph, machine, wanted, out);
    const bool is_hopeless = count > 1 && !out.can_be_cut;
    if (out.fits.has_value() || asked.has_value() || count >= batch || is_hopeless) {
      return out;
    }
  }
}

// The least memory per node, in steps of an eighth from what the closest plan needs, with which
// the step is placed on the same nodes; nullopt: none up to twice that.
std::optional<Bytes> memory_that_fits(const Graph& graph, const MachineModel& machine,
                                      const Plan& closest) {
  const std::int64_t needs = (closest.fit.plan.peak + machine.node.code).count();
  for (std::int64_t eighths = 8; eighths <= 16; ++eighths) {
    MachineModel larger = machine;
    larger.node.sram = Bytes((needs * eighths / 8 + 999) / 1000 * 1000);
    Mesh mesh = closest.mesh;
    mesh.room = mesh_of(mesh.replicas.dies, mesh.replicas.block, larger, mesh.replicas.batch).room;
    Attempt tried;
    if (try_mesh(graph, larger, {mesh}, {}, true, tried)) {
      return larger.node.sram;
    }
  }
  return std::nullopt;
}

Error does_not_fit(const Graph& graph, const MachineModel& machine, const Plan& plan,
                   const std::string& nearest) {
  const std::int64_t needs = (plan.fit.plan.peak + machine.node.code).count();
  const program::Replicas& replicas = plan.mesh.replicas;
  return Error{ErrorKind::DoesNotFit,
               fmt::format("graph {} does not fit machine {}: it needs {} per node with one "
                           "replica on {}x{} dies{} ({} of weights and states), a node has {}{}",
                           quoted(graph.name), machine.name, kilobytes(needs), replicas.dies.rows,
                           replicas.dies.columns,
                           plan.mesh.micro_batches > 1
                               ? fmt::format(" and {} micro-batches", plan.mesh.micro_batches)
                               : "",
                           kilobytes(state_bytes(graph, plan.layouts, plan.mesh).count()),
                           kilobytes(machine.node.sram.count()), nearest)};
}

Error cannot_be_cut(const Graph& graph, const std::string& in_the_way) {
  return Error{ErrorKind::DoesNotFit, fmt::format("graph {} cannot be cut into micro-batches: {}",
                                                  quoted(graph.name), in_the_way)};
}

// Layouts alone. Errors: DoesNotFit, if not even the states would.
Result<Plan> plan_with_room_for_state(const Graph& graph, const MachineModel& machine,
                                      const Mesh& mesh) {
  Plan plan{.mesh = mesh, .layouts = plan_layouts(graph, mesh), .draft = {}, .fit = {}};
  // Buffers can shrink; what is left for them at their full size is no reason to refuse.
  if (state_bytes(graph, plan.layouts, mesh) > capacity_of(machine)) {
    return Error{
        ErrorKind::DoesNotFit,
        fmt::format("graph {}: weights and states alone do not fit {}x{} dies of machine {}",
                    quoted(graph.name), mesh.replicas.dies.rows, mesh.replicas.dies.columns,
                    machine.name)};
  }
  return plan;
}

}  // namespace

bool has_dram_for_states(const Graph& graph, const MachineModel& machine,
                         std::int64_t micro_batches) {
  double sum = 0;
  double sums = 0;
  for (const graph::Value& value : graph.values) {
    sum += value.kind == graph::ValueKind::State
               ? static_cast<double>(graph::stored_bytes(value).count())
               : 0.0;
    sums += micro_batches > 1 && value.role == graph::Role::WeightGradient
                ? static_cast<double>(graph::element_count(value.shape) * bytes_of(Format::F32))
                : 0.0;
  }
  sum += sum > 0 ? sums : 0;
  const double dram = static_cast<double>(machine.processor_hbm.count()) *
                      static_cast<double>(machine.processors.size());
  return machine.has(machine::LinkClass::Hbm) && sum > 0 && sum <= dram;
}

Result<Plan> sketch_on(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  DOJO_TRY(Plan plan, plan_with_room_for_state(graph, machine, mesh));
  if (!plan.layouts.in_the_way.empty()) {
    return cannot_be_cut(graph, plan.layouts.in_the_way);
  }
  Fetches fetches(graph, plan.layouts, plan.mesh, machine);
  plan.panels = mesh.panels > Bytes(0) ? mesh.panels : Bytes(2 * machine.node.buffers.count());
  plan.draft = draft_phases(graph, plan.layouts, plan.mesh, machine, plan.panels, fetches);
  plan.fit.life.resize(plan.draft.buffers.size());  // nothing has a place
  return plan;
}

Result<Plan> plan_on(const Graph& graph, const MachineModel& machine, const Mesh& mesh) {
  DOJO_TRY(Plan plan, plan_with_room_for_state(graph, machine, mesh));
  if (!plan.layouts.in_the_way.empty()) {
    return cannot_be_cut(graph, plan.layouts.in_the_way);
  }
  plan_phases(graph, machine, plan);
  if (!plan.fit.fits) {
    return does_not_fit(graph, machine, plan, "");
  }
  return plan;
}

std::optional<Plan> plan_with(const Graph& graph, const MachineModel& machine,
                              const Wanted& wanted) {
  return attempt(graph, machine, wanted, std::nullopt).fits;
}

Result<Plan> plan_step(const Graph& graph, const MachineModel& machine,
                       std::optional<std::int64_t> micro_batches) {
  if (!graph.is_lowered()) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("graph {} is not lowered: give a recipe (--recipe)", quoted(graph.name))};
  }
  Attempt tried = attempt(graph, machine, {}, micro_batches);
  if (tried.fits.has_value()) {
    return std::move(*tried.fits);
  }
  if (!tried.closest.has_value()) {
    return cannot_be_cut(graph, tried.in_the_way);
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
      graph, machine, *tried.closest,
      no_dram + not_cut +
          (memory.has_value()
               ? fmt::format("; nearest setting that fits: nodes with {} (placed, to be sure)",
                             kilobytes(memory->count()))
               : ""));
}

}  // namespace dojo::place::internal
