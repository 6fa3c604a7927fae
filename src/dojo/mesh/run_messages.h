// Messages on a network, from the first flit to the last.
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
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
  bool is_stuck = false;                   // nothing moved any more though something waited
};

// Error: what check_trace refuses, or a router out of range.
Result<MessagesOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                     const RouterConfig& config, const MessageTrace& trace);

}  // namespace dojo::mesh
