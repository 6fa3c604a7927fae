// RoutingTable: which outputs a packet may take, at every router and from every input. Proved when
// it is made: every node reaches every other, no packet turns back the way it came, and the channel
// dependency graph has no cycle, so packets cannot wait for each other for ever.
//
// - A channel is (link, VC class). A class is a range of virtual channels; the table says in which
//   class a packet goes on.
// - Where nothing is missing, x-first, y-first and the turn models are formulas and take no memory.
//   On a torus a dimension has two classes: 0 until the packet has passed the wrap link, then 1.
// - With gaps, a packet whose dimension-order path is whole takes it. Others take a table of their
//   own and the last VC: up*/down* over a breadth-first tree (first only towards its root, then
//   only away from it), shortest such path; ties go straight on, then to the lowest port. No packet
//   changes between the two. With one VC every packet takes up*/down*.
// - Turn models with gaps take the shortest paths that the turns allow; pairs they cut off take
//   up*/down* as above.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

enum class RoutingKind : std::uint8_t {
  XFirst,         // along the row, then along the column
  YFirst,         // along the column, then along the row
  WestFirst,      // adaptive: west before anything else
  NorthLast,      // adaptive: nothing after north
  NegativeFirst,  // adaptive: west and north before east and south
  UpDown,         // up*/down* for every packet
};
constexpr bool is_dimension_order(RoutingKind kind) {
  return kind == RoutingKind::XFirst || kind == RoutingKind::YFirst;
}
std::string_view name(RoutingKind kind);  // "x-first", ...
std::optional<RoutingKind> routing_kind_named(std::string_view name);

// One bit per Port.
struct PortSet {
  std::uint8_t bits = 0;
  constexpr bool has(Port port) const { return (bits >> index(port) & 1) != 0; }
  constexpr bool empty() const { return bits == 0; }
  constexpr PortSet with(Port port) const {
    return {static_cast<std::uint8_t>(bits | (1 << index(port)))};
  }
  friend constexpr bool operator==(PortSet, PortSet) = default;
};
constexpr PortSet only(Port port) { return PortSet{}.with(port); }

// Of outputs that are not empty: straight on from input `in`, else the lowest port.
Port preferred(PortSet outs, Port in);

// Outputs that a packet may take, all in one class. Local alone: it has arrived.
struct Choices {
  PortSet ports{};
  int vc_class = 0;
  friend constexpr bool operator==(const Choices&, const Choices&) = default;
};

struct Hop {
  Port out = Port::Local;
  int vc_class = 0;
  friend constexpr bool operator==(const Hop&, const Hop&) = default;
};

// Virtual channels first .. first + count - 1.
struct VcRange {
  int first = 0;
  int count = 0;
  friend constexpr bool operator==(const VcRange&, const VcRange&) = default;
};

// Allowed outputs of one class, [target][router], four bits (E, W, S, N) for each of the five
// inputs; 0: a packet for that target is not there, or not in this class.
struct ClassTable {
  std::vector<std::vector<std::uint32_t>> entries{};  // empty inner vector: nothing for that target

  PortSet at(RouterId router, Port in, RouterId target) const {
    const std::vector<std::uint32_t>& row = entries[target.index];
    return row.empty()
               ? PortSet{}
               : PortSet{static_cast<std::uint8_t>(row[router.index] >> (4 * index(in)) & 0xfU)};
  }
  void allow(RouterId router, Port in, RouterId target, Port out);
};

// Keeps a reference to its topology, which must stay where it is.
class RoutingTable {
 public:
  // For routers with `vcs` virtual channels. Error: too few of them for the classes (a torus needs
  // 2, and one more with gaps), a turn model on a torus, gaps in unidirectional planes, a table
  // above kMaximumTableBytes.
  static Result<RoutingTable> make(const Topology& topology, RoutingKind kind, int vcs);
  // Tables from elsewhere, one per class; a packet starts in the first class that knows its pair.
  // Error: a cycle (printed), a pair that does not arrive, a turn back.
  static Result<RoutingTable> from_tables(const Topology& topology, std::vector<ClassTable> tables,
                                          int vcs);

  static constexpr std::int64_t kMaximumTableBytes = std::int64_t{1} << 29;

  RoutingKind kind() const { return kind_; }
  // At least 1, also where no packet ever leaves its node.
  int classes() const { return std::max(1, formula_classes_ + static_cast<int>(tables_.size())); }
  VcRange vcs(int vc_class) const;
  // True if next() is the dimension-order formula of kind() for every pair: x-first or y-first on a
  // mesh without gaps. Such routers need no table.
  bool is_dimension_order() const;

  // For a packet for `target` that came in by `in` in class `vc_class` (Local: starts here, the
  // class does not matter). Both routers are live and on one plane.
  Choices choices(RouterId at, Port in, int vc_class, RouterId target) const;
  // The choice of a router that has no preference: straight on, then the lowest port.
  Hop next(RouterId at, Port in, int vc_class, RouterId target) const;

  // Links from source to target by next(), in order.
  std::vector<LinkId> path(RouterId source, RouterId target) const;

 private:
  friend class RoutingBuilder;
  RoutingTable(const Topology& topology, RoutingKind kind, int vcs);
  Choices formula(RouterId at, RouterId target) const;
  bool formula_reaches(RouterId source, RouterId target) const;

  const Topology* topology_;
  RoutingKind kind_ = RoutingKind::XFirst;
  int vcs_ = 1;
  int formula_classes_ = 0;
  std::vector<ClassTable> tables_{};
  std::vector<std::array<std::int32_t, 4>> straight_{};  // hops that are whole, [router][side]
};

}  // namespace dojo::mesh
