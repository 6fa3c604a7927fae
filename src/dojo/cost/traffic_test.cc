// What transfers move in all, against every single send of small regions.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "dojo/cost/pattern_cost.h"
#include "dojo/cost/replica_cost.h"
#include "dojo/machine/description.h"

namespace dojo::cost {
namespace {

using machine::Association;
using machine::Axis;
using machine::LinkClass;
using machine::MachineModel;
using machine::Region;

constexpr double kPacket = 64;

MachineModel tile() { return *machine::load_machine("training-tile"); }

// 3 rows of 8 nodes on two dies side by side; node c of a row stands on die c / 4.
Region rows_over_two_dies() { return {.first_die = {}, .dies = {1, 2}, .nodes_of_die = {3, 4}}; }
constexpr int kNodes = 8;
constexpr int kOnDie = 4;
constexpr double kRows = 3;

// Sends from SRAM to SRAM, straight through the routers between.
class Sends {
 public:
  void send(int from, int to, double packets) {
    received_ += packets;
    hops_ += packets * std::abs(to - from);
    crossed_ += from / kOnDie != to / kOnDie ? packets : 0;
  }
  void expect(const TransferCost& cost) const {
    EXPECT_NEAR(cost.traffic.sram, 2 * kRows * received_ * kPacket, 1e-6);
    EXPECT_NEAR(cost.traffic.hops, kRows * hops_ * kPacket, 1e-6);
    EXPECT_NEAR(cost.traffic.outer[static_cast<std::size_t>(LinkClass::DieEdge)],
                kRows * crossed_ * kPacket, 1e-6);
  }

 private:
  double received_ = 0;
  double hops_ = 0;
  double crossed_ = 0;
};

Bytes packets(int count) { return Bytes(64 * count); }

TransferCost along_rows(const machine::Pattern& pattern) {
  return pattern_cost(pattern, rows_over_two_dies(), tile());
}

TEST(Traffic, OfAMulticastIsThatOfItsChain) {
  for (const int source : {0, 3, 7}) {
    Sends sends;
    for (int node = source; node + 1 < kNodes; ++node) {
      sends.send(node, node + 1, 10);
    }
    for (int node = source; node > 0; --node) {
      sends.send(node, node - 1, 10);
    }
    sends.expect(along_rows(machine::multicast(Axis::Rows, packets(10), source)));
  }
}

TEST(Traffic, OfAnAllGatherIsEveryShareThroughEveryNode) {
  Sends sends;
  for (int owner = 0; owner < kNodes; ++owner) {
    for (int node = owner; node + 1 < kNodes; ++node) {
      sends.send(node, node + 1, 80.0 / kNodes);
    }
    for (int node = owner; node > 0; --node) {
      sends.send(node, node - 1, 80.0 / kNodes);
    }
  }
  sends.expect(along_rows(machine::all_gather(Axis::Rows, packets(80))));
}

TEST(Traffic, OfAReductionIsThatOfItsChain) {
  Sends sends;
  for (int node = 0; node + 1 < kNodes; ++node) {
    sends.send(node, node + 1, 10);
  }
  sends.expect(along_rows(machine::reduce(Axis::Rows, Association::Chain, packets(10))));
}

// Large: a chain east, and each block from the last node straight to its owner.
TEST(Traffic, OfALargeReduceScatterIsItsChainAndTheWayBack) {
  constexpr int kPackets = 80'000;
  constexpr double kShare = static_cast<double>(kPackets) / kNodes;
  Sends sends;
  for (int node = 0; node + 1 < kNodes; ++node) {
    sends.send(node, node + 1, kPackets);
    sends.send(kNodes - 1, node, kShare);
  }
  sends.expect(
      along_rows(machine::reduce_scatter(Axis::Rows, Association::Chain, packets(kPackets))));
}

TEST(Traffic, OfAnAllToAllIsThatOfEveryPair) {
  Sends sends;
  for (int from = 0; from < kNodes; ++from) {
    for (int to = 0; to < kNodes; ++to) {
      sends.send(from, to, from == to ? 0 : 5);
    }
  }
  sends.expect(along_rows(machine::all_to_all(Axis::Rows, packets(5))));
}

TEST(Traffic, OfAShiftGoesOnAndComesRoundAgain) {
  for (const int distance : {1, 3, 6}) {
    Sends sends;
    for (int node = 0; node < kNodes; ++node) {
      sends.send(node, (node + distance) % kNodes, 5);
    }
    sends.expect(along_rows(machine::shift(Axis::Rows, distance, packets(5))));
  }
}

// Both axes: what goes along rows and along columns, each on all its lines.
TEST(Traffic, OfBothAxesIsThatOfOneAfterTheOther) {
  const MachineModel machine = tile();
  const Region region = rows_over_two_dies();
  const Traffic both =
      pattern_cost(machine::all_gather(Axis::Both, packets(240)), region, machine).traffic;
  Traffic sum =
      pattern_cost(machine::all_gather(Axis::Columns, packets(30)), region, machine).traffic;
  sum += pattern_cost(machine::all_gather(Axis::Rows, packets(240)), region, machine).traffic;
  EXPECT_DOUBLE_EQ(both.sram, sum.sram);
  EXPECT_DOUBLE_EQ(both.hops, sum.hops);
  EXPECT_EQ(both.outer, sum.outer);
  // Every node gets all that it has not: 23 of 24 shares.
  EXPECT_GE(both.sram, 2 * 24 * 240 * kPacket * 23 / 24 - 1e-6);
}

TEST(Traffic, OfAnAllToAllOnARegionStoresWhatTurns) {
  const Region region = rows_over_two_dies();
  double received = 0;
  double hops = 0;
  for (int from = 0; from < 24; ++from) {
    for (int to = 0; to < 24; ++to) {
      const int dx = std::abs(from % kNodes - to % kNodes);
      const int dy = std::abs(from / kNodes - to / kNodes);
      received += (dx > 0 ? 1 : 0) + (dy > 0 ? 1 : 0);
      hops += dx + dy;
    }
  }
  const Traffic traffic =
      pattern_cost(machine::all_to_all(Axis::Both, packets(1)), region, tile()).traffic;
  EXPECT_NEAR(traffic.sram, 2 * received * kPacket, 1e-6);
  EXPECT_NEAR(traffic.hops, hops * kPacket, 1e-6);
}

TEST(Traffic, OfASmallSumOverACentreIsItsTreeThereAndBack) {
  const MachineModel machine = *machine::load_machine("d1");
  const Region region{.first_die = {}, .dies = {1, 1}, .nodes_of_die = {5, 7}};
  const Traffic traffic =
      pattern_cost(machine::all_reduce(Axis::Both, Association::Centre, packets(1)), region,
                   machine)
          .traffic;
  EXPECT_DOUBLE_EQ(traffic.hops, 2 * 34 * kPacket);  // a tree of 35 nodes has 34 links
  EXPECT_DOUBLE_EQ(traffic.sram, 2 * 2 * 34 * kPacket);
}

// Four replicas of one die in a row: every node sends to its equals.
TEST(Traffic, OfASumOverReplicasPassesEveryEdgeOfTheirChain) {
  const MachineModel machine = tile();
  const program::Replicas replicas{
      .count = 4, .available = 25, .dies = {1, 1}, .batch = 4, .block = 1};
  const Region region{.first_die = {}, .dies = {1, 1}, .nodes_of_die = {2, 2}};
  const Traffic traffic = replica_all_gather(region, packets(10), replicas, machine).traffic;
  // Each of 4 x 40 packets passes the three edges between the replicas.
  EXPECT_DOUBLE_EQ(traffic.outer[static_cast<std::size_t>(LinkClass::DieEdge)],
                   4 * 40 * 3 * kPacket);
  EXPECT_DOUBLE_EQ(traffic.hops, 4 * 40 * 3 * machine.sites().columns * kPacket);
}

}  // namespace
}  // namespace dojo::cost
