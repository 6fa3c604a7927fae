// Blocks of modules: what networks repeat.
#pragma once

#include <string>

namespace dojo::place::internal {

// The module path up to the end of its second number, "layer1.0" or "stages.1.layers.0", where a
// module is inside; else up to its first, "encoder.layer.3"; empty without one.
std::string block_of(const std::string& module);

}  // namespace dojo::place::internal
