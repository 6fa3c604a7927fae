// Runs a SlidePlan: decodes weights once into panels, then box by box the source into a stage, and
// folds tile by tile. The B operand of a product is read in place from the stage, or from a panel
// of 32 columns that is copied from it; no unrolled image exists in memory.
#pragma once

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/internal/sliding_plan.h"

namespace dojo::numerics::internal {

// out: contiguous [batch, groups x rows, out volume].
void run_sliding(ThreadPool& pool, const SlidePlan& plan, const float* bias, Activation activation,
                 float* out);

}  // namespace dojo::numerics::internal
