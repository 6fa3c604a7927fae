#include "dojo/search/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "dojo/base/text.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/system/timeline.h"

namespace dojo::search {
namespace {

using machine::MachineModel;
using Clock = std::chrono::steady_clock;

Flops matrix_flops(const graph::Graph& graph) {
  Flops sum{};
  for (const graph::Op& op : graph.ops) {
    if (op.info->group == graph::OpGroup::Matrix) {
      sum += graph::flops(graph::nest_of(graph, op));
    }
  }
  return sum;
}

// The matrix work on the logical nodes of the replicas that have samples, at peak.
Picoseconds bound_of(Flops flops, const place::Choice& choice, std::int64_t replicas,
                     const MachineModel& machine) {
  const double nodes =
      static_cast<double>(replicas * choice.dies.count() * machine.logical.count());
  const double peak = machine.peak_matrix().value() / static_cast<double>(machine.live_nodes());
  const double seconds = static_cast<double>(flops.count()) / (peak * nodes);
  return Picoseconds{static_cast<std::int64_t>(seconds * 1e12)};
}

std::int64_t replicas_of(const graph::Graph& graph, const place::Choice& choice) {
  const std::int64_t batch = place::batch_of(graph);
  return (batch + choice.block - 1) / choice.block;
}

Candidate timed(const graph::Graph& lowered, const place::Choice& choice,
                const MachineModel& machine) {
  Candidate out{.choice = choice};
  const Result<place::PlacedStep> placed = place::place_as(lowered, machine, choice);
  if (!placed.has_value()) {
    out.outcome = Outcome::DoesNotFit;
    out.why = placed.error().message;
    return out;
  }
  const program::Program& program = placed->program;
  const system::Timeline timeline = system::time_program(program, machine);
  const system::Bounds bounds = system::bounds_of(program, machine);
  out.replicas = program.replicas.count;
  out.step = timeline.step;
  out.lower = bounds.lower;
  out.serial = bounds.serial;
  out.energy =
      system::energy_of(system::events_of(program, machine), timeline.step, machine).total();
  out.sram_peak_per_node = program.sram_peak();
  return out;
}

bool dominates(const Candidate& a, const Candidate& b) {
  const bool is_no_worse =
      a.step <= b.step && a.energy <= b.energy && a.sram_peak_per_node <= b.sram_peak_per_node;
  const bool is_better =
      a.step < b.step || a.energy < b.energy || a.sram_peak_per_node < b.sram_peak_per_node;
  return is_no_worse && is_better;
}

// Quicker; of equally quick ones that with less energy, then with less memory.
bool is_better(const Candidate& a, const Candidate& b) {
  return std::tie(a.step, a.energy, a.sram_peak_per_node) <
         std::tie(b.step, b.energy, b.sram_peak_per_node);
}

void mark_front(std::vector<Candidate>& candidates) {
  for (Candidate& one : candidates) {
    one.is_on_front =
        one.outcome == Outcome::Placed &&
        std::none_of(candidates.begin(), candidates.end(), [&](const Candidate& other) {
          return other.outcome == Outcome::Placed && dominates(other, one);
        });
  }
}

}  // namespace

Result<Search> search(const graph::Graph& lowered, const machine::Description& machine,
                      const SearchOptions& options) {
  if (!lowered.is_lowered()) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("graph {} is not lowered", quoted(lowered.name))};
  }
  const MachineModel model = machine::resolve(machine);
  const std::vector<place::Choice> choices = place::choices(lowered, model);
  const Flops flops = matrix_flops(lowered);
  const Clock::time_point begin = Clock::now();
  Search out;
  out.known = static_cast<std::int64_t>(choices.size());
  for (const place::Choice& choice : choices) {
    // Time and a stop wait for something that fits.
    const bool is_late = options.most_time.has_value() && out.best.has_value() &&
                         Clock::now() - begin > *options.most_time;
    const bool is_stopped = options.stop != nullptr && out.best.has_value() && options.stop->load();
    const bool is_full =
        options.most_candidates > 0 && std::ssize(out.candidates) >= options.most_candidates;
    if (is_late || is_stopped || is_full) {
      out.was_cut = true;
      break;
    }
    const Picoseconds bound = bound_of(flops, choice, replicas_of(lowered, choice), model);
    if (out.best.has_value() && bound > out.candidates[*out.best].step) {
      out.candidates.push_back({.choice = choice,
                                .outcome = Outcome::PassedOver,
                                .why = "its matrix work alone takes longer than the best step"});
      continue;
    }
    out.candidates.push_back(timed(lowered, choice, model));
    const Candidate& last = out.candidates.back();
    if (last.outcome == Outcome::Placed &&
        (!out.best.has_value() || is_better(last, out.candidates[*out.best]))) {
      out.best = out.candidates.size() - 1;
    }
  }
  mark_front(out.candidates);
  return out;
}

}  // namespace dojo::search
