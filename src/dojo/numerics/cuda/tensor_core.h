// Products on FP8 tensor cores, through cuBLASLt: NOT the arithmetic of this project, but what
// today's FP8 hardware makes of the same codes, to compare with. Operands become the nearest OCP
// values of the same exponent layout (1-4-3 -> E4M3, 1-5-2 -> E5M2):
//   - codes that are NaN or Inf there become the largest finite value: 0x7F of 1-4-3 loses 1/15 of
//     its magnitude, exponent 31 of 1-5-2 falls to 1.75 * 2^(30 - bias);
//   - denormals of the paper's reading, half those of OCP, are rounded to even;
// and the order and width of the sum are the tensor core's, which NVIDIA does not publish. The
// biases are applied once, as a power of two, to the sum.
#pragma once

#include "dojo/numerics/cuda/device.h"
#include "dojo/numerics/gemm.h"

namespace dojo::numerics::cuda {

class TensorCores {
 public:
  // Errors: no device, or one below compute capability 8.9.
  static Result<TensorCores> create();
  TensorCores() = default;
  ~TensorCores();
  TensorCores(TensorCores&& other) noexcept;
  TensorCores& operator=(TensorCores&&) = delete;

  // As gemm.h, with device pointers. Storage: cf8_1_4_3 and cf8_1_5_2, one of them cf8_1_4_3.
  // Scratch: a byte per element of A and B, four per element of C, and 32 MiB.
  // Errors: other formats; no memory; what cuBLASLt says.
  Result<void> gemm_fp8(const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
                        const Epilogue& epilogue, const MatrixOutput& out,
                        cudaStream_t stream) const;

 private:
  void* handle_ = nullptr;  // cublasLtHandle_t
};

}  // namespace dojo::numerics::cuda
