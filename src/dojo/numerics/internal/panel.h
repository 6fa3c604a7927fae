// What packing reads: `lanes` rows of an operand, `points` of each.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dojo::numerics {

struct Panel {
  const std::byte* data = nullptr;  // lane 0, point 0
  std::int64_t lane_stride = 0;     // in elements
  std::int64_t point_stride = 0;
  std::int64_t lanes = 0;
  std::int64_t points = 0;
};

}  // namespace dojo::numerics
