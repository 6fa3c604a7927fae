#include "dojo/mesh/internal/reach.h"

#include <algorithm>

#include <fmt/format.h>

namespace dojo::mesh::internal {

namespace {

enum class Along : std::uint8_t { Links, AgainstLinks };

// All that `start` reaches (or that reach it), itself first.
std::vector<RouterId> reached(const Topology& topology, RouterId start, Along along,
                              std::vector<bool>& seen) {
  std::vector<RouterId> found{start};
  seen[start.index] = true;
  for (std::size_t next = 0; next < found.size(); ++next) {
    for (const Port port : kSidePorts) {
      const auto link = along == Along::Links ? topology.link_from(found[next], port)
                                              : topology.link_into(found[next], port);
      if (!link.has_value()) {
        continue;
      }
      const RouterId other =
          along == Along::Links ? topology.link(*link).to : topology.link(*link).from;
      if (!seen[other.index]) {
        seen[other.index] = true;
        found.push_back(other);
      }
    }
  }
  return found;
}

// Routers that `start` reaches and that reach it.
std::vector<RouterId> part_of(const Topology& topology, RouterId start) {
  std::vector<bool> forward(topology.routers(), false);
  std::vector<bool> backward(topology.routers(), false);
  std::vector<RouterId> part = reached(topology, start, Along::Links, forward);
  reached(topology, start, Along::AgainstLinks, backward);
  std::erase_if(part, [&](RouterId router) { return !backward[router.index]; });
  std::sort(part.begin(), part.end());
  return part;
}

}  // namespace

Parts parts_of_plane(const Topology& topology, int plane) {
  std::vector<RouterId> live;
  for (std::uint32_t i = 0; i < topology.routers(); ++i) {
    if (topology.is_live({i}) && topology.plane_of({i}) == plane) {
      live.push_back({i});
    }
  }
  Parts parts;
  std::vector<bool> done(topology.routers(), false);
  for (const RouterId start : live) {
    if (done[start.index]) {
      continue;
    }
    std::vector<RouterId> part = part_of(topology, start);
    for (const RouterId router : part) {
      done[router.index] = true;
    }
    if (part.size() > parts.inside.size()) {
      parts.inside = std::move(part);
    }
    if (2 * parts.inside.size() >= live.size()) {
      break;
    }
  }
  std::set_difference(live.begin(), live.end(), parts.inside.begin(), parts.inside.end(),
                      std::back_inserter(parts.outside));
  return parts;
}

std::string describe_cut(const Topology& topology, const std::vector<RouterId>& cut_off,
                         std::size_t inside) {
  constexpr std::size_t kNamed = 8;
  std::string names;
  for (std::size_t i = 0; i < std::min(kNamed, cut_off.size()); ++i) {
    names += (i == 0 ? "" : "; ") + topology.describe(cut_off[i]);
  }
  if (cut_off.size() > kNamed) {
    names += fmt::format("; and {} more", cut_off.size() - kNamed);
  }
  return fmt::format(
      "holes cut the mesh in two: {} node{} cannot be reached from the other {} "
      "routers ({})",
      cut_off.size(), cut_off.size() == 1 ? "" : "s", inside, names);
}

}  // namespace dojo::mesh::internal
