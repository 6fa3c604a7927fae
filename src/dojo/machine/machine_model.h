// MachineModel: the plain, resolved numbers of one machine, in base's unit types. This is what
// every other library takes; where a number comes from is in the Description (description.h) alone.
//
// Invariants of a model that resolve() returned:
// - Shapes and positions are rows x columns, row 0 north, column 0 west, everywhere.
// - levels[0] is the die; every level stands on the one before; there is no level the file does
//   not declare. All dies of a machine are alike, dead sites included.
// - All rates are above zero and for one direction; cycles are those of `clock`.
// - logical_sites has logical.count() different live sites.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/units.h"

namespace dojo::machine {

struct Shape {
  int rows = 1;
  int columns = 1;
  constexpr std::int64_t count() const { return std::int64_t{rows} * columns; }
  friend constexpr bool operator==(Shape, Shape) = default;
};

// A place in a grid (a node on its die, a die on the machine).
struct Site {
  int row = 0;
  int column = 0;
  friend constexpr auto operator<=>(Site, Site) = default;
};

enum class Side : std::uint8_t { North, East, South, West };
inline constexpr std::array kSides{Side::North, Side::East, Side::South, Side::West};
std::string_view name(Side side);  // "north", ...
std::optional<Side> side_named(std::string_view name);

// Levels of the hierarchy a machine can declare, smallest first.
enum class Level : std::uint8_t { Die, Tile, Tray, Pod };
std::string_view name(Level level);  // "die", ...

// The classes of shared resources that bytes cross; what one unit of each is stands beside it.
enum class LinkClass : std::uint8_t {
  NodeLink,       // one link between neighbouring nodes, one direction
  PortIn,         // one node's network port into its SRAM
  PortOut,        // one node's network port out of its SRAM
  DieEdge,        // one whole edge of one die, one direction
  TileEdge,       // the part of a tile edge that belongs to one rim die, one direction
  TrayEdge,       // the same where two trays join
  ProcessorLink,  // one interface processor's link to its rim die, one direction
  Hbm,            // one interface processor's DRAM; or all DRAM of a machine that has its own
  Ethernet,       // one interface processor's network port, one direction
  Pcie,           // one interface processor's link to its host, one direction
  HostDecode,     // one host's rate of ready (decoded) input bytes
};
inline constexpr std::size_t kLinkClassCount = 11;
std::string_view name(LinkClass link);  // "node_link", ...
std::optional<LinkClass> link_class_named(std::string_view name);

struct LinkModel {
  BytesPerCycle rate{};  // of the unit that LinkClass names
  // The part of the rate that one row of sites has when it crosses west-east, and one column when
  // it crosses north-south (DieEdge: rate / rows and rate / columns of the die). For classes that
  // no row or column shares, both equal the rate.
  BytesPerCycle per_row{};
  BytesPerCycle per_column{};
  Cycles latency{};  // NodeLink: per hop; ports: to inject or eject; others: per crossing
};

struct NodeModel {
  // The matrix unit takes m x k by k x n and adds to m x n, every cycle.
  int matrix_m = 0;
  int matrix_n = 0;
  int matrix_k = 0;
  Bytes vector_width{};  // of the vector pipe, per cycle
  Bytes sram{};
  Bytes code{};     // reserved for instructions
  Bytes buffers{};  // reserved for transfer buffers and panels; the memory plan may take more
  // SRAM ports by user. The network's own ports are LinkClass::PortIn and PortOut.
  BytesPerCycle vector_load{};   // into vector and matrix operands
  BytesPerCycle vector_store{};  // out of them
  BytesPerCycle scalar_load{};
  BytesPerCycle scalar_store{};
  Cycles t0{};       // extra per output tile and panel of a matrix product (drain, loop)
  Cycles sfu{};      // per special function (exp, rsqrt, ...) and full vector of FP32 lanes
  Cycles launch{};   // per phase: barrier, list-parser set-up
  double kappa = 0;  // slow-down of loads per unit of network port use (bank conflicts)

  std::int64_t macs_per_cycle() const { return std::int64_t{matrix_m} * matrix_n * matrix_k; }
  int fp32_lanes() const { return static_cast<int>(vector_width.count() / 4); }
  Bytes tensor_sram() const { return sram - code - buffers; }
};

// How transfers behave that are not a single link.
struct NetworkModel {
  Cycles alpha{};         // store-and-forward: packet in SRAM -> semaphore -> read -> sent on
  Cycles reduce_stage{};  // the vector add of a reduction stage, on top of alpha
  Cycles stage{};         // s = hop + inject + alpha: one store-and-forward stage
  double pace = 0;        // share of its fair share at which a transfer injects, (0, 1]
  Bytes packet{};         // payload of one packet
};

enum class RouterAllocator : std::uint8_t { Islip, RoundRobin };
std::string_view name(RouterAllocator allocator);  // "islip", "round-robin"
std::optional<RouterAllocator> router_allocator_named(std::string_view name);

// The router of a node, for the mesh flit by flit (docs/mesh.md); nothing else depends on it.
struct RouterModel {
  int vcs = 0;              // virtual channels of a port
  int depth = 0;            // flits of a VC's buffer
  Cycles stages{};          // from the grant of a flit to its use by the neighbour
  Cycles credit{};          // from the grant to the use of the freed slot
  bool speculates = false;  // both allocations in one cycle
  RouterAllocator allocator = RouterAllocator::Islip;
};

// One level: a grid of units of the level below (of sites for the die).
struct LevelModel {
  Level level = Level::Die;
  Shape grid{};
};

// One interface processor and the rim die it is attached to, in machine-wide die coordinates.
struct Attachment {
  Site die{};
  Side side = Side::West;
  friend constexpr auto operator<=>(const Attachment&, const Attachment&) = default;
};

struct HostModel {
  int count = 0;   // of the machine; the processors are dealt to hosts in equal blocks, in order
  int cores = 0;   // per host
  Bytes memory{};  // per host
};

// DRAM of the machine itself, where a step's inputs lie (instead of with hosts).
struct DramModel {
  Bytes size{};
  // Share of reading them that runs beside the step's own work, 0..1: 1 if operands are read ahead
  // in a second buffer, 0 if an op reads what it needs and then computes.
  double overlap = 1;
};

// Energy per event, joules in pico; each counts events of one node or byte.
struct EnergyModel {
  double pj_per_mac = 0;         // BF16 multiply and FP32 add on the matrix unit
  double pj_per_vector_fma = 0;  // FP32 fused multiply-add on the vector pipe
  double pj_per_sram_byte = 0;
  double pj_per_hop_byte = 0;
  // A die crossing. SerDes lanes are taken as always on: their power at the full rate is in
  // PowerModel::serdes_per_die, so count either that or the bytes, not both.
  double pj_per_die_byte = 0;
  double pj_per_tile_byte = 0;
  double pj_per_hbm_byte = 0;
  double pj_per_ethernet_byte = 0;
};

// Power; parts that the machine has not are zero. static_per_die and io_per_tile are what the
// published totals of die and tile leave (docs/machine.md, "Energy").
struct PowerModel {
  Watts die{};             // at full load: events, SerDes and static
  Watts events_per_die{};  // matrix unit, SRAM and hops at full load
  Watts serdes_per_die{};  // always on
  Watts static_per_die{};  // clock, leakage, front end: what the events and SerDes leave of `die`
  Watts tile{};
  double supply_efficiency = 1;  // of the tile's regulators
  Watts io_per_tile{};           // all I/O dies of a tile
  double tile_supply_volts = 0;
  double tile_die_amperes = 0;
  Watts processor{};  // one interface processor
  Watts host{};       // one host
  double pue = 1;     // power usage effectiveness of the building
};

// Sums over one unit of a level (`dojo machine show` prints them).
struct LevelTotals {
  Level level = Level::Die;
  Shape dies{};  // of the unit
  std::int64_t live_nodes = 0;
  std::int64_t logical_nodes = 0;
  FlopsPerSecond peak_matrix{};  // BF16 and CFloat8, on live nodes
  FlopsPerSecond peak_vector{};  // FP32, on live nodes
  Bytes sram{};                  // of live nodes
  BytesPerSecond bisection{};    // one way, across the weakest straight cut nearest the middle
  BytesPerSecond edge{};         // one way, the north edge of the unit
  std::int64_t processors = 0;   // 0 below the level they belong to, like all that follows of them
  Bytes hbm{};
  BytesPerSecond hbm_rate{};
  BytesPerSecond processor_link_rate{};  // one way
  BytesPerSecond ethernet_rate{};        // one way
  BytesPerSecond pcie_rate{};            // one way
  Watts power{};  // at full load, with processors and hosts; without the building
};

struct MachineModel {
  std::string name{};
  std::string title{};
  std::string digest{};  // SHA-256 of every resolved number; equal machines have equal digests
  Clock clock{};
  NodeModel node{};
  NetworkModel network{};
  std::optional<RouterModel> router{};  // none: the machine file does not say
  std::vector<LevelModel> levels{};
  std::vector<Site> dead_sites{};     // per die, in row-major order
  Shape logical{};                    // grid of nodes that each die offers for placement
  std::vector<Site> logical_sites{};  // where logical node (r, c) stands: [r * logical.columns + c]
  std::array<std::optional<LinkModel>, kLinkClassCount> links{};  // by LinkClass
  Level interface_level = Level::Die;    // processors and hosts belong to one unit of this level
  std::vector<Attachment> processors{};  // host h serves an equal block
  std::vector<Attachment> entries{};     // where they are attached: each place once, ascending
  Bytes processor_hbm{};                 // of each
  HostModel hosts{};
  std::optional<DramModel> dram{};  // instead of processors and hosts
  EnergyModel energy{};
  PowerModel power{};

  bool has(LinkClass link) const { return links[static_cast<std::size_t>(link)].has_value(); }
  const LinkModel& link(LinkClass link) const;  // only if has(link)
  bool has(Level level) const;
  Level top() const { return levels.back().level; }

  Shape sites() const { return levels.front().grid; }  // of one die
  Shape dies() const { return dies_of(top()); }        // of the machine
  Shape dies_of(Level level) const;                    // of one unit of a level that it has
  std::int64_t live_nodes_per_die() const;
  std::int64_t live_nodes() const { return dies().count() * live_nodes_per_die(); }
  std::int64_t logical_nodes() const { return dies().count() * logical.count(); }

  Site site_of(Site logical_node) const;  // on its die
  // What a step from die row (column) r to r + 1 crosses: DieEdge, TileEdge or TrayEdge.
  LinkClass row_boundary(int die_row) const;
  LinkClass column_boundary(int die_column) const;

  // Peak of the whole machine on its live nodes: the denominator of every utilisation.
  FlopsPerSecond peak_matrix() const;
  FlopsPerSecond peak_vector() const;
  LevelTotals totals(Level level) const;  // only for a level that it has
  BytesPerSecond per_second(BytesPerCycle rate) const;
};

}  // namespace dojo::machine
