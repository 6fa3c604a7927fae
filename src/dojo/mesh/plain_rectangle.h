// For tests: the plain twin of a rectangle, x first, then y.
#pragma once

#include "dojo/mesh/internal/plain_mesh.h"

namespace dojo::mesh {

class PlainRectangle {
 public:
  PlainRectangle(int rows, int columns, const RouterConfig& config, const Traffic& traffic)
      : topology_(*Topology::rectangle({.rows = rows, .columns = columns})),
        routing_(*RoutingTable::make(topology_, RoutingKind::XFirst, config.vcs)),
        mesh_(topology_, routing_, config, traffic) {}

  internal::PlainMesh* operator->() { return &mesh_; }

 private:
  Topology topology_;
  RoutingTable routing_;
  internal::PlainMesh mesh_;
};

}  // namespace dojo::mesh
