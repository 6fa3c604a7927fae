#include "dojo/place/internal/gradient_buckets.h"

#include <algorithm>
#include <utility>

#include "dojo/cost/pattern_cost.h"

namespace dojo::place::internal {

bool Bucket::holds(ValueId value) const {
  return std::any_of(entries.begin(), entries.end(),
                     [value](const Entry& entry) { return entry.value == value; });
}

std::optional<program::Move> take_sum_over_replicas(const graph::Value& value,
                                                    std::vector<program::Move>& moves) {
  if (value.role != graph::Role::WeightGradient || moves.empty() ||
      moves.back().scope == program::Scope::Inside) {
    return std::nullopt;
  }
  program::Move last = moves.back();
  moves.pop_back();
  return last;
}

std::optional<Bucket> GradientBuckets::put(const Bucket::Entry& entry, const program::Move& move) {
  auto bucket = std::find_if(buckets_.begin(), buckets_.end(), [&](const Bucket& one) {
    return one.move.scope == move.scope && one.move.pattern.axis == move.pattern.axis &&
           one.move.pattern.order == move.pattern.order && one.move.reach == move.reach;
  });
  if (bucket == buckets_.end()) {
    buckets_.push_back({.move = move});
    bucket = std::prev(buckets_.end());
  } else {
    machine::Region& region = bucket->move.region;
    bucket->move.pattern.bytes += move.pattern.bytes;
    region = mesh_.lines(std::max(region.rows(), move.region.rows()),
                         std::max(region.columns(), move.region.columns()));
  }
  bucket->entries.push_back(entry);
  const cost::TransferCost cost = cost::move_cost(bucket->move, mesh_.replicas, machine_);
  if (cost.busy / machine_.network.pace < static_cast<double>(cost.latency.count())) {
    return std::nullopt;
  }
  Bucket full = std::move(*bucket);
  buckets_.erase(bucket);
  return full;
}

bool GradientBuckets::holds(ValueId value) const {
  return std::any_of(buckets_.begin(), buckets_.end(),
                     [value](const Bucket& bucket) { return bucket.holds(value); });
}

std::vector<Bucket> GradientBuckets::take_all() { return std::exchange(buckets_, {}); }

}  // namespace dojo::place::internal
