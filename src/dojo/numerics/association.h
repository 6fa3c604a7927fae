// How a reduction is associated. A reduce space is a nest of loops, outermost first. Each loop may
// be cut into consecutive blocks (the last may be shorter); the product of the blocks of all loops
// are the parts. The value is defined as
//   part = its points in ascending lexicographic order, folded from the start value (+0 for sums);
//   the parts of the innermost loop are chained in ascending order: total = p0; total = total + p1;
//   ... ; the totals so obtained are chained likewise along the next outer loop, and so on.
// A loop in one block chains a single part, which is that part. Nothing else (threads, tiles,
// instruction set) has a say, so a sum has one value.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "dojo/base/check.h"

namespace dojo::numerics {

// The block length of each reduce loop, outermost first. Empty: no loop is cut.
struct ReduceCuts {
  std::vector<std::int64_t> block{};

  std::int64_t block_of(std::size_t loop, std::int64_t extent) const {
    if (block.empty()) {
      return std::max<std::int64_t>(extent, 1);
    }
    DOJO_CHECK(loop < block.size() && block[loop] >= 1);
    return block[loop];
  }
  friend bool operator==(const ReduceCuts&, const ReduceCuts&) = default;
};

namespace internal {

template <class AddPoint, class Combine>
class NestedFold {
 public:
  NestedFold(std::span<const std::int64_t> extent, const ReduceCuts& cuts, float start,
             const AddPoint& add_point, const Combine& combine)
      : extent_(extent),
        cuts_(cuts),
        start_(start),
        add_point_(add_point),
        combine_(combine),
        begin_(extent.size()),
        end_(extent.size()),
        at_(extent.size()) {}

  float value() { return chain(0); }

 private:
  float chain(std::size_t loop) {
    if (loop == extent_.size()) {
      part_ = start_;
      fold_points(0);
      return part_;
    }
    const std::int64_t block = cuts_.block_of(loop, extent_[loop]);
    float total = start_;
    for (std::int64_t begin = 0; begin < extent_[loop]; begin += block) {
      begin_[loop] = begin;
      end_[loop] = std::min(begin + block, extent_[loop]);
      const float part = chain(loop + 1);
      total = begin == 0 ? part : combine_(total, part);
    }
    return total;
  }

  void fold_points(std::size_t loop) {
    if (loop == extent_.size()) {
      part_ = add_point_(part_, std::span<const std::int64_t>(at_));
      return;
    }
    for (at_[loop] = begin_[loop]; at_[loop] < end_[loop]; ++at_[loop]) {
      fold_points(loop + 1);
    }
  }

  std::span<const std::int64_t> extent_;
  const ReduceCuts& cuts_;
  float start_;
  const AddPoint& add_point_;
  const Combine& combine_;
  std::vector<std::int64_t> begin_;  // the current part
  std::vector<std::int64_t> end_;
  std::vector<std::int64_t> at_;  // the current point
  float part_ = 0;
};

}  // namespace internal

// The definition above, literally. add_point(part, point) folds one point into a part;
// combine(total, part) chains.
template <class AddPoint, class Combine>
float fold_in_order(std::span<const std::int64_t> extent, const ReduceCuts& cuts, float start,
                    const AddPoint& add_point, const Combine& combine) {
  return internal::NestedFold<AddPoint, Combine>(extent, cuts, start, add_point, combine).value();
}

template <class AddPoint>
float sum_in_order(std::span<const std::int64_t> extent, const ReduceCuts& cuts,
                   const AddPoint& add_point) {
  return fold_in_order(extent, cuts, 0.0F, add_point, [](float a, float b) { return a + b; });
}

}  // namespace dojo::numerics
