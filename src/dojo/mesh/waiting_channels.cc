#include "dojo/mesh/waiting_channels.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace dojo::mesh {

std::string describe_waiting(const Mesh& mesh, std::string_view reason) {
  constexpr std::size_t kShown = 8;
  std::vector<WaitingChannel> waiting = mesh.waiting_channels();
  std::stable_sort(waiting.begin(), waiting.end(),
                   [](const auto& a, const auto& b) { return a.cycles > b.cycles; });
  std::string text = fmt::format("{}: {} channels wait", reason, waiting.size());
  const auto columns = static_cast<std::uint32_t>(mesh.columns());
  for (std::size_t i = 0; i < waiting.size() && i < kShown; ++i) {
    const WaitingChannel& channel = waiting[i];
    text += fmt::format("; router {},{} input {} VC {} for output {}{}, its flit {} cycles old",
                        channel.router.index / columns, channel.router.index % columns,
                        name(channel.input), channel.vc, name(channel.output),
                        channel.output_vc.has_value()
                            ? fmt::format(" VC {} (no slot, or no rate)", *channel.output_vc)
                            : std::string(" (its VCs are taken)"),
                        channel.cycles);
  }
  return waiting.size() > kShown ? text + "; ..." : text;
}

}  // namespace dojo::mesh
