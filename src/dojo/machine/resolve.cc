// From facts to plain numbers: units to cycles of the node clock, shares of links per row and
// column, the logical grid, attachments, and what the power totals leave (docs/machine.md).
#include <fmt/format.h>

#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/machine/internal/attach.h"
#include "dojo/machine/internal/facts.h"
#include "dojo/machine/logical_map.h"

namespace dojo::machine {
namespace {

// Reads the values of facts in units of the node clock.
class Resolver {
 public:
  explicit Resolver(const Facts& facts) : facts_(facts) { model_.clock = facts.node.clock.value; }

  MachineModel run() {
    set_node();
    set_levels();
    set_logical_grid();
    set_mesh_links();
    set_outer_links();
    set_interface();
    set_dram();
    set_energy();
    set_power();
    return std::move(model_);
  }

 private:
  BytesPerCycle per_cycle(const Fact<BytesPerSecond>& fact) const {
    return model_.clock.per_cycle(fact.value);
  }
  Cycles cycles(const Fact<Picoseconds>& fact) const { return model_.clock.to_cycles(fact.value); }

  void set_link(LinkClass link, LinkModel value) {
    model_.links[static_cast<std::size_t>(link)] = value;
  }
  // A link that no row or column shares.
  void set_link(LinkClass link, BytesPerCycle rate, Cycles latency) {
    set_link(link, {.rate = rate, .per_row = rate, .per_column = rate, .latency = latency});
  }
  // An edge of a die: its lanes serve the rows (columns) of sites evenly.
  void set_edge(LinkClass link, const Fact<BytesPerSecond>& rate,
                const Fact<Picoseconds>& latency) {
    const BytesPerCycle whole = per_cycle(rate);
    set_link(link, {.rate = whole,
                    .per_row = whole * (1.0 / model_.sites().rows),
                    .per_column = whole * (1.0 / model_.sites().columns),
                    .latency = cycles(latency)});
  }

  void set_node() {
    const NodeFacts& node = facts_.node;
    model_.node = {.matrix_m = node.matrix.value.m,
                   .matrix_n = node.matrix.value.n,
                   .matrix_k = node.matrix.value.k,
                   .vector_width = node.vector.value,
                   .sram = node.sram.value,
                   .code = node.code.value,
                   .buffers = node.buffers.value,
                   .vector_load = node.vector_load.value,
                   .vector_store = node.vector_store.value,
                   .scalar_load = node.scalar_load.value,
                   .scalar_store = node.scalar_store.value,
                   .t0 = node.t0.value,
                   .sfu = node.sfu.value,
                   .launch = node.launch.value,
                   .kappa = node.kappa.value};
  }

  void set_levels() {
    model_.levels.push_back({.level = Level::Die, .grid = facts_.mesh_die.size.value});
    if (facts_.tile) {
      model_.levels.push_back({.level = Level::Tile, .grid = facts_.tile->dies.value});
    }
    if (facts_.tray) {
      model_.levels.push_back({.level = Level::Tray, .grid = facts_.tray->tiles.value});
    }
    if (facts_.pod) {
      model_.levels.push_back({.level = Level::Pod, .grid = facts_.pod->trays.value});
    }
  }

  void set_logical_grid() {
    model_.dead_sites = facts_.mesh_die.dead.value;
    std::sort(model_.dead_sites.begin(), model_.dead_sites.end());
    auto map = map_logical_grid(model_.sites(), model_.dead_sites);
    DOJO_CHECK(map.has_value());  // check_facts asked the same
    model_.logical = map->grid;
    model_.logical_sites = std::move(map->sites);
  }

  void set_mesh_links() {
    const DieMeshFacts& mesh = facts_.mesh_die;
    set_link(LinkClass::NodeLink, mesh.link.value, mesh.hop.value);
    set_link(LinkClass::PortIn, mesh.port_in.value, mesh.inject.value);
    set_link(LinkClass::PortOut, mesh.port_out.value, mesh.inject.value);
    model_.network = {.alpha = mesh.alpha.value,
                      .reduce_stage = mesh.reduce_stage.value,
                      .stage = mesh.hop.value + mesh.inject.value + mesh.alpha.value,
                      .pace = mesh.pace.value,
                      .packet = mesh.packet.value};
    if (facts_.mesh_router) {
      const RouterFacts& router = *facts_.mesh_router;
      model_.router = {.vcs = router.vcs.value,
                       .depth = router.depth.value,
                       .stages = router.stages.value,
                       .credit = router.credit.value,
                       .speculates = router.speculation.value == internal::Switch::On,
                       .allocator = router.allocator.value};
    }
  }

  void set_outer_links() {
    set_edge(LinkClass::DieEdge, facts_.die.edge, facts_.die.edge_latency);
    if (facts_.tile) {
      set_edge(LinkClass::TileEdge, facts_.tile->edge, facts_.tile->edge_latency);
    }
    if (facts_.pod) {
      set_edge(LinkClass::TrayEdge, facts_.pod->edge, facts_.pod->edge_latency);
    }
  }

  void set_interface() {
    if (!facts_.interface) {
      return;
    }
    const InterfaceFacts& interface = *facts_.interface;
    set_link(LinkClass::ProcessorLink, per_cycle(interface.link), cycles(interface.link_latency));
    set_link(LinkClass::Hbm, per_cycle(interface.hbm_rate), cycles(interface.hbm_latency));
    set_link(LinkClass::Ethernet, per_cycle(interface.ethernet),
             cycles(interface.ethernet_latency));
    set_link(LinkClass::Pcie, per_cycle(interface.pcie), cycles(interface.pcie_latency));
    set_link(LinkClass::HostDecode, per_cycle(facts_.host->decode), Cycles{0});
    model_.processor_hbm = interface.hbm.value;
    model_.interface_level = internal::carrier_level(facts_);
    const Shape carrier = model_.dies_of(model_.interface_level);
    model_.processors = internal::attachments(model_.dies(), carrier, interface.edges.value,
                                              interface.processors.value);
    model_.entries = model_.processors;
    std::sort(model_.entries.begin(), model_.entries.end());
    model_.entries.erase(std::unique(model_.entries.begin(), model_.entries.end()),
                         model_.entries.end());
    const std::int64_t carriers = model_.dies().count() / carrier.count();
    model_.hosts = {.count = static_cast<int>(carriers * facts_.host->count.value),
                    .cores = facts_.host->cores.value,
                    .memory = facts_.host->memory.value};
  }

  void set_dram() {
    if (facts_.dram) {
      set_link(LinkClass::Hbm, per_cycle(facts_.dram->rate), cycles(facts_.dram->latency));
      model_.dram =
          DramModel{.size = facts_.dram->size.value, .overlap = facts_.dram->overlap.value};
    }
  }

  void set_energy() {
    const EnergyFacts& energy = facts_.energy;
    model_.energy = {.pj_per_mac = energy.mac.value.count(),
                     .pj_per_vector_fma = energy.vector_fma.value.count(),
                     .pj_per_sram_byte = energy.sram.value.value(),
                     .pj_per_hop_byte = energy.hop.value.value(),
                     .pj_per_die_byte = energy.die_edge.value.value(),
                     .pj_per_tile_byte = energy.tile_edge.value.value(),
                     .pj_per_hbm_byte = energy.hbm.value.value(),
                     .pj_per_ethernet_byte = energy.ethernet.value.value()};
  }

  // What full load leaves of the published totals; never below zero (cautions() tells).
  void set_power() {
    const EnergyFacts& energy = facts_.energy;
    PowerModel& power = model_.power;
    power.die = facts_.die.power.value;
    power.serdes_per_die =
        Watts(4 * facts_.die.edge.value.value() * model_.energy.pj_per_die_byte * 1e-12);
    const double sram_bytes = model_.node.vector_load.value() + energy.full_load_sram.value.value();
    const double pj_per_node_cycle =
        static_cast<double>(model_.node.macs_per_cycle()) * model_.energy.pj_per_mac +
        sram_bytes * model_.energy.pj_per_sram_byte +
        energy.full_load_hops.value.value() * model_.energy.pj_per_hop_byte;
    power.events_per_die =
        Watts(static_cast<double>(model_.live_nodes_per_die()) *
              static_cast<double>(model_.clock.hertz()) * pj_per_node_cycle * 1e-12);
    power.static_per_die =
        std::max(Watts{0}, power.die - power.serdes_per_die - power.events_per_die);
    power.pue = energy.pue.value;
    if (facts_.tile) {
      const TileFacts& tile = *facts_.tile;
      power.tile = tile.power.value;
      power.supply_efficiency = tile.supply_efficiency.value;
      power.tile_supply_volts = tile.supply.value.count();
      power.tile_die_amperes = tile.die_current.value.count();
      const double dies = static_cast<double>(tile.dies.value.count()) * power.die.count();
      power.io_per_tile = std::max(Watts{0}, power.tile - Watts(dies / power.supply_efficiency));
    }
    if (facts_.interface) {
      power.processor = facts_.interface->power.value;
      power.host = facts_.host->power.value;
    }
  }

  const Facts& facts_;
  MachineModel model_;
};

// Names and values of all facts, in the order of the table.
std::string canonical_text(const Description& description) {
  std::string text;
  for (const FactLine& line : list_facts(description)) {
    text += fmt::format("{}={}\n", line.path, line.value);
  }
  return text;
}

}  // namespace

MachineModel resolve(const Description& description) {
  MachineModel model = Resolver(description.facts()).run();
  model.name = description.name();
  model.title = description.title();
  model.digest = sha256_hex(canonical_text(description));
  return model;
}

std::vector<std::string> cautions(const MachineModel& machine) {
  std::vector<std::string> out;
  const PowerModel& power = machine.power;
  const Watts rest = power.die - power.serdes_per_die - power.events_per_die;
  const double share = rest / power.die;
  if (share < 0.1 || share > 0.4) {
    out.push_back(fmt::format(
        "energy: of {:.0f} W per die, events at full load take {:.0f} W and SerDes {:.0f} W, which "
        "leaves {:.0f} % for clock and leakage (plausible: 10 to 40 %): joules are unreliable",
        power.die.count(), power.events_per_die.count(), power.serdes_per_die.count(),
        100 * share));
  }
  if (machine.has(Level::Tile) && power.io_per_tile.count() <= 0) {
    out.push_back(fmt::format(
        "energy: the dies of a tile at full load take more than the tile's {:.0f} W: joules are "
        "unreliable",
        power.tile.count()));
  }
  return out;
}

}  // namespace dojo::machine
