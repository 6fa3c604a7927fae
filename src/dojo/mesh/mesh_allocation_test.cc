// No cycle allocates, whatever the load.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "dojo/mesh/mesh.h"

namespace {

std::atomic<bool> is_counting = false;
std::atomic<int> allocations = 0;

[[maybe_unused]] void* allocate(std::size_t size, std::size_t alignment) {
  allocations += is_counting ? 1 : 0;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

}  // namespace

#ifndef __SANITIZE_ADDRESS__  // which has operators of its own
void* operator new(std::size_t size) { return allocate(size, 16); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
#endif

namespace dojo::mesh {
namespace {

TEST(Mesh, NoCycleAllocates) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer has its own operator new";
#endif
  for (const double rate : {0.05, 0.9}) {
    const Traffic traffic =
        *Traffic::synthetic({.rows = 9, .columns = 9, .rate = rate, .packet_flits = 2});
    Mesh mesh = *Mesh::make({9, 9, *router_preset("booksim-v4")}, traffic);
    allocations = 0;
    is_counting = true;
    mesh.run_until(2000);
    is_counting = false;
    EXPECT_EQ(allocations, 0);
  }
}

}  // namespace
}  // namespace dojo::mesh
