// A vector whose elements lie in pages of 2 MB once it is large: a mesh of thousands of routers
// touches most of its state in every cycle, more than the processor finds 4 KB pages for quickly.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

namespace dojo::mesh::internal {

template <class T>
struct BigPages {
  using value_type = T;

  BigPages() = default;
  template <class U>
  BigPages(const BigPages<U>& /*other*/) {}  // NOLINT: allocators convert

  T* allocate(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes < kPage / 2) {
      return static_cast<T*>(::operator new(bytes, kSmall));
    }
    const std::size_t whole = (bytes + kPage - 1) / kPage * kPage;
    void* const first = ::operator new(whole, kLarge);
    madvise(first, whole, MADV_HUGEPAGE);  // a wish: without it the same, slower
    return static_cast<T*>(first);
  }
  void deallocate(T* first, std::size_t count) {
    ::operator delete(first, count * sizeof(T) < kPage / 2 ? kSmall : kLarge);
  }
  friend bool operator==(const BigPages& /*a*/, const BigPages& /*b*/) { return true; }

 private:
  static constexpr std::size_t kPage = std::size_t{1} << 21;
  static constexpr std::align_val_t kSmall{64};
  static constexpr std::align_val_t kLarge{kPage};
};

template <class T>
using BigVector = std::vector<T, BigPages<T>>;

}  // namespace dojo::mesh::internal
