#include "dojo/mesh/internal/plain_mesh.h"

#include <algorithm>

namespace dojo::mesh::internal {

StreamTraffic::StreamTraffic(const Topology& topology, const RoutingTable& routing,
                             const Traffic& traffic)
    : routing_(routing), traffic_(traffic), sources_(topology.routers()) {
  for (std::uint32_t i = 0; i < sources_.size(); ++i) {
    sources_[i].stream = traffic_.first_state(i);
  }
}

std::optional<PlainPacket> StreamTraffic::offered(RouterId node, std::int64_t now) {
  Source& source = sources_[node.index];
  if (!source.head.has_value()) {
    source.head = traffic_.next(node.index, source.stream);
    source.has_entered = false;
  }
  const Packet& head = *source.head;
  if (head.generated == kNever || head.generated > now) {
    return std::nullopt;
  }
  const auto flits = static_cast<std::uint64_t>(traffic_.packet_flits());
  if (!source.has_entered) {
    source.has_entered = true;
    counters_.entered_flits += flits;
    counters_.entered_generated_sum += head.generated * flits;
    ++counters_.measured_entered;
    counters_.measured_routers += routing_.path(node, {head.destination}).size() + 1;
  }
  return PlainPacket{
      .target = {head.destination}, .flits = static_cast<int>(flits), .id = head.generated};
}

void StreamTraffic::injected(RouterId node, const PlainPacket& /*packet*/, bool is_head) {
  ++counters_.injected_flits;
  if (is_head) {
    sources_[node.index].head.reset();
  }
}

void StreamTraffic::arrived(const PlainPacket& packet, std::int64_t injected, bool is_tail,
                            std::int64_t now) {
  ++counters_.flits;
  counters_.flit_latency_sum += static_cast<std::uint64_t>(now - injected);
  counters_.flit_generated_sum += packet.id;
  counters_.last_arrival = static_cast<Cycle>(now);
  if (is_tail) {
    const auto latency = static_cast<std::uint32_t>(now - packet.id);
    ++counters_.packets;
    counters_.latency_sum += latency;
    counters_.latency_square_sum += std::uint64_t{latency} * latency;
    counters_.latency_max = std::max(counters_.latency_max, latency);
    counters_.histogram.add(latency);
  }
}

bool StreamTraffic::has_more() const {
  return !std::all_of(sources_.begin(), sources_.end(), [](const Source& source) {
    return source.head.has_value() && source.head->generated == kNever;
  });
}

std::uint64_t PlainMesh::sent(RouterId router, Port port) const {
  if (port == Port::Local) {
    return static_cast<std::uint64_t>(network_.ejected(router));
  }
  const auto link = topology_.link_from(router, port);
  return link.has_value() ? static_cast<std::uint64_t>(network_.sent(*link)) : 0;
}

}  // namespace dojo::mesh::internal
