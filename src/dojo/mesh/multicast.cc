#include "dojo/mesh/multicast.h"

#include <algorithm>
#include <tuple>

namespace dojo::mesh {

std::vector<PacketCopy> packet_copies(const RoutingTable& routing, const MulticastPlace& place) {
  std::vector<PacketCopy> copies;
  for (const RouterId target : place.targets) {
    const Hop hop = routing.next(place.at, place.in, place.vc_class, target);
    const auto same = std::find_if(copies.begin(), copies.end(),
                                   [&](const PacketCopy& copy) { return copy.hop == hop; });
    if (same == copies.end()) {
      copies.push_back({.hop = hop, .targets = {target}});
    } else {
      same->targets.push_back(target);
    }
  }
  std::sort(copies.begin(), copies.end(), [](const PacketCopy& a, const PacketCopy& b) {
    return std::tuple(a.hop.vc_class, index(a.hop.out)) <
           std::tuple(b.hop.vc_class, index(b.hop.out));
  });
  return copies;
}

}  // namespace dojo::mesh
