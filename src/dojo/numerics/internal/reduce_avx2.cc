#include <algorithm>
#include <limits>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/buffer.h"
#include "dojo/numerics/internal/lanes_avx2.h"
#include "dojo/numerics/internal/pack_avx2.h"
#include "dojo/numerics/internal/reduce_kernels.h"
#include "dojo/numerics/internal/reduce_plan.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::numerics::avx2 {

#include "dojo/numerics/internal/reduce_algorithms.h"

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center) {
  reduce_lanes(pool, reduction, input, space, cuts, out, center);
}

}  // namespace dojo::numerics::avx2

#pragma GCC pop_options
