#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "dojo/base/text.h"
#include "dojo/program/internal/problem.h"
#include "dojo/program/program.h"

namespace dojo::program {
namespace {

Error at_phase(std::size_t index, const std::string& what) {
  return Error{ErrorKind::InvalidInput, fmt::format("program phase {}: {}", index, what)};
}

Result<void> verify_split(std::size_t index, const Split& split) {
  std::array<bool, kAxes.size()> is_used{};
  for (const LoopSplit& entry : split.loops) {
    std::int64_t extent = entry.extent;
    if (entry.cuts.empty()) {
      return at_phase(index, fmt::format("loop {} stands in the split but is not cut", entry.loop));
    }
    for (const AxisCut& axis_cut : entry.cuts) {
      bool& used = is_used[static_cast<std::size_t>(axis_cut.axis)];
      if (used) {
        return at_phase(index, fmt::format("axis {} serves two loops", name(axis_cut.axis)));
      }
      used = true;
      if (axis_cut.parts < 1 || axis_cut.block < 1 ||
          axis_cut.parts !=
              std::max<std::int64_t>(1, extent / axis_cut.block + (extent % axis_cut.block != 0))) {
        return at_phase(index, fmt::format("loop {}: {} parts of {} do not cover {} points",
                                           entry.loop, axis_cut.parts, axis_cut.block, extent));
      }
      extent = std::min(extent, axis_cut.block);
    }
  }
  return {};
}

// `region` inside the first replica of the program.
Result<void> verify_region(std::size_t index, const machine::Region& region, const Program& program,
                           const machine::MachineModel& machine) {
  if (Result<void> on_machine = check_region(region, machine); !on_machine) {
    return at_phase(index, on_machine.error().message);
  }
  if (region.first_die.row + region.dies.rows > program.replicas.dies.rows ||
      region.first_die.column + region.dies.columns > program.replicas.dies.columns) {
    return at_phase(index, fmt::format("region {} leaves the first replica of {}x{} dies",
                                       machine::to_string(region), program.replicas.dies.rows,
                                       program.replicas.dies.columns));
  }
  return {};
}

Result<void> verify_compute(std::size_t index, const Compute& compute, const Program& program) {
  DOJO_TRY_VOID(verify_split(index, compute.split));
  const AxisCut* const turns = compute.split.find(Axis::Micro);
  if (turns != nullptr && program.micro.count > 1 && turns->parts != program.micro.count) {
    return at_phase(index, fmt::format("its loops have {} parts in time, but there are {} "
                                       "micro-batches",
                                       turns->parts, program.micro.count));
  }
  const NodeWork& work = compute.work;
  if (work.points < 0 || work.macs < 0 || work.total_points < 0 || work.total_macs < 0 ||
      work.rounded > work.stored) {
    return at_phase(index, "its work is negative, or rounds more bytes than it stores");
  }
  for (const PhaseId source : compute.pipelined) {
    if (source.index >= index ||
        !std::holds_alternative<Transfer>(program.phases[source.index].body)) {
      return at_phase(
          index,
          fmt::format("it is pipelined on phase {}, which is no transfer before it", source.index));
    }
  }
  return {};
}

Result<void> verify_transfer(std::size_t index, const Transfer& transfer, const Program& program,
                             const machine::MachineModel& machine) {
  if (transfer.moves.empty() || transfer.panels < 1) {
    return at_phase(index, "a transfer has at least one move and one panel");
  }
  for (const Move& move : transfer.moves) {
    DOJO_TRY_VOID(verify_region(index, move.region, program, machine));
    if (Result<void> pattern = check_pattern(move.pattern); !pattern) {
      return at_phase(index, pattern.error().message);
    }
    if (move.reach < 1) {
      return at_phase(index, "a move reaches at least the neighbour");
    }
    const bool is_over_replicas = move.scope == Scope::Across || move.scope == Scope::Through;
    if (is_over_replicas && move.pattern.order == machine::Association::Nested &&
        program.replicas.count <= replicas_per_row(program.replicas, machine)) {
      return at_phase(index, fmt::format("its sum is nested, but all {} replicas stand in one row",
                                         program.replicas.count));
    }
    if (move.scope == Scope::Onward &&
        (program.stages.empty() || move.pattern.kind != machine::PatternKind::RegionMove)) {
      return at_phase(index, "onward goes a region_move, from stage to stage of a pipeline");
    }
    const bool is_edge = move.pattern.kind == machine::PatternKind::ScatterFromEdge ||
                         move.pattern.kind == machine::PatternKind::GatherToEdge;
    if (is_edge != (move.scope == Scope::Memory)) {
      return at_phase(index, "what goes to or from memory scatters from an edge or gathers to one");
    }
    if (is_edge && (!machine.has(machine::LinkClass::Hbm) || machine.processors.empty())) {
      return at_phase(
          index, fmt::format("machine {} has no interface processors with DRAM", machine.name));
    }
  }
  return {};
}

Result<void> verify_phase(std::size_t index, const Program& program,
                          const machine::MachineModel& machine) {
  const Phase& phase = program.phases[index];
  DOJO_TRY_VOID(verify_region(index, phase.region, program, machine));
  for (const PhaseId before : phase.after) {
    if (before.index >= index) {
      return at_phase(index,
                      fmt::format("it waits for phase {}, which is not before it", before.index));
    }
  }
  for (const PhaseId before : phase.previous) {
    if (program.runs(index) == 1 || program.runs(before.index) == 1) {
      return at_phase(index, fmt::format("it waits for phase {} of the micro-batch before, but "
                                         "not both run for each micro-batch",
                                         before.index));
    }
  }
  if (const auto* compute = std::get_if<Compute>(&phase.body)) {
    return verify_compute(index, *compute, program);
  }
  if (const auto* transfer = std::get_if<Transfer>(&phase.body)) {
    return verify_transfer(index, *transfer, program, machine);
  }
  return {};
}

using internal::Problem;

std::optional<Problem> find_micro_problem(const Program& program) {
  const MicroBatches& micro = program.micro;
  const bool is_range = micro.first < micro.end && micro.end.index <= program.phases.size();
  if (micro.count == 1 || !program.stages.empty() || (micro.count > 1 && is_range)) {
    return std::nullopt;
  }
  return Problem{Problem::Of::Micro, 0,
                 Error{ErrorKind::InvalidInput,
                       fmt::format("program: {} micro-batches of phases {}..{}, but it has phases "
                                   "0..{}",
                                   micro.count, micro.first.index,
                                   static_cast<std::int64_t>(micro.end.index) - 1,
                                   static_cast<std::int64_t>(program.phases.size()) - 1)}};
}

// Values are written by phases before those that read them. Leaves are there from the start: no
// phase writes them, or (updated in place) they lie in memory all the time.
// Of phases [begin, end), those of a step or of one stage.
std::optional<Problem> find_early_read(const Program& program, std::size_t begin, std::size_t end) {
  std::set<std::string_view> always_there;
  for (const MemoryEntry& entry : program.memory) {
    if (entry.first.index == begin && entry.last.index + 1 == end) {
      always_there.insert(entry.tensor);
    }
  }
  std::map<std::string_view, std::size_t> first_write;
  for (std::size_t i = begin; i < end; ++i) {
    for (const std::string& value : program.phases[i].writes) {
      first_write.try_emplace(value, i);
    }
  }
  for (std::size_t i = begin; i < end; ++i) {
    for (const std::string& value : program.phases[i].reads) {
      const auto written = first_write.find(value);
      if (written != first_write.end() && written->second > i && !always_there.contains(value)) {
        return Problem{Problem::Of::Phase, i,
                       at_phase(i, fmt::format("it reads %{}, which phase {} is the first to write",
                                               value, written->second))};
      }
    }
  }
  return std::nullopt;
}

// Sweeps over phases: what is live, by offset, must be disjoint from its neighbours.
std::optional<Problem> find_memory_problem(const Program& program,
                                           const machine::MachineModel& machine) {
  const auto problem = [&](const MemoryEntry& entry, ErrorKind kind, const std::string& what) {
    return Problem{Problem::Of::Memory, static_cast<std::size_t>(&entry - program.memory.data()),
                   Error{kind, "program memory: " + what}};
  };
  std::vector<const MemoryEntry*> by_first;
  for (const MemoryEntry& entry : program.memory) {
    if (entry.bytes < Bytes(0) || entry.offset < Bytes(0) || entry.last < entry.first ||
        entry.last.index >= program.phases.size()) {
      return problem(entry, ErrorKind::InvalidInput,
                     fmt::format("{}: its phases {}..{} or bytes are impossible",
                                 quoted(entry.tensor), entry.first.index, entry.last.index));
    }
    const bool is_from_before = entry.first < program.micro.first;
    if (program.micro.count > 1 && program.stages.empty() && is_from_before &&
        entry.last >= program.micro.first && entry.last.index + 1 < program.micro.end.index) {
      return problem(entry, ErrorKind::InvalidInput,
                     fmt::format("{} is given up in phase {}, but the next micro-batch needs it "
                                 "again",
                                 quoted(entry.tensor), entry.last.index));
    }
    if (program.reserved + entry.offset + entry.bytes > machine.node.sram) {
      return problem(
          entry, ErrorKind::DoesNotFit,
          fmt::format("it uses {} bytes per node, a node of machine {} has {}",
                      program.sram_peak().count(), machine.name, machine.node.sram.count()));
    }
    if (entry.bytes > Bytes(0)) {
      by_first.push_back(&entry);
    }
  }
  std::stable_sort(by_first.begin(), by_first.end(),
                   [](const auto* a, const auto* b) { return a->first < b->first; });
  std::multimap<std::uint32_t, const MemoryEntry*> by_last;
  std::map<std::int64_t, const MemoryEntry*> live;  // by offset
  for (const MemoryEntry* entry : by_first) {
    while (!by_last.empty() && by_last.begin()->first < entry->first.index) {
      live.erase(by_last.begin()->second->offset.count());
      by_last.erase(by_last.begin());
    }
    const auto after = live.lower_bound(entry->offset.count());
    const MemoryEntry* other = nullptr;
    if (after != live.end() && after->second->offset < entry->offset + entry->bytes) {
      other = after->second;
    } else if (after != live.begin() &&
               std::prev(after)->second->offset + std::prev(after)->second->bytes > entry->offset) {
      other = std::prev(after)->second;
    }
    if (other != nullptr) {
      return problem(*entry, ErrorKind::InvalidInput,
                     fmt::format("{} and {} hold the same bytes in the same phases",
                                 quoted(entry->tensor), quoted(other->tensor)));
    }
    live.emplace(entry->offset.count(), entry);
    by_last.emplace(entry->last.index, entry);
  }
  return std::nullopt;
}

}  // namespace

namespace internal {

std::optional<Problem> find_problem(const Program& program, const machine::MachineModel& machine) {
  const Replicas& replicas = program.replicas;
  const machine::Shape dies = machine.dies();
  if (replicas.count < 1 || replicas.count > replicas.available || replicas.dies.rows < 1 ||
      replicas.dies.columns < 1 || replicas.dies.rows > dies.rows ||
      replicas.dies.columns > dies.columns ||
      replicas.available >
          std::int64_t{dies.rows / replicas.dies.rows} * (dies.columns / replicas.dies.columns)) {
    return Problem{
        Problem::Of::Head, 0,
        Error{ErrorKind::DoesNotFit,
              fmt::format("program: {} of {} replicas of {}x{} dies do not stand on machine {} "
                          "with {}x{} dies",
                          replicas.count, replicas.available, replicas.dies.rows,
                          replicas.dies.columns, machine.name, dies.rows, dies.columns)}};
  }
  if (std::optional<Problem> micro = find_micro_problem(program)) {
    return micro;
  }
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    if (Result<void> verified = verify_phase(i, program, machine); !verified) {
      return Problem{Problem::Of::Phase, i, verified.error()};
    }
  }
  std::vector<std::size_t> ends{program.phases.size()};
  if (!program.stages.empty()) {
    if (std::optional<Problem> problem = find_stage_problem(program, machine)) {
      return problem;
    }
    ends.clear();
    for (const Stage& stage : program.stages) {
      ends.push_back(stage.end.index);
    }
  }
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    if (std::optional<Problem> early = find_early_read(program, begin, end)) {
      return early;
    }
    begin = end;
  }
  return find_memory_problem(program, machine);
}

}  // namespace internal

Result<void> verify_program(const Program& program, const machine::MachineModel& machine) {
  if (std::optional<Problem> problem = internal::find_problem(program, machine)) {
    return std::move(problem->error);
  }
  return {};
}

}  // namespace dojo::program
