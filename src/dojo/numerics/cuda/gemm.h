// C = A B on a GPU, as gemm.h defines it: each output folds acc = fma(a, b, acc) over ascending k
// from +0, parts are chained as `cuts` says, then bias and activation. The same bits as on the CPU.
#pragma once

#include "dojo/numerics/cuda/device.h"
#include "dojo/numerics/gemm.h"

namespace dojo::numerics::cuda {

// As gemm.h, but all pointers are device pointers (those in the epilogue too). Storage: f32, bf16,
// u8, shp or CFloat8. Scratch: 4 bytes per element of A and B, from the stream's memory pool.
// Errors: another format; an order that is not sequential; runs of parts; no memory; what the
// runtime says.
Result<void> gemm(const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
                  const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out,
                  cudaStream_t stream);

}  // namespace dojo::numerics::cuda
