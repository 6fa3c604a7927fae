// GEMM by blocks that fit the caches, in any order but `exact`: operands are decoded panel by
// panel, tiles of outputs are folded by the kernels. Blocks move no bit: every output is folded by
// one task in one order.
#pragma once

#include "dojo/numerics/gemm.h"
#include "dojo/numerics/internal/gemm_kernels.h"

namespace dojo::numerics::internal {

void gemm_blocked(const GemmKernels& kernels, ThreadPool& pool, const GemmShape& shape,
                  const MatrixOperand& a, const MatrixOperand& b, const ReduceCuts& cuts,
                  const Epilogue& epilogue, const MatrixOutput& out);

}  // namespace dojo::numerics::internal
