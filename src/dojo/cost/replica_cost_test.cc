#include "dojo/cost/replica_cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "dojo/machine/description.h"

namespace dojo::cost {
namespace {

using machine::Association;
using machine::Axis;
using machine::LinkClass;
using machine::MachineModel;
using machine::Pattern;
using machine::Region;
using program::Scope;

MachineModel model(const std::string& name) { return *machine::load_machine(name); }

// Without the vector add of a stage that adds.
MachineModel without_adds(const std::string& name) {
  MachineModel machine = model(name);
  machine.network.reduce_stage = Cycles{0};
  return machine;
}

Region die(const MachineModel& machine) { return machine::whole_die(machine, {}); }
Region line_of(int nodes) { return {.first_die = {}, .dies = {}, .nodes_of_die = {1, nodes}}; }
Bytes packets(std::int64_t count) { return Bytes(64 * count); }
constexpr std::int64_t kS = 22;

// Cycles from a die to another, site by site.
std::int64_t way(machine::Site from, machine::Site to, const MachineModel& machine) {
  std::int64_t sum = 0;
  for (int die = std::min(from.column, to.column); die < std::max(from.column, to.column); ++die) {
    sum += machine.sites().columns + machine.link(machine.column_boundary(die)).latency.count() - 1;
  }
  for (int die = std::min(from.row, to.row); die < std::max(from.row, to.row); ++die) {
    sum += machine.sites().rows + machine.link(machine.row_boundary(die)).latency.count() - 1;
  }
  return sum;
}

program::Replicas replicas(std::int64_t count) {
  return {.count = count, .available = 25, .dies = {1, 1}, .batch = 32, .block = 2};
}

TEST(Replicas, StandInASnakeSoThatNeighboursTouch) {
  const MachineModel machine = model("training-tile");
  for (std::int64_t i = 1; i < 25; ++i) {
    const machine::Site a = replica_site(replicas(25), i - 1, machine);
    const machine::Site b = replica_site(replicas(25), i, machine);
    EXPECT_EQ(std::abs(a.row - b.row) + std::abs(a.column - b.column), 1);
  }
}

Pattern chain_of(Bytes bytes) { return machine::all_reduce(Axis::Both, Association::Chain, bytes); }

Pattern nested(Bytes bytes) { return machine::all_reduce(Axis::Both, Association::Nested, bytes); }

TEST(ReplicaAllReduce, OfLargeShardsRunsAlongTheChain) {
  const MachineModel machine = without_adds("training-tile");
  const TransferCost cost =
      replica_all_reduce(Scope::Across, chain_of(packets(400)), die(machine), replicas(3), machine);
  // Three dies in a row: two steps of 20 sites and 200 - 1 cycles. Three passes (sums, to their
  // owners, to all) of 2 (20 + 199), stages in two of them, and 2 to enter.
  EXPECT_EQ(cost.latency.count(), 3 * (2 * 219) + 2 * 2 * kS + 2);
  // 19 nodes of a row share 56 B a cycle: sums of 400, then all but one's own share of them.
  EXPECT_DOUBLE_EQ(cost.busy, (400 + 400 * 2.0 / 3) * 19 * 64 / 56);
}

TEST(ReplicaAllReduce, OfOneReplicaCostsNothing) {
  const MachineModel machine = model("training-tile");
  EXPECT_EQ(
      replica_all_reduce(Scope::Across, chain_of(packets(400)), die(machine), replicas(1), machine)
          .total(0.9)
          .count(),
      0);
}

TEST(ReplicaAllReduce, OfSmallShardsGoesThroughTheMiddle) {
  const MachineModel machine = without_adds("training-tile");
  const TransferCost small =
      replica_all_reduce(Scope::Across, chain_of(packets(1)), line_of(1), replicas(25), machine);
  // From a corner to the middle die: 2 x 20 + 2 x 18 hops, 4 crossings of 199; there and back.
  EXPECT_EQ(small.latency.count(), 2 * (76 + 4 * 199 + kS));
  EXPECT_LT(small.total(0.9).count(), 24 * (200 + kS));
}

TEST(ReplicaAllReduce, ThroughLinesVisitsEveryNodeOfThemInEveryReplica) {
  const MachineModel machine = without_adds("training-tile");
  // Large enough for the chain: 2 replicas of 18 rows, 36 stations; 219 cycles between the dies.
  const TransferCost cost = replica_all_reduce(
      Scope::Through, machine::all_reduce(Axis::Columns, Association::Chain, packets(5000)),
      die(machine), replicas(2), machine);
  EXPECT_EQ(cost.latency.count(), 3 * (219 + 36) + 35 * 2 * kS + 2);
  // One flow per column: 19 share a row of 56 B a cycle.
  EXPECT_DOUBLE_EQ(cost.busy, (5000 + 5000 * 35.0 / 36) * 19 * 64 / 56);
}

// 5 x 5 replicas of one die: 20 sites and 200 - 1 cycles from die to die along a row, 18 sites
// along a column; four such steps each.
constexpr std::int64_t kRow = 4 * 219;
constexpr std::int64_t kColumn = 4 * 217;

TEST(NestedAllReduce, OfLargeShardsRunsAlongRowsThenColumnsAndBack) {
  const MachineModel machine = without_adds("training-tile");
  const TransferCost cost = replica_all_reduce(Scope::Across, nested(packets(20'000)), die(machine),
                                               replicas(25), machine);
  // Five stations each: the way three times, two stages a step and 2 to enter.
  EXPECT_EQ(cost.latency.count(), 3 * kRow + 3 * kColumn + 2 * (4 * 2 * kS + 2));
  // 19 nodes of a row share 56 B a cycle; 18 of a column, with a fifth each, 50.4.
  EXPECT_NEAR(cost.busy, 1.8 * 20'000 * 19 * 64 / 56 + 1.8 * 4'000 * 18 * 64 / 50.4, 1e-6);
}

TEST(NestedAllReduce, OfSmallShardsGoesThroughTheMiddlesOfRowsAndOfTheirColumn) {
  const MachineModel machine = without_adds("training-tile");
  const TransferCost small =
      replica_all_reduce(Scope::Across, nested(packets(8)), line_of(1), replicas(25), machine);
  EXPECT_EQ(small.latency.count(), 2 * (kRow / 2 + kS) + 2 * (kColumn / 2 + kS));
  // At the middle of a row, and of the column: four partials in, four sums out.
  EXPECT_DOUBLE_EQ(small.busy, 2 * 8 * 4 + 2 * 8 * 4);
}

// One packet each: all 25 meet at the middle die sooner than in two stages.
TEST(NestedAllReduce, OfOnePacketMeetsAtTheMiddleReplica) {
  const MachineModel machine = without_adds("training-tile");
  const TransferCost small =
      replica_all_reduce(Scope::Across, nested(packets(1)), line_of(1), replicas(25), machine);
  EXPECT_EQ(small.latency.count(), kRow + kColumn + 2 * kS);
  EXPECT_DOUBLE_EQ(small.busy, 2 * 24);
}

TEST(NestedAllReduce, ThroughLinesVisitsTheirNodesAlongRowsAndDealsTheSharesToColumns) {
  const MachineModel machine = without_adds("training-tile");
  const Pattern pattern = machine::all_reduce(Axis::Columns, Association::Nested, packets(90'000));
  const TransferCost cost =
      replica_all_reduce(Scope::Through, pattern, die(machine), replicas(25), machine);
  // 5 replicas of 18 rows are 90 stations, each of which ends with a share of 1,000 packets.
  EXPECT_EQ(cost.latency.count(), 3 * (kRow + 90) + 89 * 2 * kS + 2 +  //
                                      3 * kColumn + 4 * 2 * kS + 2);
  EXPECT_NEAR(cost.busy, (90'000 + 89'000) * 19.0 * 64 / 56 + (1'000 + 800) * 18.0 * 64 / 50.4,
              1e-6);
}

// No schedule is quicker than both ports of the busiest node allow, or than a packet from corner to
// corner; and what is nested may always take the way through the middle that a chain may take.
TEST(NestedAllReduce, LiesAboveItsBounds) {
  for (const char* name : {"training-tile", "exapod"}) {
    const MachineModel machine = model(name);
    for (const std::int64_t count : {10, 16, 25, 150}) {
      const auto of = [&](Association order, std::int64_t size) {
        return replica_all_reduce(Scope::Across,
                                  machine::all_reduce(Axis::Both, order, Bytes(size)), die(machine),
                                  replicas(count), machine)
            .total(machine.network.pace);
      };
      const std::int64_t per_row = machine.dies().columns;
      if (count <= per_row || count > machine.dies().count()) {
        continue;
      }
      const std::int64_t rows = (count + per_row - 1) / per_row;
      for (const std::int64_t size : {64, 4'096, 65'536, 1'048'576}) {
        const std::int64_t v = size / 64;
        const std::int64_t cycles = of(Association::Nested, size).count();
        EXPECT_GE(cycles, 2 * v * (count - 1) / count);
        EXPECT_GE(cycles, (per_row - 1) * 219 + (rows - 1) * 217);
      }
      EXPECT_LE(of(Association::Nested, 64), of(Association::Chain, 64));
    }
  }
}

// The table of docs/placement.md.
TEST(NestedAllReduce, OverATileAndAnExaPodTakesSoLong) {
  struct Row {
    std::int64_t bytes = 0;
    double tile_chain = 0;
    double tile_nested = 0;
    double pod_chain = 0;
    double pod_nested = 0;
  };
  const MachineModel tile = model("training-tile");
  const MachineModel pod = model("exapod");
  for (const Row& row : {Row{64, 1.2, 1.0, 112.7, 31.5}, Row{4'096, 8.3, 4.5, 807.1, 84.7},
                         Row{65'536, 32.2, 29.7, 861.9, 138.7}}) {
    const auto microseconds = [&](const MachineModel& machine, Association order) {
      const TransferCost cost = replica_all_reduce(
          Scope::Across, machine::all_reduce(Axis::Both, order, Bytes(row.bytes)), die(machine),
          replicas(machine.dies().count()), machine);
      return 1e6 * to_seconds(machine.clock.to_picoseconds(cost.total(machine.network.pace)));
    };
    EXPECT_NEAR(microseconds(tile, Association::Chain), row.tile_chain, 0.06);
    EXPECT_NEAR(microseconds(tile, Association::Nested), row.tile_nested, 0.06);
    EXPECT_NEAR(microseconds(pod, Association::Chain), row.pod_chain, 0.06);
    EXPECT_NEAR(microseconds(pod, Association::Nested), row.pod_nested, 0.06);
  }
  const machine::Site corner{.row = pod.dies().rows - 1, .column = pod.dies().columns - 1};
  EXPECT_NEAR(static_cast<double>(way({}, corner, pod)) / 2e3, 25.2, 0.06);  // at 2 GHz
}

// Where sums are nested, that is the quicker way for a message whose bytes take as long as its way
// along the chain, as those of gradients do; but where the second row of 15 has two replicas.
TEST(NestedAllReduce, IsQuickerForMessagesOfGradientsWhereverPlacesNest) {
  for (const char* name : {"training-tile", "exapod"}) {
    const MachineModel machine = model(name);
    for (const machine::Shape dies : {machine::Shape{1, 1}, {1, 2}, {5, 5}}) {
      const Region region{.first_die = {}, .dies = dies, .nodes_of_die = machine.logical};
      for (const std::int64_t count : {4, 5, 7, 8, 10, 12, 16, 18, 25, 32, 100, 120, 3000}) {
        const std::int64_t places = machine.dies().count() / dies.count();
        const program::Replicas some{
            .count = count, .available = places, .dies = dies, .batch = count, .block = 1};
        if (count > places || !program::replicas_in_run(some, machine).has_value()) {
          continue;
        }
        const auto cost = [&](Association order, Bytes bytes) {
          return replica_all_reduce(Scope::Across, machine::all_reduce(Axis::Both, order, bytes),
                                    region, some, machine);
        };
        Bytes bytes(64);
        TransferCost chain = cost(Association::Chain, bytes);
        while (chain.busy / machine.network.pace < static_cast<double>(chain.latency.count())) {
          bytes = bytes * 2;
          chain = cost(Association::Chain, bytes);
        }
        EXPECT_LT(cost(Association::Nested, bytes).total(machine.network.pace),
                  chain.total(machine.network.pace))
            << name << ", " << count << " of " << dies.rows << "x" << dies.columns << ", "
            << bytes.count() << " bytes";
      }
    }
  }
}

// What rows and columns sum over places, against every step of every row and column.
TEST(NestedAllReduce, PassesEveryEdgeOfItsRowsAndColumns) {
  const MachineModel pod = without_adds("exapod");
  const program::Replicas all{
      .count = 450, .available = 3000, .dies = {1, 1}, .batch = 450, .block = 1};
  const Region region{.first_die = {}, .dies = {1, 1}, .nodes_of_die = {1, 1}};
  const double v = 200'000;
  const TransferCost cost = replica_all_reduce(
      Scope::Across, nested(packets(static_cast<std::int64_t>(v))), region, all, pod);
  std::int64_t row = 0;
  std::int64_t column = 0;
  double hops = 0;
  Traffic wanted;
  const double bytes_of_row = 2.5 * v * 64;  // partials on, sums back half of the way, sums to all
  const double bytes_of_column = bytes_of_row / 15;
  for (int at = 0; at < 14; ++at) {
    const LinkClass link = pod.column_boundary(at);
    row += pod.sites().columns + pod.link(link).latency.count() - 1;
    hops += 30 * bytes_of_row * pod.sites().columns;
    wanted.outer[static_cast<std::size_t>(link)] += 30 * bytes_of_row;
  }
  for (int at = 0; at < 29; ++at) {
    const LinkClass link = pod.row_boundary(at);
    column += pod.sites().rows + pod.link(link).latency.count() - 1;
    hops += 15 * bytes_of_column * pod.sites().rows;
    wanted.outer[static_cast<std::size_t>(link)] += 15 * bytes_of_column;
  }
  EXPECT_EQ(cost.latency.count(), 3 * row + 14 * 2 * kS + 2 + 3 * column + 29 * 2 * kS + 2);
  EXPECT_NEAR(cost.traffic.hops / hops, 1, 1e-12);
  for (std::size_t i = 0; i < wanted.outer.size(); ++i) {
    EXPECT_NEAR(cost.traffic.outer[i], wanted.outer[i], 1e-9 * wanted.outer[i]);
  }
}

// Ways over all replicas, one by one, against what the formulas sum over rows and columns.
TEST(Replicas, WaysAreThoseOfEveryReplica) {
  const machine::MachineModel pod = *machine::load_machine("exapod");
  const auto cycles = [&](machine::Site from, machine::Site to) { return way(from, to, pod); };
  const machine::Region region = machine::whole_die(pod, {});
  for (const std::int64_t count : {2, 9, 15, 16, 29, 30, 31, 44, 100, 1499, 3000}) {
    const program::Replicas replicas{
        .count = count, .available = 3000, .dies = {1, 1}, .batch = count, .block = 1};
    const machine::Site middle = replica_site(replicas, count / 2, pod);
    std::int64_t chain = 0;
    std::int64_t radius = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const machine::Site site = replica_site(replicas, i, pod);
      radius = std::max(radius, cycles(site, middle));
      chain += i > 0 ? cycles(replica_site(replicas, i - 1, pod), site) : 0;
    }
    const std::int64_t s = pod.network.stage.count();
    EXPECT_EQ(replica_all_gather(region, Bytes(64), replicas, pod).latency.count(),
              chain + (count - 2) * s + 2);
    const TransferCost sum =
        replica_all_reduce(Scope::Across, chain_of(Bytes(64)), region, replicas, pod);
    const std::int64_t through_middle = 2 * (radius + s) + pod.network.reduce_stage.count();
    if (count >= 9) {
      EXPECT_EQ(sum.latency.count(), through_middle) << count;
    }
  }
}

}  // namespace
}  // namespace dojo::cost
