// Reductions over any loops of a tensor, in one stated order (association.h): each output folds its
// points in the order of the reduce loops. Sums start at +0, maxima at -Inf.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/association.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics {

namespace internal {
struct ReduceOrder;
}

enum class Reduction : std::uint8_t {
  Sum,                     // acc + x
  Mean,                    // the Sum divided by float(number of points): one more rounding
  Max,                     // x where x > acc or x is the first NaN, else acc
  SumOfSquares,            // fma(x, x, acc)
  SumOfSquaredDeviations,  // d = x - center of this output (rounded), fma(d, d, acc)
};

struct StridedLoop {
  std::int64_t extent = 1;
  std::int64_t stride = 0;  // in elements
};

// Outputs are the points of `parallel`, each over the points of `reduce`; both outermost first.
struct ReduceSpace {
  std::vector<StridedLoop> parallel{};
  std::vector<StridedLoop> reduce{};
};

// A constant of a norm's gradient: one per output, or one per point, in the order of the reduce
// loops, which then have to adjoin (each stride that of the next loop times its extent).
struct NormConstant {
  const float* data = nullptr;
  bool is_of_points = false;
};
// What the gradient of a norm sums. With h = (x - mean) rstd and g = dy weight, each operation
// rounded: the Sums of g, of g h, of dy h and of dy. Batch norm: all constants are of the outputs;
// layer norm: weight is of the points of a row, mean and rstd are of those of a column.
struct NormConstants {
  NormConstant mean;
  NormConstant rstd;  // as mean
  NormConstant weight;
};
// Arrays like the outputs of a reduction.
struct NormGradientSums {
  float* g = nullptr;
  float* g_h = nullptr;
  float* dy_h = nullptr;
  float* dy = nullptr;
};

// The order of a reduction, worked out once for tensors of one arrangement. Where loops are cut
// into small parts, that takes as long as a sum.
class PreparedReduction {
 public:
  PreparedReduction(ReduceSpace space, ReduceCuts cuts);

  const ReduceSpace& space() const { return space_; }

  // As reduce() below.
  void run(ThreadPool& pool, Reduction reduction, const Storage& input, float* out,
           const float* center = nullptr, Isa isa = best_isa()) const;
  // Only the first `count` outputs, of one parallel loop; on the calling thread.
  void run_rows(Reduction reduction, const Storage& input, std::int64_t count, float* out,
                const float* center = nullptr, Isa isa = best_isa()) const;
  // Four sums in one walk over two tensors that both lie as the space says.
  void run_norm_gradient(ThreadPool& pool, const Storage& dy, const Storage& x,
                         const NormConstants& constants, const NormGradientSums& sums,
                         Isa isa = best_isa()) const;

 private:
  ReduceSpace space_;
  ReduceCuts cuts_;
  std::shared_ptr<const internal::ReduceOrder> order_;
};

// out: contiguous, in the order of the parallel loops. `center`: like out, for
// SumOfSquaredDeviations only.
void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center = nullptr,
            Isa isa = best_isa());

}  // namespace dojo::numerics
