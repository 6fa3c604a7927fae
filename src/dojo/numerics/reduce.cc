#include "dojo/numerics/reduce.h"

#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/reduce_kernels.h"
#include "dojo/numerics/internal/reduce_order.h"

namespace dojo::numerics {
namespace {

std::int64_t points(std::span<const StridedLoop> loops) {
  std::int64_t count = 1;
  for (const StridedLoop& loop : loops) {
    count *= loop.extent;
  }
  return count;
}

float larger(float acc, float x) {
  const bool takes_x = x > acc || (x != x && acc == acc);
  return takes_x ? x : acc;
}

float fold_point(Reduction reduction, float acc, float x, float center) {
  switch (reduction) {
    case Reduction::Sum:
    case Reduction::Mean:
      return acc + x;
    case Reduction::Max:
      return larger(acc, x);
    case Reduction::SumOfSquares:
      return std::fma(x, x, acc);
    case Reduction::SumOfSquaredDeviations:
      return std::fma(x - center, x - center, acc);
  }
  return acc;
}

// fold(acc, index, at): the acc of output `index` with the element at offset `at` folded in.
template <class Fold, class Combine>
void fold_outputs(ThreadPool& pool, const ReduceSpace& space, const ReduceCuts& cuts,
                  std::int64_t count, float start, const Fold& fold, const Combine& combine,
                  float* out) {
  std::vector<std::int64_t> extent;
  for (const StridedLoop& loop : space.reduce) {
    extent.push_back(loop.extent);
  }
  const auto some = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t base = internal::offset_of(space.parallel, index);
      const auto add_point = [&](float acc, std::span<const std::int64_t> point) {
        std::int64_t at = base;
        for (std::size_t i = 0; i < point.size(); ++i) {
          at += point[i] * space.reduce[i].stride;
        }
        return fold(acc, index, at);
      };
      out[index] = fold_in_order(extent, cuts, start, add_point, combine);
    }
  };
  pool.parallel_for(count, 64, std::ref(some));
}

float sum_of(float total, float part) { return total + part; }

void reduce_plain(ThreadPool& pool, Reduction reduction, const Storage& input,
                  const ReduceSpace& space, const ReduceCuts& cuts, std::int64_t count, float* out,
                  const float* center) {
  const ElementReader read(input);
  const bool is_max = reduction == Reduction::Max;
  const float start = is_max ? -std::numeric_limits<float>::infinity() : 0.0F;
  const auto fold = [&](float acc, std::int64_t index, std::int64_t at) {
    return fold_point(reduction, acc, read(at), center != nullptr ? center[index] : 0.0F);
  };
  fold_outputs(pool, space, cuts, count, start, fold, is_max ? larger : sum_of, out);
  if (reduction == Reduction::Mean) {
    for (std::int64_t index = 0; index < count; ++index) {
      out[index] /= static_cast<float>(points(space.reduce));
    }
  }
}

void norm_gradient_plain(ThreadPool& pool, const Storage& dy, const Storage& x,
                         const ReduceSpace& space, const ReduceCuts& cuts, std::int64_t count,
                         const NormConstants& constants, const NormGradientSums& sums) {
  const ElementReader read_dy(dy);
  const ElementReader read_x(x);
  const auto sum = [&](float* out, const auto& term) {
    const auto fold = [&](float acc, std::int64_t index, std::int64_t at) {
      const float h = (read_x(at) - constants.mean[index]) * constants.rstd[index];
      return acc + term(read_dy(at), h, constants.weight[index]);
    };
    fold_outputs(pool, space, cuts, count, 0.0F, fold, sum_of, out);
  };
  sum(sums.g, [](float d, float /*h*/, float w) { return d * w; });
  sum(sums.g_h, [](float d, float h, float w) { return (d * w) * h; });
  sum(sums.dy_h, [](float d, float h, float /*w*/) { return d * h; });
  sum(sums.dy, [](float d, float /*h*/, float /*w*/) { return d; });
}

}  // namespace

PreparedReduction::PreparedReduction(ReduceSpace space, ReduceCuts cuts)
    : space_(std::move(space)),
      cuts_(std::move(cuts)),
      order_(std::make_shared<internal::ReduceOrder>(space_, cuts_)) {
  DOJO_CHECK(cuts_.block.empty() || cuts_.block.size() == space_.reduce.size());
}

void PreparedReduction::run(ThreadPool& pool, Reduction reduction, const Storage& input, float* out,
                            const float* center, Isa isa) const {
  DOJO_CHECK((reduction == Reduction::SumOfSquaredDeviations) == (center != nullptr));
  if (isa != Isa::Plain) {
    const auto vectors = isa == Isa::Avx512 ? avx512::reduce : avx2::reduce;
    return vectors(pool, reduction, input, *order_, out, center);
  }
  reduce_plain(pool, reduction, input, space_, cuts_, order_->outputs, out, center);
}

void PreparedReduction::run_rows(Reduction reduction, const Storage& input, std::int64_t count,
                                 float* out, const float* center, Isa isa) const {
  DOJO_CHECK((reduction == Reduction::SumOfSquaredDeviations) == (center != nullptr));
  DOJO_CHECK(space_.parallel.size() == 1 && count <= space_.parallel.front().extent);
  if (isa != Isa::Plain) {
    const auto vectors = isa == Isa::Avx512 ? avx512::reduce_rows : avx2::reduce_rows;
    return vectors(reduction, input, *order_, count, out, center);
  }
  ThreadPool alone(1);
  reduce_plain(alone, reduction, input, space_, cuts_, count, out, center);
}

void PreparedReduction::run_norm_gradient(ThreadPool& pool, const Storage& dy, const Storage& x,
                                          const NormConstants& constants,
                                          const NormGradientSums& sums, Isa isa) const {
  if (isa != Isa::Plain) {
    const auto vectors = isa == Isa::Avx512 ? avx512::norm_gradient : avx2::norm_gradient;
    return vectors(pool, dy, x, *order_, constants, sums);
  }
  norm_gradient_plain(pool, dy, x, space_, cuts_, order_->outputs, constants, sums);
}

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center, Isa isa) {
  PreparedReduction(space, cuts).run(pool, reduction, input, out, center, isa);
}

}  // namespace dojo::numerics
