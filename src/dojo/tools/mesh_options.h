// What the commands of `dojo mesh` share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "dojo/mesh/router_config.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::tools {

// Which network: a plain rectangle or a machine's, with holes.
struct NetworkShape {
  std::string machine;
  std::string size = "8x8";
  bool torus = false;
  bool opposed = false;
  bool machine_routers_dead = false;
  std::vector<std::string> dead_cores;
  std::vector<std::string> dead_routers;
  std::vector<std::string> dead_links;
  std::string routing = "x-first";
};
void add_shape_options(CLI::App& command, NetworkShape& shape);

// Throws ApiError: a number or site that is none, an unknown machine.
mesh::TopologySpec topology_spec_of(const NetworkShape& shape);
mesh::RoutingKind routing_kind_of(const NetworkShape& shape);

void add_router_option(CLI::App& command, std::string& preset);

// The preset; if none is named, the router of the machine, and without one the preset d1. Throws
// ApiError.
mesh::RouterConfig mesh_router(const std::string& preset, const std::string& machine);

}  // namespace dojo::tools
