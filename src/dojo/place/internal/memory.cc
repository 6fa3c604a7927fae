#include "dojo/place/internal/memory.h"

#include <algorithm>
#include <numeric>

namespace dojo::place::internal {
namespace {

constexpr std::int64_t kAlignment = 64;

Bytes aligned(Bytes bytes) {
  return Bytes((bytes.count() + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

Bytes bytes_of(const Buffer& buffer, const Life& life) {
  return life.copies > 1 ? aligned(buffer.bytes) * life.copies : buffer.bytes;
}

std::optional<std::size_t> backward_of(const Draft& draft) {
  const auto found = std::find_if(draft.order.begin(), draft.order.end(),
                                  [&](DraftId id) { return draft.phases[id].is_backward_half; });
  return found != draft.order.end()
             ? std::optional(static_cast<std::size_t>(found - draft.order.begin()))
             : std::nullopt;
}

std::optional<Life> body_of(const Draft& draft) {
  std::optional<Life> body;
  for (std::size_t at = 0; at < draft.order.size(); ++at) {
    if (draft.phases[draft.order[at]].turn == Turn::Each) {
      body = Life{body.has_value() ? body->first : at, at};
    }
  }
  return body;
}

std::vector<std::optional<Life>> lives(const Draft& draft) {
  std::vector<std::optional<Life>> life(draft.buffers.size());
  std::vector<std::size_t> position(draft.phases.size());
  for (std::size_t i = 0; i < draft.order.size(); ++i) {
    position[draft.order[i]] = i;
  }
  const auto touch = [&](BufferId buffer, std::size_t at) {
    if (!life[buffer].has_value()) {
      life[buffer] = Life{at, at};
    }
    life[buffer]->first = std::min(life[buffer]->first, at);
    life[buffer]->last = std::max(life[buffer]->last, at);
  };
  for (std::size_t i = 0; i < draft.order.size(); ++i) {
    const DraftPhase& phase = draft.phases[draft.order[i]];
    for (const BufferId buffer : phase.reads) {
      touch(buffer, i);
    }
    for (const BufferId buffer : phase.writes) {
      touch(buffer, phase.beside.has_value() ? std::min(i, position[*phase.beside]) : i);
      touch(buffer, i);
    }
  }
  const std::optional<Life> body = body_of(draft);
  const std::optional<std::size_t> backward = backward_of(draft);
  for (std::size_t buffer = 0; buffer < life.size(); ++buffer) {
    const Buffer& one = draft.buffers[buffer];
    if (draft.order.empty()) {
      continue;
    }
    const bool is_backward =
        backward.has_value() && life[buffer].has_value() && life[buffer]->last >= *backward;
    std::int64_t copies = is_backward ? one.copies_backward : one.copies;
    bool is_carried = one.is_carried;
    if (one.is_arrival && life[buffer].has_value()) {
      is_carried = true;
    } else if (draft.lead > 1 && is_backward && !one.is_carried && !one.is_pinned &&
               life[buffer]->first >= body->first && life[buffer]->first < *backward) {
      is_carried = true;
      copies = one.is_alike ? 1 : draft.lead;
    }
    if (is_carried && body.has_value() && life[buffer].has_value()) {
      life[buffer]->first = std::min(life[buffer]->first, body->first);
      life[buffer]->last = std::max(life[buffer]->last, body->last);
    }
    if (one.is_pinned) {
      life[buffer] = Life{0, draft.order.size() - 1, copies};
      continue;
    }
    if (life[buffer].has_value()) {
      life[buffer]->copies = copies;
    }
    if (one.is_result && life[buffer].has_value()) {
      life[buffer]->last = draft.order.size() - 1;
    }
  }
  return life;
}

Peak live_peak(const Draft& draft, const std::vector<std::optional<Life>>& life) {
  std::vector<std::int64_t> change(draft.order.size() + 1, 0);
  for (std::size_t buffer = 0; buffer < life.size(); ++buffer) {
    if (life[buffer].has_value()) {
      const std::int64_t bytes = aligned(bytes_of(draft.buffers[buffer], *life[buffer])).count();
      change[life[buffer]->first] += bytes;
      change[life[buffer]->last + 1] -= bytes;
    }
  }
  Peak peak;
  std::int64_t live = 0;
  for (std::size_t i = 0; i < draft.order.size(); ++i) {
    live += change[i];
    if (Bytes(live) > peak.bytes) {
      peak = {Bytes(live), i};
    }
  }
  return peak;
}

namespace {

struct Placed {
  Life life;
  std::int64_t begin;
  std::int64_t end;
};

// Placed buffers by offset; looks up the lowest gap of a life.
class Shelf {
 public:
  std::int64_t place(Life life, std::int64_t bytes) {
    std::int64_t at = 0;
    for (const Placed& other : by_offset_) {
      if (other.life.last < life.first || life.last < other.life.first) {
        continue;
      }
      if (other.begin >= at + bytes) {
        break;
      }
      at = std::max(at, other.end);
    }
    const Placed placed{life, at, at + bytes};
    by_offset_.insert(
        std::upper_bound(by_offset_.begin(), by_offset_.end(), placed,
                         [](const Placed& a, const Placed& b) { return a.begin < b.begin; }),
        placed);
    return at;
  }

 private:
  std::vector<Placed> by_offset_;
};

}  // namespace

MemoryPlan plan_memory(const Draft& draft, const std::vector<std::optional<Life>>& life) {
  std::vector<BufferId> order;
  for (BufferId buffer = 0; buffer < draft.buffers.size(); ++buffer) {
    if (life[buffer].has_value()) {
      order.push_back(buffer);
    }
  }
  const auto bytes_at = [&](BufferId buffer) {
    return bytes_of(draft.buffers[buffer], *life[buffer]);
  };
  std::stable_sort(order.begin(), order.end(), [&](BufferId a, BufferId b) {
    if (bytes_at(a) != bytes_at(b)) {
      return bytes_at(a) > bytes_at(b);
    }
    return life[a]->first < life[b]->first;
  });
  MemoryPlan plan;
  plan.offset.resize(draft.buffers.size());
  Shelf shelf;
  for (const BufferId buffer : order) {
    plan.offset[buffer] = Bytes(shelf.place(*life[buffer], aligned(bytes_at(buffer)).count()));
    plan.peak = std::max(plan.peak, *plan.offset[buffer] + bytes_at(buffer));
  }
  return plan;
}

}  // namespace dojo::place::internal
