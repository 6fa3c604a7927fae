// The vector paths of reduce.h: one function in two namespaces. Callers have made sure that the CPU
// has the instructions.
#pragma once

#include "dojo/numerics/reduce.h"

namespace dojo::numerics {

namespace avx512 {
void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center);
}  // namespace avx512

namespace avx2 {
void reduce(ThreadPool& pool, Reduction reduction, const Storage& input, const ReduceSpace& space,
            const ReduceCuts& cuts, float* out, const float* center);
}  // namespace avx2

}  // namespace dojo::numerics
