// NodeGrid: the nodes of a region as rows and columns, and on which router of a topology each one
// stands. Patterns are about this grid; where dead sites push nodes aside, its neighbours may be a
// few hops apart.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/machine/machine_model.h"
#include "dojo/machine/region.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

class NodeGrid {
 public:
  // Every site of plane 0. Error if one of them has no node.
  static Result<NodeGrid> of_sites(const Topology& topology);
  // The region of a machine on topology_of(machine): logical nodes on the sites that the machine's
  // logical map gives them. Error if the region is not on the machine or a node is not alive.
  static Result<NodeGrid> of_region(const machine::Region& region,
                                    const machine::MachineModel& machine, const Topology& topology);

  int rows() const { return region_.rows(); }
  int columns() const { return region_.columns(); }
  std::int64_t nodes() const { return region_.nodes(); }
  // Nodes that each die gives, and the rectangle of dies.
  Shape per_die() const { return region_.nodes_of_die; }
  Shape dies() const { return region_.dies; }

  // Row and column may lie outside of the region, as far as its dies' neighbours go on like it;
  // none beyond the machine.
  std::optional<RouterId> at(int row, int column) const;

 private:
  NodeGrid() = default;
  Result<void> check_alive(const Topology& topology) const;

  machine::Region region_{};
  Shape machine_dies_{};
  Shape logical_{};            // of one die
  std::vector<Site> sites_{};  // of logical node (r, c) on its die
  Shape die_{};                // sites of one die
  int router_columns_ = 0;
};

}  // namespace dojo::mesh
