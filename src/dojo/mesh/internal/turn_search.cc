#include "dojo/mesh/internal/turn_search.h"

#include <cstdlib>
#include <limits>

#include "dojo/base/check.h"

namespace dojo::mesh::internal {

namespace {

constexpr bool is_along_row(Port port) { return port == Port::East || port == Port::West; }
constexpr bool is_negative(Port port) { return port == Port::West || port == Port::North; }

bool allows(RoutingKind kind, Port heading, Port out) {
  switch (kind) {
    case RoutingKind::XFirst:
      return heading == out || (is_along_row(heading) && !is_along_row(out));
    case RoutingKind::YFirst:
      return heading == out || (!is_along_row(heading) && is_along_row(out));
    case RoutingKind::WestFirst:
      return heading == Port::West || out != Port::West;
    case RoutingKind::NorthLast:
      return heading != Port::North || out == Port::North;
    default:
      return is_negative(heading) || !is_negative(out);
  }
}

// Distance of every live router from the root, the live router nearest to the middle of its plane.
std::vector<int> tree_levels(const Topology& topology) {
  std::vector<int> level(topology.routers(), -1);
  for (int plane = 0; plane < topology.planes(); ++plane) {
    std::optional<RouterId> root;
    int nearest = std::numeric_limits<int>::max();
    for (std::uint32_t i = 0; i < topology.routers(); ++i) {
      const Site site = topology.site_of({i});
      const int distance = std::abs(2 * site.row - topology.grid().rows + 1) +
                           std::abs(2 * site.column - topology.grid().columns + 1);
      if (topology.is_live({i}) && topology.plane_of({i}) == plane && distance < nearest) {
        nearest = distance;
        root = RouterId{i};
      }
    }
    std::vector<RouterId> found{*root};
    level[root->index] = 0;
    for (std::size_t next = 0; next < found.size(); ++next) {
      for (const Port out : kSidePorts) {
        const auto link = topology.link_from(found[next], out);
        if (link.has_value() && level[topology.link(*link).to.index] < 0) {
          level[topology.link(*link).to.index] = level[found[next].index] + 1;
          found.push_back(topology.link(*link).to);
        }
      }
    }
  }
  return level;
}

bool joins_an_edge_port(const Topology& topology, LinkId id) {
  const Link& link = topology.link(id);
  return topology.edge_port_of(link.from).has_value() || topology.edge_port_of(link.to).has_value();
}

// Towards the root; between routers of one level towards the lower id.
bool is_up(const Link& link, const std::vector<int>& levels) {
  const int from = levels[link.from.index];
  const int to = levels[link.to.index];
  return to < from || (to == from && link.to < link.from);
}

// Distances of (router, input) from one target.
class BackwardSearch {
 public:
  BackwardSearch(const Topology& topology, const TurnRule& rule)
      : topology_(topology), rule_(rule), distance_(topology.routers() * kPortCount) {}

  void run(RouterId target) {
    std::fill(distance_.begin(), distance_.end(), kFar);
    queue_.clear();
    for (int in = 0; in < kPortCount; ++in) {
      reach(target, in, 0);
    }
    for (std::size_t next = 0; next < queue_.size(); ++next) {
      const RouterId router{queue_[next] / kPortCount};
      const auto in = static_cast<Port>(queue_[next] % kPortCount);
      const auto link = topology_.link_into(router, in);
      if (!link.has_value()) {
        continue;
      }
      const RouterId from = topology_.link(*link).from;
      const std::uint32_t distance = distance_[queue_[next]] + 1;
      for (int before = 0; before < kPortCount; ++before) {
        if (rule_[from.index][static_cast<std::size_t>(before)].has(opposite(in))) {
          reach(from, before, distance);
        }
      }
    }
  }

  // Outputs of (router, input) that come one step closer.
  PortSet closer(RouterId router, Port in) const {
    const std::uint32_t distance = at(router, in);
    PortSet outs{};
    for (const Port out : kSidePorts) {
      if (distance != kFar && distance > 0 &&
          rule_[router.index][static_cast<std::size_t>(in)].has(out)) {
        const RouterId next = topology_.link(*topology_.link_from(router, out)).to;
        outs = at(next, opposite(out)) + 1 == distance ? outs.with(out) : outs;
      }
    }
    return outs;
  }

 private:
  static constexpr std::uint32_t kFar = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t at(RouterId router, Port in) const {
    return distance_[router.index * kPortCount + static_cast<std::uint32_t>(in)];
  }
  void reach(RouterId router, int in, std::uint32_t distance) {
    const auto state = router.index * kPortCount + static_cast<std::uint32_t>(in);
    if (distance_[state] == kFar) {
      distance_[state] = distance;
      queue_.push_back(state);
    }
  }

  const Topology& topology_;
  const TurnRule& rule_;
  std::vector<std::uint32_t> distance_;
  std::vector<std::uint32_t> queue_;
};

}  // namespace

TurnRule turn_rule(const Topology& topology, RoutingKind kind) {
  const bool is_up_down = kind == RoutingKind::UpDown;
  const std::vector<int> levels = is_up_down ? tree_levels(topology) : std::vector<int>{};
  const auto may_turn = [&](LinkId enters, LinkId leaves) {
    const Link& in = topology.link(enters);
    const Link& out = topology.link(leaves);
    if (is_up_down) {
      return is_up(in, levels) || !is_up(out, levels);
    }
    return allows(kind, in.out, out.out) || joins_an_edge_port(topology, enters) ||
           joins_an_edge_port(topology, leaves);
  };
  TurnRule rule(topology.routers());
  for (std::uint32_t i = 0; i < topology.routers(); ++i) {
    for (const Port out : kSidePorts) {
      const auto leaves = topology.link_from({i}, out);
      if (!leaves.has_value()) {
        continue;
      }
      for (int port = 0; port < kPortCount; ++port) {
        const auto in = static_cast<Port>(port);
        const auto enters = topology.link_into({i}, in);
        const bool may =
            in == Port::Local || (enters.has_value() && in != out && may_turn(*enters, *leaves));
        PortSet& outs = rule[i][static_cast<std::size_t>(port)];
        outs = may ? outs.with(out) : outs;
      }
    }
  }
  return rule;
}

ClassTable shortest_paths(const Topology& topology, const TurnRule& rule, Ties ties,
                          const std::vector<RouterId>& targets) {
  ClassTable table;
  table.entries.resize(topology.routers());
  BackwardSearch search(topology, rule);
  for (const RouterId target : targets) {
    search.run(target);
    table.entries[target.index].assign(topology.routers(), 0);
    for (std::uint32_t i = 0; i < topology.routers(); ++i) {
      for (int port = 0; port < kPortCount; ++port) {
        const auto in = static_cast<Port>(port);
        const PortSet outs = search.closer({i}, in);
        if (outs.empty()) {
          continue;
        }
        const bool is_one = ties == Ties::StraightThenLowest;
        const Port best = preferred(outs, in);
        for (const Port out : kSidePorts) {
          if (outs.has(out) && (!is_one || out == best)) {
            table.allow({i}, in, target, out);
          }
        }
      }
    }
  }
  return table;
}

}  // namespace dojo::mesh::internal
