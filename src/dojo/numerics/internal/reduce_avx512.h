// The AVX-512 path of reduce.h. Callers have made sure that the CPU has it.
#pragma once

#include "dojo/numerics/reduce.h"

namespace dojo::numerics::avx512 {

void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center);

}  // namespace dojo::numerics::avx512
