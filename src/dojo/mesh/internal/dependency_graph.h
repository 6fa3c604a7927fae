// The channel dependency graph: an edge from channel a to channel b if a packet that holds a may
// wait for b. Without a cycle, packets cannot wait for each other for ever (Dally and Seitz, 1987;
// with several choices the condition is sufficient, not necessary).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dojo/mesh/topology.h"

namespace dojo::mesh::internal {

struct Channel {
  LinkId link{};
  int vc_class = 0;
  friend constexpr bool operator==(const Channel&, const Channel&) = default;
};

class DependencyGraph {
 public:
  DependencyGraph(const Topology& topology, int classes);
  // A packet that came by `from` may leave the router it leads to by `out`, which has a link.
  void add(Channel from, Port out, int out_class);
  // Channels that wait for each other, each for the next and the last for the first; empty if there
  // is no cycle. Kahn's algorithm: linear in channels and edges.
  std::vector<Channel> cycle() const;

 private:
  std::size_t vertex(Channel channel) const {
    return channel.link.index * static_cast<std::size_t>(classes_) +
           static_cast<std::size_t>(channel.vc_class);
  }
  Channel channel(std::size_t vertex) const;
  template <class Visit>
  void for_each_next(std::size_t vertex, Visit visit) const;

  const Topology& topology_;
  int classes_;
  std::vector<std::uint8_t> outs_;  // [vertex x classes + out_class]: bits of the output ports
};

// "0,0 east -> 0,1 south -> 0,0 east"; with classes if there are several.
std::string describe(const Topology& topology, const std::vector<Channel>& cycle, int classes);

}  // namespace dojo::mesh::internal
