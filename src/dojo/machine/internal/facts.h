// The facts of a machine description, section by section as in the file, and the one table of keys
// (visit_facts) that the parser, the lists, with_fact and the reference docs/machine.md follow.
// To add a fact: a member here, its line in visit_facts, a line in docs/machine.md and in d1.toml.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "dojo/machine/description.h"
#include "dojo/machine/fact.h"
#include "dojo/machine/internal/value_text.h"

namespace dojo::machine {

struct NodeFacts {
  Fact<Clock> clock;
  Fact<internal::MatrixShape> matrix;
  Fact<Bytes> vector;
  Fact<Bytes> sram;
  Fact<Bytes> code;
  Fact<Bytes> buffers;
  Fact<BytesPerCycle> vector_load;
  Fact<BytesPerCycle> vector_store;
  Fact<BytesPerCycle> scalar_load;
  Fact<BytesPerCycle> scalar_store;
  Fact<Cycles> t0;
  Fact<Cycles> sfu;
  Fact<Cycles> launch;
  Fact<double> kappa;
};

struct DieMeshFacts {
  Fact<Shape> size;
  Fact<std::vector<Site>> dead;
  Fact<BytesPerCycle> link;
  Fact<Cycles> hop;
  Fact<BytesPerCycle> port_in;
  Fact<BytesPerCycle> port_out;
  Fact<Cycles> inject;
  Fact<Bytes> packet;
  Fact<Cycles> alpha;
  Fact<Cycles> reduce_stage;
  Fact<double> pace;
};

struct RouterFacts {
  Fact<int> vcs;
  Fact<int> depth;
  Fact<Cycles> stages;
  Fact<Cycles> credit;
  Fact<RouterAllocator> allocator;
  Fact<internal::Switch> speculation;
};

struct DieFacts {
  Fact<BytesPerSecond> edge;
  Fact<Picoseconds> edge_latency;
  Fact<Watts> power;
};

struct TileFacts {
  Fact<Shape> dies;
  Fact<BytesPerSecond> edge;
  Fact<Picoseconds> edge_latency;
  Fact<Watts> power;
  Fact<double> supply_efficiency;
  Fact<internal::Volts> supply;
  Fact<internal::Amperes> die_current;
};

struct TrayFacts {
  Fact<Shape> tiles;
};

struct PodFacts {
  Fact<Shape> trays;
  Fact<BytesPerSecond> edge;
  Fact<Picoseconds> edge_latency;
};

struct InterfaceFacts {
  Fact<int> processors;
  Fact<std::vector<Side>> edges;
  Fact<BytesPerSecond> link;
  Fact<Picoseconds> link_latency;
  Fact<Bytes> hbm;
  Fact<BytesPerSecond> hbm_rate;
  Fact<Picoseconds> hbm_latency;
  Fact<BytesPerSecond> ethernet;
  Fact<Picoseconds> ethernet_latency;
  Fact<BytesPerSecond> pcie;
  Fact<Picoseconds> pcie_latency;
  Fact<Watts> power;
};

struct HostFacts {
  Fact<int> count;
  Fact<int> cores;
  Fact<Bytes> memory;
  Fact<BytesPerSecond> decode;
  Fact<Watts> power;
};

struct DramFacts {
  Fact<Bytes> size;
  Fact<BytesPerSecond> rate;
  Fact<Picoseconds> latency;
  Fact<double> overlap;
};

struct EnergyFacts {
  Fact<internal::Picojoules> mac;
  Fact<internal::Picojoules> vector_fma;
  Fact<internal::PicojoulesPerByte> sram;
  Fact<internal::PicojoulesPerByte> hop;
  Fact<internal::PicojoulesPerByte> die_edge;
  Fact<internal::PicojoulesPerByte> tile_edge;
  Fact<internal::PicojoulesPerByte> hbm;
  Fact<internal::PicojoulesPerByte> ethernet;
  Fact<BytesPerCycle> full_load_sram;
  Fact<BytesPerCycle> full_load_hops;
  Fact<double> pue;
};

// What a file says, section by section; a section that it has not is empty.
struct Facts {
  NodeFacts node;
  DieMeshFacts mesh_die;
  std::optional<RouterFacts> mesh_router;
  DieFacts die;
  std::optional<TileFacts> tile;
  std::optional<TrayFacts> tray;
  std::optional<PodFacts> pod;
  std::optional<InterfaceFacts> interface;
  std::optional<HostFacts> host;
  std::optional<DramFacts> dram;
  EnergyFacts energy;
};

namespace internal {

struct Section {
  std::string_view name;
  bool is_required = false;
};
inline constexpr Section kSections[] = {
    {"node", true},  {"mesh.die", true}, {"mesh.router", false}, {"die", true},
    {"tile", false}, {"tray", false},    {"pod", false},         {"interface", false},
    {"host", false}, {"dram", false},    {"energy", true},
};

// One row of the table of keys. `low` and `high` bound what a file may say: outside is a slip or
// an attempt to make sizes overflow, not a machine.
struct FactKey {
  std::string_view path;
  Affects affects;
  std::string_view low;
  std::string_view high;
  std::string_view meaning;
};

// The table of keys, section by section; visit_facts below goes through all of it.

template <class Section, class Visit>
void visit_node(Section& node, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"node.clock", Time, "1 MHz", "100 GHz",
                "clock of nodes and mesh; every cycle in a report is one of these"},
        node.clock);
  visit(FactKey{"node.matrix", Time, "1x1x1", "1024x1024x1024",
                "matrix unit: an m x k by k x n product a cycle, BF16 and CFloat8"},
        node.matrix);
  visit(FactKey{"node.vector", Time, "4 B", "64 KB",
                "width of the vector pipe; one FP32 fused multiply-add per 4 bytes and cycle"},
        node.vector);
  visit(FactKey{"node.sram", Time, "1 KB", "1 TB", "memory of one node, code and data"}, node.sram);
  visit(FactKey{"node.code", Time, "0 B", "1 TB", "SRAM kept for instructions"}, node.code);
  visit(FactKey{"node.buffers", Time, "0 B", "1 TB", "SRAM kept for transfer buffers and panels"},
        node.buffers);
  visit(FactKey{"node.vector_load", Time, "1 B/cycle", "1000000 B/cycle",
                "SRAM to vector and matrix operands"},
        node.vector_load);
  visit(FactKey{"node.vector_store", Time, "1 B/cycle", "1000000 B/cycle",
                "vector and matrix results to SRAM"},
        node.vector_store);
  visit(FactKey{"node.scalar_load", Nothing, "1 B/cycle", "1000000 B/cycle",
                "SRAM to the integer registers"},
        node.scalar_load);
  visit(FactKey{"node.scalar_store", Nothing, "1 B/cycle", "1000000 B/cycle",
                "integer registers to SRAM"},
        node.scalar_store);
  visit(FactKey{"node.t0", Time, "0 cycles", "1000000 cycles",
                "cycles lost per output tile and panel of a matrix product (drain, loop)"},
        node.t0);
  visit(FactKey{"node.sfu", Time, "1 cycle", "1000000 cycles",
                "cycles per special function (exp, rsqrt) and vector of FP32 lanes"},
        node.sfu);
  visit(FactKey{"node.launch", Time, "0 cycles", "1000000000 cycles",
                "cycles to start a phase: barrier, list-parser set-up"},
        node.launch);
  visit(FactKey{"node.kappa", Time, "0", "10",
                "slow-down of loads per unit of network port use (SRAM bank conflicts)"},
        node.kappa);
}

template <class Section, class Visit>
void visit_die_mesh(Section& mesh, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"mesh.die.size", Time, "1x1", "1024x1024", "sites of a die, rows x columns"},
        mesh.size);
  visit(FactKey{"mesh.die.dead", Time, "", "",
                "sites without a working node, the same on every die; their routers forward"},
        mesh.dead);
  visit(FactKey{"mesh.die.link", Time, "0.001 B/cycle", "1000000 B/cycle",
                "link between neighbouring nodes, one direction"},
        mesh.link);
  visit(FactKey{"mesh.die.hop", Time, "1 cycle", "1000000 cycles", "latency of one hop"}, mesh.hop);
  visit(FactKey{"mesh.die.port_in", Time, "0.001 B/cycle", "1000000 B/cycle",
                "network to a node's SRAM"},
        mesh.port_in);
  visit(FactKey{"mesh.die.port_out", Time, "0.001 B/cycle", "1000000 B/cycle",
                "a node's SRAM to the network"},
        mesh.port_out);
  visit(FactKey{"mesh.die.inject", Time, "1 cycle", "1000000 cycles",
                "cycles from SRAM into the router, or back"},
        mesh.inject);
  visit(FactKey{"mesh.die.packet", Time, "1 B", "1 MB", "payload of one packet"}, mesh.packet);
  visit(FactKey{"mesh.die.alpha", Time, "0 cycles", "1000000 cycles",
                "store-and-forward in software: packet in SRAM, semaphore, read, sent on"},
        mesh.alpha);
  visit(FactKey{"mesh.die.reduce_stage", Time, "0 cycles", "1000000 cycles",
                "the vector add of a reduction stage, on top of alpha"},
        mesh.reduce_stage);
  visit(FactKey{"mesh.die.pace", Time, "0.01", "1",
                "share of its fair share at which a transfer injects"},
        mesh.pace);
}

// What a flit is: what mesh.die.link moves in a cycle.
template <class Section, class Visit>
void visit_router(Section& router, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"mesh.router.vcs", Nothing, "1", "10", "virtual channels of a router's port"},
        router.vcs);
  visit(FactKey{"mesh.router.depth", Nothing, "1", "15",
                "flits in the buffer of a virtual channel; on a link between dies as many as its "
                "rate and latency need"},
        router.depth);
  visit(FactKey{"mesh.router.stages", Nothing, "1 cycle", "24 cycles",
                "from the grant of a flit to its use by the neighbour, where a hop takes 1 cycle"},
        router.stages);
  visit(FactKey{"mesh.router.credit", Nothing, "1 cycle", "12 cycles",
                "from the grant of a flit to the use of its slot by the router before"},
        router.credit);
  visit(FactKey{"mesh.router.allocator", Nothing, "", "",
                "who gets a virtual channel, and who the switch: one iteration of it"},
        router.allocator);
  visit(FactKey{"mesh.router.speculation", Nothing, "", "",
                "a head bids for the switch in the cycle in which it bids for a virtual channel"},
        router.speculation);
}

template <class Section, class Visit>
void visit_die(Section& die, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"die.edge", Time, "1 KB/s", "1000 TB/s", "one edge of a die, one direction"},
        die.edge);
  visit(FactKey{"die.edge_latency", Time, "1 ps", "1 s", "from die to die"}, die.edge_latency);
  visit(FactKey{"die.power", Energy, "0.001 W", "1 MW", "power of a die at full load"}, die.power);
}

template <class Section, class Visit>
void visit_tile(Section& tile, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"tile.dies", Time, "1x1", "1024x1024", "dies of a tile, rows x columns"},
        tile.dies);
  visit(FactKey{"tile.edge", Time, "1 KB/s", "1000 TB/s",
                "the part of a tile edge that one rim die has, one direction"},
        tile.edge);
  visit(FactKey{"tile.edge_latency", Time, "1 ps", "1 s", "from tile to tile"}, tile.edge_latency);
  visit(FactKey{"tile.power", Energy, "0.001 W", "100 MW", "power of a tile at full load"},
        tile.power);
  visit(FactKey{"tile.supply_efficiency", Energy, "0.01", "1",
                "share of the tile's input power that reaches the dies"},
        tile.supply_efficiency);
  visit(FactKey{"tile.supply", Nothing, "0.1 V", "1000000 V", "voltage of a tile's input"},
        tile.supply);
  visit(FactKey{"tile.die_current", Nothing, "0.001 A", "1000 kA", "current at the dies of a tile"},
        tile.die_current);
}

template <class Section, class Visit>
void visit_tray(Section& tray, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"tray.tiles", Time, "1x1", "1024x1024", "tiles of a tray, rows x columns"},
        tray.tiles);
}

template <class Section, class Visit>
void visit_pod(Section& pod, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"pod.trays", Time, "1x1", "1024x1024", "trays of the pod, rows x columns"},
        pod.trays);
  visit(FactKey{"pod.edge", Time, "1 KB/s", "1000 TB/s",
                "the part that one rim die has of the joint between trays, one direction"},
        pod.edge);
  visit(FactKey{"pod.edge_latency", Time, "1 ps", "1 s", "from tray to tray"}, pod.edge_latency);
}

template <class Section, class Visit>
void visit_interface(Section& interface, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"interface.processors", Time, "1", "1000000",
                "interface processors per tray, or of a machine without trays"},
        interface.processors);
  visit(FactKey{"interface.edges", Time, "", "",
                "edges of the tray (or machine) that they are attached to"},
        interface.edges);
  visit(FactKey{"interface.link", Time, "1 KB/s", "1000 TB/s",
                "one processor to its rim die, one direction"},
        interface.link);
  visit(FactKey{"interface.link_latency", Time, "1 ps", "1 s", "of that link"},
        interface.link_latency);
  visit(FactKey{"interface.hbm", Time, "1 KB", "1000 TB", "DRAM of one processor"}, interface.hbm);
  visit(FactKey{"interface.hbm_rate", Time, "1 KB/s", "1000 TB/s", "of one processor's DRAM"},
        interface.hbm_rate);
  visit(FactKey{"interface.hbm_latency", Time, "1 ps", "1 s", "of the DRAM"},
        interface.hbm_latency);
  visit(FactKey{"interface.ethernet", Time, "1 KB/s", "1000 TB/s",
                "one processor's network port, one direction"},
        interface.ethernet);
  visit(FactKey{"interface.ethernet_latency", Time, "1 ps", "1 s",
                "one way through the switch to another processor"},
        interface.ethernet_latency);
  visit(FactKey{"interface.pcie", Time, "1 KB/s", "1000 TB/s",
                "one processor to its host, one direction"},
        interface.pcie);
  visit(FactKey{"interface.pcie_latency", Time, "1 ps", "1 s", "of that link"},
        interface.pcie_latency);
  visit(FactKey{"interface.power", Energy, "0.001 W", "1 MW", "power of one processor"},
        interface.power);
}

template <class Section, class Visit>
void visit_host(Section& host, const Visit& visit) {
  using enum Affects;
  visit(
      FactKey{"host.count", Time, "1", "1000000", "hosts per tray, or of a machine without trays"},
      host.count);
  visit(FactKey{"host.cores", Nothing, "1", "1000000", "cores of one host"}, host.cores);
  visit(FactKey{"host.memory", Nothing, "1 KB", "1000 TB", "memory of one host"}, host.memory);
  visit(FactKey{"host.decode", Time, "1 KB/s", "1000 TB/s",
                "rate at which one host makes input tensors ready (video decoding), in bytes out"},
        host.decode);
  visit(FactKey{"host.power", Energy, "0.001 W", "1 MW", "power of one host"}, host.power);
}

template <class Section, class Visit>
void visit_dram(Section& dram, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"dram.size", Nothing, "1 KB", "1000 TB",
                "DRAM of a machine whose inputs lie there, all banks"},
        dram.size);
  visit(FactKey{"dram.rate", Time, "1 KB/s", "1000 TB/s", "all banks together"}, dram.rate);
  visit(FactKey{"dram.latency", Time, "1 ps", "1 s", "until the first byte is in a node"},
        dram.latency);
  visit(FactKey{"dram.overlap", Time, "0", "1",
                "share of reading inputs that runs beside the step's own work"},
        dram.overlap);
}

template <class Section, class Visit>
void visit_energy(Section& energy, const Visit& visit) {
  using enum Affects;
  visit(FactKey{"energy.mac", Energy, "0 pJ", "1000000 pJ",
                "BF16 multiply and FP32 add on the matrix unit"},
        energy.mac);
  visit(FactKey{"energy.vector_fma", Energy, "0 pJ", "1000000 pJ",
                "FP32 fused multiply-add on the vector pipe"},
        energy.vector_fma);
  visit(FactKey{"energy.sram", Energy, "0 pJ/B", "1000000 pJ/B", "SRAM read or write"},
        energy.sram);
  visit(FactKey{"energy.hop", Energy, "0 pJ/B", "1000000 pJ/B", "one hop: wire and router"},
        energy.hop);
  visit(FactKey{"energy.die_edge", Energy, "0 pJ/B", "1000000 pJ/B",
                "die crossing; the lanes are always on, so it is spent at full rate"},
        energy.die_edge);
  visit(FactKey{"energy.tile_edge", Energy, "0 pJ/B", "1000000 pJ/B", "tile crossing"},
        energy.tile_edge);
  visit(FactKey{"energy.hbm", Energy, "0 pJ/B", "1000000 pJ/B", "DRAM access with its path"},
        energy.hbm);
  visit(FactKey{"energy.ethernet", Energy, "0 pJ/B", "1000000 pJ/B",
                "Ethernet with optics and switch port"},
        energy.ethernet);
  visit(FactKey{"energy.full_load_sram", Energy, "0 B/cycle", "1000000 B/cycle",
                "SRAM traffic of a node at full load besides the matrix operands"},
        energy.full_load_sram);
  visit(FactKey{"energy.full_load_hops", Energy, "0 B/cycle", "1000000 B/cycle",
                "link traffic of a node at full load"},
        energy.full_load_hops);
  visit(FactKey{"energy.pue", Energy, "1", "10", "power of the building over power of the machine"},
        energy.pue);
}

// Calls visit(const FactKey&, Fact<T>&) for each fact of each section that `facts` has, in the
// order of the sections.
template <class FactsType, class Visit>
void visit_facts(FactsType& facts, const Visit& visit) {
  visit_node(facts.node, visit);
  visit_die_mesh(facts.mesh_die, visit);
  if (facts.mesh_router) {
    visit_router(*facts.mesh_router, visit);
  }
  visit_die(facts.die, visit);
  if (facts.tile) {
    visit_tile(*facts.tile, visit);
  }
  if (facts.tray) {
    visit_tray(*facts.tray, visit);
  }
  if (facts.pod) {
    visit_pod(*facts.pod, visit);
  }
  if (facts.interface) {
    visit_interface(*facts.interface, visit);
  }
  if (facts.host) {
    visit_host(*facts.host, visit);
  }
  if (facts.dram) {
    visit_dram(*facts.dram, visit);
  }
  visit_energy(facts.energy, visit);
}

// Error unless the facts fit together: geometry, budgets, levels, attachments. The error is placed
// at the fact it names.
Result<void> check_facts(const Facts& facts);

}  // namespace internal
}  // namespace dojo::machine
