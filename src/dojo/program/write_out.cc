#include <algorithm>

#include "dojo/program/program.h"

namespace dojo::program {
namespace {

// Where phases of a Program stand once `count` micro-batches are written out.
class Places {
 public:
  Places(const MicroBatches& micro, std::int64_t count)
      : first_(micro.first.index), end_(micro.end.index), count_(count) {}

  bool repeats(PhaseId id) const { return id.index >= first_ && id.index < end_; }

  // Of its run for one micro-batch, if it repeats.
  PhaseId at(PhaseId id, std::int64_t micro_batch) const {
    const std::int64_t shift = id.index < first_ ? 0 : id.index < end_ ? micro_batch : count_ - 1;
    return {id.index + static_cast<std::uint32_t>(shift) * (end_ - first_)};
  }
  PhaseId last_of(std::int64_t micro_batch) const { return at({end_ - 1}, micro_batch); }

 private:
  std::uint32_t first_;
  std::uint32_t end_;
  std::int64_t count_;
};

std::vector<PhaseId> moved(const std::vector<PhaseId>& ids, const Places& places,
                           std::int64_t micro_batch) {
  std::vector<PhaseId> out;
  for (const PhaseId id : ids) {
    out.push_back(places.at(id, micro_batch));
  }
  return out;
}

Phase run_of(const Phase& phase, const Places& places, std::int64_t micro_batch) {
  Phase run = phase;
  run.after = moved(phase.after, places, micro_batch);
  if (micro_batch > 0) {
    for (const PhaseId id : moved(phase.previous, places, micro_batch - 1)) {
      run.after.push_back(id);
    }
    std::sort(run.after.begin(), run.after.end());
    run.after.erase(std::unique(run.after.begin(), run.after.end()), run.after.end());
  }
  run.previous.clear();
  if (auto* const compute = std::get_if<Compute>(&run.body)) {
    compute->pipelined = moved(compute->pipelined, places, micro_batch);
  }
  return run;
}

// What one micro-batch writes anew has a life in each.
void add_lives(const MemoryEntry& entry, const Places& places, std::int64_t count,
               std::vector<MemoryEntry>& out) {
  const std::int64_t lives = places.repeats(entry.first) ? count : 1;
  for (std::int64_t m = 0; m < lives; ++m) {
    MemoryEntry life = entry;
    life.first = places.at(entry.first, m);
    life.last = places.repeats(entry.last) ? places.at(entry.last, lives > 1 ? m : count - 1)
                : m + 1 < lives            ? places.last_of(m)
                                           : places.at(entry.last, count - 1);
    out.push_back(std::move(life));
  }
}

}  // namespace

namespace {

// Phases of the range are numbered from its first on, the others are none of it.
void take_from(PhaseId begin, PhaseId end, std::vector<PhaseId>& ids) {
  std::erase_if(ids, [&](PhaseId id) { return id < begin || id >= end; });
  for (PhaseId& id : ids) {
    id.index -= begin.index;
  }
}

}  // namespace

Program only(const Program& program, PhaseId begin, PhaseId end) {
  Program part;
  part.name = program.name;
  part.graph_sha256 = program.graph_sha256;
  part.recipe = program.recipe;
  part.machine = program.machine;
  part.machine_digest = program.machine_digest;
  part.replicas = program.replicas;
  part.reserved = program.reserved;
  const auto at = [&](PhaseId id) {
    return program.phases.begin() + static_cast<std::ptrdiff_t>(id.index);
  };
  part.phases.assign(at(begin), at(end));
  for (Phase& phase : part.phases) {
    take_from(begin, end, phase.after);
    take_from(begin, end, phase.previous);
    if (auto* const compute = std::get_if<Compute>(&phase.body)) {
      take_from(begin, end, compute->pipelined);
    }
  }
  for (const MemoryEntry& entry : program.memory) {
    if (begin < end && entry.last >= begin && entry.first < end) {
      MemoryEntry& life = part.memory.emplace_back(entry);
      life.first = {std::max(entry.first.index, begin.index) - begin.index};
      life.last = {std::min(entry.last.index, end.index - 1) - begin.index};
    }
  }
  return part;
}

Program only_stage(const Program& program, std::size_t index) {
  const Stage& stage = program.stages[index];
  const PhaseId begin = stage.begin_of(Part::Before);
  Program part = only(program, begin, stage.end);
  part.micro = {.count = program.micro.count,
                .first = {stage.begin_of(Part::Forward).index - begin.index},
                .end = {stage.begin_of(Part::Behind).index - begin.index}};
  return part;
}

WrittenOut write_out(const Program& program, std::int64_t count) {
  const MicroBatches& micro = program.micro;
  WrittenOut out{program, {}, {}};
  if (micro.count == 1) {
    count = 1;
  }
  out.program.micro = {};
  out.program.phases.clear();
  out.program.memory.clear();
  const Places places(micro, count);
  const auto add = [&](std::uint32_t from, std::uint32_t end, std::int64_t micro_batch) {
    for (std::uint32_t i = from; i < end; ++i) {
      out.program.phases.push_back(run_of(program.phases[i], places, micro_batch));
      out.of.push_back({i});
      out.micro_batch.push_back(micro_batch);
    }
  };
  const auto size = static_cast<std::uint32_t>(program.phases.size());
  add(0, micro.first.index, 0);
  for (std::int64_t m = 0; m < count; ++m) {
    add(micro.first.index, micro.end.index, m);
  }
  add(micro.end.index, size, count - 1);
  for (const MemoryEntry& entry : program.memory) {
    add_lives(entry, places, count, out.program.memory);
  }
  std::stable_sort(out.program.memory.begin(), out.program.memory.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return out;
}

}  // namespace dojo::program
