// The vector paths of reduce.h: the same functions in two namespaces;
// reduce_rows makes the first `count` outputs along the innermost parallel loop, on the calling
// thread. Callers have made sure that the CPU
// has the instructions.
#pragma once

#include "dojo/numerics/reduce.h"

namespace dojo::numerics {

namespace avx512 {
void reduce(ThreadPool& pool, Reduction reduction, const Storage& input,
            const internal::ReduceOrder& order, float* out, const float* center);
void reduce_rows(Reduction reduction, const Storage& input, const internal::ReduceOrder& order,
                 std::int64_t count, float* out, const float* center);
void norm_gradient(ThreadPool& pool, const Storage& dy, const Storage& x,
                   const internal::ReduceOrder& order, const NormConstants& constants,
                   std::int64_t unit, const NormGradientSums& sums);
}  // namespace avx512

namespace avx2 {
void reduce(ThreadPool& pool, Reduction reduction, const Storage& input,
            const internal::ReduceOrder& order, float* out, const float* center);
void reduce_rows(Reduction reduction, const Storage& input, const internal::ReduceOrder& order,
                 std::int64_t count, float* out, const float* center);
void norm_gradient(ThreadPool& pool, const Storage& dy, const Storage& x,
                   const internal::ReduceOrder& order, const NormConstants& constants,
                   std::int64_t unit, const NormGradientSums& sums);
}  // namespace avx2

}  // namespace dojo::numerics
