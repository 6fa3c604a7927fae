// Scratch memory of kernels: aligned arrays of float, and a pool of them for one call, so that a
// thread takes one per task without asking the allocator each time.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace dojo::numerics::internal {

class Buffer {
 public:
  Buffer() = default;
  // PERF: malloc keeps large blocks that are freed, aligned operator new returns them (glibc 2.36),
  // and then 4 MiB of scratch cost a thousand page faults a call, 10 % of a product of 1024^3.
  explicit Buffer(std::int64_t count) : count_(count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float) + kAlignment;
    memory_.reset(std::malloc(bytes));
    if (memory_ == nullptr) {
      throw std::bad_alloc();
    }
    void* at = memory_.get();
    std::size_t space = bytes;
    data_ = static_cast<float*>(std::align(kAlignment, bytes - kAlignment, at, space));
    use_huge_pages(bytes);
  }
  float* data() { return data_; }
  const float* data() const { return data_; }
  std::int64_t size() const { return count_; }

 private:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::uintptr_t kPage = 4096;

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  // A hint: fewer page faults and TLB misses where the kernel takes it.
  void use_huge_pages(std::size_t bytes) {
    constexpr std::size_t kWorthIt = std::size_t{4} << 20;
    if (bytes >= kWorthIt) {
      void* first = memory_.get();
      if (std::align(kPage, kPage, first, bytes) != nullptr) {
        madvise(first, bytes / kPage * kPage, MADV_HUGEPAGE);
      }
    }
  }

  std::unique_ptr<void, Free> memory_;
  float* data_ = nullptr;
  std::int64_t count_ = 0;
};

class BufferPool {
 public:
  explicit BufferPool(std::int64_t count) : count_(count) {}

  // A buffer for the life of the lease; contents are unspecified.
  class Lease {
   public:
    explicit Lease(BufferPool& pool) : pool_(pool), buffer_(pool.take()) {}
    ~Lease() { pool_.put(std::move(buffer_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    float* data() { return buffer_.data(); }

   private:
    BufferPool& pool_;
    Buffer buffer_;
  };

 private:
  Buffer take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        Buffer buffer = std::move(free_.back());
        free_.pop_back();
        return buffer;
      }
    }
    return Buffer(count_);
  }
  void put(Buffer buffer) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
  }

  std::int64_t count_;
  std::mutex mutex_;
  std::vector<Buffer> free_;
};

}  // namespace dojo::numerics::internal
