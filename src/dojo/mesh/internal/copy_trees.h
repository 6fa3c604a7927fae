// Where the routers of the engine copy packets to several nodes: multicast.h's places, numbered
// over all messages of a trace. A flit names the place where it is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/mesh/messages.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh::internal {

class CopyTrees {
 public:
  struct Branch {
    std::uint8_t out = 0;
    std::uint8_t vc_class = 0;
    std::uint32_t next = 0;  // the copy's place; at kLocal: which of the message's targets it is
  };
  static constexpr std::uint32_t kMostPlaces = 1u << 20;  // a flit has 20 bits for its place

  // Messages from one node to the same targets share their places. Error: more than kMostPlaces.
  static Result<CopyTrees> make(const Topology& topology, const RoutingTable& routing,
                                const MessageTrace& trace);

  bool empty() const { return branches_.empty(); }
  // Where the packets of a message to several nodes start.
  std::uint32_t root(MessageId message) const { return roots_[message.index]; }
  // In the order of classes, and of ports within a class.
  std::span<const Branch> branches(std::uint32_t place) const {
    return std::span(branches_).subspan(first_[place], first_[place + 1] - first_[place]);
  }

 private:
  std::vector<std::uint32_t> roots_{};  // by message; 0 of messages to one node; empty if all are
  std::vector<std::uint32_t> first_{0};
  std::vector<Branch> branches_{};
};

}  // namespace dojo::mesh::internal
