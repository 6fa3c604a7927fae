#include "dojo/machine/machine_model.h"

#include <algorithm>
#include <cstdlib>

#include "dojo/base/check.h"

namespace dojo::machine {
namespace {

constexpr std::array<std::string_view, 4> kSideNames{"north", "east", "south", "west"};
constexpr std::array<std::string_view, 4> kLevelNames{"die", "tile", "tray", "pod"};
constexpr std::array<std::string_view, kLinkClassCount> kLinkNames{
    "node_link",      "port_in", "port_out", "die_edge", "tile_edge",  "tray_edge",
    "processor_link", "hbm",     "ethernet", "pcie",     "host_decode"};

template <class Enum, std::size_t N>
std::optional<Enum> named(const std::array<std::string_view, N>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    return std::nullopt;
  }
  return static_cast<Enum>(found - names.begin());
}

// Dies per unit of each level, smallest level first, as one number per axis.
struct Grouping {
  int tile = 0;  // dies per tile along the axis; 0 without tiles
  int tray = 0;
};

// What lies between die i and i + 1 along one axis.
LinkClass boundary(Grouping dies_per, int i) {
  if (dies_per.tray > 0 && (i + 1) % dies_per.tray == 0) {
    return LinkClass::TrayEdge;
  }
  if (dies_per.tile > 0 && (i + 1) % dies_per.tile == 0) {
    return LinkClass::TileEdge;
  }
  return LinkClass::DieEdge;
}

// The unit's rim towards the outside: its own edge class.
LinkClass rim(Level level) {
  return level == Level::Die ? LinkClass::DieEdge : LinkClass::TileEdge;
}

}  // namespace

std::string_view name(Side side) { return kSideNames[static_cast<std::size_t>(side)]; }
std::string_view name(Level level) { return kLevelNames[static_cast<std::size_t>(level)]; }
std::string_view name(RouterAllocator allocator) {
  return allocator == RouterAllocator::Islip ? "islip" : "round-robin";
}
std::optional<RouterAllocator> router_allocator_named(std::string_view text) {
  for (const RouterAllocator allocator : {RouterAllocator::Islip, RouterAllocator::RoundRobin}) {
    if (name(allocator) == text) {
      return allocator;
    }
  }
  return std::nullopt;
}

std::string_view name(LinkClass link) { return kLinkNames[static_cast<std::size_t>(link)]; }
std::optional<Side> side_named(std::string_view name) { return named<Side>(kSideNames, name); }
std::optional<LinkClass> link_class_named(std::string_view name) {
  return named<LinkClass>(kLinkNames, name);
}

const LinkModel& MachineModel::link(LinkClass link) const {
  DOJO_CHECK(has(link));
  return *links[static_cast<std::size_t>(link)];
}

bool MachineModel::has(Level level) const {
  return std::any_of(levels.begin(), levels.end(),
                     [&](const LevelModel& model) { return model.level == level; });
}

Shape MachineModel::dies_of(Level level) const {
  DOJO_CHECK(has(level));
  Shape dies;
  for (const LevelModel& model : levels) {
    if (model.level == Level::Die) {
      continue;  // its grid counts sites
    }
    if (model.level > level) {
      break;
    }
    dies = {.rows = dies.rows * model.grid.rows, .columns = dies.columns * model.grid.columns};
  }
  return dies;
}

std::int64_t MachineModel::live_nodes_per_die() const {
  return sites().count() - static_cast<std::int64_t>(dead_sites.size());
}

Site MachineModel::site_of(Site logical_node) const {
  DOJO_DCHECK(logical_node.row >= 0 && logical_node.row < logical.rows &&
              logical_node.column >= 0 && logical_node.column < logical.columns);
  return logical_sites[static_cast<std::size_t>(logical_node.row) *
                           static_cast<std::size_t>(logical.columns) +
                       static_cast<std::size_t>(logical_node.column)];
}

LinkClass MachineModel::row_boundary(int die_row) const {
  return boundary({.tile = has(Level::Tile) ? dies_of(Level::Tile).rows : 0,
                   .tray = has(Level::Tray) ? dies_of(Level::Tray).rows : 0},
                  die_row);
}

LinkClass MachineModel::column_boundary(int die_column) const {
  return boundary({.tile = has(Level::Tile) ? dies_of(Level::Tile).columns : 0,
                   .tray = has(Level::Tray) ? dies_of(Level::Tray).columns : 0},
                  die_column);
}

BytesPerSecond MachineModel::per_second(BytesPerCycle rate) const {
  return BytesPerSecond(rate.value() * static_cast<double>(clock.hertz()));
}

FlopsPerSecond MachineModel::peak_matrix() const { return totals(top()).peak_matrix; }
FlopsPerSecond MachineModel::peak_vector() const { return totals(top()).peak_vector; }

namespace {

// One way across the straight cut between die rows (or columns) nearest the middle; of two equally
// near the weaker one. `lines` dies stand along the cut, `length` across it.
template <class Boundary>
BytesPerCycle middle_cut(const MachineModel& machine, int lines, int length, Boundary between) {
  const auto at = [&](int i) { return machine.link(between(i)).rate * static_cast<double>(lines); };
  const int before = length / 2 - 1;  // the cut after this die
  return length % 2 == 0 ? at(before) : std::min(at(before), at(before + 1));
}

// Inside one die the cut crosses node links; shorter rows of links make the weaker cut.
BytesPerCycle bisection(const MachineModel& machine, Shape dies) {
  if (dies.count() == 1) {
    return machine.link(LinkClass::NodeLink).rate *
           static_cast<double>(std::min(machine.sites().rows, machine.sites().columns));
  }
  const auto rows = [&](int i) { return machine.row_boundary(i); };
  const auto columns = [&](int i) { return machine.column_boundary(i); };
  if (dies.rows == 1) {
    return middle_cut(machine, 1, dies.columns, columns);
  }
  if (dies.columns == 1) {
    return middle_cut(machine, 1, dies.rows, rows);
  }
  return std::min(middle_cut(machine, dies.columns, dies.rows, rows),
                  middle_cut(machine, dies.rows, dies.columns, columns));
}

}  // namespace

LevelTotals MachineModel::totals(Level level) const {
  LevelTotals out{.level = level, .dies = dies_of(level)};
  const std::int64_t die_count = out.dies.count();
  const double hertz = static_cast<double>(clock.hertz());
  out.live_nodes = die_count * live_nodes_per_die();
  out.logical_nodes = die_count * logical.count();
  const double nodes = static_cast<double>(out.live_nodes);
  out.peak_matrix = FlopsPerSecond(nodes * 2 * static_cast<double>(node.macs_per_cycle()) * hertz);
  out.peak_vector = FlopsPerSecond(nodes * 2 * node.fp32_lanes() * hertz);
  out.sram = out.live_nodes * node.sram;
  out.bisection = per_second(bisection(*this, out.dies));
  out.edge = per_second(link(rim(level)).rate * static_cast<double>(out.dies.columns));

  // Of a unit below the processors' level a share would be no whole number: it has none.
  const std::int64_t units = dies().count() / die_count;
  const bool has_interface = level >= interface_level;
  out.processors = has_interface ? static_cast<std::int64_t>(processors.size()) / units : 0;
  const std::int64_t host_count = has_interface ? hosts.count / units : 0;
  const double processor_count = static_cast<double>(out.processors);
  if (out.processors > 0) {
    const auto sum = [&](LinkClass link_class) {
      return per_second(link(link_class).rate * processor_count);
    };
    out.hbm = out.processors * processor_hbm;
    out.hbm_rate = sum(LinkClass::Hbm);
    out.processor_link_rate = sum(LinkClass::ProcessorLink);
    out.ethernet_rate = sum(LinkClass::Ethernet);
    out.pcie_rate = sum(LinkClass::Pcie);
  }
  if (level == Level::Die) {
    out.power = power.die;
  } else {
    const double tiles =
        static_cast<double>(die_count) / static_cast<double>(dies_of(Level::Tile).count());
    out.power = Watts(tiles * power.tile.count());
  }
  out.power += Watts(processor_count * power.processor.count() +
                     static_cast<double>(host_count) * power.host.count());
  return out;
}

}  // namespace dojo::machine
