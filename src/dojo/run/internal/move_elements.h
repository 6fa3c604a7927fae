// Moving elements between strided windows and contiguous memory, whatever they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dojo/base/thread_pool.h"
#include "dojo/run/internal/view.h"

namespace dojo::run::internal {

// Elements [first, first + count) of the nested runs, `width` bytes each, contiguously to `out`;
// the runs begin at element `offset` of `base`.
void gather_bytes(std::int64_t width, const void* base, std::int64_t offset,
                  std::span<const Run> runs, std::int64_t first, std::int64_t count, void* out);

// Elements [0, count) of the nested runs, contiguously to `out`; elements of `width` bytes.
void copy_elements(ThreadPool& pool, std::int64_t width, const std::byte* base, std::int64_t offset,
                   std::span<const Run> runs, std::int64_t count, std::byte* out);

// Element i of `from` becomes element i of `to`; equal shapes, elements of `width` bytes, buffers
// that begin at from_data and to_data.
void scatter_elements(ThreadPool& pool, std::int64_t width, const std::byte* from_data,
                      const View& from, std::byte* to_data, const View& to);

}  // namespace dojo::run::internal
