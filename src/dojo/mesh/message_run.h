// Messages over a network, cycle by cycle, until all of them are there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/mesh/mesh.h"
#include "dojo/mesh/messages.h"

namespace dojo::mesh {

struct MessageOutcome {
  Cycle end = 0;                          // in which the last flit arrived
  std::uint64_t flits = 0;                // that arrived
  std::uint64_t hops = 0;                 // links crossed by them
  std::uint64_t traversals = 0;           // flits times routers
  std::vector<Cycle> phases;              // cycles from each phase's start to its last arrival
  std::vector<std::uint64_t> link_flits;  // by LinkId
  // If something waits that will never move: what waits for what. Then `end` is when it was seen.
  std::string trap;
};

// Error: a trace that check_trace refuses, or more than 4,194,304 messages in a phase. Deadlock,
// livelock and starvation end the run as the outcome's trap.
Result<MessageOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                    const RouterConfig& router, const MessageTrace& trace,
                                    const MeshOptions& options = {});

}  // namespace dojo::mesh
