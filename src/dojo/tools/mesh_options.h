// What the commands of `dojo mesh` share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "dojo/mesh/router_config.h"

namespace dojo::tools {

void add_router_option(CLI::App& command, std::string& preset);

// The preset; if none is named, the router of the machine, and without one the preset d1. Throws
// ApiError.
mesh::RouterConfig mesh_router(const std::string& preset, const std::string& machine);

}  // namespace dojo::tools
