#include "dojo/run/internal/accesses.h"

#include <algorithm>

namespace dojo::run::internal {

void add_once(std::vector<BufferId>& list, BufferId buffer) {
  if (std::find(list.begin(), list.end(), buffer) == list.end()) {
    list.push_back(buffer);
  }
}

Touched touched_by(const Task& task) {
  Touched touched{task.reads, task.writes};
  for (const MapStep& step : task.steps) {
    for (const View& view : step.in) {
      add_once(touched.reads, view.buffer);
    }
    for (const View& view : step.out) {
      add_once(touched.writes, view.buffer);
    }
  }
  return touched;
}

std::vector<Access> accesses_of(const Plan& plan) {
  std::vector<Access> accesses(plan.buffers.size());
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
    const Touched touched = touched_by(plan.tasks[t]);
    for (const BufferId buffer : touched.reads) {
      accesses[buffer.index].readers.push_back(t);
    }
    for (const BufferId buffer : touched.writes) {
      accesses[buffer.index].writers.push_back(t);
    }
  }
  return accesses;
}

std::set<BufferId> kept_buffers(const Plan& plan) {
  std::set<BufferId> kept;
  for (const PlannedOutput& output : plan.outputs) {
    kept.insert(output.view.buffer);
  }
  for (const LeafUpdate& update : plan.updates) {
    kept.insert(update.source.buffer);
  }
  return kept;
}

bool is_whole(const View& view, const Buffer& buffer) {
  return view.is_contiguous() && view.offset == 0 && view.elements() == buffer.elements;
}

}  // namespace dojo::run::internal
