#include "dojo/cost/memory_cost.h"

#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/cost/internal/shared.h"

namespace dojo::cost {

using internal::add_shared;
using machine::LinkClass;
using machine::MachineModel;
using program::Replicas;

namespace {

// Ends of rows of dies (or of columns, whichever has more) with processors, over all of them.
double ends_per_row(const MachineModel& machine) {
  double of_rows = 0;
  double of_columns = 0;
  for (const machine::Attachment& place : machine.entries) {
    const bool is_row = place.side == machine::Side::West || place.side == machine::Side::East;
    (is_row ? of_rows : of_columns) += 1;
  }
  return std::max(of_rows / machine.dies().rows, of_columns / machine.dies().columns);
}

}  // namespace

TransferCost memory_cost(const machine::Region& region, Bytes bytes, const Replicas& replicas,
                         const MachineModel& machine) {
  DOJO_CHECK(machine.has(LinkClass::Hbm) && !machine.processors.empty());
  const double each = static_cast<double>(bytes.count());
  const double of_replica = each * static_cast<double>(region.nodes());
  const double all = of_replica * static_cast<double>(replicas.count);
  // All stages of a pipeline are at it at once: each has the part of its own dies.
  const double dies = static_cast<double>(replicas.count * replicas.dies.count()) /
                      static_cast<double>(replicas.stages);
  const double used = dies / static_cast<double>(machine.dies().count());
  const auto processors = static_cast<double>(machine.processors.size());
  const auto entries = static_cast<double>(machine.entries.size());
  const LinkClass rim =
      machine.has(machine::Level::Tile) ? LinkClass::TileEdge : LinkClass::DieEdge;
  TransferCost cost;
  add_shared(cost, LinkClass::Hbm, all, std::max(1.0, processors * used), machine);
  add_shared(cost, LinkClass::ProcessorLink, all, std::max(1.0, processors * used), machine);
  add_shared(cost, rim, all, std::max(1.0, entries * used), machine);
  if (machine.dies().count() > 1) {
    const double rows = std::max(1.0, machine.dies().rows * used);
    add_shared(cost, LinkClass::DieEdge, all, rows * ends_per_row(machine), machine);
    for (int die = 1; die < machine.dies().columns; ++die) {
      cost.latency += machine.link(machine.column_boundary(die - 1)).latency;
    }
  }
  const double of_rows =
      replicas.stages > 1 ? 1.0 : static_cast<double>(region.dies.rows) / replicas.dies.rows;
  add_shared(cost, LinkClass::NodeLink, of_replica * of_rows, region.rows(), machine);
  add_shared(cost, LinkClass::PortIn, each, 1, machine);
  cost.latency += Cycles{machine.dies().columns * machine.sites().columns};
  const double crossed = (machine.dies().columns - 1) / 2.0;
  cost.traffic = {.sram = all, .hops = all * (crossed + 0.5) * machine.sites().columns};
  cost.traffic.outer[static_cast<std::size_t>(LinkClass::DieEdge)] = all * crossed;
  cost.traffic.outer[static_cast<std::size_t>(rim)] += all;
  for (const LinkClass link : {LinkClass::Hbm, LinkClass::ProcessorLink}) {
    cost.traffic.outer[static_cast<std::size_t>(link)] = all;
  }
  return cost;
}

}  // namespace dojo::cost
