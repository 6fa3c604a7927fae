#include "dojo/system/energy.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <variant>

#include "dojo/cost/phase_cost.h"

namespace dojo::system {
namespace {

constexpr std::array<std::string_view, kEnergyPartCount> kPartNames{
    "matrix", "vector", "sram",    "mesh",       "static",
    "serdes", "supply", "tile_io", "processors", "hosts"};

double ratio(std::int64_t all, std::int64_t one) {
  return one > 0 ? static_cast<double>(all) / static_cast<double>(one) : 0;
}

void add(Events& events, const cost::Traffic& traffic) {
  events.sram_bytes += traffic.sram;
  events.hop_bytes += traffic.hops;
}

void add(Events& events, const program::Compute& compute, const machine::MachineModel& machine) {
  const cost::NodeCost cost = cost::node_cost(compute.work, machine.node);
  // From the busiest node to all, and from one micro-batch to the step: its products by
  // multiply-adds, the rest by points.
  const double nodes = ratio(compute.work.total_points, compute.work.points);
  events.matrix_macs += cost.matrix_macs * ratio(compute.work.total_macs, compute.work.macs);
  events.vector_lanes += cost.vector_lanes * nodes;
  events.sram_bytes += (cost.loaded + cost.stored) * nodes;
}

}  // namespace

std::string_view name(EnergyPart part) { return kPartNames[static_cast<std::size_t>(part)]; }

Joules Energy::total() const { return std::accumulate(parts.begin(), parts.end(), Joules{}); }

Events events_of(const program::Program& program, const machine::MachineModel& machine) {
  Events events;
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    const program::Phase& phase = program.phases[i];
    const auto runs = static_cast<double>(program.runs(i));
    if (const auto* compute = std::get_if<program::Compute>(&phase.body)) {
      add(events, *compute, machine);
    } else if (const auto* transfer = std::get_if<program::Transfer>(&phase.body)) {
      for (const program::Move& move : transfer->moves) {
        const cost::TransferCost cost = cost::move_cost(move, program.replicas, machine);
        const bool is_in_each =
            move.scope == program::Scope::Inside || move.scope == program::Scope::Onward;
        const double replicas = is_in_each ? static_cast<double>(program.replicas.count) : 1;
        add(events, cost.traffic * (replicas * runs));
      }
    } else {
      const auto& ingest = std::get<program::Ingest>(phase.body);
      add(events,
          cost::ingest_time(ingest, program.replicas, phase.region, machine).cost.traffic * runs);
    }
  }
  return events;
}

Energy energy_of(const Events& events, Picoseconds step, const machine::MachineModel& machine) {
  const machine::EnergyModel& each = machine.energy;
  const machine::PowerModel& power = machine.power;
  const double seconds = to_seconds(step);
  const double dies = static_cast<double>(machine.dies().count());
  const auto all_the_time = [&](Watts watts, double count) {
    return Joules(watts.count() * count * seconds);
  };
  Energy energy;
  energy[EnergyPart::Matrix] = Joules(events.matrix_macs * each.pj_per_mac * 1e-12);
  energy[EnergyPart::Vector] = Joules(events.vector_lanes * each.pj_per_vector_fma * 1e-12);
  energy[EnergyPart::Sram] = Joules(events.sram_bytes * each.pj_per_sram_byte * 1e-12);
  energy[EnergyPart::Mesh] = Joules(events.hop_bytes * each.pj_per_hop_byte * 1e-12);
  energy[EnergyPart::Static] = all_the_time(power.static_per_die, dies);
  energy[EnergyPart::Serdes] = all_the_time(power.serdes_per_die, dies);
  energy[EnergyPart::Supply] = energy.total() * (1 / power.supply_efficiency - 1);
  if (machine.has(machine::Level::Tile)) {
    const double tiles = dies / static_cast<double>(machine.dies_of(machine::Level::Tile).count());
    energy[EnergyPart::TileIo] = all_the_time(power.io_per_tile, tiles);
  }
  energy[EnergyPart::Processors] =
      all_the_time(power.processor, static_cast<double>(machine.processors.size()));
  energy[EnergyPart::Hosts] = all_the_time(power.host, machine.hosts.count);
  energy.low = energy.high = energy.total();
  return energy;
}

Energy energy_of(const Events& events, Picoseconds step, const machine::Description& machine) {
  Energy energy = energy_of(events, step, machine::resolve(machine));
  const Joules total = energy.total();
  for (const machine::FactLine& fact : machine::assumed_facts(machine)) {
    if (fact.affects != machine::Affects::Energy || !fact.range.has_value()) {
      continue;
    }
    Joules least = total;
    Joules most = total;
    for (const std::string& end : {fact.range->low, fact.range->high}) {
      const Result<machine::Description> changed = machine::with_fact(machine, fact.path, end);
      if (changed.has_value()) {
        const Joules joules = energy_of(events, step, machine::resolve(*changed)).total();
        least = std::min(least, joules);
        most = std::max(most, joules);
      }
    }
    energy.low -= total - least;
    energy.high += most - total;
  }
  energy.low = std::max(Joules{}, energy.low);
  return energy;
}

}  // namespace dojo::system
