// How many flits of a list of messages pass every link and every port, by the paths of a routing
// table, and which of these resources is busiest: what a closed form says in one number.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dojo/mesh/messages.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

struct TrafficLoad {
  std::vector<std::int64_t> links{};      // flits, by LinkId
  std::vector<std::int64_t> ports_out{};  // flits that a node injects, by RouterId
  std::vector<std::int64_t> ports_in{};   // flits that a node receives

  // Cycles at full rate of the busiest of all of them; a port moves a flit a cycle. Rounded up.
  std::int64_t busy_cycles(const Topology& topology) const;
  // The same of the links of one class alone, and of the ports.
  std::int64_t busy_cycles_of_class(const Topology& topology, int link_class) const;
  std::int64_t busy_cycles_of_ports() const;
};

// Of the messages from number `first` on. Paths by RoutingTable::next; a packet to several nodes
// crosses a link once for each copy there. A message to its own node loads its ports.
TrafficLoad load_of(const MessageTrace& trace, const Topology& topology,
                    const RoutingTable& routing, std::size_t first = 0);

}  // namespace dojo::mesh
