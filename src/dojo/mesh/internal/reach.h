// Which routers of a topology reach each other.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "dojo/mesh/topology.h"

namespace dojo::mesh::internal {

struct Parts {
  std::vector<RouterId> inside;   // the largest set of live routers that all reach each other
  std::vector<RouterId> outside;  // live routers that are not in it
};

Parts parts_of_plane(const Topology& topology, int plane);

// The message for holes that cut these nodes off from `inside` routers.
std::string describe_cut(const Topology& topology, const std::vector<RouterId>& cut_off,
                         std::size_t inside);

}  // namespace dojo::mesh::internal
