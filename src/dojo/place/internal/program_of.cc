#include "dojo/place/internal/program_of.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <set>

#include "dojo/place/internal/memory.h"

namespace dojo::place::internal {

using graph::Graph;
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
          if (phase.turn == Turn::Each) {
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
    const Bytes end = end_of(buffer);
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
    return *offset[a] < end_of(b) && *offset[b] < end_of(a);
  }
  Bytes end_of(BufferId buffer) const {
    return *fit_.plan.offset[buffer] + bytes_of(draft_.buffers[buffer], *fit_.life[buffer]);
  }

  const Draft& draft_;
  const Fit& fit_;
  std::vector<LastTouch> by_buffer_;
  std::vector<LastTouch> in_each_;  // in phases that run for each micro-batch
  std::vector<BufferId> by_offset_;
};

// Of a pipeline's stage, halves wait for each other as a whole.
std::vector<program::Phase> number_phases(const Draft& draft, const Fit& fit, bool is_stage) {
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
      if (from.turn == Turn::Each && !is_stage && !is_written[buffer] && !waits.is_sketch()) {
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

void add_memory(const Drafted& drafted, std::uint32_t begin, Program& program) {
  std::vector<program::MemoryEntry> memory;
  for (BufferId buffer = 0; buffer < drafted.draft.buffers.size(); ++buffer) {
    const auto& life = drafted.fit.life[buffer];
    if (life.has_value()) {
      memory.push_back({.tensor = drafted.draft.buffers[buffer].name,
                        .offset = *drafted.fit.plan.offset[buffer],
                        .bytes = bytes_of(drafted.draft.buffers[buffer], *life),
                        .copies = life->copies,
                        .first = {begin + static_cast<std::uint32_t>(life->first)},
                        .last = {begin + static_cast<std::uint32_t>(life->last)}});
    }
  }
  std::stable_sort(memory.begin(), memory.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  program.memory.insert(program.memory.end(), memory.begin(), memory.end());
}

// Phases of a stage, which are numbered and stand as if it were the first.
void move_to_stage(std::uint32_t begin, machine::Shape way, std::vector<program::Phase>& phases) {
  const auto shift = [&](machine::Region& region) {
    region.first_die.row += way.rows;
    region.first_die.column += way.columns;
  };
  for (program::Phase& phase : phases) {
    shift(phase.region);
    for (PhaseId& id : phase.after) {
      id.index += begin;
    }
    if (auto* compute = std::get_if<program::Compute>(&phase.body)) {
      for (PhaseId& id : compute->pipelined) {
        id.index += begin;
      }
    } else if (auto* transfer = std::get_if<program::Transfer>(&phase.body)) {
      for (program::Move& move : transfer->moves) {
        shift(move.region);
      }
    }
  }
}

program::Part part_of(const DraftPhase& phase) {
  switch (phase.turn) {
    case Turn::Before:
      return program::Part::Before;
    case Turn::After:
      return program::Part::Behind;
    case Turn::Each:
      break;
  }
  return phase.is_backward_half ? program::Part::Backward : program::Part::Forward;
}

void add_stage(const Plan& plan, std::size_t index, Program& program) {
  const Drafted& drafted = plan.drafted[index];
  const auto begin = static_cast<std::uint32_t>(program.phases.size());
  const machine::Shape way = plan.mesh.way_to_stage(index);
  std::vector<program::Phase> phases = number_phases(drafted.draft, drafted.fit, true);
  move_to_stage(begin, way, phases);
  program::Stage stage{.region = plan.mesh.region, .after = plan.stages->after[index]};
  stage.region.first_die = {.row = way.rows, .column = way.columns};
  for (std::size_t part = 0; part < program::kPartCount; ++part) {
    const auto count = static_cast<std::uint32_t>(
        std::count_if(drafted.draft.order.begin(), drafted.draft.order.end(), [&](DraftId id) {
          return static_cast<std::size_t>(part_of(drafted.draft.phases[id])) < part;
        }));
    stage.begins[part] = {begin + count};
  }
  stage.end = {begin + static_cast<std::uint32_t>(phases.size())};
  program.stages.push_back(std::move(stage));
  std::move(phases.begin(), phases.end(), std::back_inserter(program.phases));
  add_memory(drafted, begin, program);
}

}  // namespace

Program program_of(const Graph& graph, const MachineModel& machine, const Plan& plan) {
  Program program;
  program.name = graph.name;
  program.recipe = graph.lowering->recipe;
  program.machine = machine.name;
  program.machine_digest = machine.digest;
  program.replicas = plan.mesh.replicas;
  program.reserved = machine.node.code;
  if (plan.stages.has_value()) {
    program.micro.count = plan.mesh.micro_batches;
    for (std::size_t i = 0; i < plan.drafted.size(); ++i) {
      add_stage(plan, i, program);
    }
  } else {
    const Drafted& drafted = plan.drafted.front();
    if (const auto body = body_of(drafted.draft)) {
      program.micro = {.count = plan.mesh.micro_batches,
                       .first = {static_cast<std::uint32_t>(body->first)},
                       .end = {static_cast<std::uint32_t>(body->last) + 1}};
    }
    program.phases = number_phases(drafted.draft, drafted.fit, false);
    add_memory(drafted, 0, program);
  }
  for (const Drafted& drafted : plan.drafted) {
    program.remedies.insert(program.remedies.end(), drafted.fit.remedies.begin(),
                            drafted.fit.remedies.end());
  }
  return program;
}

}  // namespace dojo::place::internal
