// CUDA's status codes as Result, and scratch memory that lives as long as the work of a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <utility>

#include "dojo/base/result.h"

namespace dojo::numerics::cuda::internal {

inline Result<void> ok(cudaError_t status, const char* what) {
  if (status == cudaSuccess) {
    return {};
  }
  const bool is_absent = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver;
  return Error{is_absent ? ErrorKind::NotFound : ErrorKind::Io,
               std::string("CUDA: ") + what + ": " + cudaGetErrorString(status)};
}

// Whether the kernel that was just launched could be.
inline Result<void> launched(const char* kernel) { return ok(cudaGetLastError(), kernel); }

// Freed in the order of the stream, so the work queued before may still use it.
class Scratch {
 public:
  static Result<Scratch> allocate(std::int64_t bytes, cudaStream_t stream) {
    Scratch scratch;
    scratch.stream_ = stream;
    DOJO_TRY_VOID(
        ok(cudaMallocAsync(&scratch.data_, static_cast<std::size_t>(bytes), stream), "scratch"));
    return Result<Scratch>(std::move(scratch));  // nvcc does not move into Result by itself
  }
  Scratch() = default;
  ~Scratch() {
    if (data_ != nullptr) {
      cudaFreeAsync(data_, stream_);
    }
  }
  Scratch(Scratch&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), stream_(other.stream_) {}
  Scratch& operator=(Scratch&&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

}  // namespace dojo::numerics::cuda::internal
