#include "dojo/system/simulation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "dojo/cost/node_cost.h"
#include "dojo/system/micro_batches.h"
#include "dojo/system/pipeline.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Program;

// Of all nodes: the busiest one's, as far as the others have as much to do.
double sram_bytes(const Compute& compute, const machine::MachineModel& machine) {
  const cost::NodeCost node = cost::node_cost(compute.work, machine.node);
  const double nodes = compute.work.points > 0 ? static_cast<double>(compute.work.total_points) /
                                                     static_cast<double>(compute.work.points)
                                               : 0;
  return (node.loaded + node.stored) * nodes;
}

std::vector<OpTime> op_times(const ShownStep& shown, const machine::MachineModel& machine) {
  const Program& program = shown.written.program;
  const Timeline& timeline = shown.timeline;
  const std::vector<Picoseconds> exposed = exposed_times(timeline);
  const std::vector<Losses> losses = phase_losses(program, timeline, machine, shown.runs);
  const std::vector<std::size_t> payer = payers(program);
  std::map<std::tuple<std::string, std::string, graph::Phase>, std::size_t> slot;
  std::vector<OpTime> ops;
  std::vector<Picoseconds> longest;
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    const auto* compute = std::get_if<Compute>(&program.phases[payer[i]].body);
    if (compute == nullptr) {
      continue;  // a Program without compute phases
    }
    const auto [found, is_new] =
        slot.try_emplace({compute->module, compute->kinds, compute->part}, ops.size());
    if (is_new) {
      ops.push_back({.name = compute->module.empty() ? compute->kinds
                                                     : compute->module + " " + compute->kinds,
                     .module = compute->module,
                     .op = compute->kinds,
                     .part = compute->part});
      longest.emplace_back();
    }
    OpTime& op = ops[found->second];
    op.seconds += to_seconds(exposed[i]) * shown.times[i];
    op.losses += losses[i] * shown.times[i];
    if (exposed[i] > longest[found->second]) {
      longest[found->second] = exposed[i];
      op.bound_by = timeline.phases[i].bound_by;
    }
    const bool is_first_run = shown.runs[i] == 1 || shown.written.micro_batch[i] == 0;
    if (payer[i] == i && is_first_run) {  // totals are of all runs
      op.sram_bytes += sram_bytes(*compute, machine);
    }
    if (payer[i] == i && is_first_run && !compute->is_recomputed) {
      op.flops += Flops(2 * compute->work.total_macs);
    }
  }
  const double peak = machine.peak_matrix().value();
  for (OpTime& op : ops) {
    op.cause = op.losses.largest();
    op.utilisation =
        op.seconds > 0 ? static_cast<double>(op.flops.count()) / (peak * op.seconds) : 0;
  }
  return ops;
}

// The step with one fact changed and the Program as it is; nullopt if it does not hold then.
std::optional<double> step_with(const Program& program, const machine::Description& machine,
                                std::string_view path, const std::string& value, Sharing sharing) {
  const Result<machine::Description> changed = machine::with_fact(machine, path, value);
  if (!changed.has_value()) {
    return std::nullopt;
  }
  const machine::MachineModel model = machine::resolve(*changed);
  if (!program::verify_program(program, model).has_value()) {
    return std::nullopt;
  }
  return to_seconds(time_program(program, model, sharing).step);
}

std::vector<FactEffect> fact_effects(const Program& program, const machine::Description& machine,
                                     double step_seconds, Sharing sharing) {
  std::vector<FactEffect> effects;
  for (machine::FactLine& fact : machine::assumed_facts(machine)) {
    if (fact.affects != machine::Affects::Time) {
      continue;
    }
    FactEffect effect{.fact = std::move(fact)};
    if (effect.fact.range.has_value()) {
      effect.seconds_low =
          step_with(program, machine, effect.fact.path, effect.fact.range->low, sharing);
      effect.seconds_high =
          step_with(program, machine, effect.fact.path, effect.fact.range->high, sharing);
    }
    effects.push_back(std::move(effect));
  }
  std::stable_sort(effects.begin(), effects.end(), [&](const FactEffect& a, const FactEffect& b) {
    return a.effect(step_seconds) > b.effect(step_seconds);
  });
  return effects;
}

}  // namespace

namespace {

// Through the parts of a pipeline that release each other, from the last back to the first: of
// each the path through its phases, and how often it is run.
void add_pipeline_path(const machine::MachineModel& machine, Simulation& simulation) {
  const PipelineTimes times = time_pipeline(simulation.program, machine, simulation.sharing);
  const auto last = std::max_element(times.runs.begin(), times.runs.end(),
                                     [](const auto& a, const auto& b) { return a.end < b.end; });
  std::vector<std::size_t> chain{static_cast<std::size_t>(last - times.runs.begin())};
  while (times.runs[chain.back()].released_by.has_value()) {
    chain.push_back(*times.runs[chain.back()].released_by);
  }
  std::reverse(chain.begin(), chain.end());
  std::vector<std::size_t> order;  // parts as they first come
  std::vector<double> count(times.parts.size(), 0);
  for (const std::size_t run : chain) {
    const std::size_t part = times.runs[run].stage * program::kPartCount +
                             static_cast<std::size_t>(times.runs[run].part);
    if (count[part] == 0) {
      order.push_back(part);
    }
    ++count[part];
  }
  std::map<std::string, double> shares;
  for (const std::size_t i : order) {
    const PartTimeline& part = times.parts[i];
    Timeline timeline = part.timeline;
    for (PhaseTiming& timing : timeline.phases) {
      if (timing.lane == Lane::Ingest) {  // for which no part waits
        timing.begin = timing.end = Picoseconds{};
      }
    }
    const std::vector<PhaseId> path = critical_path(part.program, timeline);
    for (const PathShare& share : path_shares(timeline, path)) {
      shares[share.bound_by] += share.seconds * count[i];
    }
    for (const PhaseId id : path) {
      simulation.critical_path.push_back({id.index + static_cast<std::uint32_t>(part.first_phase)});
    }
  }
  for (const auto& [bound_by, seconds] : shares) {
    simulation.critical_shares.push_back({bound_by, seconds});
  }
  std::stable_sort(simulation.critical_shares.begin(), simulation.critical_shares.end(),
                   [](const PathShare& a, const PathShare& b) { return a.seconds > b.seconds; });
}

void add_critical_path(const ShownStep& shown, const machine::MachineModel& machine,
                       Simulation& simulation) {
  if (!simulation.program.stages.empty()) {
    add_pipeline_path(machine, simulation);
    return;
  }
  const Program& program = shown.written.program;
  const std::vector<PhaseId> path = critical_path(program, shown.timeline);
  simulation.critical_shares = path_shares(shown.timeline, path, shown.times);
  for (const PhaseId id : path) {
    simulation.critical_path.push_back(shown.written.of[id.index]);
  }
  if (simulation.sharing != Sharing::Stated) {
    return;
  }
  const std::vector<Picoseconds> slack = slack_of(program, shown.timeline);
  simulation.slack.assign(simulation.program.phases.size(), shown.timeline.step);
  for (std::size_t i = 0; i < slack.size(); ++i) {  // the least of all runs
    Picoseconds& least = simulation.slack[shown.written.of[i].index];
    least = std::min(least, slack[i]);
  }
}

}  // namespace

double FactEffect::effect(double step_seconds) const {
  const double low = std::abs(seconds_low.value_or(step_seconds) - step_seconds);
  const double high = std::abs(seconds_high.value_or(step_seconds) - step_seconds);
  return step_seconds > 0 ? std::max(low, high) / step_seconds : 0;
}

Result<Simulation> simulate(const Program& program, const machine::Description& machine,
                            Sharing sharing) {
  Simulation simulation;
  const machine::MachineModel model = machine::resolve(machine);
  DOJO_TRY_VOID(program::verify_program(program, model));
  simulation.graph = program.name;
  simulation.recipe = program.recipe;
  simulation.lowered_graph_sha256 = program.graph_sha256;
  simulation.machine = machine.name();
  simulation.program = program;
  simulation.sharing = sharing;
  for (const Sharing each : {Sharing::Stated, Sharing::MaxMin}) {
    Timeline timeline = time_program(program, model, each);
    simulation.seconds_by_sharing[static_cast<std::size_t>(each)] = to_seconds(timeline.step);
    if (each == sharing) {
      simulation.timeline = std::move(timeline);
    }
  }
  const ShownStep shown = shown_step(program, model, sharing);
  add_critical_path(shown, model, simulation);
  simulation.losses = losses_of(shown, simulation.timeline.step, model);
  simulation.bounds = bounds_of(program, model);
  simulation.energy = energy_of(events_of(program, model), simulation.timeline.step, machine);
  for (std::size_t phase = 0; phase < program.phases.size(); ++phase) {
    const cost::LinkBytes& bytes = simulation.timeline.phases[phase].bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      simulation.link_bytes[i] += bytes[i] * static_cast<double>(program.runs(phase));
    }
  }
  simulation.step_seconds = to_seconds(simulation.timeline.step);
  simulation.flops = program.flops();
  simulation.utilisation = static_cast<double>(simulation.flops.count()) /
                           (model.peak_matrix().value() * simulation.step_seconds);
  simulation.sram_peak_per_node = program.sram_peak();
  simulation.sram_per_node = model.node.sram;
  simulation.ops = op_times(shown, model);
  simulation.peak_matrix = model.peak_matrix();
  simulation.sram_rate =
      model.per_second(model.node.vector_load) * static_cast<double>(model.live_nodes());
  simulation.machine_dies = model.dies();
  simulation.plane = plane_of(program, simulation.timeline, model);
  simulation.assumed = fact_effects(program, machine, simulation.step_seconds, sharing);
  return simulation;
}

}  // namespace dojo::system
