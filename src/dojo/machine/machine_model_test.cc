// The derived totals of the shipped machines against the published figures (docs/sources.md).
#include "dojo/machine/machine_model.h"

#include <gtest/gtest.h>

#include <set>

#include "dojo/machine/description.h"

namespace dojo::machine {
namespace {

MachineModel model(std::string_view name) {
  auto machine = load_machine(name);
  EXPECT_TRUE(machine.has_value()) << machine.error().to_string();
  return *std::move(machine);
}

// `computed` is the published number to the digits that are published.
void expect_published(double computed, double published, double half_of_last_digit) {
  EXPECT_NEAR(computed, published, half_of_last_digit);
}

TEST(PublishedFigures, PeakOfNodeDieTileAndPod) {
  const MachineModel pod = model("exapod");
  EXPECT_EQ(pod.node.macs_per_cycle() * 2 * pod.clock.hertz(), 1'024'000'000'000);
  EXPECT_EQ(pod.totals(Level::Die).live_nodes, 354);
  expect_published(pod.totals(Level::Die).peak_matrix.value(), 362.5e12, 0.05e12);
  expect_published(pod.totals(Level::Tile).peak_matrix.value(), 9.06e15, 0.005e15);
  expect_published(pod.totals(Level::Pod).peak_matrix.value(), 1.087e18, 0.0005e18);
  EXPECT_EQ(pod.live_nodes(), 1'062'000);
  EXPECT_DOUBLE_EQ(pod.peak_matrix().value(), pod.totals(Level::Pod).peak_matrix.value());
}

TEST(PublishedFigures, PeakInFp32IsOneVectorPipe) {
  const MachineModel pod = model("exapod");
  EXPECT_EQ(pod.node.fp32_lanes() * 2 * pod.clock.hertz(), 64'000'000'000);
  expect_published(pod.totals(Level::Die).peak_vector.value(), 22.66e12, 0.005e12);
  expect_published(pod.totals(Level::Tile).peak_vector.value(), 0.566e15, 0.0005e15);
  expect_published(pod.peak_vector().value(), 68e15, 0.5e15);
}

TEST(PublishedFigures, SramPortsSumTo400And272GigabytesPerSecond) {
  const MachineModel die = model("d1");
  const double load = die.node.vector_load.value() + die.link(LinkClass::PortOut).rate.value() +
                      die.node.scalar_load.value();
  const double store = die.node.vector_store.value() + die.link(LinkClass::PortIn).rate.value() +
                       die.node.scalar_store.value();
  EXPECT_DOUBLE_EQ(die.per_second(BytesPerCycle(load)).value(), 400e9);
  EXPECT_DOUBLE_EQ(die.per_second(BytesPerCycle(store)).value(), 272e9);
}

TEST(PublishedFigures, EdgesFromDieToTrayBisection) {
  const MachineModel tray = model("system-tray");
  EXPECT_DOUBLE_EQ(tray.totals(Level::Die).edge.value(), 2.016e12);
  EXPECT_DOUBLE_EQ(tray.totals(Level::Tile).bisection.value(), 10.08e12);
  EXPECT_DOUBLE_EQ(tray.per_second(tray.link(LinkClass::TileEdge).rate).value(), 896e9);
  const double tile_edge = tray.totals(Level::Tile).edge.value();
  EXPECT_DOUBLE_EQ(tile_edge, 4.48e12);
  EXPECT_DOUBLE_EQ(2 * tile_edge, 8.96e12);
  EXPECT_DOUBLE_EQ(4 * 2 * tile_edge, 35.84e12);
  EXPECT_DOUBLE_EQ(tray.totals(Level::Tray).bisection.value(), 13.44e12);
}

TEST(PublishedFigures, InterfaceProcessorsOfATray) {
  const LevelTotals tray = model("system-tray").totals(Level::Tray);
  EXPECT_EQ(tray.processors, 20);
  EXPECT_EQ(tray.hbm, Bytes{640'000'000'000});
  EXPECT_DOUBLE_EQ(tray.hbm_rate.value(), 16e12);
  EXPECT_DOUBLE_EQ(tray.processor_link_rate.value(), 18e12);
  EXPECT_DOUBLE_EQ(tray.ethernet_rate.value(), 1e12);
  EXPECT_DOUBLE_EQ(tray.pcie_rate.value(), 640e9);
  const LevelTotals pod = model("exapod").totals(Level::Pod);
  EXPECT_EQ(pod.processors, 400);
  expect_published(static_cast<double>(pod.hbm.count()), 12.8e12, 0.05e12);
}

TEST(PublishedFigures, SramOfDieTileTrayAndPod) {
  const MachineModel pod = model("exapod");
  EXPECT_EQ(pod.totals(Level::Die).sram, Bytes{442'500'000});  // published 440 MB
  expect_published(static_cast<double>(pod.totals(Level::Tile).sram.count()), 11e9, 0.5e9);
  expect_published(static_cast<double>(pod.totals(Level::Tray).sram.count()), 66e9, 0.5e9);
  expect_published(static_cast<double>(pod.totals(Level::Pod).sram.count()), 1.33e12, 0.005e12);
}

TEST(PublishedFigures, PowerOfTileTrayAndPod) {
  const MachineModel pod = model("exapod");
  EXPECT_DOUBLE_EQ(pod.power.die.count(), 400);
  EXPECT_DOUBLE_EQ(pod.totals(Level::Tile).power.count(), 15e3);
  expect_published(pod.power.tile.count() / pod.power.tile_supply_volts, 288, 0.5);    // A at 52 V
  expect_published(pod.power.tile.count() / pod.power.tile_die_amperes, 0.83, 0.005);  // V at 18 kA
  EXPECT_DOUBLE_EQ(pod.totals(Level::Tray).power.count(), 100e3);  // published 100+ kW
  const double tiles = static_cast<double>(pod.dies().count()) /
                       static_cast<double>(pod.dies_of(Level::Tile).count());
  EXPECT_DOUBLE_EQ(tiles * pod.power.tile.count(), 1.8e6);
  EXPECT_DOUBLE_EQ(pod.totals(Level::Pod).power.count(), 2.0e6);
}

TEST(Power, FullLoadAndStaticAddUpToTheDie) {
  const PowerModel power = model("training-tile").power;
  EXPECT_NEAR(power.serdes_per_die.count(), 65, 0.5);  // 576 lanes x 112 Gb/s x 1 pJ
  EXPECT_NEAR(power.static_per_die.count(), 97, 0.5);
  EXPECT_DOUBLE_EQ((power.events_per_die + power.serdes_per_die + power.static_per_die).count(),
                   400);
  EXPECT_NEAR(power.io_per_tile.count() / 40, 81, 0.5);  // 40 I/O dies
}

TEST(Links, RatesPerCycleAndPerRowAndColumn) {
  const MachineModel tile = model("training-tile");
  const LinkModel die_edge = tile.link(LinkClass::DieEdge);
  EXPECT_DOUBLE_EQ(die_edge.rate.value(), 1'008);
  EXPECT_DOUBLE_EQ(die_edge.per_row.value(), 56);
  EXPECT_DOUBLE_EQ(die_edge.per_column.value(), 50.4);
  EXPECT_EQ(die_edge.latency, Cycles{200});
  const LinkModel tile_edge = tile.link(LinkClass::TileEdge);
  EXPECT_DOUBLE_EQ(tile_edge.rate.value(), 448);
  EXPECT_NEAR(tile_edge.per_row.value(), 24.9, 0.05);
  EXPECT_NEAR(tile_edge.per_column.value(), 22.4, 0.05);
  EXPECT_EQ(tile_edge.latency, Cycles{300});
  EXPECT_DOUBLE_EQ(tile.link(LinkClass::NodeLink).rate.value(), 64);
  EXPECT_DOUBLE_EQ(tile.link(LinkClass::NodeLink).per_row.value(), 64);
  EXPECT_EQ(tile.link(LinkClass::NodeLink).latency, Cycles{1});
  EXPECT_DOUBLE_EQ(tile.link(LinkClass::Hbm).rate.value(), 400);
  EXPECT_DOUBLE_EQ(tile.link(LinkClass::ProcessorLink).rate.value(), 450);
  EXPECT_DOUBLE_EQ(tile.link(LinkClass::Ethernet).rate.value(), 25);
  EXPECT_DOUBLE_EQ(tile.link(LinkClass::Pcie).rate.value(), 16);
  EXPECT_EQ(tile.link(LinkClass::Ethernet).latency, Cycles{2'600});
  EXPECT_EQ(tile.link(LinkClass::Pcie).latency, Cycles{2'000});
  EXPECT_EQ(tile.network.stage, Cycles{22});
}

TEST(Node, KeepsRoomForTensorsBesideCodeAndBuffers) {
  const MachineModel pod = model("exapod");
  EXPECT_EQ(pod.node.tensor_sram(), Bytes{930'000});
  const double per_die = static_cast<double>((342 * pod.node.tensor_sram()).count());
  EXPECT_NEAR(per_die, 0.318e9, 0.0005e9);
  EXPECT_NEAR(3'000 * per_die, 954e9, 0.5e9);
}

TEST(Levels, AMachineHasExactlyThoseItsFileDeclares) {
  const MachineModel die = model("d1");
  EXPECT_EQ(die.top(), Level::Die);
  EXPECT_FALSE(die.has(Level::Tile));
  EXPECT_FALSE(die.has(LinkClass::TileEdge));
  EXPECT_EQ(die.dies(), Shape{});
  const MachineModel tray = model("system-tray");
  EXPECT_EQ(tray.top(), Level::Tray);
  EXPECT_EQ(tray.dies(), (Shape{.rows = 10, .columns = 15}));
  EXPECT_FALSE(tray.has(LinkClass::TrayEdge));
  EXPECT_EQ(model("exapod").dies(), (Shape{.rows = 200, .columns = 15}));
}

TEST(Levels, AStepBetweenDiesCrossesTheHighestBoundaryThere) {
  const MachineModel pod = model("exapod");
  EXPECT_EQ(pod.row_boundary(0), LinkClass::DieEdge);
  EXPECT_EQ(pod.row_boundary(4), LinkClass::TileEdge);
  EXPECT_EQ(pod.row_boundary(9), LinkClass::TrayEdge);
  EXPECT_EQ(pod.row_boundary(10), LinkClass::DieEdge);
  EXPECT_EQ(pod.column_boundary(4), LinkClass::TileEdge);
  EXPECT_EQ(pod.column_boundary(5), LinkClass::DieEdge);
}

TEST(Interface, ProcessorsStandOnTheRimTheFileNames) {
  const MachineModel die = model("d1");
  ASSERT_EQ(die.processors.size(), 1u);
  EXPECT_EQ(die.processors[0], (Attachment{.die = {}, .side = Side::West}));
  EXPECT_EQ(die.hosts.count, 1);

  const MachineModel tile = model("training-tile");
  ASSERT_EQ(tile.processors.size(), 5u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(tile.processors[static_cast<std::size_t>(i)],
              (Attachment{.die = {.row = i, .column = 0}, .side = Side::West}));
  }

  const MachineModel tray = model("system-tray");
  ASSERT_EQ(tray.processors.size(), 20u);
  EXPECT_EQ(tray.processors[0].die, Site{});
  EXPECT_EQ(tray.processors[19], (Attachment{.die = {.row = 9, .column = 14}, .side = Side::East}));
  EXPECT_EQ(tray.hosts.count, 4);

  const MachineModel pod = model("exapod");
  const std::set<Attachment> different(pod.processors.begin(), pod.processors.end());
  EXPECT_EQ(different.size(), 400u);
  EXPECT_EQ(pod.hosts.count, 80);
}

TEST(Interface, LevelsBelowTheProcessorsHaveNone) {
  const LevelTotals tile = model("system-tray").totals(Level::Tile);
  EXPECT_EQ(tile.processors, 0);
  EXPECT_EQ(tile.hbm, Bytes{0});
}

TEST(LogicalGrid, IsTheSameOnEveryDie) {
  const MachineModel tile = model("training-tile");
  EXPECT_EQ(tile.logical, (Shape{.rows = 18, .columns = 19}));
  EXPECT_EQ(tile.logical_nodes(), 25 * 342);
  // Row 2 has a dead site in column 3.
  EXPECT_EQ(tile.site_of({.row = 2, .column = 3}), (Site{.row = 2, .column = 4}));
}

TEST(Digest, TellsMachinesApartAndNothingElse) {
  EXPECT_EQ(model("d1").digest, model("d1").digest);
  EXPECT_NE(model("d1").digest, model("training-tile").digest);
  const auto changed = with_fact(*load_description("d1"), "node.t0", "5");
  ASSERT_TRUE(changed.has_value());
  EXPECT_NE(resolve(*changed).digest, model("d1").digest);
  const auto back = with_fact(*changed, "node.t0", "4 cycles");
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(resolve(*back).digest, model("d1").digest);
}

TEST(LinkNames, ReadBackToTheirClass) {
  for (std::size_t i = 0; i < kLinkClassCount; ++i) {
    const auto link = static_cast<LinkClass>(i);
    EXPECT_EQ(link_class_named(name(link)), link);
  }
}

}  // namespace
}  // namespace dojo::machine
