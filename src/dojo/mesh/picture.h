// Pictures of results, as SVG text.
#pragma once

#include <span>
#include <string>

#include "dojo/mesh/mesh.h"

namespace dojo::mesh {

// Every link as a line whose colour and width tell its load (share of the cycles in which it moved
// a flit, up to now), with a scale.
std::string heat_map(const Mesh& mesh);

struct LoadPoint {
  double rate = 0;     // offered, flits per node and cycle
  double latency = 0;  // mean, in cycles
  bool saturated = false;
};

// Latency over load; saturated points are marks at the upper rim.
std::string load_curve(std::span<const LoadPoint> points);

}  // namespace dojo::mesh
