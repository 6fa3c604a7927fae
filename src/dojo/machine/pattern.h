// Pattern: a transfer on a Region, as a symbol. One Pattern on a region of a million nodes is one
// small value; its time (formulas, flow) is library cost's, its packets are library mesh's.
//
// "Rows" means along each row: every row of the region is a line of columns() nodes and all lines
// work at once. "Columns" is the same along each column, "Both" the region as one group of nodes.
// Sizes are bytes; which message they measure stands beside each kind (V is the gathered or summed
// result of one line or group, as in the formulas). Text: `all_gather rows bytes=188416`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/machine/machine_model.h"

namespace dojo::machine {

enum class PatternKind : std::uint8_t {
  Multicast,      // `bytes` = V: what node `source` of each line sends to all others of it
  AllGather,      // `bytes` = V: every node of a line brings V / n and ends with all of V
  Reduce,         // `bytes` = V: every node brings a partial of V, the last of the line has the sum
  ReduceScatter,  // `bytes` = V: every node brings a partial of V, each ends with V / n of the sum
  AllReduce,      // `bytes` = V: every node brings a partial of V and ends with the sum
  Halo,           // `halo` per side: what a node receives from its neighbours on that side
  Shift,          // `bytes` per node, to the node `distance` further along the line (cyclic)
  AllToAll,       // `bytes` per ordered pair of nodes of the line or group
  GatherToEdge,   // `bytes` per node, to the outside through `edge` of the region
  ScatterFromEdge,  // `bytes` per node, from the outside through `edge`
  RegionMove,  // `bytes` per node, to the node (`move_rows`, `move_columns`) away, counted in nodes
};
inline constexpr std::size_t kPatternKindCount = 11;

enum class Axis : std::uint8_t { Rows, Columns, Both };

// In which order the partials of a reduction are added; it decides values, so the lowered Graph
// states it (k_parts) and a Program may only repeat it.
enum class Association : std::uint8_t {
  None,    // the pattern adds nothing
  Chain,   // ascending: ((p0 + p1) + p2) + ...
  Nested,  // ascending inside each die, then ascending over dies; of sums over replicas: inside
           // each row of replicas, then over rows
  Centre,  // from both ends of every line to its middle node: for small messages
};

// Bytes that a node receives from each side.
struct HaloBytes {
  Bytes north{};
  Bytes east{};
  Bytes south{};
  Bytes west{};
  friend constexpr bool operator==(const HaloBytes&, const HaloBytes&) = default;
};

// Fields that its kind does not name stay at their defaults; parse and check refuse others.
struct Pattern {
  PatternKind kind = PatternKind::AllGather;
  Axis axis = Axis::Both;
  Association order = Association::None;
  Bytes bytes{};
  int source = 0;          // Multicast: index of the sender in its line; 0 is a line's end
  int distance = 0;        // Shift: not 0, negative is west or north
  HaloBytes halo{};        // Halo
  Side edge = Side::West;  // GatherToEdge, ScatterFromEdge
  int move_rows = 0;       // RegionMove: positive is south
  int move_columns = 0;    // RegionMove: positive is east
  friend constexpr bool operator==(const Pattern&, const Pattern&) = default;
};

// One function per kind, so that no field is forgotten or set in vain.
Pattern multicast(Axis axis, Bytes bytes, int source = 0);
Pattern all_gather(Axis axis, Bytes bytes);
Pattern reduce(Axis axis, Association order, Bytes bytes);
Pattern reduce_scatter(Axis axis, Association order, Bytes bytes);
Pattern all_reduce(Axis axis, Association order, Bytes bytes);
Pattern halo(HaloBytes sides);
Pattern shift(Axis axis, int distance, Bytes bytes_per_node);
Pattern all_to_all(Axis axis, Bytes bytes_per_pair);
Pattern gather_to_edge(Side edge, Bytes bytes_per_node);
Pattern scatter_from_edge(Side edge, Bytes bytes_per_node);
Pattern region_move(int rows, int columns, Bytes bytes_per_node);

std::string_view name(PatternKind kind);   // "multicast", "all_gather", ...
std::string_view name(Axis axis);          // "rows", "columns", "both"
std::string_view name(Association order);  // "none", "chain", "nested", "centre"
std::optional<PatternKind> pattern_kind_named(std::string_view name);
std::optional<Axis> axis_named(std::string_view name);
std::optional<Association> association_named(std::string_view name);

// Error unless the fields are those of the kind: sizes not negative, an order exactly where
// something is added, shift along rows or columns, not by 0.
Result<void> check_pattern(const Pattern& pattern);

std::string to_string(const Pattern& pattern);
Result<Pattern> parse_pattern(std::string_view text);

}  // namespace dojo::machine
