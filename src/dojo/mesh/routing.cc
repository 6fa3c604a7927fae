#include "dojo/mesh/routing.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "dojo/base/check.h"

namespace dojo::mesh {

namespace {

constexpr std::array<std::pair<RoutingKind, std::string_view>, 6> kKinds{{
    {RoutingKind::XFirst, "x-first"},
    {RoutingKind::YFirst, "y-first"},
    {RoutingKind::WestFirst, "west-first"},
    {RoutingKind::NorthLast, "north-last"},
    {RoutingKind::NegativeFirst, "negative-first"},
    {RoutingKind::UpDown, "up-down"},
}};

// One way round a ring or along a line, and how far.
struct Leg {
  Port out = Port::Local;
  int hops = 0;
  int vc_class = 0;
};

// Along one dimension from `at` to `to` of `length`, `up` being the port of growing positions.
Leg leg(const Topology& topology, int plane, int at, int to, int length, Port up) {
  const Port down = opposite(up);
  if (topology.spec().wrap == Wrap::None) {
    return to >= at ? Leg{up, to - at, 0} : Leg{down, at - to, 0};
  }
  const int forward = (to - at + length) % length;
  const bool is_up =
      topology.spec().planes == Planes::Opposed ? plane == 0 : forward <= length - forward;
  // Class 0 while the wrap link is still ahead.
  return is_up ? Leg{up, forward, to < at ? 0 : 1}
               : Leg{down, (length - forward) % length, to > at ? 0 : 1};
}

}  // namespace

std::string_view name(RoutingKind kind) {
  return std::find_if(kKinds.begin(), kKinds.end(),
                      [&](auto& entry) { return entry.first == kind; })
      ->second;
}

std::optional<RoutingKind> routing_kind_named(std::string_view name) {
  for (const auto& [kind, text] : kKinds) {
    if (text == name) {
      return kind;
    }
  }
  return std::nullopt;
}

Port preferred(PortSet outs, Port in) {
  if (in != Port::Local && outs.has(opposite(in))) {
    return opposite(in);
  }
  return static_cast<Port>(std::countr_zero(outs.bits));
}

void ClassTable::allow(RouterId router, Port in, RouterId target, Port out) {
  entries[target.index][router.index] |= 1U << (4 * index(in) + index(out));
}

RoutingTable::RoutingTable(const Topology& topology, RoutingKind kind, int vcs)
    : topology_(&topology), kind_(kind), vcs_(vcs) {}

VcRange RoutingTable::vcs(int vc_class) const {
  if (classes() == 1) {
    return {.first = 0, .count = vcs_};
  }
  const int own = tables_.empty() ? 0 : 1;  // the last class of a table has the last VC
  if (own == 1 && vc_class == classes() - 1) {
    return {.first = vcs_ - 1, .count = 1};
  }
  const int share = (vcs_ - own) / (classes() - own);
  const int rest = (vcs_ - own) % (classes() - own);
  return {.first = vc_class * share + std::min(vc_class, rest),
          .count = share + (vc_class < rest ? 1 : 0)};
}

bool RoutingTable::is_dimension_order() const {
  return mesh::is_dimension_order(kind_) && tables_.empty() && formula_classes_ == 1;
}

Choices RoutingTable::formula(RouterId at, RouterId target) const {
  const Topology& topology = *topology_;
  const auto& ports = topology.spec().edge_ports;
  if (const auto port = topology.edge_port_of(at)) {
    return {only(opposite(port_of(ports[*port].side))), 0};
  }
  const Site here = topology.site_of(at);
  const Site there = topology.site_of(target);
  if (here == there) {
    return {only(port_of(ports[*topology.edge_port_of(target)].side)), 0};
  }
  const int plane = topology.plane_of(at);
  const Leg x =
      leg(topology, plane, here.column, there.column, topology.grid().columns, Port::East);
  const Leg y = leg(topology, plane, here.row, there.row, topology.grid().rows, Port::South);
  if (mesh::is_dimension_order(kind_)) {
    const bool is_x = kind_ == RoutingKind::XFirst ? x.hops > 0 : y.hops == 0;
    return {only(is_x ? x.out : y.out), is_x ? x.vc_class : y.vc_class};
  }
  const PortSet along_x = x.hops > 0 ? only(x.out) : PortSet{};
  const PortSet along_y = y.hops > 0 ? only(y.out) : PortSet{};
  const PortSet both{static_cast<std::uint8_t>(along_x.bits | along_y.bits)};
  switch (kind_) {
    case RoutingKind::WestFirst:
      return {both.has(Port::West) ? only(Port::West) : both, 0};
    case RoutingKind::NorthLast:
      return {both.has(Port::North) && !along_x.empty() ? along_x : both, 0};
    default: {
      const PortSet negative{
          static_cast<std::uint8_t>(both.bits & (only(Port::West).bits | only(Port::North).bits))};
      return {negative.empty() ? both : negative, 0};
    }
  }
}

// Only asked with gaps; without them every path is whole.
bool RoutingTable::formula_reaches(RouterId source, RouterId target) const {
  if (formula_classes_ == 0 || straight_.empty()) {
    return formula_classes_ > 0;
  }
  const Topology& topology = *topology_;
  const Site here = topology.site_of(source);
  const Site there = topology.site_of(target);
  const int plane = topology.plane_of(source);
  const Leg x =
      leg(topology, plane, here.column, there.column, topology.grid().columns, Port::East);
  const Leg y = leg(topology, plane, here.row, there.row, topology.grid().rows, Port::South);
  const bool is_x_first = kind_ == RoutingKind::XFirst;
  const Site corner = is_x_first ? Site{here.row, there.column} : Site{there.row, here.column};
  const RouterId start = topology.router_at(here, plane);
  const RouterId turn = topology.router_at(corner, plane);
  const auto whole = [&](RouterId from, const Leg& along) {
    return straight_[from.index][static_cast<std::size_t>(along.out)] >= along.hops;
  };
  return whole(start, is_x_first ? x : y) && whole(turn, is_x_first ? y : x);
}

Choices RoutingTable::choices(RouterId at, Port in, int vc_class, RouterId target) const {
  if (at == target) {
    return {only(Port::Local), in == Port::Local ? 0 : vc_class};
  }
  if (in != Port::Local) {
    if (vc_class < formula_classes_) {
      return formula(at, target);
    }
    return {tables_[static_cast<std::size_t>(vc_class - formula_classes_)].at(at, in, target),
            vc_class};
  }
  if (formula_reaches(at, target)) {
    return formula(at, target);
  }
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const PortSet outs = tables_[i].at(at, in, target);
    if (!outs.empty()) {
      return {outs, formula_classes_ + static_cast<int>(i)};
    }
  }
  return {};
}

Hop RoutingTable::next(RouterId at, Port in, int vc_class, RouterId target) const {
  const Choices choice = choices(at, in, vc_class, target);
  DOJO_DCHECK(!choice.ports.empty());
  return {.out = choice.ports.has(Port::Local) ? Port::Local : preferred(choice.ports, in),
          .vc_class = choice.vc_class};
}

std::vector<LinkId> RoutingTable::path(RouterId source, RouterId target) const {
  std::vector<LinkId> links;
  RouterId at = source;
  Port in = Port::Local;
  int vc_class = 0;
  while (at != target) {
    const Hop hop = next(at, in, vc_class, target);
    const LinkId link = *topology_->link_from(at, hop.out);
    links.push_back(link);
    at = topology_->link(link).to;
    in = opposite(hop.out);
    vc_class = hop.vc_class;
  }
  return links;
}

}  // namespace dojo::mesh
