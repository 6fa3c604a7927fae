// The AVX-512 path of gemm.h. Callers have made sure that the CPU has it.
#pragma once

#include "dojo/numerics/gemm.h"

namespace dojo::numerics::avx512 {

void gemm(ThreadPool& pool, const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
          const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out);

}  // namespace dojo::numerics::avx512
