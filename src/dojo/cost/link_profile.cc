#include "dojo/cost/link_profile.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace dojo::cost {
namespace {

using machine::Axis;
using machine::Pattern;
using machine::PatternKind;

// Bytes over the link after node i (1 .. n - 1) of a line of n, in its busier direction; `v` is the
// pattern's bytes on this line.
double on_link(const Pattern& pattern, Axis axis, double v, int n, int i) {
  const double after = n - i;
  switch (pattern.kind) {
    case PatternKind::AllGather:
      return v * std::max<double>(i, after) / n;
    case PatternKind::AllReduce:
      if (pattern.order == machine::Association::Centre) {
        return 2 * v;  // to the middle and back
      }
      return v + v * std::max<double>(i, after) / n;
    case PatternKind::Shift: {
      const int d = std::abs(pattern.distance) % n;
      return v * std::min({d, n - d, i, n - i});
    }
    case PatternKind::AllToAll:
      return v * i * after;
    case PatternKind::GatherToEdge:
    case PatternKind::ScatterFromEdge:
      return v * (pattern.edge == machine::Side::West || pattern.edge == machine::Side::North
                      ? after
                      : static_cast<double>(i));
    case PatternKind::RegionMove:
      return v *
             std::min(std::abs(axis == Axis::Rows ? pattern.move_columns : pattern.move_rows), n);
    default:
      return v;  // multicast, reduce, reduce-scatter: all of it passes every link
  }
}

// Bytes of the pattern on a line along one axis; 0 if it moves nothing along it.
double on_line(const Pattern& pattern, Axis axis, const machine::Region& region) {
  const auto bytes = static_cast<double>(pattern.bytes.count());
  switch (pattern.kind) {
    case PatternKind::Halo:
      return static_cast<double>(axis == Axis::Rows
                                     ? std::max(pattern.halo.east, pattern.halo.west).count()
                                     : std::max(pattern.halo.north, pattern.halo.south).count());
    case PatternKind::GatherToEdge:
    case PatternKind::ScatterFromEdge: {
      const bool along_rows =
          pattern.edge == machine::Side::West || pattern.edge == machine::Side::East;
      return along_rows == (axis == Axis::Rows) ? bytes : 0;
    }
    case PatternKind::RegionMove:
      return bytes;
    default:
      break;
  }
  if (pattern.axis != Axis::Both) {
    return pattern.axis == axis ? bytes : 0;
  }
  const bool is_shared =
      pattern.kind == PatternKind::AllGather || pattern.kind == PatternKind::ReduceScatter ||
      (pattern.kind == PatternKind::AllReduce && pattern.order != machine::Association::Centre);
  if (axis == Axis::Columns && is_shared) {
    return bytes / region.columns();  // each column has its share of what the rows have
  }
  if (pattern.kind == PatternKind::AllToAll) {
    return bytes * (axis == Axis::Rows ? region.rows() : region.columns());
  }
  return bytes;
}

std::vector<double> along(const program::Move& move, Axis axis, int nodes) {
  std::vector<double> bytes(static_cast<std::size_t>(std::max(0, nodes - 1)), 0);
  const double v = on_line(move.pattern, axis, move.region);
  const bool is_halo = move.pattern.kind == PatternKind::Halo;
  const int spacing = is_halo ? 1 : std::max(1, move.reach);
  const int n = (nodes + spacing - 1) / spacing;
  for (std::size_t i = 0; v > 0 && n > 1 && i < bytes.size(); ++i) {
    const int before = std::min(n - 1, static_cast<int>(i) / spacing + 1);
    bytes[i] = spacing * on_link(move.pattern, axis, v, n, before) *
               (is_halo ? (move.reach + 1) / 2.0 : 1);
  }
  return bytes;
}

}  // namespace

LinkProfile link_profile(const program::Move& move, const program::Replicas& replicas,
                         const machine::MachineModel& machine) {
  const int rows = move.region.rows();
  const int columns = move.region.columns();
  LinkProfile profile{.row_count = rows, .column_count = columns};
  if (move.scope == program::Scope::Inside) {
    profile.rows = along(move, Axis::Rows, columns);
    profile.columns = along(move, Axis::Columns, rows);
  } else {
    const TransferCost cost = move_cost(move, replicas, machine);
    const double each = cost.bytes[static_cast<std::size_t>(machine::LinkClass::NodeLink)];
    profile.rows.assign(static_cast<std::size_t>(std::max(0, columns - 1)), each);
    profile.columns.assign(static_cast<std::size_t>(std::max(0, rows - 1)), each);
  }
  return profile;
}

}  // namespace dojo::cost
