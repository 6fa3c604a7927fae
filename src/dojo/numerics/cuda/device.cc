#include <cuda_runtime_api.h>

#include <utility>

#include "dojo/numerics/cuda/device.h"
#include "dojo/numerics/cuda/internal/status.cuh"

namespace dojo::numerics::cuda {

Result<DeviceInfo> current_device() {
  int device = 0;
  DOJO_TRY_VOID(internal::ok(cudaGetDevice(&device), "no CUDA device"));
  cudaDeviceProp properties{};
  DOJO_TRY_VOID(internal::ok(cudaGetDeviceProperties(&properties, device),
                             "reading the device's properties"));
  return DeviceInfo{.name = properties.name,
                    .compute_capability = properties.major * 10 + properties.minor,
                    .multiprocessors = properties.multiProcessorCount};
}

Result<DeviceBytes> DeviceBytes::allocate(std::int64_t size) {
  DeviceBytes bytes;
  DOJO_TRY_VOID(internal::ok(
      cudaMalloc(reinterpret_cast<void**>(&bytes.data_), static_cast<std::size_t>(size)),
      "allocating device memory"));
  bytes.size_ = size;
  return bytes;
}

Result<DeviceBytes> DeviceBytes::copy_of(std::span<const std::byte> host) {
  DOJO_TRY(DeviceBytes bytes, allocate(static_cast<std::int64_t>(host.size())));
  DOJO_TRY_VOID(
      internal::ok(cudaMemcpy(bytes.data_, host.data(), host.size(), cudaMemcpyHostToDevice),
                   "copying to the device"));
  return bytes;
}

DeviceBytes::~DeviceBytes() {
  if (data_ != nullptr) {
    cudaFree(data_);
  }
}

DeviceBytes::DeviceBytes(DeviceBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

DeviceBytes& DeviceBytes::operator=(DeviceBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Result<void> DeviceBytes::copy_to(std::span<std::byte> host) const {
  DOJO_CHECK(static_cast<std::int64_t>(host.size()) <= size_);
  return internal::ok(cudaMemcpy(host.data(), data_, host.size(), cudaMemcpyDeviceToHost),
                      "copying from the device");
}

Result<void> wait(cudaStream_t stream) {
  return internal::ok(cudaStreamSynchronize(stream), "waiting for the device");
}

}  // namespace dojo::numerics::cuda
