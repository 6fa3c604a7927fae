#include "dojo/place/internal/held.h"

#include <algorithm>

namespace dojo::place::internal {

using program::Axis;
using program::AxisState;
using program::kAxes;
using program::Sharing;

namespace {

// Of the dimension, where the last of the axes that cut it has what is left.
std::int64_t last_extent(const Held& held, std::size_t dim) {
  std::int64_t extent = held.value.shape[dim];
  for (const Axis axis : kAxes) {
    const AxisState& state = held.layout[axis];
    if (state.sharing == Sharing::Sliced && state.dimension == static_cast<int>(dim)) {
      extent -= (state.parts - 1) * state.block;
    }
  }
  return std::max<std::int64_t>(1, extent);
}

}  // namespace

Bytes most_with(const Held& held, int dimension, std::int64_t indices) {
  const auto dim = static_cast<std::size_t>(dimension);
  const graph::Shape local = program::slice_shape(held.layout, held.value.shape);
  const std::int64_t share = program::slice_elements(held.layout, held.value.shape);
  const bool is_flat = held.layout.has(Sharing::Flat);
  std::int64_t inner = 1;  // elements of one index, one after the other
  for (std::size_t i = dim + 1; i < local.size(); ++i) {
    inner *= local[i];
  }
  std::int64_t elements = 0;
  for (const std::int64_t extent : {local[dim], is_flat ? last_extent(held, dim) : local[dim]}) {
    const std::int64_t wanted = std::min(extent, indices) * inner;
    const std::int64_t period = extent * inner;
    // A flat share begins and ends anywhere.
    const std::int64_t periods = share / period + (is_flat ? 2 : 0);
    elements = std::max(elements, std::min(share, periods * wanted));
  }
  // A permuted one is not in this order at all.
  elements = held.is_scrambled && is_flat && indices > 0 ? share : elements;
  return Bytes(elements * bytes_of(held.value.format));
}

Bytes held_along(const Held& held, Axis axis, std::int64_t indices) {
  const AxisState& state = held.layout[axis];
  Bytes sum{};
  for (; indices > 0; indices -= state.block) {
    sum += most_with(held, state.dimension, std::min(indices, state.block));
  }
  return sum;
}

}  // namespace dojo::place::internal
