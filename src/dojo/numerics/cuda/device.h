// The GPU as this library sees it: memory, a stream of work, and errors as Result. Pointers that
// are called device pointers below lie in the memory of the current device (cudaMalloc, a tensor
// of a framework); all work goes to the stream that is handed in, and is done when the stream is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "dojo/base/result.h"

// The CUDA runtime's stream type; 0 is the default stream.
using cudaStream_t = struct CUstream_st*;

namespace dojo::numerics::cuda {

struct DeviceInfo {
  std::string name;
  int compute_capability = 0;  // 90 for sm_90
  int multiprocessors = 0;
};

// The current device. Errors: no driver, no device.
Result<DeviceInfo> current_device();

// Bytes in the memory of the current device.
class DeviceBytes {
 public:
  static Result<DeviceBytes> allocate(std::int64_t size);
  static Result<DeviceBytes> copy_of(std::span<const std::byte> host);
  DeviceBytes() = default;
  ~DeviceBytes();
  DeviceBytes(DeviceBytes&& other) noexcept;
  DeviceBytes& operator=(DeviceBytes&& other) noexcept;

  std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }
  // Waits for all work of the device.
  Result<void> copy_to(std::span<std::byte> host) const;

 private:
  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
};

// Waits for the stream. Errors: what went wrong in it.
Result<void> wait(cudaStream_t stream);

}  // namespace dojo::numerics::cuda
