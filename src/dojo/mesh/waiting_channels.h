// Who waits for whom in a network that does not move: what a Trap says.
#pragma once

#include <string>

#include "dojo/mesh/mesh.h"

namespace dojo::mesh {

// One line per waiting input VC, the first eight of them: where it is, and the output (or the VC
// and its full buffer) that it waits for. Says so if no flit waits.
std::string describe_waiting(const Topology& topology, const Mesh& mesh);

}  // namespace dojo::mesh
