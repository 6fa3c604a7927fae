#include "dojo/system/energy.h"

#include <gtest/gtest.h>

#include "dojo/machine/description.h"

namespace dojo::system {
namespace {

machine::Description described(const std::string& name) { return *machine::load_description(name); }

// docs/machine.md, "Energy": a BF16 product at peak on every live node for one second.
Events full_load(const machine::MachineModel& machine) {
  const double cycles =
      static_cast<double>(machine.live_nodes()) * static_cast<double>(machine.clock.hertz());
  return {.matrix_macs = 256 * cycles,
          .vector_lanes = 0,
          .sram_bytes = (128 + 15.6) * cycles,
          .hop_bytes = 4.15 * cycles};
}

constexpr Picoseconds kSecond{1'000'000'000'000};

TEST(Energy, OfASecondAtFullLoadIsThePublishedPower) {
  for (const char* name : {"d1", "training-tile", "system-tray", "exapod"}) {
    const machine::MachineModel machine = machine::resolve(described(name));
    const double joules = energy_of(full_load(machine), kSecond, machine).total().count();
    EXPECT_NEAR(joules, machine.totals(machine.top()).power.count(), 1e-6 * joules) << name;
  }
  const machine::MachineModel tray = machine::resolve(described("system-tray"));
  EXPECT_NEAR(energy_of(full_load(tray), kSecond, tray).total().count(), 100e3, 1e3);
}

// A constant that is higher leaves less for static power, and full load takes what it took.
TEST(Energy, AtFullLoadDoesNotDependOnItsConstants) {
  const machine::Description tile = described("training-tile");
  for (const char* path : {"energy.mac", "energy.sram", "energy.hop", "energy.die_edge"}) {
    for (const machine::FactLine& fact : machine::assumed_facts(tile)) {
      if (fact.path == path) {
        const machine::MachineModel changed =
            machine::resolve(*machine::with_fact(tile, path, fact.range->low));
        EXPECT_NEAR(energy_of(full_load(changed), kSecond, changed).total().count(),
                    changed.totals(changed.top()).power.count(), 1)
            << path;
      }
    }
  }
}

TEST(Energy, OfNothingIsWhatBurnsAllTheTime) {
  const machine::MachineModel machine = machine::resolve(described("training-tile"));
  const Energy energy = energy_of(Events{}, kSecond, machine);
  EXPECT_EQ(energy[EnergyPart::Matrix], Joules{});
  EXPECT_EQ(energy[EnergyPart::Mesh], Joules{});
  EXPECT_DOUBLE_EQ(energy[EnergyPart::Static].count(), 25 * machine.power.static_per_die.count());
  const Energy twice = energy_of(Events{}, kSecond + kSecond, machine);
  EXPECT_DOUBLE_EQ(twice.total().count(), 2 * energy.total().count());
}

TEST(Energy, PricesEachEvent) {
  const machine::MachineModel machine = machine::resolve(described("d1"));
  const Energy energy =
      energy_of({.matrix_macs = 1e12, .vector_lanes = 2e12, .sram_bytes = 3e12, .hop_bytes = 4e12},
                Picoseconds{}, machine);
  EXPECT_NEAR(energy[EnergyPart::Matrix].count(), 0.59, 1e-12);
  EXPECT_NEAR(energy[EnergyPart::Vector].count(), 2 * 1.69, 1e-12);
  EXPECT_NEAR(energy[EnergyPart::Sram].count(), 3 * 1.25, 1e-12);
  EXPECT_NEAR(energy[EnergyPart::Mesh].count(), 4 * 1.6, 1e-12);
  EXPECT_NEAR(energy.total().count(), 0.59 + 3.38 + 3.75 + 6.4, 1e-12);
}

TEST(Energy, HasABandAroundIt) {
  const machine::Description tile = described("training-tile");
  const machine::MachineModel machine = machine::resolve(tile);
  Events half = full_load(machine);
  half.matrix_macs /= 2;
  half.sram_bytes /= 2;
  const Energy energy = energy_of(half, kSecond, tile);
  EXPECT_LT(energy.low, energy.total());
  EXPECT_GT(energy.high, energy.total());
  EXPECT_GT(energy.low, Joules{});
}

// 64 x 64 x 64 on each of 342 nodes, 3 vector operations and 8 bytes in and out of each.
TEST(Events, OfAComputationAreThoseOfAllNodes) {
  const machine::MachineModel machine = machine::resolve(described("d1"));
  program::Compute compute;
  compute.work.matrix.push_back(
      {.m = 64, .n = 64, .k = 64, .batch = 1, .panel = 64, .left_bytes = 1, .right_bytes = 2});
  compute.work.vector_ops = 3;
  compute.work.loaded = compute.work.stored = Bytes(8);
  compute.work.points = compute.work.macs = 64 * 64 * 64;
  compute.work.total_points = compute.work.total_macs = 342 * 64 * 64 * 64;
  program::Program program;
  program.phases.push_back({.region = machine::whole_machine(machine), .body = compute});
  const Events events = events_of(program, machine);
  EXPECT_DOUBLE_EQ(events.matrix_macs, 342.0 * 64 * 64 * 64);
  EXPECT_DOUBLE_EQ(events.vector_lanes, 342.0 * 3);
  // 8 x 8 tiles read 8 bytes of the left and 16 of the right operand for every k.
  EXPECT_DOUBLE_EQ(events.sram_bytes, 342.0 * (64 * 64 * (8 + 16) + 16));
  EXPECT_EQ(events.hop_bytes, 0);
}

TEST(Events, OfATransferAreThoseOfAllReplicas) {
  const machine::MachineModel machine = machine::resolve(described("training-tile"));
  program::Transfer transfer;
  transfer.moves.push_back({.tensor = "w",
                            .region = machine::whole_die(machine, {}),
                            .pattern = machine::multicast(machine::Axis::Rows, Bytes(6400))});
  program::Program program;
  program.replicas = {.count = 5, .available = 25, .dies = {1, 1}, .batch = 5, .block = 1};
  program.phases.push_back({.region = machine::whole_die(machine, {}), .body = transfer});
  const Events events = events_of(program, machine);
  EXPECT_DOUBLE_EQ(events.hop_bytes, 5.0 * 18 * 18 * 6400);  // 18 rows of 19 nodes: 18 links each
  EXPECT_DOUBLE_EQ(events.sram_bytes, 2 * 5.0 * 18 * 18 * 6400);
}

}  // namespace
}  // namespace dojo::system
