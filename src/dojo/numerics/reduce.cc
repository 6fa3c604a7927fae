#include "dojo/numerics/reduce.h"

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
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

// fold(acc, index, base, offset): the acc of output `index`, whose first point lies at `base`, with
// the point folded in that lies `offset` behind that.
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
        std::int64_t offset = 0;
        for (std::size_t i = 0; i < point.size(); ++i) {
          offset += point[i] * space.reduce[i].stride;
        }
        return fold(acc, index, base, offset);
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
  const auto fold = [&](float acc, std::int64_t index, std::int64_t base, std::int64_t offset) {
    return fold_point(reduction, acc, read(base + offset),
                      center != nullptr ? center[index] : 0.0F);
  };
  fold_outputs(pool, space, cuts, count, start, fold, is_max ? larger : sum_of, out);
  if (reduction == Reduction::Mean) {
    for (std::int64_t index = 0; index < count; ++index) {
      out[index] /= static_cast<float>(points(space.reduce));
    }
  }
}

// `unit`: the stride from point to point, where there are constants of points.
void norm_gradient_plain(ThreadPool& pool, const Storage& dy, const Storage& x,
                         const ReduceSpace& space, const ReduceCuts& cuts, std::int64_t count,
                         const NormConstants& constants, std::int64_t unit,
                         const NormGradientSums& sums) {
  const ElementReader read_dy(dy);
  const ElementReader read_x(x);
  const auto value = [unit](const NormConstant& of, std::int64_t index, std::int64_t offset) {
    return of.data[of.is_of_points ? offset / unit : index];
  };
  const auto sum = [&](float* out, const auto& term) {
    const auto fold = [&](float acc, std::int64_t index, std::int64_t base, std::int64_t offset) {
      const float difference = read_x(base + offset) - value(constants.mean, index, offset);
      const float h = difference * value(constants.rstd, index, offset);
      return acc + term(read_dy(base + offset), h, value(constants.weight, index, offset));
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
  DOJO_CHECK(constants.mean.is_of_points == constants.rstd.is_of_points);
  const std::optional<std::int64_t> unit = internal::adjoining_stride(space_.reduce);
  DOJO_CHECK(unit.has_value() || !(constants.mean.is_of_points || constants.weight.is_of_points));
  if (isa != Isa::Plain) {
    const auto vectors = isa == Isa::Avx512 ? avx512::norm_gradient : avx2::norm_gradient;
    return vectors(pool, dy, x, *order_, constants, unit.value_or(1), sums);
  }
  norm_gradient_plain(pool, dy, x, space_, cuts_, order_->outputs, constants, unit.value_or(1),
                      sums);
}

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center, Isa isa) {
  PreparedReduction(space, cuts).run(pool, reduction, input, out, center, isa);
}

}  // namespace dojo::numerics
