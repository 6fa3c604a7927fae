// Scratch memory of kernels: aligned arrays of float, and a pool of them for one call, so that a
// thread takes one per task without asking the allocator each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace dojo::numerics::internal {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t count)
      : data_(static_cast<float*>(
            ::operator new(static_cast<std::size_t>(count) * sizeof(float), std::align_val_t{64}))),
        count_(count) {}
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::int64_t size() const { return count_; }

 private:
  struct Free {
    void operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<float, Free> data_;
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
