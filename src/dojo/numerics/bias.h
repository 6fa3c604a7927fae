// The exponent bias of a tensor, from the largest magnitude it holds. One bias per tensor and role.
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/base/format.h"

namespace dojo::numerics {

// The largest bias, 0 .. 63, at which amax is still in range, less `margin` binades of headroom:
// clamp(Emax - ceil(log2(amax / (2 - 2^-M))) - margin, 0, 63), computed exactly. 63 for amax = 0
// and for an amax that is not finite (no information).
int bias_from_amax(Format format, float amax, int margin);

// Delayed bias: the largest of the last `length` amax. Plain data: saved and restored as it is.
struct BiasWindow {
  int length = 16;
  std::vector<float> history{};  // at most `length` values, a ring
  std::int64_t position = 0;     // of the next value to write

  // Notes the amax of a step; one that is not finite is left out.
  void push(float amax);
  // The bias of the coming encode. Before any history it follows `current_amax`.
  int bias(Format format, float current_amax, int margin = 1) const;
  friend bool operator==(const BiasWindow&, const BiasWindow&) = default;
};

}  // namespace dojo::numerics
