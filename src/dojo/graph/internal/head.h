// The attributes in the head of a lowered Graph: what its arithmetic is, beside the formats.
#pragma once

#include <string>

#include "dojo/graph/graph.h"

namespace dojo::graph {

// "bias="delayed", bias_grid=1, ...": all that has a say; of a bias rule what it looks at.
std::string print_head_attributes(const Lowering& lowering);

// Sets one of them. The answer says what is wrong with it, or is empty.
std::string set_head_attribute(Lowering& lowering, const std::string& name, const Attribute& value);

}  // namespace dojo::graph
