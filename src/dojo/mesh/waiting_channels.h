// Who waits for whom in a network that does not move: what a Trap says.
#pragma once

#include <string>
#include <string_view>

#include "dojo/mesh/mesh.h"

namespace dojo::mesh {

// The reason, then one line per waiting input VC, the longest in the network first, eight at most:
// where it is, and the output (or the VC and its full buffer) that it waits for.
std::string describe_waiting(const Mesh& mesh, std::string_view reason);

}  // namespace dojo::mesh
