#include "dojo/cost/ring.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <vector>

#include "dojo/base/check.h"

namespace dojo::cost {
namespace {

// One step of every member: along which dimension, and how long its message takes.
struct Step {
  std::size_t dimension = 0;
  Picoseconds message{};
};

std::vector<Step> steps_of(std::span<const int> dimensions, Bytes bytes, const RingLink& link) {
  std::vector<Step> scatter;
  double held = static_cast<double>(bytes.count());
  for (std::size_t d = 0; d < dimensions.size(); ++d) {
    DOJO_CHECK(dimensions[d] > 0);
    held /= dimensions[d];
    const double size = std::max(1.0, std::ceil(held));
    const auto busy =
        Picoseconds(static_cast<std::int64_t>(std::ceil(size / link.rate.value() * 1e12)));
    scatter.insert(scatter.end(), static_cast<std::size_t>(dimensions[d] - 1),
                   {d, link.latency + busy});
  }
  std::vector<Step> steps = scatter;
  steps.insert(steps.end(), scatter.rbegin(), scatter.rend());
  return steps;
}

// Members in the order of the dimensions, the first innermost.
class Members {
 public:
  explicit Members(std::span<const int> dimensions) {
    for (const int n : dimensions) {
      strides_.push_back(count_);
      extents_.push_back(n);
      count_ *= n;
    }
  }
  std::int64_t count() const { return count_; }
  std::int64_t next(std::int64_t member, std::size_t dimension) const {
    const std::int64_t at = member / strides_[dimension] % extents_[dimension];
    const std::int64_t to = at + 1 < extents_[dimension] ? at + 1 : 0;
    return member + (to - at) * strides_[dimension];
  }

 private:
  std::vector<std::int64_t> strides_;
  std::vector<std::int64_t> extents_;
  std::int64_t count_ = 1;
};

struct Arrival {
  std::int64_t time = 0;
  std::int64_t member = 0;
  std::size_t step = 0;
  friend bool operator>(const Arrival& a, const Arrival& b) {
    return a.time != b.time ? a.time > b.time : a.member > b.member;
  }
};

}  // namespace

Picoseconds ring_all_reduce(std::span<const int> dimensions, Bytes bytes, const RingLink& link) {
  Picoseconds sum{};
  for (const Step& step : steps_of(dimensions, bytes, link)) {
    sum += step.message;
  }
  return sum;
}

RingRun run_ring_all_reduce(std::span<const int> dimensions, Bytes bytes, const RingLink& link) {
  const std::vector<Step> steps = steps_of(dimensions, bytes, link);
  const Members members(dimensions);
  const auto count = static_cast<std::size_t>(members.count());
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> arrivals;
  std::vector<std::size_t> at(count, 0);  // the step that each member is in
  std::vector<bool> has_come(count * steps.size(), false);
  RingRun run;
  const auto send = [&](std::int64_t member, std::int64_t now) {
    const std::size_t step = at[static_cast<std::size_t>(member)];
    if (step < steps.size()) {
      arrivals.push(
          {now + steps[step].message.count(), members.next(member, steps[step].dimension), step});
      ++run.messages;
    }
  };
  for (std::int64_t member = 0; member < members.count(); ++member) {
    send(member, 0);
  }
  while (!arrivals.empty()) {
    const Arrival arrival = arrivals.top();
    arrivals.pop();
    run.end = Picoseconds(arrival.time);
    const auto member = static_cast<std::size_t>(arrival.member);
    has_come[member * steps.size() + arrival.step] = true;
    while (at[member] < steps.size() && has_come[member * steps.size() + at[member]]) {
      ++at[member];
      send(arrival.member, arrival.time);
    }
  }
  return run;
}

}  // namespace dojo::cost
