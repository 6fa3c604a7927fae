// The plain network under Traffic: what the engine counts, counted plainly.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/mesh/counters.h"
#include "dojo/mesh/internal/plain_network.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh::internal {

// Streams of packets into a network, and the counters of those that arrive.
class StreamTraffic : public PlainTraffic {
 public:
  StreamTraffic(const Topology& topology, const RoutingTable& routing, const Traffic& traffic);

  std::optional<PlainPacket> offered(RouterId node, std::int64_t now) override;
  void injected(RouterId node, const PlainPacket& packet, bool is_head) override;
  void arrived(const PlainPacket& packet, std::int64_t injected, bool is_tail,
               std::int64_t now) override;

  const Counters& counters() const { return counters_; }
  bool has_more() const;  // some source will send another packet

 private:
  struct Source {
    StreamState stream{};
    std::optional<Packet> head{};  // of the queue; may lie in the future
    bool has_entered = false;      // it was offered before
  };

  const RoutingTable& routing_;
  Traffic traffic_;
  std::vector<Source> sources_;
  Counters counters_{};
};

// Topology and table must outlive it.
class PlainMesh {
 public:
  PlainMesh(const Topology& topology, const RoutingTable& routing, const RouterConfig& config,
            const Traffic& traffic)
      : topology_(topology),
        streams_(topology, routing, traffic),
        network_(topology, routing, config, traffic.packet_flits(), streams_) {}
  PlainMesh(const PlainMesh&) = delete;
  PlainMesh& operator=(const PlainMesh&) = delete;

  void step() { network_.step(); }
  std::int64_t now() const { return network_.now(); }
  const Counters& counters() const { return streams_.counters(); }
  // No flit anywhere, and no packet still to come.
  bool is_empty() const { return network_.flits_inside() == 0 && !streams_.has_more(); }
  // Flits that left a router by a port.
  std::uint64_t sent(RouterId router, Port port) const;

 private:
  const Topology& topology_;
  StreamTraffic streams_;
  PlainNetwork network_;
};

}  // namespace dojo::mesh::internal
