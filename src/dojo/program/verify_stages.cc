#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "dojo/base/text.h"
#include "dojo/program/internal/problem.h"

namespace dojo::program::internal {
namespace {

Problem of_stages(const std::string& what) {
  return {Problem::Of::Micro, 0, Error{ErrorKind::InvalidInput, "program stages: " + what}};
}

Problem of_phase(std::size_t index, const std::string& what) {
  return {Problem::Of::Phase, index,
          Error{ErrorKind::InvalidInput, fmt::format("program phase {}: {}", index, what)}};
}

bool contains(const machine::Region& outer, const machine::Region& inner) {
  return inner.first_die.row >= outer.first_die.row &&
         inner.first_die.column >= outer.first_die.column &&
         inner.first_die.row + inner.dies.rows <= outer.first_die.row + outer.dies.rows &&
         inner.first_die.column + inner.dies.columns <=
             outer.first_die.column + outer.dies.columns &&
         inner.nodes_of_die.rows <= outer.nodes_of_die.rows &&
         inner.nodes_of_die.columns <= outer.nodes_of_die.columns;
}

std::optional<Problem> find_shape_problem(const Program& program) {
  const std::vector<Stage>& stages = program.stages;
  if (stages.size() < 2 || program.micro.count < 2 ||
      program.replicas.stages != std::ssize(stages)) {
    return of_stages("a pipeline has two stages and two micro-batches at least");
  }
  PhaseId next{0};
  for (std::size_t i = 0; i < stages.size(); ++i) {
    for (std::size_t part = 0; part < kPartCount; ++part) {
      if (stages[i].begins[part] < next || (part == 0 && stages[i].begins[part] != next)) {
        return of_stages(fmt::format("phases of stage {} do not follow those before", i));
      }
      next = stages[i].begins[part];
    }
    if (stages[i].end < next) {
      return of_stages(fmt::format("stage {} ends before it begins", i));
    }
    next = stages[i].end;
    for (const std::int64_t other : stages[i].after) {
      if (other < 0 || other >= static_cast<std::int64_t>(stages.size())) {
        return of_stages(fmt::format("stage {} waits for stage {}, which is none", i, other));
      }
    }
    for (std::size_t other = 0; other < i; ++other) {
      if (machine::overlap(stages[i].region, stages[other].region)) {
        return of_stages(fmt::format("{} and {} stand on the same dies", other, i));
      }
    }
    if (stages[i].region.dies != stages[0].region.dies ||
        stages[i].region.nodes_of_die != stages[0].region.nodes_of_die) {
      return of_stages(fmt::format("{} has other nodes than the first", i));
    }
  }
  if (next.index != program.phases.size()) {
    return of_stages(fmt::format("phases from {} on are of none", next.index));
  }
  std::vector<std::vector<std::int64_t>> after;
  for (const Stage& stage : stages) {
    after.push_back(stage.after);
  }
  return wait_in_a_circle(after) ? std::optional(of_stages("they wait for each other in a circle"))
                                 : std::nullopt;
}

machine::Region moved(machine::Region region, const machine::Pattern& pattern,
                      const machine::MachineModel& machine) {
  region.first_die.row += pattern.move_rows / machine.logical.rows;
  region.first_die.column += pattern.move_columns / machine.logical.columns;
  return region;
}

// What a stage is sent by others: by value, from where.
struct Arrival {
  std::size_t from = 0;
  Part made = Part::Before;
};
using Arrivals = std::map<std::string_view, Arrival>;

std::optional<Problem> find_phase_problem(const Program& program, std::size_t index,
                                          const machine::MachineModel& machine,
                                          std::vector<Arrivals>& arrivals) {
  const Phase& phase = program.phases[index];
  const std::size_t at = program.stage_of(index);
  const Stage& stage = program.stages[at];
  if (!contains(stage.region, phase.region)) {
    return of_phase(index,
                    fmt::format("region {} leaves stage {}", machine::to_string(phase.region), at));
  }
  for (const PhaseId before : phase.after) {
    if (before < stage.begin_of(Part::Before)) {
      return of_phase(index, fmt::format("it waits for phase {} of another stage", before.index));
    }
  }
  if (!phase.previous.empty()) {
    return of_phase(index, "halves of a pipeline wait for nothing else of another micro-batch");
  }
  const auto* const transfer = std::get_if<Transfer>(&phase.body);
  const Part part = stage.part_of({static_cast<std::uint32_t>(index)});
  for (const Move& move :
       transfer != nullptr ? std::span(transfer->moves) : std::span<const Move>{}) {
    if (move.scope != Scope::Onward) {
      if (!contains(stage.region, move.region)) {
        return of_phase(
            index, fmt::format("region {} leaves stage {}", machine::to_string(move.region), at));
      }
      continue;
    }
    const auto stage_at = [&](const machine::Region& region) {
      const auto found =
          std::find_if(program.stages.begin(), program.stages.end(),
                       [&](const Stage& other) { return contains(other.region, region); });
      return static_cast<std::size_t>(found - program.stages.begin());
    };
    const std::size_t from = stage_at(move.region);
    const std::size_t to = stage_at(moved(move.region, move.pattern, machine));
    // Behind the micro-batches who needs it fetches it, before that who has it sends it.
    const bool is_ours = part == Part::Behind ? to == at : from == at;
    if (!is_ours || from == to || std::max(from, to) >= program.stages.size()) {
      return of_phase(index, fmt::format("%{} goes from one stage to another, one of them {}",
                                         move.tensor, at));
    }
    arrivals[to][move.tensor] = {from, part};
  }
  return std::nullopt;
}

// Whether what one stage makes is there when the other reads it.
bool is_in_time(const Program& program, const Arrival& arrival, std::size_t to, Part read) {
  if (arrival.made == Part::Behind) {
    const auto& after = program.stages[to].after;
    return read == Part::Behind &&
           std::find(after.begin(), after.end(), static_cast<std::int64_t>(arrival.from)) !=
               after.end();
  }
  if (arrival.made == read) {
    return (read == Part::Forward && arrival.from < to) ||
           (read == Part::Backward && arrival.from > to);
  }
  // What is sent behind the micro-batches is of the last one alone.
  return arrival.made < read && (read != Part::Behind || arrival.made == Part::Before);
}

class Reads {
 public:
  explicit Reads(const Program& program) : program_(program) {
    for (std::size_t i = 0; i < program.phases.size(); ++i) {
      for (const std::string& value : program.phases[i].writes) {
        made_in_[value].insert(program.stage_of(i));
      }
    }
    for (const MemoryEntry& entry : program.memory) {
      const std::size_t at = program.stage_of(entry.first.index);
      entries_[{at, entry.tensor}] = &entry;
      const Stage& stage = program.stages[at];
      if (entry.first == stage.begin_of(Part::Before) && entry.last.index + 1 == stage.end.index) {
        stays_.insert({at, entry.tensor});
      }
    }
  }

  std::optional<Problem> find(std::size_t index, const std::vector<Arrivals>& arrivals) const {
    const std::size_t at = program_.stage_of(index);
    const Part part = program_.stages[at].part_of({static_cast<std::uint32_t>(index)});
    for (const std::string& value : program_.phases[index].reads) {
      const auto made = made_in_.find(value);
      const bool is_elsewhere = made != made_in_.end() && !made->second.contains(at);
      const auto arrival = arrivals[at].find(value);
      if (arrival == arrivals[at].end()) {
        if (is_elsewhere && !stays_.contains({at, value})) {
          return of_phase(index, fmt::format("it reads %{}, which stage {} makes and nobody sends "
                                             "to stage {}",
                                             value, *made->second.begin(), at));
        }
        continue;
      }
      if (!is_in_time(program_, arrival->second, at, part)) {
        return of_phase(index, fmt::format("it reads %{}, which stage {} has not sent by then",
                                           value, arrival->second.from));
      }
      const auto entry = entries_.find({at, value + std::string(kArrived)});
      const std::int64_t copies =
          copies_of_arrival(program_.stages.size(), program_.micro.count, arrival->second.from,
                            arrival->second.made, at, part == Part::Backward);
      if (entry != entries_.end() && entry->second->copies < copies) {
        return of_phase(index, fmt::format("it reads %{}, of which {} micro-batches can be under "
                                           "way and {} have room",
                                           value, copies, entry->second->copies));
      }
    }
    return std::nullopt;
  }

 private:
  const Program& program_;
  std::map<std::string_view, std::set<std::size_t>> made_in_;
  std::map<std::pair<std::size_t, std::string>, const MemoryEntry*> entries_;
  std::set<std::pair<std::size_t, std::string>> stays_;
};

// What lives from a forward to a backward half has its copies all the time.
std::optional<Problem> find_span_problem(const Program& program) {
  for (std::size_t i = 0; i < program.memory.size(); ++i) {
    const MemoryEntry& entry = program.memory[i];
    const std::size_t at = program.stage_of(entry.first.index);
    const Stage& stage = program.stages[at];
    const bool is_of_stage = entry.last < stage.end;
    const PhaseId forward = stage.begin_of(Part::Forward);
    const PhaseId backward = stage.begin_of(Part::Backward);
    const PhaseId behind = stage.begin_of(Part::Behind);
    const bool spans = entry.first < backward && entry.last >= backward && entry.last >= forward;
    const bool is_always = entry.first <= forward && entry.last.index + 1 >= behind.index;
    if (!is_of_stage || (spans && program.lead(at) > 1 && !is_always)) {
      return Problem{Problem::Of::Memory, i,
                     Error{ErrorKind::InvalidInput,
                           fmt::format("program memory: {} lives from phase {} to {}, but other "
                                       "micro-batches come in between",
                                       quoted(entry.tensor), entry.first.index, entry.last.index)}};
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Problem> find_stage_problem(const Program& program,
                                          const machine::MachineModel& machine) {
  if (std::optional<Problem> shape = find_shape_problem(program)) {
    return shape;
  }
  std::vector<Arrivals> arrivals(program.stages.size());
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    if (std::optional<Problem> problem = find_phase_problem(program, i, machine, arrivals)) {
      return problem;
    }
  }
  const Reads reads(program);
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    if (std::optional<Problem> problem = reads.find(i, arrivals)) {
      return problem;
    }
  }
  return find_span_problem(program);
}

}  // namespace dojo::program::internal
