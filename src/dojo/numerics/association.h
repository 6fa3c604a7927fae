// How a reduction is associated. A reduce space is a nest of loops, outermost first. Each loop may
// be cut into consecutive blocks (the last may be shorter); the product of the blocks of all loops
// are the parts. The value is defined as
//   part = its points in ascending lexicographic order, folded from the start value (+0 for sums);
//   the parts of the innermost loop are chained in ascending order: total = p0; total = total + p1;
//   ... ; the totals so obtained are chained likewise along the next outer loop, and so on.
// A loop in one block chains a single part, which is that part. A loop may be chained in runs: so
// many consecutive parts of it (the last run may be shorter) make a total of their own each, and
// these totals are chained in ascending order. Nothing is added to the first of a chain, not even
// +0. Nothing else (threads, tiles, instruction set) has a say, so a sum has one value.
//
// Sums of products (GEMM, convolutions) may be told a named order (sum_order.h), which says how the
// points of a part are folded and what adding two parts means. All other reductions are folded
// point by point.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/numerics/sum_order.h"

namespace dojo::numerics {

struct ReduceCuts {
  // The block length of each reduce loop, outermost first. Empty: no loop is cut.
  std::vector<std::int64_t> block{};
  SumOrder order = SumOrder::Sequential;  // of sums of products; other reductions have none
  // Parts in a run of each reduce loop; as many as there are, or more: one chain. Empty: no runs.
  std::vector<std::int64_t> run{};

  std::int64_t block_of(std::size_t loop, std::int64_t extent) const {
    if (block.empty()) {
      return std::max<std::int64_t>(extent, 1);
    }
    DOJO_CHECK(loop < block.size() && block[loop] >= 1);
    return block[loop];
  }
  // How many of the loop's `parts` make a run.
  std::int64_t run_of(std::size_t loop, std::int64_t parts) const {
    if (run.empty()) {
      return parts;
    }
    DOJO_CHECK(loop < run.size() && run[loop] >= 1);
    return std::min(run[loop], parts);
  }
  friend bool operator==(const ReduceCuts&, const ReduceCuts&) = default;
};

namespace internal {

constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Fold makes a value of one part: fold.start(), then fold.add(point) for each of its points, then
// fold.value(); fold.combine(total, part) chains.
template <class Fold>
class NestedFold {
 public:
  NestedFold(std::span<const std::int64_t> extent, const ReduceCuts& cuts, Fold& fold)
      : extent_(extent),
        cuts_(cuts),
        fold_(fold),
        begin_(extent.size()),
        end_(extent.size()),
        at_(extent.size()) {}

  float value() { return chain(0); }

 private:
  float chain(std::size_t loop) {
    if (loop == extent_.size() || extent_[loop] == 0) {
      fold_.start();
      if (loop == extent_.size()) {
        fold_points(0);
      }
      return fold_.value();
    }
    const std::int64_t parts = ceil_divide(extent_[loop], cuts_.block_of(loop, extent_[loop]));
    const std::int64_t run = cuts_.run_of(loop, parts);
    float total = 0;
    for (std::int64_t first = 0; first < parts; first += run) {
      const float of_run = chain_run(loop, first, std::min(first + run, parts));
      total = first == 0 ? of_run : fold_.combine(total, of_run);
    }
    return total;
  }

  float chain_run(std::size_t loop, std::int64_t first, std::int64_t end) {
    const std::int64_t block = cuts_.block_of(loop, extent_[loop]);
    float total = 0;
    for (std::int64_t at = first; at < end; ++at) {
      begin_[loop] = at * block;
      end_[loop] = std::min(begin_[loop] + block, extent_[loop]);
      const float part = chain(loop + 1);
      total = at == first ? part : fold_.combine(total, part);
    }
    return total;
  }

  void fold_points(std::size_t loop) {
    if (loop == extent_.size()) {
      fold_.add(std::span<const std::int64_t>(at_));
      return;
    }
    for (at_[loop] = begin_[loop]; at_[loop] < end_[loop]; ++at_[loop]) {
      fold_points(loop + 1);
    }
  }

  std::span<const std::int64_t> extent_;
  const ReduceCuts& cuts_;
  Fold& fold_;
  std::vector<std::int64_t> begin_;  // the current part
  std::vector<std::int64_t> end_;
  std::vector<std::int64_t> at_;  // the current point
};

template <class Fold>
float value_of(std::span<const std::int64_t> extent, const ReduceCuts& cuts, Fold fold) {
  return NestedFold<Fold>(extent, cuts, fold).value();
}

template <class AddPoint, class Combine>
struct PointFold {
  void start() { part = first; }
  void add(std::span<const std::int64_t> point) { part = add_point(part, point); }
  float value() const { return part; }

  float first = 0;
  const AddPoint& add_point;
  const Combine& combine;
  float part = 0;
};

template <class Part, class AddProduct>
struct ProductFold {
  void start() { part = Part(); }
  void add(std::span<const std::int64_t> point) { add_product(part, point); }
  float value() const { return part.value(); }
  float combine(float total, float x) const { return Part::combine(total, x); }

  const AddProduct& add_product;
  Part part{};
};

// All parts are one sum.
template <class AddProduct>
struct ExactFold {
  void start() {}
  void add(std::span<const std::int64_t> point) { add_product(sum, point); }
  float value() const { return 0; }
  float combine(float /*total*/, float /*part*/) const { return 0; }

  const AddProduct& add_product;
  ExactSum& sum;
};

}  // namespace internal

// The definition above, literally. add_point(part, point) folds one point into a part;
// combine(total, part) chains.
template <class AddPoint, class Combine>
float fold_in_order(std::span<const std::int64_t> extent, const ReduceCuts& cuts, float start,
                    const AddPoint& add_point, const Combine& combine) {
  return internal::value_of(extent, cuts,
                            internal::PointFold<AddPoint, Combine>{start, add_point, combine});
}

template <class AddPoint>
float sum_in_order(std::span<const std::int64_t> extent, const ReduceCuts& cuts,
                   const AddPoint& add_point) {
  return fold_in_order(extent, cuts, 0.0F, add_point, [](float a, float b) { return a + b; });
}

// A sum of products in the order that `cuts` names. add_product(sum, point) calls sum.add(a, b)
// with the two factors of the point, or does nothing where the point is none.
template <class AddProduct>
float sum_products(std::span<const std::int64_t> extent, const ReduceCuts& cuts,
                   const AddProduct& add_product) {
  switch (cuts.order) {
    case SumOrder::Sequential:
      return internal::value_of(extent, cuts,
                                internal::ProductFold<SequentialPart, AddProduct>{add_product});
    case SumOrder::Tile4:
      return internal::value_of(extent, cuts,
                                internal::ProductFold<Tile4Part, AddProduct>{add_product});
    case SumOrder::W21:
      return internal::value_of(extent, cuts,
                                internal::ProductFold<W21Part, AddProduct>{add_product});
    case SumOrder::Exact:
      break;
  }
  ExactSum sum;
  internal::value_of(extent, cuts, internal::ExactFold<AddProduct>{add_product, sum});
  return sum.value();
}

}  // namespace dojo::numerics
