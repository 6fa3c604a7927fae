// Packets to several nodes: where routers copy them. At a router the targets of a packet are
// divided by the output, and the class of VCs, by which a packet to each of them alone goes on
// (RoutingTable::next); every part gets a copy. So a copy goes the way of a packet to any of its
// targets, and each target is reached once.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

// A packet at a router, come in by `in` in a class (RoutingTable::choices).
struct MulticastPlace {
  RouterId at{};
  Port in = Port::Local;
  int vc_class = 0;
  std::vector<RouterId> targets{};
};

struct PacketCopy {
  Hop hop{};
  std::vector<RouterId> targets{};
};

// In the order of classes, and of ports within a class.
std::vector<PacketCopy> packet_copies(const RoutingTable& routing, const MulticastPlace& place);

// Visits every place on the way of a packet, its source first: visit(place, copies, next), where
// copies that go to other routers are at places number next, next + 1, ... of the order of visits.
template <class Visit>
void visit_multicast(const Topology& topology, const RoutingTable& routing, MulticastPlace source,
                     const Visit& visit) {
  std::vector<MulticastPlace> places{std::move(source)};
  for (std::size_t number = 0; number < places.size(); ++number) {
    const MulticastPlace place = std::move(places[number]);
    std::vector<PacketCopy> copies = packet_copies(routing, place);
    visit(place, std::span<const PacketCopy>(copies), places.size());
    for (PacketCopy& copy : copies) {
      if (copy.hop.out != Port::Local) {
        places.push_back({.at = topology.link(*topology.link_from(place.at, copy.hop.out)).to,
                          .in = opposite(copy.hop.out),
                          .vc_class = copy.hop.vc_class,
                          .targets = std::move(copy.targets)});
      }
    }
  }
}

}  // namespace dojo::mesh
