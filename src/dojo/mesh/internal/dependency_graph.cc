#include "dojo/mesh/internal/dependency_graph.h"

#include <algorithm>

#include <fmt/format.h>

namespace dojo::mesh::internal {

DependencyGraph::DependencyGraph(const Topology& topology, int classes)
    : topology_(topology), classes_(classes) {
  const auto count = static_cast<std::size_t>(classes);
  outs_.assign(topology.links().size() * count * count, 0);
}

void DependencyGraph::add(Channel from, Port out, int out_class) {
  outs_[vertex(from) * static_cast<std::size_t>(classes_) + static_cast<std::size_t>(out_class)] |=
      static_cast<std::uint8_t>(1U << index(out));
}

Channel DependencyGraph::channel(std::size_t vertex) const {
  const auto count = static_cast<std::size_t>(classes_);
  return {.link = {static_cast<std::uint32_t>(vertex / count)},
          .vc_class = static_cast<int>(vertex % count)};
}

template <class Visit>
void DependencyGraph::for_each_next(std::size_t at, Visit visit) const {
  const RouterId router = topology_.link(channel(at).link).to;
  for (int vc_class = 0; vc_class < classes_; ++vc_class) {
    const auto outs =
        outs_[at * static_cast<std::size_t>(classes_) + static_cast<std::size_t>(vc_class)];
    for (const Port out : kSidePorts) {
      if ((outs >> index(out) & 1) != 0) {
        visit(vertex({.link = *topology_.link_from(router, out), .vc_class = vc_class}));
      }
    }
  }
}

std::vector<Channel> DependencyGraph::cycle() const {
  const std::size_t vertices = topology_.links().size() * static_cast<std::size_t>(classes_);
  std::vector<std::uint32_t> waiting(vertices, 0);  // channels that may wait for this one
  for (std::size_t at = 0; at < vertices; ++at) {
    for_each_next(at, [&](std::size_t next) { ++waiting[next]; });
  }
  std::vector<std::size_t> free;
  for (std::size_t at = 0; at < vertices; ++at) {
    if (waiting[at] == 0) {
      free.push_back(at);
    }
  }
  for (std::size_t i = 0; i < free.size(); ++i) {
    for_each_next(free[i], [&](std::size_t next) {
      if (--waiting[next] == 0) {
        free.push_back(next);
      }
    });
  }
  if (free.size() == vertices) {
    return {};
  }
  // What is left has a predecessor that is left, so walking backwards ends in a cycle.
  std::vector<std::size_t> before(vertices, 0);
  for (std::size_t at = 0; at < vertices; ++at) {
    if (waiting[at] > 0) {
      for_each_next(at, [&](std::size_t next) { before[next] = at; });
    }
  }
  const auto left = std::find_if(waiting.begin(), waiting.end(), [](auto w) { return w > 0; });
  auto at = static_cast<std::size_t>(left - waiting.begin());
  std::vector<bool> seen(vertices, false);
  while (!seen[at]) {
    seen[at] = true;
    at = before[at];
  }
  std::vector<std::size_t> round;
  while (round.empty() || at != round.front()) {
    round.push_back(at);
    at = before[at];
  }
  std::reverse(round.begin(), round.end());
  std::rotate(round.begin(), std::min_element(round.begin(), round.end()), round.end());
  std::vector<Channel> found;
  for (const std::size_t each : round) {
    found.push_back(channel(each));
  }
  return found;
}

std::string describe(const Topology& topology, const std::vector<Channel>& cycle, int classes) {
  std::string text;
  for (std::size_t i = 0; i <= cycle.size(); ++i) {
    const Channel& channel = cycle[i % cycle.size()];
    const Link& link = topology.link(channel.link);
    text +=
        fmt::format("{}{} {}", i == 0 ? "" : " -> ", topology.describe(link.from), name(link.out));
    if (classes > 1) {
      text += fmt::format(" (class {})", channel.vc_class);
    }
  }
  return text;
}

}  // namespace dojo::mesh::internal
