// For tests on a GPU: arrays on both sides, and a loud skip where there is no device.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <thread>
#include <vector>

#include "dojo/numerics/cuda/device.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics::cuda::testing {

inline int cores() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 64u));
}

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto device = current_device(); !device.has_value()) {
      GTEST_SKIP() << "NO GPU: numerics/cuda stays untested here (" << device.error().message
                   << ")";
    }
  }
};

// An array in device memory.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(std::span<const T> host)
      : size_(host.size()), bytes_(*DeviceBytes::copy_of(std::as_bytes(host))) {}
  explicit OnDevice(const std::vector<T>& host) : OnDevice(std::span<const T>(host)) {}
  explicit OnDevice(std::size_t size)
      : size_(size), bytes_(*DeviceBytes::allocate(static_cast<std::int64_t>(size * sizeof(T)))) {}

  T* data() const { return reinterpret_cast<T*>(bytes_.data()); }
  std::vector<T> on_host() const {
    std::vector<T> host(size_);
    const auto copied = bytes_.copy_to(std::as_writable_bytes(std::span(host)));
    EXPECT_TRUE(copied.has_value()) << copied.error().message;
    return host;
  }

 private:
  std::size_t size_;
  DeviceBytes bytes_;
};

}  // namespace dojo::numerics::cuda::testing
