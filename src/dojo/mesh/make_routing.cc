// Makes routing tables class by class and proves them.
#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "dojo/mesh/internal/dependency_graph.h"
#include "dojo/mesh/internal/turn_search.h"
#include "dojo/mesh/routing.h"

namespace dojo::mesh {

class RoutingBuilder {
 public:
  RoutingBuilder(const Topology& topology, RoutingKind kind, int vcs)
      : topology_(topology), table_(topology, kind, vcs) {}

  Result<RoutingTable> make();
  Result<RoutingTable> from_tables(std::vector<ClassTable> tables);

 private:
  using Channel = internal::Channel;
  using DependencyGraph = internal::DependencyGraph;

  Result<void> check_request() const;
  Result<void> check_bytes(std::size_t targets) const;
  void measure_straights();
  // Targets that some node cannot reach by what the table has so far.
  std::vector<RouterId> targets_left() const;
  Result<void> add_table(RoutingKind rule, internal::Ties ties);
  Result<RoutingTable> prove();
  void add_formula(DependencyGraph& graph) const;
  void add_torus_formula(DependencyGraph& graph) const;
  Result<void> add_tables(DependencyGraph& graph) const;
  Result<void> follow(RouterId target, int vc_class, DependencyGraph& graph,
                      std::vector<bool>& seen) const;
  std::vector<RouterId> nodes_of_plane(int plane) const;

  const Topology& topology_;
  RoutingTable table_;
};

Result<void> RoutingBuilder::check_request() const {
  const TopologySpec& spec = topology_.spec();
  const bool is_torus = spec.wrap == Wrap::Torus;
  const int vcs = table_.vcs_;
  const auto invalid = [](std::string message) {
    return Error{ErrorKind::InvalidInput, std::move(message)};
  };
  if (vcs < 1) {
    return invalid(fmt::format("{} virtual channels, expected 1 or more", vcs));
  }
  if (spec.planes == Planes::Opposed &&
      (topology_.has_gaps() || !is_dimension_order(table_.kind_))) {
    return Error{ErrorKind::Unsupported,
                 "opposed unidirectional networks are routed x-first or y-first and without dead "
                 "routers or links"};
  }
  if (is_torus && !is_dimension_order(table_.kind_) && table_.kind_ != RoutingKind::UpDown) {
    return invalid(fmt::format("{} is a rule for meshes; route a torus x-first, y-first or up-down",
                               name(table_.kind_)));
  }
  const int needed = is_torus && table_.kind_ != RoutingKind::UpDown ? 2 + topology_.has_gaps() : 1;
  if (vcs < needed) {
    return invalid(fmt::format("{} virtual channel{}, but {} on a torus{} needs {}", vcs,
                               vcs == 1 ? "" : "s", name(table_.kind_),
                               topology_.has_gaps() ? " with gaps" : "", needed));
  }
  return {};
}

Result<void> RoutingBuilder::check_bytes(std::size_t targets) const {
  const auto bytes = static_cast<std::int64_t>(targets * topology_.routers() * 4);
  if (bytes > RoutingTable::kMaximumTableBytes) {
    return Error{ErrorKind::DoesNotFit,
                 fmt::format("a routing table of {} routers for {} targets takes {} MB, expected "
                             "at most {}",
                             topology_.routers(), targets, bytes >> 20,
                             RoutingTable::kMaximumTableBytes >> 20)};
  }
  return {};
}

void RoutingBuilder::measure_straights() {
  table_.straight_.assign(topology_.routers(), {0, 0, 0, 0});
  for (std::uint32_t i = 0; i < topology_.routers(); ++i) {
    for (const Port out : kSidePorts) {
      RouterId at{i};
      std::int32_t hops = 0;
      const int longest = std::max(topology_.grid().rows, topology_.grid().columns);
      for (auto link = topology_.link_from(at, out);
           link.has_value() && hops < longest &&
           !topology_.edge_port_of(topology_.link(*link).to).has_value();
           link = topology_.link_from(at, out)) {
        at = topology_.link(*link).to;
        ++hops;
      }
      table_.straight_[i][static_cast<std::size_t>(out)] = hops;
    }
  }
}

std::vector<RouterId> RoutingBuilder::nodes_of_plane(int plane) const {
  std::vector<RouterId> nodes;
  for (std::uint32_t i = 0; i < topology_.routers(); ++i) {
    if (topology_.has_node({i}) && topology_.plane_of({i}) == plane) {
      nodes.push_back({i});
    }
  }
  return nodes;
}

std::vector<RouterId> RoutingBuilder::targets_left() const {
  std::vector<RouterId> left;
  if (table_.formula_classes_ > 0 && !topology_.has_gaps()) {
    return left;
  }
  for (int plane = 0; plane < topology_.planes(); ++plane) {
    const std::vector<RouterId> nodes = nodes_of_plane(plane);
    for (const RouterId target : nodes) {
      if (std::any_of(nodes.begin(), nodes.end(), [&](RouterId source) {
            return table_.choices(source, Port::Local, 0, target).ports.empty();
          })) {
        left.push_back(target);
      }
    }
  }
  return left;
}

Result<void> RoutingBuilder::add_table(RoutingKind rule, internal::Ties ties) {
  const std::vector<RouterId> targets = targets_left();
  if (targets.empty()) {
    return {};
  }
  DOJO_TRY_VOID(check_bytes(targets.size()));
  table_.tables_.push_back(
      internal::shortest_paths(topology_, internal::turn_rule(topology_, rule), ties, targets));
  return {};
}

Result<RoutingTable> RoutingBuilder::make() {
  DOJO_TRY_VOID(check_request());
  const bool has_gaps = topology_.has_gaps();
  if (has_gaps && table_.vcs_ == 1) {
    table_.kind_ = RoutingKind::UpDown;
  }
  const RoutingKind kind = table_.kind_;
  if (kind != RoutingKind::UpDown && (is_dimension_order(kind) || !has_gaps)) {
    table_.formula_classes_ = topology_.spec().wrap == Wrap::Torus ? 2 : 1;
    if (has_gaps) {
      measure_straights();
    }
  } else if (kind != RoutingKind::UpDown) {
    DOJO_TRY_VOID(add_table(kind, internal::Ties::All));
  }
  DOJO_TRY_VOID(add_table(RoutingKind::UpDown, internal::Ties::StraightThenLowest));
  return prove();
}

Result<RoutingTable> RoutingBuilder::from_tables(std::vector<ClassTable> tables) {
  if (tables.empty() || table_.vcs_ < static_cast<int>(tables.size())) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{} routing tables for {} virtual channels, expected 1 or more tables "
                             "and a channel for each",
                             tables.size(), table_.vcs_)};
  }
  for (const ClassTable& table : tables) {
    const auto is_right = [&](const std::vector<std::uint32_t>& row) {
      return row.empty() || row.size() == topology_.routers();
    };
    if (table.entries.size() != topology_.routers() ||
        !std::all_of(table.entries.begin(), table.entries.end(), is_right)) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("routing table: expected {0} targets with {0} routers each",
                               topology_.routers())};
    }
  }
  table_.tables_ = std::move(tables);
  return prove();
}

// On a mesh every turn of the rule, which is more than the formula uses.
void RoutingBuilder::add_formula(DependencyGraph& graph) const {
  const internal::TurnRule rule = internal::turn_rule(topology_, table_.kind_);
  for (std::uint32_t i = 0; i < topology_.links().size(); ++i) {
    const Link& link = topology_.link({i});
    const PortSet outs = rule[link.to.index][static_cast<std::size_t>(opposite(link.out))];
    for (const Port out : kSidePorts) {
      if (outs.has(out)) {
        graph.add({.link = {i}, .vc_class = 0}, out, 0);
      }
    }
  }
}

// What a dimension-order formula does at a router depends only on the target's row, or only on its
// column; so the targets in the router's own row and column stand for all.
void RoutingBuilder::add_torus_formula(DependencyGraph& graph) const {
  for (std::uint32_t i = 0; i < topology_.links().size(); ++i) {
    const Link& link = topology_.link({i});
    const Site here = topology_.site_of(link.to);
    const int plane = topology_.plane_of(link.to);
    const auto add = [&](Site site) {
      const RouterId target = topology_.router_at(site, plane);
      if (target == link.to || target == link.from) {
        return;
      }
      const Choices before = table_.formula(link.from, target);
      const Choices after = table_.formula(link.to, target);
      const auto out = static_cast<Port>(std::countr_zero(after.ports.bits));
      if (before.ports.has(link.out) && topology_.link_from(link.to, out).has_value()) {
        graph.add({.link = {i}, .vc_class = before.vc_class}, out, after.vc_class);
      }
    };
    for (int row = 0; row < topology_.grid().rows; ++row) {
      add({row, here.column});
    }
    for (int column = 0; column < topology_.grid().columns; ++column) {
      add({here.row, column});
    }
  }
}

// All states (router, input) that packets for `target` pass in the class of one table.
Result<void> RoutingBuilder::follow(RouterId target, int vc_class, DependencyGraph& graph,
                                    std::vector<bool>& seen) const {
  const auto at_table = static_cast<std::size_t>(vc_class - table_.formula_classes_);
  const ClassTable& table = table_.tables_[at_table];
  std::fill(seen.begin(), seen.end(), false);
  std::vector<std::uint32_t> pending;
  for (const RouterId source : nodes_of_plane(topology_.plane_of(target))) {
    const Choices start = table_.choices(source, Port::Local, 0, target);
    if (start.vc_class == vc_class && !start.ports.empty() && source != target) {
      pending.push_back(source.index * kPortCount + static_cast<std::uint32_t>(Port::Local));
    }
  }
  while (!pending.empty()) {
    const RouterId router{pending.back() / kPortCount};
    const auto in = static_cast<Port>(pending.back() % kPortCount);
    pending.pop_back();
    const auto broken = [&](std::string_view what) {
      return Error{
          ErrorKind::InvalidInput,
          fmt::format("routing table: a packet for {} that is at {} from {} {}",
                      topology_.describe(target), topology_.describe(router), name(in), what)};
    };
    const PortSet outs = table.at(router, in, target);
    if (outs.empty()) {
      return broken("has no way on");
    }
    for (const Port out : kSidePorts) {
      const auto link = topology_.link_from(router, out);
      if (!outs.has(out)) {
        continue;
      }
      if (!link.has_value()) {
        return broken(fmt::format("is sent {}, where no link is", name(out)));
      }
      if (out == in) {
        return broken("turns back");
      }
      if (const auto came = topology_.link_into(router, in)) {
        graph.add({.link = *came, .vc_class = vc_class}, out, vc_class);
      }
      const RouterId next = topology_.link(*link).to;
      const auto state = next.index * kPortCount + static_cast<std::uint32_t>(opposite(out));
      if (next != target && !seen[state]) {
        seen[state] = true;
        pending.push_back(state);
      }
    }
  }
  return {};
}

Result<void> RoutingBuilder::add_tables(DependencyGraph& graph) const {
  std::vector<bool> seen(topology_.routers() * kPortCount, false);
  for (std::size_t i = 0; i < table_.tables_.size(); ++i) {
    for (std::uint32_t target = 0; target < topology_.routers(); ++target) {
      if (!table_.tables_[i].entries[target].empty()) {
        DOJO_TRY_VOID(follow({target}, table_.formula_classes_ + static_cast<int>(i), graph, seen));
      }
    }
  }
  return {};
}

Result<RoutingTable> RoutingBuilder::prove() {
  DependencyGraph graph(topology_, table_.classes());
  if (table_.formula_classes_ == 2) {
    add_torus_formula(graph);
  } else if (table_.formula_classes_ == 1) {
    add_formula(graph);
  }
  DOJO_TRY_VOID(add_tables(graph));
  const std::vector<Channel> cycle = graph.cycle();
  if (!cycle.empty()) {
    return Error{ErrorKind::InvalidInput,
                 "routing can deadlock, these channels wait for each other: " +
                     internal::describe(topology_, cycle, table_.classes())};
  }
  if (!table_.tables_.empty()) {
    const std::vector<RouterId> left = targets_left();
    if (!left.empty()) {
      return Error{ErrorKind::InvalidInput, fmt::format("routing: some node has no way to {}",
                                                        topology_.describe(left.front()))};
    }
  }
  return std::move(table_);
}

Result<RoutingTable> RoutingTable::make(const Topology& topology, RoutingKind kind, int vcs) {
  return RoutingBuilder(topology, kind, vcs).make();
}

Result<RoutingTable> RoutingTable::from_tables(const Topology& topology,
                                               std::vector<ClassTable> tables, int vcs) {
  return RoutingBuilder(topology, RoutingKind::UpDown, vcs).from_tables(std::move(tables));
}

}  // namespace dojo::mesh
