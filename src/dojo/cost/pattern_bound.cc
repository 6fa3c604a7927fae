#include <algorithm>
#include <cmath>

#include "dojo/cost/internal/line.h"
#include "dojo/cost/pattern_cost.h"

namespace dojo::cost {

using internal::packets;
using machine::Association;
using machine::MachineModel;
using machine::Pattern;
using machine::PatternKind;
using machine::Region;

double pattern_lower_bound(const Pattern& pattern, const Region& region,
                           const MachineModel& machine) {
  const double v = packets(pattern.bytes, machine);
  const double r = region.rows();
  const double c = region.columns();
  const double n = pattern.axis == machine::Axis::Rows      ? c
                   : pattern.axis == machine::Axis::Columns ? r
                                                            : r * c;
  if (n < 2) {
    return 0;
  }
  const auto port = [&](double load) {
    return load * static_cast<double>(machine.network.packet.count()) /
           machine.link(machine::LinkClass::PortIn).rate.value();
  };
  const auto link = [&](double load) {
    return load * static_cast<double>(machine.network.packet.count()) /
           machine.link(machine::LinkClass::NodeLink).rate.value();
  };
  switch (pattern.kind) {
    case PatternKind::Multicast:
    case PatternKind::Reduce:
      return pattern.axis != machine::Axis::Both && pattern.source == 0 ? port(v) + n - 1 : port(v);
    case PatternKind::AllGather:
    case PatternKind::ReduceScatter:
      return port(v * (n - 1) / n);
    case PatternKind::AllReduce:
      return pattern.order == Association::Centre
                 ? 2 * (std::floor(r / 2) * (pattern.axis != machine::Axis::Rows) +
                        std::floor(c / 2) * (pattern.axis != machine::Axis::Columns))
                 : port(2 * v * (n - 1) / n);
    case PatternKind::Halo:
      return port(
          std::max({packets(pattern.halo.north, machine), packets(pattern.halo.east, machine),
                    packets(pattern.halo.south, machine), packets(pattern.halo.west, machine)}));
    case PatternKind::Shift: {
      const double d = std::fmod(std::abs(pattern.distance), n);
      return link(v * std::min(d, n - d));
    }
    case PatternKind::AllToAll:
      return pattern.axis == machine::Axis::Both ? link(v * std::max(r * c * c, c * r * r) / 4)
                                                 : link(v * std::floor(n * n / 4));
    case PatternKind::GatherToEdge:
    case PatternKind::ScatterFromEdge: {
      const bool along_rows =
          pattern.edge == machine::Side::West || pattern.edge == machine::Side::East;
      return link(v * ((along_rows ? c : r) - 1));
    }
    case PatternKind::RegionMove:
      return link(v * std::max(std::min<double>(std::abs(pattern.move_columns), c),
                               std::min<double>(std::abs(pattern.move_rows), r)));
  }
  return 0;
}

}  // namespace dojo::cost
