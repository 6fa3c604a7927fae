// Messages on a network, from the first flit to the last.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/mesh/mesh.h"
#include "dojo/mesh/messages.h"
#include "dojo/mesh/router_config.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

struct MessagesOutcome {
  Cycles end{};                            // in which the last flit arrived
  std::vector<Cycles> phases{};            // from each phase's start to its last arrival
  std::int64_t flits = 0;                  // that arrived
  std::vector<std::int64_t> link_flits{};  // by LinkId
  std::int64_t traversals = 0;             // flits times routers
  // If something waits that will never move (deadlock, livelock, starvation): what waits for what.
  // Then `end` is when it was seen.
  std::string trap{};
};

// Error: what check_trace refuses, a router out of range, or more than 4,194,304 messages in a
// phase.
Result<MessagesOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                     const RouterConfig& config, const MessageTrace& trace,
                                     const MeshOptions& options = {});

}  // namespace dojo::mesh
