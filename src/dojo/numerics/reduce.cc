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

void reduce_plain(ThreadPool& pool, Reduction reduction, const Storage& input,
                  const ReduceSpace& space, const ReduceCuts& cuts, std::int64_t count, float* out,
                  const float* center) {
  const ElementReader read(input);
  std::vector<std::int64_t> extent;
  for (const StridedLoop& loop : space.reduce) {
    extent.push_back(loop.extent);
  }
  const bool is_max = reduction == Reduction::Max;
  const float start = is_max ? -std::numeric_limits<float>::infinity() : 0.0F;
  const auto combine = [is_max](float total, float part) {
    return is_max ? larger(total, part) : total + part;
  };
  const auto some = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t base = internal::offset_of(space.parallel, index);
      const float middle = center != nullptr ? center[index] : 0.0F;
      const auto add_point = [&](float acc, std::span<const std::int64_t> point) {
        std::int64_t at = base;
        for (std::size_t i = 0; i < point.size(); ++i) {
          at += point[i] * space.reduce[i].stride;
        }
        return fold_point(reduction, acc, read(at), middle);
      };
      float value = fold_in_order(extent, cuts, start, add_point, combine);
      if (reduction == Reduction::Mean) {
        value /= static_cast<float>(points(space.reduce));
      }
      out[index] = value;
    }
  };
  pool.parallel_for(count, 64, std::ref(some));
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

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center, Isa isa) {
  PreparedReduction(space, cuts).run(pool, reduction, input, out, center, isa);
}

}  // namespace dojo::numerics
