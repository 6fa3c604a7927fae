// The memory plan: lives of buffers over the order of phases, and an offset for each.
//
// First fit by offset: buffers by bytes descending, then by start, then by number; each takes the
// lowest 64 B aligned offset that is free over its whole life. All nodes of a replica have the same
// map, all nodes of a pipeline's stage theirs. What both halves of a stage touch lies there by
// turns of the micro-batches under way, in as many copies, all the time that micro-batches run.
#pragma once

#include <optional>
#include <vector>

#include "dojo/place/internal/draft.h"

namespace dojo::place::internal {

// From the first to the last position in the order that touches the buffer.
struct Life {
  std::size_t first = 0;
  std::size_t last = 0;
  std::int64_t copies = 1;
};

// Of all copies, each aligned.
Bytes bytes_of(const Buffer& buffer, const Life& life);

// Positions that run for each micro-batch; nullopt: none.
std::optional<Life> body_of(const Draft& draft);

// By buffer; nullopt: nothing touches it.
std::vector<std::optional<Life>> lives(const Draft& draft);

// The largest sum of live bytes over all positions (no plan can need less), and the first position
// that has it.
struct Peak {
  Bytes bytes{};
  std::size_t position = 0;
};
Peak live_peak(const Draft& draft, const std::vector<std::optional<Life>>& life);

// The first position of the backward half of a pipeline's stage; nullopt: there is none.
std::optional<std::size_t> backward_of(const Draft& draft);

struct MemoryPlan {
  std::vector<std::optional<Bytes>> offset;  // by buffer
  Bytes peak{};
};
MemoryPlan plan_memory(const Draft& draft, const std::vector<std::optional<Life>>& life);

}  // namespace dojo::place::internal
