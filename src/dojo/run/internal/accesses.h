// Which tasks of a plan write and read a buffer: what the passes on plans ask first.
#pragma once

#include <cstddef>
#include <set>
#include <vector>

#include "dojo/run/internal/plan.h"
#include "dojo/run/internal/view.h"

namespace dojo::run::internal {

// The buffers that a task reads and writes, each once, in order of first mention.
struct Touched {
  std::vector<BufferId> reads;
  std::vector<BufferId> writes;
};
Touched touched_by(const Task& task);
void add_once(std::vector<BufferId>& list, BufferId buffer);

struct Access {
  std::vector<std::size_t> writers;  // tasks
  std::vector<std::size_t> readers;  // tasks, each once
};
// By buffer.
std::vector<Access> accesses_of(const Plan& plan);

// Buffers that must have their contents when the step ends.
std::set<BufferId> kept_buffers(const Plan& plan);

bool is_whole(const View& view, const Buffer& buffer);

}  // namespace dojo::run::internal
