// States to and from the DRAM of the interface processors, against hand arithmetic.
#include "dojo/cost/memory_cost.h"

#include <gtest/gtest.h>

#include "dojo/machine/description.h"

namespace dojo::cost {
namespace {

using machine::LinkClass;

// One replica on all of the machine.
TransferCost of_all(const machine::MachineModel& machine, Bytes each) {
  const machine::Region region{
      .first_die = {}, .dies = machine.dies(), .nodes_of_die = machine.logical};
  return memory_cost(region, each, {.count = 1, .available = 1, .dies = machine.dies()}, machine);
}

TEST(MemoryCost, OfAnExaPodIsWhatItsProcessorsRead) {
  const machine::MachineModel machine = *machine::load_machine("exapod");
  const TransferCost cost = of_all(machine, Bytes(100'000));
  // 1,026,000 nodes of 100 KB from 400 processors of 400 bytes a cycle.
  EXPECT_EQ(cost.busiest, LinkClass::Hbm);
  EXPECT_DOUBLE_EQ(cost.busy, 1'026'000.0 * 100'000 / 400 / 400);
  EXPECT_DOUBLE_EQ(cost.traffic.outer[static_cast<std::size_t>(LinkClass::Hbm)],
                   1'026'000.0 * 100'000);
  EXPECT_DOUBLE_EQ(of_all(machine, Bytes(200'000)).busy, 2 * cost.busy);
}

TEST(MemoryCost, ComesThroughWhateverIsNarrowest) {
  const machine::Description pod = *machine::load_description("exapod");
  const auto quick = machine::with_fact(pod, "interface.hbm_rate", "8000 GB/s");
  ASSERT_TRUE(quick.has_value()) << quick.error().to_string();
  const TransferCost cost = of_all(machine::resolve(*quick), Bytes(100'000));
  EXPECT_NE(cost.busiest, LinkClass::Hbm);
  EXPECT_LT(cost.busy, 1'026'000.0 * 100'000 / 400 / 400);
}

TEST(MemoryCost, OfAReplicaThatFillsATenthTakesItsTenthOfTheProcessors) {
  const machine::MachineModel machine = *machine::load_machine("exapod");
  const machine::Region region{
      .first_die = {}, .dies = {.rows = 20, .columns = 15}, .nodes_of_die = machine.logical};
  const TransferCost cost = memory_cost(
      region, Bytes(100'000), {.count = 1, .available = 10, .dies = region.dies}, machine);
  EXPECT_DOUBLE_EQ(cost.bytes[static_cast<std::size_t>(LinkClass::Hbm)], 102'600.0 * 100'000 / 40);
}

// All stages of a pipeline come for their states at once: each is as quick as all of them together.
TEST(MemoryCost, OfAStageTakesItsPartOfItsReplicasProcessors) {
  const machine::MachineModel machine = *machine::load_machine("exapod");
  const TransferCost whole = of_all(machine, Bytes(100'000));
  const machine::Region stage{
      .first_die = {}, .dies = {.rows = 20, .columns = 15}, .nodes_of_die = machine.logical};
  const TransferCost cost =
      memory_cost(stage, Bytes(100'000),
                  {.count = 1, .available = 1, .dies = machine.dies(), .stages = 10}, machine);
  for (const LinkClass link : {LinkClass::Hbm, LinkClass::ProcessorLink, LinkClass::TileEdge,
                               LinkClass::DieEdge, LinkClass::NodeLink}) {
    const auto i = static_cast<std::size_t>(link);
    EXPECT_NEAR(cost.bytes[i] / whole.bytes[i], 1, 1e-9) << i;
  }
  EXPECT_DOUBLE_EQ(cost.traffic.sram, whole.traffic.sram / 10);
}

}  // namespace
}  // namespace dojo::cost
