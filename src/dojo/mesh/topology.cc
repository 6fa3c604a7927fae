#include "dojo/mesh/topology.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "dojo/base/check.h"
#include "dojo/mesh/internal/reach.h"

namespace dojo::mesh {

namespace {

std::string text(Site site) { return fmt::format("{},{}", site.row, site.column); }

Error invalid(std::string message) { return {ErrorKind::InvalidInput, std::move(message)}; }

Site step(Site site, Port out) {
  switch (out) {
    case Port::East:
      return {site.row, site.column + 1};
    case Port::West:
      return {site.row, site.column - 1};
    case Port::South:
      return {site.row + 1, site.column};
    default:
      return {site.row - 1, site.column};
  }
}

bool is_inside(Site site, Shape grid) {
  return site.row >= 0 && site.row < grid.rows && site.column >= 0 && site.column < grid.columns;
}

bool wraps(const TopologySpec& spec) {
  return spec.wrap == Wrap::Torus || spec.planes == Planes::Opposed;
}

Shape grid_of(const TopologySpec& spec) {
  return {spec.die.rows * spec.dies.rows, spec.die.columns * spec.dies.columns};
}

Result<void> check_sizes(const TopologySpec& spec) {
  const auto check = [](const char* what, Shape shape) -> Result<void> {
    constexpr std::int64_t limit = Topology::kMaximumRouters;
    if (shape.rows < 1 || shape.columns < 1) {
      return invalid(fmt::format("{} is {}x{}, expected ROWSxCOLUMNS of 1 or more", what,
                                 shape.rows, shape.columns));
    }
    if (shape.rows > limit || shape.columns > limit || shape.count() > limit) {
      return invalid(fmt::format("{} is {}x{}, expected at most {} routers", what, shape.rows,
                                 shape.columns, limit));
    }
    return {};
  };
  DOJO_TRY_VOID(check("the size of a die", spec.die));
  DOJO_TRY_VOID(check("the number of dies", spec.dies));
  if (spec.die.count() * spec.dies.count() > Topology::kMaximumRouters) {
    return invalid(fmt::format("{}x{} dies of {}x{} routers, expected at most {} routers",
                               spec.dies.rows, spec.dies.columns, spec.die.rows, spec.die.columns,
                               Topology::kMaximumRouters));
  }
  return check("the size of the network", grid_of(spec));
}

Result<void> check_link_class(const LinkClass& link) {
  if (link.latency.count() < 1) {
    return invalid(fmt::format("{}: latency of {} cycles, expected 1 or more", link.name,
                               link.latency.count()));
  }
  if (link.rate.num < 1 || link.rate.den < link.rate.num) {
    return invalid(fmt::format("{}: rate of {}/{} flits per cycle, expected above 0 and at most 1",
                               link.name, link.rate.num, link.rate.den));
  }
  if (link.slots.has_value() && *link.slots < 1) {
    return invalid(fmt::format("{}: {} flit slots, expected 1 or more", link.name, *link.slots));
  }
  return {};
}

Result<void> check_classes(const TopologySpec& spec) {
  if (spec.link_classes.empty()) {
    return invalid("no link classes, expected one for the links of a die");
  }
  for (const LinkClass& link : spec.link_classes) {
    DOJO_TRY_VOID(check_link_class(link));
  }
  const auto count = static_cast<int>(spec.link_classes.size());
  const auto check = [&](int link_class) -> Result<void> {
    if (link_class < 0 || link_class >= count) {
      return invalid(fmt::format("link class {}, expected 0..{}", link_class, count - 1));
    }
    return {};
  };
  const auto check_boundaries = [&](const char* what, const std::vector<int>& classes,
                                    int dies) -> Result<void> {
    if (static_cast<int>(classes.size()) != dies - 1) {
      return invalid(fmt::format("{} boundaries between {} of dies, expected {}", classes.size(),
                                 what, dies - 1));
    }
    for (const int link_class : classes) {
      DOJO_TRY_VOID(check(link_class));
    }
    return {};
  };
  DOJO_TRY_VOID(check(spec.wrap_class));
  DOJO_TRY_VOID(check_boundaries("rows", spec.row_boundaries, spec.dies.rows));
  DOJO_TRY_VOID(check_boundaries("columns", spec.column_boundaries, spec.dies.columns));
  for (const EdgePort& port : spec.edge_ports) {
    DOJO_TRY_VOID(check(port.link_class));
  }
  return {};
}

Result<void> check_site(const char* what, Site site, Shape grid) {
  if (!is_inside(site, grid)) {
    return invalid(
        fmt::format("{} {} is outside of the network, expected rows 0..{} and columns "
                    "0..{}",
                    what, text(site), grid.rows - 1, grid.columns - 1));
  }
  return {};
}

Result<void> check_holes(const TopologySpec& spec) {
  const Shape grid = grid_of(spec);
  for (const Site site : spec.dead_cores) {
    DOJO_TRY_VOID(check_site("dead core", site, grid));
  }
  for (const Site site : spec.dead_routers) {
    DOJO_TRY_VOID(check_site("dead router", site, grid));
  }
  for (const DeadLink& dead : spec.dead_links) {
    DOJO_TRY_VOID(check_site("dead link at", dead.site, grid));
    if (!wraps(spec) && !is_inside(step(dead.site, port_of(dead.side)), grid)) {
      return invalid(fmt::format("dead link {} of {} does not exist: it would leave the network",
                                 machine::name(dead.side), text(dead.site)));
    }
  }
  return {};
}

Result<void> check_edge_ports(const TopologySpec& spec) {
  const Shape grid = grid_of(spec);
  if (!spec.edge_ports.empty() && wraps(spec)) {
    return invalid("a torus has no edge: no edge ports");
  }
  std::vector<std::pair<Site, machine::Side>> seen;
  for (const EdgePort& port : spec.edge_ports) {
    DOJO_TRY_VOID(check_site("edge port at", port.site, grid));
    if (is_inside(step(port.site, port_of(port.side)), grid)) {
      return invalid(fmt::format("edge port {} of {}: that side is not an edge of the network",
                                 machine::name(port.side), text(port.site)));
    }
    seen.emplace_back(port.site, port.side);
  }
  std::sort(seen.begin(), seen.end());
  const auto twice = std::adjacent_find(seen.begin(), seen.end());
  if (twice != seen.end()) {
    return invalid(fmt::format("edge port {} of {} is given twice", machine::name(twice->second),
                               text(twice->first)));
  }
  return {};
}

}  // namespace

std::string_view name(Port port) {
  static constexpr std::array<std::string_view, kPortCount> kNames{"east", "west", "south", "north",
                                                                   "local"};
  return kNames[static_cast<std::size_t>(port)];
}

Port port_of(machine::Side side) {
  switch (side) {
    case machine::Side::North:
      return Port::North;
    case machine::Side::East:
      return Port::East;
    case machine::Side::South:
      return Port::South;
    default:
      return Port::West;
  }
}

int full_rate_slots(const LinkClass& link, Cycles stages) {
  const std::int64_t loop = 2 * link.latency.count() + stages.count();
  return static_cast<int>((loop * link.rate.num + link.rate.den - 1) / link.rate.den);
}

Result<FlitRate> flit_rate(BytesPerCycle rate, Bytes flit) {
  const double exact = rate.value() / static_cast<double>(flit.count());
  if (!(exact > 0 && exact <= 1 + 1e-12)) {
    return invalid(
        fmt::format("a rate of {} bytes per cycle in flits of {} bytes, expected above "
                    "0 and at most one flit per cycle",
                    rate.value(), flit.count()));
  }
  // Continued fraction: the convergents of a ratio of small integers end at it.
  constexpr std::int64_t limit = std::int64_t{1} << 20;
  std::int64_t num = 1;
  std::int64_t den = 0;
  std::int64_t previous_num = 0;
  std::int64_t previous_den = 1;
  double rest = exact;
  while (true) {
    const auto whole = static_cast<std::int64_t>(rest + 1e-9);
    std::tie(num, previous_num) = std::pair(whole * num + previous_num, num);
    std::tie(den, previous_den) = std::pair(whole * den + previous_den, den);
    if (den >= limit) {
      return invalid(
          fmt::format("a rate of {} bytes per cycle is no ratio of small integers to "
                      "flits of {} bytes",
                      rate.value(), flit.count()));
    }
    const double error = static_cast<double>(num) / static_cast<double>(den) - exact;
    if (error < 1e-12 * exact && error > -1e-12 * exact) {
      return FlitRate{static_cast<std::int32_t>(num), static_cast<std::int32_t>(den)};
    }
    rest = 1 / (rest - static_cast<double>(whole));
  }
}

Topology::Topology(TopologySpec spec) : spec_(std::move(spec)), grid_(grid_of(spec_)) {}

Result<Topology> Topology::rectangle(Shape grid) { return make(TopologySpec{.die = grid}); }

Result<Topology> Topology::make(TopologySpec spec) {
  DOJO_TRY_VOID(check_sizes(spec));
  DOJO_TRY_VOID(check_classes(spec));
  DOJO_TRY_VOID(check_holes(spec));
  DOJO_TRY_VOID(check_edge_ports(spec));
  if (spec.planes == Planes::Opposed) {
    spec.wrap = Wrap::Torus;
  }
  Topology made(std::move(spec));
  const auto sites = static_cast<std::size_t>(made.grid_.count());
  const std::size_t routers =
      sites * static_cast<std::size_t>(made.planes()) + made.spec_.edge_ports.size();
  made.live_.assign(routers, true);
  made.nodes_.assign(routers, true);
  made.has_gaps_ = !made.spec_.dead_routers.empty() || !made.spec_.dead_links.empty();
  std::vector<bool> dead_links(routers * kSidePorts.size(), false);
  for (int plane = 0; plane < made.planes(); ++plane) {
    for (const Site site : made.spec_.dead_routers) {
      made.live_[made.router_at(site, plane).index] = false;
      made.nodes_[made.router_at(site, plane).index] = false;
    }
    for (const Site site : made.spec_.dead_cores) {
      made.nodes_[made.router_at(site, plane).index] = false;
    }
    for (const DeadLink& dead : made.spec_.dead_links) {
      const Port out = port_of(dead.side);
      Site other = step(dead.site, out);
      other.row = (other.row + made.grid_.rows) % made.grid_.rows;
      other.column = (other.column + made.grid_.columns) % made.grid_.columns;
      dead_links[made.router_at(dead.site, plane).index * kSidePorts.size() +
                 static_cast<std::size_t>(out)] = true;
      dead_links[made.router_at(other, plane).index * kSidePorts.size() +
                 static_cast<std::size_t>(opposite(out))] = true;
    }
  }
  made.add_links(dead_links);
  DOJO_TRY_VOID(made.check_connected());
  return made;
}

void Topology::add_link(RouterId from, Port out, RouterId to, int link_class) {
  const LinkId id{static_cast<std::uint32_t>(links_.size())};
  links_.push_back({.from = from, .to = to, .out = out, .link_class = link_class});
  out_[from.index * kSidePorts.size() + static_cast<std::size_t>(out)] = id;
  in_[to.index * kSidePorts.size() + static_cast<std::size_t>(opposite(out))] = id;
}

int Topology::class_between(Site site, Port out) const {
  const Site next = step(site, out);
  if (!is_inside(next, grid_)) {
    return spec_.wrap_class;
  }
  const int die_row = std::min(site.row, next.row) / spec_.die.rows;
  if (site.row / spec_.die.rows != next.row / spec_.die.rows) {
    return spec_.row_boundaries[static_cast<std::size_t>(die_row)];
  }
  const int die_column = std::min(site.column, next.column) / spec_.die.columns;
  if (site.column / spec_.die.columns != next.column / spec_.die.columns) {
    return spec_.column_boundaries[static_cast<std::size_t>(die_column)];
  }
  return 0;
}

void Topology::add_links(const std::vector<bool>& dead_links) {
  out_.assign(routers() * kSidePorts.size(), std::nullopt);
  in_.assign(routers() * kSidePorts.size(), std::nullopt);
  for (std::uint32_t i = 0; i < routers() - spec_.edge_ports.size(); ++i) {
    const RouterId from{i};
    const Site site = site_of(from);
    for (const Port out : kSidePorts) {
      Site to = step(site, out);
      const bool is_along_row = out == Port::East || out == Port::West;
      const int length = is_along_row ? grid_.columns : grid_.rows;
      const bool is_east_or_south = out == Port::East || out == Port::South;
      if ((!is_inside(to, grid_) && (spec_.wrap == Wrap::None || length == 1)) ||
          (spec_.planes == Planes::Opposed && is_east_or_south != (plane_of(from) == 0))) {
        continue;
      }
      to.row = (to.row + grid_.rows) % grid_.rows;
      to.column = (to.column + grid_.columns) % grid_.columns;
      const RouterId target = router_at(to, plane_of(from));
      if (is_live(from) && is_live(target) &&
          !dead_links[from.index * kSidePorts.size() + static_cast<std::size_t>(out)]) {
        add_link(from, out, target, class_between(site, out));
      }
    }
  }
  for (std::size_t i = 0; i < spec_.edge_ports.size(); ++i) {
    const EdgePort& port = spec_.edge_ports[i];
    const RouterId outside = edge_port(i);
    const RouterId edge = router_at(port.site);
    if (!is_live(edge)) {
      live_[outside.index] = nodes_[outside.index] = false;
      continue;
    }
    add_link(edge, port_of(port.side), outside, port.link_class);
    add_link(outside, opposite(port_of(port.side)), edge, port.link_class);
  }
}

std::optional<LinkId> Topology::link_from(RouterId router, Port out) const {
  if (out == Port::Local) {
    return std::nullopt;
  }
  return out_[router.index * kSidePorts.size() + static_cast<std::size_t>(out)];
}

std::optional<LinkId> Topology::link_into(RouterId router, Port in) const {
  if (in == Port::Local) {
    return std::nullopt;
  }
  return in_[router.index * kSidePorts.size() + static_cast<std::size_t>(in)];
}

RouterId Topology::router_at(Site site, int plane) const {
  DOJO_DCHECK(is_inside(site, grid_) && plane >= 0 && plane < planes());
  const std::int64_t in_plane = std::int64_t{site.row} * grid_.columns + site.column;
  return {static_cast<std::uint32_t>(plane * grid_.count() + in_plane)};
}

RouterId Topology::edge_port(std::size_t port) const {
  return {static_cast<std::uint32_t>(routers() - spec_.edge_ports.size() + port)};
}

std::optional<std::size_t> Topology::edge_port_of(RouterId router) const {
  const std::size_t first = routers() - spec_.edge_ports.size();
  if (router.index < first) {
    return std::nullopt;
  }
  return router.index - first;
}

Site Topology::site_of(RouterId router) const {
  if (const auto port = edge_port_of(router)) {
    return spec_.edge_ports[*port].site;
  }
  const auto columns = static_cast<std::uint32_t>(grid_.columns);
  const std::uint32_t in_plane = router.index % static_cast<std::uint32_t>(grid_.count());
  return {static_cast<int>(in_plane / columns), static_cast<int>(in_plane % columns)};
}

int Topology::plane_of(RouterId router) const {
  if (edge_port_of(router).has_value()) {
    return 0;
  }
  return static_cast<int>(router.index / grid_.count());
}

Site Topology::die_of(RouterId router) const {
  const Site site = site_of(router);
  return {site.row / spec_.die.rows, site.column / spec_.die.columns};
}

std::size_t Topology::node_count() const {
  return static_cast<std::size_t>(std::count(nodes_.begin(), nodes_.end(), true));
}

std::string Topology::describe(RouterId router) const {
  const std::string site = text(site_of(router));
  if (const auto port = edge_port_of(router)) {
    return fmt::format("{} port of {}", machine::name(spec_.edge_ports[*port].side), site);
  }
  return planes() > 1 ? fmt::format("{} plane {}", site, plane_of(router)) : site;
}

// Of each plane the routers are kept that the largest part has; the rest must be without nodes.
Result<void> Topology::check_connected() {
  if (node_count() == 0) {
    return invalid("no node of the network is alive");
  }
  for (int plane = 0; plane < planes(); ++plane) {
    const internal::Parts parts = internal::parts_of_plane(*this, plane);
    std::vector<RouterId> cut_off;
    for (const RouterId router : parts.outside) {
      if (has_node(router)) {
        cut_off.push_back(router);
      } else {
        live_[router.index] = false;
      }
    }
    if (!cut_off.empty()) {
      return invalid(internal::describe_cut(*this, cut_off, parts.inside.size()));
    }
  }
  return {};
}

}  // namespace dojo::mesh
