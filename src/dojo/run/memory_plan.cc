#include "dojo/run/memory_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "dojo/base/check.h"

namespace dojo::run {
namespace {

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

bool meet(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

Bytes largest_sum(std::span<const Lifetime> lifetimes) {
  std::map<std::int64_t, std::int64_t> change;
  for (const Lifetime& one : lifetimes) {
    change[one.first] += aligned(one.size.count());
    change[one.last + 1] -= aligned(one.size.count());
  }
  std::int64_t live = 0;
  std::int64_t largest = 0;
  for (const auto& [step, delta] : change) {
    live += delta;
    largest = std::max(largest, live);
  }
  return Bytes(largest);
}

}  // namespace

MemoryPlan plan_memory(std::span<const Lifetime> lifetimes) {
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const Lifetime& x = lifetimes[a];
    const Lifetime& y = lifetimes[b];
    return x.size != y.size ? x.size > y.size : x.first < y.first;
  });
  MemoryPlan plan;
  plan.offsets.assign(lifetimes.size(), 0);
  plan.largest_live_sum = largest_sum(lifetimes);
  std::vector<std::size_t> placed;  // by ascending offset
  std::int64_t size = 0;
  for (const std::size_t index : order) {
    const Lifetime& one = lifetimes[index];
    DOJO_CHECK(one.first <= one.last);
    const std::int64_t bytes = aligned(one.size.count());
    std::int64_t offset = 0;
    for (const std::size_t other : placed) {
      if (!meet(one, lifetimes[other])) {
        continue;
      }
      if (plan.offsets[other] >= offset + bytes) {
        break;
      }
      offset = std::max(offset, plan.offsets[other] + aligned(lifetimes[other].size.count()));
    }
    plan.offsets[index] = offset;
    size = std::max(size, offset + bytes);
    const auto place =
        std::upper_bound(placed.begin(), placed.end(), offset,
                         [&](std::int64_t at, std::size_t i) { return at < plan.offsets[i]; });
    placed.insert(place, index);
  }
  plan.size = Bytes(size);
  return plan;
}

}  // namespace dojo::run
