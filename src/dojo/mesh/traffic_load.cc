#include "dojo/mesh/traffic_load.h"

#include <algorithm>

#include "dojo/mesh/multicast.h"

namespace dojo::mesh {

namespace {

std::int64_t busy(std::int64_t flits, FlitRate rate) {
  return (flits * rate.den + rate.num - 1) / rate.num;
}

// That a packet of the message crosses, once for each copy.
std::vector<LinkId> links_of(const MessageTrace& trace, MessageId id, const Topology& topology,
                             const RoutingTable& routing) {
  const Message& message = trace.messages[id.index];
  if (message.more == 0) {
    return routing.path(message.source, message.target);
  }
  std::vector<LinkId> links;
  visit_multicast(topology, routing, {.at = message.source, .targets = trace.targets_of(id)},
                  [&](const MulticastPlace& place, std::span<const PacketCopy> copies, auto) {
                    for (const PacketCopy& copy : copies) {
                      if (copy.hop.out != Port::Local) {
                        links.push_back(*topology.link_from(place.at, copy.hop.out));
                      }
                    }
                  });
  return links;
}

}  // namespace

std::int64_t TrafficLoad::busy_cycles_of_class(const Topology& topology, int link_class) const {
  std::int64_t cycles = 0;
  for (std::uint32_t i = 0; i < links.size(); ++i) {
    if (topology.link({i}).link_class == link_class) {
      const auto& of_class = topology.link_classes()[static_cast<std::size_t>(link_class)];
      cycles = std::max(cycles, busy(links[i], of_class.rate));
    }
  }
  return cycles;
}

std::int64_t TrafficLoad::busy_cycles_of_ports() const {
  std::int64_t cycles = 0;
  for (std::size_t i = 0; i < ports_in.size(); ++i) {
    cycles = std::max({cycles, ports_in[i], ports_out[i]});
  }
  return cycles;
}

std::int64_t TrafficLoad::busy_cycles(const Topology& topology) const {
  std::int64_t cycles = busy_cycles_of_ports();
  for (int i = 0; i < static_cast<int>(topology.link_classes().size()); ++i) {
    cycles = std::max(cycles, busy_cycles_of_class(topology, i));
  }
  return cycles;
}

TrafficLoad load_of(const MessageTrace& trace, const Topology& topology,
                    const RoutingTable& routing, std::size_t first) {
  TrafficLoad load{.links = std::vector<std::int64_t>(topology.links().size(), 0),
                   .ports_out = std::vector<std::int64_t>(topology.routers(), 0),
                   .ports_in = std::vector<std::int64_t>(topology.routers(), 0)};
  for (std::size_t i = first; i < trace.messages.size(); ++i) {
    const Message& message = trace.messages[i];
    const MessageId id{static_cast<std::uint32_t>(i)};
    load.ports_out[message.source.index] += message.flits;
    for (const RouterId target : trace.targets_of(id)) {
      load.ports_in[target.index] += message.flits;
    }
    for (const LinkId link : links_of(trace, id, topology, routing)) {
      load.links[link.index] += message.flits;
    }
  }
  return load;
}

}  // namespace dojo::mesh
