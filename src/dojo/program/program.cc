#include "dojo/program/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "dojo/base/text.h"

namespace dojo::program {
namespace {

constexpr std::array<std::string_view, 5> kScopeNames{"inside", "across", "through", "memory",
                                                      "onward"};
constexpr std::array<std::string_view, kPartCount> kPartNames{"before", "forward", "backward",
                                                              "behind"};

}  // namespace

std::int64_t replicas_per_row(const Replicas& replicas, const machine::MachineModel& machine) {
  return std::max(1, machine.dies().columns / replicas.dies.columns);
}

std::optional<std::int64_t> replicas_in_run(const Replicas& replicas,
                                            const machine::MachineModel& machine) {
  const std::int64_t per_row = replicas_per_row(replicas, machine);
  return per_row > 1 && replicas.count > per_row + 1 ? std::optional(per_row) : std::nullopt;
}

std::string_view name(Scope scope) { return kScopeNames[static_cast<std::size_t>(scope)]; }

std::optional<Scope> scope_named(std::string_view name) {
  const auto* const found = std::find(kScopeNames.begin(), kScopeNames.end(), name);
  if (found == kScopeNames.end()) {
    return std::nullopt;
  }
  return static_cast<Scope>(found - kScopeNames.begin());
}

std::string_view name(Part part) { return kPartNames[static_cast<std::size_t>(part)]; }

Part Stage::part_of(PhaseId phase) const {
  std::size_t part = 0;
  while (part + 1 < kPartCount && begins[part + 1] <= phase) {
    ++part;
  }
  return static_cast<Part>(part);
}

bool wait_in_a_circle(const std::vector<std::vector<std::int64_t>>& after) {
  std::vector<bool> is_over(after.size(), false);
  for (std::size_t round = 0; round < after.size(); ++round) {
    for (std::size_t i = 0; i < after.size(); ++i) {
      is_over[i] =
          is_over[i] || std::all_of(after[i].begin(), after[i].end(), [&](std::int64_t other) {
            return is_over[static_cast<std::size_t>(other)];
          });
    }
  }
  return std::find(is_over.begin(), is_over.end(), false) != is_over.end();
}

// Who sends is two micro-batches ahead of its neighbour at most, and no further ahead of a backward
// half than its own lead, or that of the reader if it stands before.
std::int64_t copies_of_arrival(std::size_t stages, std::int64_t micro_batches, std::size_t from,
                               Part made, std::size_t to, bool is_read_backward) {
  const auto lead = [&](std::size_t stage) { return static_cast<std::int64_t>(stages - stage); };
  if (made == Part::Before || made == Part::Behind) {
    return 1;
  }
  const std::int64_t way = 2 * (from < to ? lead(from) - lead(to) : lead(to) - lead(from));
  const std::int64_t most = std::max(lead(from), lead(to));
  const bool spans = made == Part::Forward && is_read_backward;
  return std::min(micro_batches, spans ? most : std::min(way, most));
}

std::size_t Program::stage_of(std::size_t phase) const {
  const auto found = std::partition_point(
      stages.begin(), stages.end(), [&](const Stage& stage) { return stage.end.index <= phase; });
  return static_cast<std::size_t>(found - stages.begin());
}

std::int64_t Program::runs(std::size_t phase) const {
  PhaseId first = micro.first;
  PhaseId end = micro.end;
  if (!stages.empty()) {
    const Stage& stage = stages[stage_of(phase)];
    first = stage.begin_of(Part::Forward);
    end = stage.begin_of(Part::Behind);
  }
  return phase >= first.index && phase < end.index ? micro.count : 1;
}

Bytes Program::sram_peak() const {
  Bytes peak = reserved;
  for (const MemoryEntry& entry : memory) {
    peak = std::max(peak, reserved + entry.offset + entry.bytes);
  }
  return peak;
}

Bytes Program::hbm_bytes() const {
  Bytes sum{};
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const auto* const transfer = std::get_if<Transfer>(&phases[i].body);
    for (const Move& move : transfer != nullptr ? transfer->moves : std::vector<Move>{}) {
      const bool is_memory = move.scope == Scope::Memory;
      const std::int64_t nodes = move.region.nodes() * replicas.count;
      sum += is_memory ? Bytes(move.pattern.bytes.count() * nodes * runs(i)) : Bytes(0);
    }
  }
  return sum;
}

std::int64_t Program::fallbacks() const {
  return std::count_if(phases.begin(), phases.end(), [](const Phase& phase) {
    const auto* const transfer = std::get_if<Transfer>(&phase.body);
    return transfer != nullptr && transfer->is_fallback;
  });
}

Flops Program::flops() const {
  std::int64_t macs = 0;
  for (const Phase& phase : phases) {
    const auto* const compute = std::get_if<Compute>(&phase.body);
    macs += compute != nullptr && !compute->is_recomputed ? compute->work.total_macs : 0;
  }
  return Flops(2 * macs);
}

Result<void> check_graph(const Program& program, const graph::Graph& lowered) {
  if (program.graph_sha256 != graph::graph_sha256(lowered)) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("program {} was placed for another graph than {}: place that one",
                             quoted(program.name), quoted(lowered.name))};
  }
  return {};
}

Result<void> check_machine(const Program& program, const machine::MachineModel& machine) {
  if (program.machine != machine.name) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("program {} was placed for machine {}, not {}: place its graph anew",
                             quoted(program.name), quoted(program.machine), quoted(machine.name))};
  }
  if (program.machine_digest != machine.digest) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("program {} was placed for a machine {} with other facts than this "
                             "one: place its graph anew, or change facts with --what-if",
                             quoted(program.name), quoted(machine.name))};
  }
  return {};
}

}  // namespace dojo::program
