// Counts what is allocated between two points, for tests that something allocates nothing. Replaces
// operator new of the whole program: include it in one file of a test binary.
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

namespace dojo::counted {

inline std::atomic<bool> is_counting = false;
inline std::atomic<int> allocations = 0;

inline void begin() {
  allocations = 0;
  is_counting = true;
}
inline int end() {
  is_counting = false;
  return allocations;
}

[[maybe_unused]] inline void* allocate(std::size_t size, std::size_t alignment) {
  allocations += is_counting ? 1 : 0;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

}  // namespace dojo::counted

#ifndef __SANITIZE_ADDRESS__  // which has operators of its own
void* operator new(std::size_t size) { return dojo::counted::allocate(size, 16); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return dojo::counted::allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
#endif
