#include "dojo/system/plane.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "dojo/machine/description.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Program;
using program::Transfer;

Program product_on_16x19(const machine::MachineModel& machine, machine::Shape dies) {
  Program program;
  program.replicas.dies = dies;
  machine::Region region = machine::whole_die(machine, {});
  region.dies = dies;
  Compute product;
  product.split.loops = {{.loop = "m", .extent = 128, .cuts = {{program::Axis::NodeY, 16, 8}}},
                         {.loop = "n", .extent = 152, .cuts = {{program::Axis::NodeX, 19, 8}}}};
  product.work.matrix = {
      {.m = 8, .n = 8, .k = 4096, .panel = 512, .left_bytes = 1, .right_bytes = 1}};
  Transfer gather;
  gather.moves.push_back({.tensor = "w",
                          .region = region,
                          .pattern = machine::all_gather(machine::Axis::Rows, Bytes(1900))});
  program.phases = {{.region = region, .body = gather, .after = {}},
                    {.region = region, .body = product, .after = {PhaseId{0}}}};
  return program;
}

TEST(Plane, ShowsWhichNodesWorkAndWhatLinksCarry) {
  const machine::MachineModel die = *machine::load_machine("d1");
  const Program program = product_on_16x19(die, {1, 1});
  const Timeline timeline = time_program(program, die);
  const Plane plane = plane_of(program, timeline, die);
  EXPECT_EQ(plane.rows, 18);
  EXPECT_EQ(plane.columns, 19);
  const double seconds = to_seconds(timeline.phases[1].work);
  EXPECT_DOUBLE_EQ(plane.busy_seconds[0], seconds);
  EXPECT_DOUBLE_EQ(plane.busy_seconds[15 * 19 + 18], seconds);
  EXPECT_EQ(plane.busy_seconds[16 * 19], 0);
  EXPECT_DOUBLE_EQ(plane.row_link_bytes[0], 1800);
  EXPECT_DOUBLE_EQ(plane.row_link_bytes[17 * 18 + 9], 1000);
  EXPECT_EQ(*std::max_element(plane.column_link_bytes.begin(), plane.column_link_bytes.end()), 0);
}

TEST(Plane, OfALargeReplicaHasOneCellADie) {
  const machine::MachineModel pod = *machine::load_machine("exapod");
  const Program program = product_on_16x19(pod, {20, 15});
  const Plane plane = plane_of(program, time_program(program, pod), pod);
  EXPECT_TRUE(plane.cells_are_dies);
  EXPECT_EQ(plane.rows, 20);
  EXPECT_EQ(plane.columns, 15);
  EXPECT_GT(plane.busy_seconds[0], 0);
  EXPECT_EQ(plane.busy_seconds[1], 0);  // 19 columns are one die's
  // 285 columns: 19 of them west of the first edge.
  EXPECT_NEAR(plane.row_link_bytes[0], 1900.0 * (285 - 19) / 285, 1e-9);
}

}  // namespace
}  // namespace dojo::system
