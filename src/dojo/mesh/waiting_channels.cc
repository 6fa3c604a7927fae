#include "dojo/mesh/waiting_channels.h"

#include <fmt/format.h>

#include <vector>

namespace dojo::mesh {

std::string describe_waiting(const Topology& topology, const Mesh& mesh) {
  constexpr std::size_t kShown = 8;
  const std::vector<WaitingChannel> waiting = mesh.waiting_channels();
  if (waiting.empty()) {
    return "nothing moves and no flit is under way: messages wait for each other or for no one";
  }
  std::string text = fmt::format("nothing moves: {} channels wait", waiting.size());
  for (std::size_t i = 0; i < waiting.size() && i < kShown; ++i) {
    const WaitingChannel& channel = waiting[i];
    text += fmt::format("\n  router {}, input {} VC {} waits for output {}{}",
                        topology.describe(channel.router), name(channel.input), channel.vc,
                        name(channel.output),
                        channel.output_vc.has_value()
                            ? fmt::format(" VC {}: its buffer is full", *channel.output_vc)
                            : std::string(": its VCs are taken"));
  }
  return waiting.size() > kShown ? text + "\n  ..." : text;
}

}  // namespace dojo::mesh
