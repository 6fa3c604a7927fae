#include "dojo/mesh/internal/copy_trees.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "dojo/mesh/multicast.h"

namespace dojo::mesh::internal {

Result<CopyTrees> CopyTrees::make(const Topology& topology, const RoutingTable& routing,
                                  const MessageTrace& trace) {
  CopyTrees trees;
  if (trace.more_targets.empty()) {
    return trees;
  }
  trees.roots_.assign(trace.messages.size(), 0);
  std::map<std::pair<RouterId, std::vector<RouterId>>, std::uint32_t> known;
  for (std::uint32_t i = 0; i < trace.messages.size(); ++i) {
    if (trace.messages[i].more == 0) {
      continue;
    }
    const RouterId source = trace.messages[i].source;
    const std::vector<RouterId> targets = trace.targets_of({i});
    const auto root = static_cast<std::uint32_t>(trees.first_.size() - 1);
    const auto [found, is_new] = known.try_emplace({source, targets}, root);
    trees.roots_[i] = found->second;
    if (!is_new) {
      continue;
    }
    visit_multicast(
        topology, routing, {.at = source, .targets = targets},
        [&](const MulticastPlace& place, std::span<const PacketCopy> copies, std::size_t next) {
          auto there = root + static_cast<std::uint32_t>(next);
          for (const PacketCopy& copy : copies) {
            const bool is_local = copy.hop.out == Port::Local;
            const auto here = std::find(targets.begin(), targets.end(), place.at);
            trees.branches_.push_back(
                {.out = static_cast<std::uint8_t>(index(copy.hop.out)),
                 .vc_class = static_cast<std::uint8_t>(copy.hop.vc_class),
                 .next = is_local ? static_cast<std::uint32_t>(here - targets.begin()) : there++});
          }
          trees.first_.push_back(static_cast<std::uint32_t>(trees.branches_.size()));
        });
    if (trees.first_.size() - 1 > kMostPlaces) {
      return Error{ErrorKind::DoesNotFit,
                   fmt::format("messages to several nodes: their packets pass more than {} places",
                               kMostPlaces)};
    }
  }
  return trees;
}

}  // namespace dojo::mesh::internal
