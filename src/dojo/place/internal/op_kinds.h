// Kinds of ops: ops that are alike are of one kind, whatever they are connected to. Deep networks
// repeat their layers, so a search over splits grows with the layers that differ.
#pragma once

#include <vector>

#include "dojo/graph/graph.h"

namespace dojo::place::internal {

// By op: its kind. Same op, loops, maps and formats, and the same of its operands in registers;
// numbered as they first appear.
std::vector<int> kinds_of(const graph::Graph& graph);

}  // namespace dojo::place::internal
