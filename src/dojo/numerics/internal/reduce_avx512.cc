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

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input,
            const internal::ReduceOrder& order, float* out, const float* center) {
  reduce_all(pool, reduction, input, order, out, center);
}

void reduce_rows(Reduction reduction, const Storage& input, const internal::ReduceOrder& order,
                 std::int64_t count, float* out, const float* center) {
  reduce_some(reduction, input, order, count, out, center);
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
