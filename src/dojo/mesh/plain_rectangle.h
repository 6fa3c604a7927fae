// For tests: the plain twin of a rectangle, x first, then y.
#pragma once

#include <array>

#include "dojo/mesh/internal/plain_mesh.h"

namespace dojo::mesh {

inline internal::PlainMesh plain_rectangle(int rows, int columns, const RouterConfig& config,
                                           const Traffic& traffic) {
  const auto route = [columns](int router, int /*input*/, int destination) {
    const int dx = destination % columns - router % columns;
    const int dy = destination / columns - router / columns;
    return dx > 0 ? kEast : dx < 0 ? kWest : dy > 0 ? kSouth : dy < 0 ? kNorth : kLocal;
  };
  const auto neighbour = [columns](int router, int output) {
    return router + std::array{1, -1, columns, -columns}[output];
  };
  return {rows * columns, config, traffic, route, neighbour};
}

}  // namespace dojo::mesh
