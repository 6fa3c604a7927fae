#include "dojo/numerics/reduce.h"

#include <cmath>
#include <limits>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/reduce_kernels.h"

namespace dojo::numerics {
namespace {

std::int64_t points(std::span<const StridedLoop> loops) {
  std::int64_t count = 1;
  for (const StridedLoop& loop : loops) {
    count *= loop.extent;
  }
  return count;
}

std::int64_t offset_of(std::span<const StridedLoop> loops, std::int64_t index) {
  std::int64_t offset = 0;
  for (std::size_t i = loops.size(); i-- > 0;) {
    offset += index % loops[i].extent * loops[i].stride;
    index /= loops[i].extent;
  }
  return offset;
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
                  const ReduceSpace& space, const ReduceCuts& cuts, float* out,
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
  pool.parallel_for(points(space.parallel), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t base = offset_of(space.parallel, index);
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
  });
}

}  // namespace

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center, Isa isa) {
  DOJO_CHECK((reduction == Reduction::SumOfSquaredDeviations) == (center != nullptr));
  DOJO_CHECK(cuts.block.empty() || cuts.block.size() == space.reduce.size());
  if (isa != Isa::Plain) {
    (isa == Isa::Avx512 ? avx512::reduce : avx2::reduce)(pool, reduction, input, space, cuts, out,
                                                         center);
    return;
  }
  reduce_plain(pool, reduction, input, space, cuts, out, center);
}

}  // namespace dojo::numerics
