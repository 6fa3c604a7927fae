// GradientBuckets: sums of weights' gradients over replicas wait for company, because each message
// pays the way along all replicas. A bucket is sent when its bytes take as long as their way, so
// that latency is at most half of it, or when somebody needs one of its sums.
#pragma once

#include <optional>
#include <vector>

#include "dojo/place/internal/draft.h"

namespace dojo::place::internal {

struct Bucket {
  struct Entry {
    ValueId value{};
    DraftId after = 0;  // the phase that makes what is summed
    std::vector<BufferId> buffers{};
  };
  program::Move move{};  // bytes of all entries
  std::vector<Entry> entries{};
  bool holds(ValueId value) const;
};

// The last move, taken off the list, if it is the sum of a weight's gradient over replicas.
std::optional<program::Move> take_sum_over_replicas(const graph::Value& value,
                                                    std::vector<program::Move>& moves);

class GradientBuckets {
 public:
  GradientBuckets(const Mesh& mesh, const machine::MachineModel& machine)
      : mesh_(mesh), machine_(machine) {}

  // The bucket that this entry fills, if it does.
  std::optional<Bucket> put(const Bucket::Entry& entry, const program::Move& move);
  bool holds(ValueId value) const;
  std::vector<Bucket> take_all();

 private:
  const Mesh& mesh_;
  const machine::MachineModel& machine_;
  std::vector<Bucket> buckets_;  // one for each way
};

}  // namespace dojo::place::internal
