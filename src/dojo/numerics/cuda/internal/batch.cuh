// Where the matrices of one product of a batch lie; the batch index is blockIdx.z.
#pragma once

#include <cstdint>

#include "dojo/numerics/gemm.h"

namespace dojo::numerics::cuda::internal {

struct Batch {
  std::int64_t extent[3];

  explicit Batch(const BatchExtents& batch) : extent{batch[0], batch[1], batch[2]} {}
  std::int64_t count() const { return extent[0] * extent[1] * extent[2]; }
};

struct BatchStride {
  std::int64_t stride[3];

  explicit BatchStride(const BatchExtents& batch) : stride{batch[0], batch[1], batch[2]} {}
  __device__ std::int64_t offset(const Batch& batch, std::int64_t index) const {
    return index % batch.extent[2] * stride[2] +
           index / batch.extent[2] % batch.extent[1] * stride[1] +
           index / batch.extent[2] / batch.extent[1] * stride[0];
  }
};

constexpr std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

inline __device__ float finished(const Epilogue& epilogue, float sum, std::int64_t row,
                                 std::int64_t column) {
  if (epilogue.row_bias != nullptr) {
    sum = __fadd_rn(sum, epilogue.row_bias[row]);
  }
  if (epilogue.column_bias != nullptr) {
    sum = __fadd_rn(sum, epilogue.column_bias[column]);
  }
  return epilogue.activation == Activation::Relu && sum <= 0 ? 0.0F : sum;
}

// Copies 16 bytes to shared memory without waiting.
inline __device__ void copy_async(void* shared, const void* global) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global));
}
inline __device__ void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending));
}

}  // namespace dojo::numerics::cuda::internal
