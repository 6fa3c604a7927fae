#include "dojo/cost/phase_cost.h"

#include <algorithm>
#include <cmath>

#include "dojo/cost/internal/shared.h"

namespace dojo::cost {

using internal::add_shared;
using machine::LinkClass;
using machine::MachineModel;
using program::Replicas;

ComputeTime compute_time(const program::Compute& compute, const MachineModel& machine) {
  ComputeTime time;
  const double network_share = compute.pipelined.empty() ? 0 : machine.network.pace;
  time.cost = node_cost(compute.work, machine.node, network_share);
  time.total = machine.clock.to_picoseconds(time.cost.body());
  return time;
}

namespace {

TransferTime timed(const TransferCost& cost, std::int64_t panels, const MachineModel& machine) {
  TransferTime time{.cost = cost, .total = {}, .first = {}};
  time.total = machine.clock.to_picoseconds(cost.total(machine.network.pace));
  TransferCost piece = cost;
  piece.busy /= static_cast<double>(panels);
  time.first = machine.clock.to_picoseconds(piece.total(machine.network.pace));
  return time;
}

}  // namespace

TransferTime transfer_time(const program::Transfer& transfer, const Replicas& replicas,
                           const MachineModel& machine) {
  TransferCost cost;
  for (const program::Move& move : transfer.moves) {
    cost += move_cost(move, replicas, machine);
  }
  return timed(cost, transfer.panels, machine);
}

namespace {

// From the machine's own DRAM, whose banks stand around the mesh: every row of nodes has its way.
TransferTime dram_ingest_time(const program::Ingest& ingest, const machine::Region& region,
                              const MachineModel& machine) {
  const double bytes = static_cast<double>(ingest.bytes.count());
  TransferCost cost;
  add_shared(cost, LinkClass::Hbm, bytes, 1, machine);
  add_shared(cost, LinkClass::NodeLink, static_cast<double>(ingest.bytes_per_replica.count()),
             region.rows(), machine);
  cost.latency += Cycles{machine.sites().columns};
  cost.traffic = {.sram = bytes, .hops = bytes * 0.5 * machine.sites().columns};
  cost.traffic.outer[static_cast<std::size_t>(LinkClass::Hbm)] = bytes;
  return timed(cost, 1, machine);
}

}  // namespace

TransferTime ingest_time(const program::Ingest& ingest, const Replicas& replicas,
                         const machine::Region& region, const MachineModel& machine) {
  if (machine.dram.has_value()) {
    return dram_ingest_time(ingest, region, machine);
  }
  const double bytes = static_cast<double>(ingest.bytes.count());
  const auto processors = static_cast<double>(machine.processors.size());
  TransferCost cost;
  double entries = 0;  // rim dies that bytes come in through
  if (processors > 0) {
    add_shared(cost, LinkClass::HostDecode, bytes, machine.hosts.count, machine);
    add_shared(cost, LinkClass::Pcie, bytes, processors, machine);
    add_shared(cost, LinkClass::ProcessorLink, bytes, processors, machine);
    entries = static_cast<double>(machine.entries.size());
  } else {
    entries = machine.dies().rows;
  }
  const LinkClass rim =
      machine.has(machine::Level::Tile) ? LinkClass::TileEdge : LinkClass::DieEdge;
  add_shared(cost, rim, bytes, entries, machine);
  // A row of dies is fed from one end: its first edge carries what the whole row needs.
  const std::int64_t per_row = std::max(1, machine.dies().columns / replicas.dies.columns);
  const double in_row = static_cast<double>(std::min(per_row, replicas.count)) /
                        static_cast<double>(replicas.dies.rows);
  if (machine.dies().count() > 1) {
    add_shared(cost, LinkClass::DieEdge,
               static_cast<double>(ingest.bytes_per_replica.count()) * in_row, 1, machine);
    for (int die = 1; die < machine.dies().columns; ++die) {
      cost.latency += machine.link(machine.column_boundary(die - 1)).latency;
    }
  }
  // Inside a die, every row of nodes has its own way in.
  add_shared(cost, LinkClass::NodeLink, static_cast<double>(ingest.bytes_per_replica.count()),
             region.rows(), machine);
  cost.latency += Cycles{machine.dies().columns * machine.sites().columns};
  // On average halfway along a row of dies, and halfway along a row of nodes.
  const double crossed = (machine.dies().columns - 1) / 2.0;
  cost.traffic = {.sram = bytes, .hops = bytes * (crossed + 0.5) * machine.sites().columns};
  cost.traffic.outer[static_cast<std::size_t>(LinkClass::DieEdge)] = bytes * crossed;
  cost.traffic.outer[static_cast<std::size_t>(rim)] += bytes;
  if (processors > 0) {
    for (const LinkClass link :
         {LinkClass::HostDecode, LinkClass::Pcie, LinkClass::ProcessorLink}) {
      cost.traffic.outer[static_cast<std::size_t>(link)] = bytes;
    }
  }
  return timed(cost, 1, machine);
}

std::string bound_of(const ComputeTime& time) {
  const double launch = static_cast<double>(time.cost.launch.count());
  return time.cost.busiest() < launch ? "launch" : std::string(name(time.cost.bound));
}

std::string bound_of(const TransferTime& time, const MachineModel& machine) {
  const double wait = static_cast<double>(time.cost.latency.count());
  return time.cost.busy / machine.network.pace < wait ? "latency"
                                                      : std::string(name(time.cost.busiest));
}

}  // namespace dojo::cost
