// The order of a reduction as lists that kernels walk: runs along the innermost reduce loop, and,
// where outputs do not adjoin in memory, blocks of runs that are packed together. The lists depend
// on shapes alone, so they are made once (PreparedReduction).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dojo/numerics/internal/reduce_plan.h"
#include "dojo/numerics/reduce.h"

namespace dojo::numerics::internal {

// PERF: a packed block of 64 lanes is 32 KiB, two thirds of a 48 KiB L1.
inline constexpr std::int64_t kReduceBlockPoints = 128;

// Points along the innermost reduce loop, and what their end closes.
struct ReduceRun {
  std::int64_t offset = 0;  // in elements, of its first point
  Segment segment;
  std::int64_t in_block = 0;  // of its first point among those of its block
};

// Adjoining points that are packed in one go.
struct ReduceStretch {
  std::int64_t begin = 0;  // offset in elements
  std::int64_t points = 0;
};

// Runs that are folded from one packed block, which holds the points of some stretches.
struct ReduceBlock {
  std::size_t first_stretch = 0;
  std::size_t end_stretch = 0;
  std::size_t first_run = 0;
  std::size_t end_run = 0;
};

std::int64_t offset_of(std::span<const StridedLoop> loops, std::int64_t index);

// The stride from each point to the next, if loops adjoin; 1 if there is but one point.
std::optional<std::int64_t> adjoining_stride(const std::vector<StridedLoop>& loops);

struct ReduceOrder {
  ReduceOrder(const ReduceSpace& space, const ReduceCuts& cuts);

  std::vector<StridedLoop> parallel;  // without the innermost, which is:
  StridedLoop lanes;
  std::int64_t outputs = 1;
  std::int64_t points = 1;        // of each output
  std::int64_t point_stride = 0;  // of the innermost reduce loop
  int levels = 0;                 // of totals, where loops are cut
  std::vector<ReduceRun> runs;
  std::vector<ReduceBlock> blocks;  // none where lanes adjoin
  std::vector<ReduceStretch> stretches;
};

}  // namespace dojo::numerics::internal
