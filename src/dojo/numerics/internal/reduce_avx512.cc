#include <algorithm>
#include <limits>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/lanes_avx512.h"
#include "dojo/numerics/internal/pack_avx512.h"
#include "dojo/numerics/internal/reduce_kernels.h"
#include "dojo/numerics/internal/reduce_order.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

#include "dojo/numerics/internal/reduce_algorithms.h"
// after its Reducer
#include "dojo/numerics/internal/norm_gradient_algorithms.h"

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input,
            const internal::ReduceOrder& order, float* out, const float* center) {
  run_all(pool, Reducer(reduction, input, order, out, center), order, kMaxLanes);
}

void reduce_rows(Reduction reduction, const Storage& input, const internal::ReduceOrder& order,
                 std::int64_t count, float* out, const float* center) {
  reduce_some(reduction, input, order, count, out, center);
}

void norm_gradient(ThreadPool& pool, const Storage& dy, const Storage& x,
                   const internal::ReduceOrder& order, const NormConstants& constants,
                   std::int64_t unit, const NormGradientSums& sums) {
  run_all(pool, NormGradientReducer(dy, x, order, constants, unit, sums), order,
          NormGradientReducer::kMostLanes);
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
