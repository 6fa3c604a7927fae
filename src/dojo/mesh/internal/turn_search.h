// Turn rules as tables, and the shortest paths that they allow.
#pragma once

#include <array>
#include <vector>

#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh::internal {

// Outputs that have a link and that the rule allows to a packet which came in by a port.
using TurnRule = std::vector<std::array<PortSet, kPortCount>>;  // [router][input]

// Never back, and as `kind` says; links to and from edge ports join in any direction, for nothing
// waits behind them.
TurnRule turn_rule(const Topology& topology, RoutingKind kind);

enum class Ties : std::uint8_t {
  All,                 // every output that begins a shortest path
  StraightThenLowest,  // one output: straight on, else the lowest port
};

// For each target of `targets`, by searching backwards from it over (router, input).
ClassTable shortest_paths(const Topology& topology, const TurnRule& rule, Ties ties,
                          const std::vector<RouterId>& targets);

}  // namespace dojo::mesh::internal
