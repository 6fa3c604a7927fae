// A MessageTrace on the plain network.
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/mesh/internal/plain_network.h"
#include "dojo/mesh/messages.h"

namespace dojo::mesh::internal {

struct PlainOutcome {
  std::int64_t end = 0;              // cycle in which the last flit arrived
  std::int64_t flits = 0;            // that arrived
  std::vector<std::int64_t> phases;  // cycles from each phase's start to its last arrival
  bool is_stuck = false;             // nothing moved for long, though something waits
  std::vector<std::int64_t> link_flits;
  std::vector<std::int64_t> arrivals;  // of each message's last flit
};

// check_trace must have accepted the trace. Stops when all has arrived, or nothing moves.
PlainOutcome run_plain(const Topology& topology, const RoutingTable& routing,
                       const RouterConfig& config, const MessageTrace& trace);

}  // namespace dojo::mesh::internal
