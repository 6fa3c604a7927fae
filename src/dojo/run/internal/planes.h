// What pooling and resizing share: planes (the last two dimensions), and sums over the taps of a
// window in the order of the nest's loops ky, kx.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "dojo/numerics/association.h"
#include "dojo/run/internal/builder.h"

namespace dojo::run::internal {

struct Plane {
  std::int64_t height = 1;
  std::int64_t width = 1;
  std::int64_t size() const { return height * width; }
};

inline Plane plane_of(const graph::Shape& shape) {
  return {shape[shape.size() - 2], shape[shape.size() - 1]};
}

// Sums f(ky, kx) over the taps in order, cut as the op says. f returns nothing for no point.
template <class F>
float sum_taps(const std::array<std::int64_t, 2>& taps, const numerics::ReduceCuts& cuts,
               const F& f) {
  if (cuts.block.empty()) {
    float sum = 0;
    for (std::int64_t ky = 0; ky < taps[0]; ++ky) {
      for (std::int64_t kx = 0; kx < taps[1]; ++kx) {
        sum = f(sum, ky, kx);
      }
    }
    return sum;
  }
  return numerics::sum_in_order(
      taps, cuts, [&](float sum, std::span<const std::int64_t> k) { return f(sum, k[0], k[1]); });
}

// body(plane index) for every plane, over the pool.
template <class F>
void each_plane(const StepContext& context, std::int64_t planes, std::int64_t plane_elements,
                const F& body) {
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      body(plane);
    }
  };
  constexpr std::int64_t kElements = 1 << 14;
  context.pool->parallel_for(planes, std::max<std::int64_t>(1, kElements / plane_elements),
                             std::ref(range));
}

// The extents of the loops ky, kx of the nest.
inline std::array<std::int64_t, 2> taps_of(const Builder& b) {
  std::array<std::int64_t, 2> taps{};
  for (std::size_t i = 0; i < 2; ++i) {
    taps[i] = b.loop_extent(i == 0 ? "ky" : "kx");
  }
  return taps;
}

inline numerics::ReduceCuts tap_cuts(const Builder& b) {
  const auto taps = taps_of(b);
  return b.cuts(b.stage(), {taps[0], taps[1]});
}

}  // namespace dojo::run::internal
