// Hand arithmetic stands beside every expectation; the GEMM table is that of docs/placement.md.
#include "dojo/cost/node_cost.h"

#include <gtest/gtest.h>

#include <cmath>

#include "dojo/cost/phase_cost.h"
#include "dojo/machine/description.h"

namespace dojo::cost {
namespace {

using program::MatrixWork;
using program::NodeWork;

machine::NodeModel node(int t0 = 4) {
  machine::NodeModel out = machine::load_machine("d1")->node;
  out.t0 = Cycles{t0};
  return out;
}

MatrixWork product(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t panel, int bytes) {
  return {.m = m, .n = n, .k = k, .panel = panel, .left_bytes = bytes, .right_bytes = bytes};
}

TEST(Matrix, CountsTilesStepsPanelsAndReloads) {
  // 3 x 2 tiles of 8 x 8. Panels of 256, 256, 88: 64 + 64 + 22 steps of 4, 3 x 4 for t0, 2 reloads
  // of 2 cycles.
  const MatrixCycles cycles = matrix_cycles(product(20, 16, 600, 256, 2), node());
  EXPECT_DOUBLE_EQ(cycles.total, 6 * (64 + 64 + 22 + 3 * 4 + 2 * 2));
  EXPECT_DOUBLE_EQ(cycles.ideal, 20.0 * 16 * 600 / 256);
  EXPECT_DOUBLE_EQ(cycles.shape, 6 * 150);
  EXPECT_DOUBLE_EQ(cycles.operands, 6 * 150);
}

TEST(Matrix, TakesAtLeastTheStoreOfAPartialPerPanel) {
  // k = 9: 3 steps, but the 256 B partial leaves at 64 B a cycle.
  EXPECT_DOUBLE_EQ(matrix_cycles(product(8, 8, 9, 512, 1), node()).total, 4 + 4);
}

TEST(Matrix, WaitsForOperandsWiderThanTwoBytes) {
  // 32 (4 + 4) / 128 = 2 cycles per step; CFloat8 operands are not faster than BF16.
  EXPECT_DOUBLE_EQ(matrix_cycles(product(8, 8, 64, 64, 4), node()).operands, 32);
  EXPECT_DOUBLE_EQ(matrix_cycles(product(8, 8, 64, 64, 1), node()).operands, 16);
}

// Utilisation of all live nodes' peak as in the GEMM table: every panel reloads (C accumulates),
// and the fill is (R + C) s + crossings + one panel of A.
struct GemmRow {
  const char* name;
  double size;
  int rows;
  int columns;
  std::int64_t m;
  std::int64_t n;
  std::int64_t panel;
  int bytes;
  double nodes;
  double crossings;
  std::vector<std::pair<int, double>> utilisation;  // t0, percent
};

TEST(GemmTable, IsReproducedWithinRounding) {
  const std::vector<GemmRow> rows{
      {"4096 die", 4096, 18, 19, 228, 216, 256, 2, 354, 0, {{0, 91.4}, {4, 86.2}, {16, 73.6}}},
      {"4096 die cfloat8", 4096, 18, 19, 228, 216, 512, 1, 354, 0, {{0, 92.8}, {4, 90.1}}},
      {"16384 tile",
       16384,
       90,
       95,
       183,
       173,
       512,
       2,
       8850,
       1600,
       {{0, 91.8}, {4, 89.1}, {16, 81.8}}},
      {"16384 tile 256", 16384, 90, 95, 183, 173, 256, 2, 8850, 1600, {{0, 90.5}, {4, 85.4}}},
      {"4096 tile", 4096, 90, 95, 46, 44, 512, 2, 8850, 1600, {{4, 67.4}}},
      {"1024 die", 1024, 18, 19, 57, 54, 512, 2, 354, 0, {{4, 70.8}}},
  };
  for (const GemmRow& row : rows) {
    for (const auto& [t0, percent] : row.utilisation) {
      const double tiles =
          std::ceil(static_cast<double>(row.m) / 8) * std::ceil(static_cast<double>(row.n) / 8);
      const MatrixWork work =
          product(row.m, row.n, static_cast<std::int64_t>(row.size), row.panel, row.bytes);
      const double first_reload = 2 * tiles;
      const double fill = (row.rows + row.columns) * 22 + row.crossings +
                          static_cast<double>(row.m * row.panel * row.bytes) / 64;
      const double cycles = matrix_cycles(work, node(t0)).total + first_reload + fill;
      const double ideal = row.size * row.size * row.size / 256 / row.nodes;
      EXPECT_NEAR(100 * ideal / cycles, percent, 0.11) << row.name << " t0=" << t0;
    }
  }
}

TEST(Node, IsBoundByItsBusiestPart) {
  // ResNet-50 1x1, 64 -> 256, 147 x 128 outputs with 7 vector operations each.
  NodeWork work{.matrix = {product(147, 128, 64, 512, 1)}, .vector_ops = 147 * 128 * 7};
  const NodeCost cost = node_cost(work, node());
  EXPECT_DOUBLE_EQ(cost.matrix.total, 19 * 16 * (16 + 4));  // = 6,080
  EXPECT_DOUBLE_EQ(cost.vector, 147.0 * 128 * 7 * 4 / 64);  // = 8,232
  EXPECT_EQ(cost.bound, NodePart::Vector);
  EXPECT_EQ(cost.body().count(), 8232 + 100);
}

TEST(Node, CountsSpecialFunctionsAndRoundingOnTheVectorPipe) {
  const NodeWork work{.special_ops = 320, .stored = Bytes(6400), .rounded = Bytes(6400)};
  const NodeCost cost = node_cost(work, node());
  EXPECT_DOUBLE_EQ(cost.vector, 320 * 8.0 / 16 + 6400.0 / 64);
  EXPECT_DOUBLE_EQ(cost.store, 100);
}

TEST(Node, LoadsOperandsAndEpilogueThroughOnePort) {
  // 2 x 2 tiles, k = 128, BF16: each tile reads 128 x (8 x 2 + 8 x 2) B.
  NodeWork work{.matrix = {product(16, 16, 128, 128, 2)}, .loaded = Bytes(1280)};
  EXPECT_DOUBLE_EQ(node_cost(work, node()).load, 4.0 * 128 * 32 / 128 + 10);
  machine::NodeModel conflicts = node();
  conflicts.kappa = 0.1;
  EXPECT_DOUBLE_EQ(node_cost(work, conflicts, 0.5).load, (128 + 10) * 1.05);
}

TEST(Node, TakesTheVectorPipeForFp32AndForNarrowProducts) {
  MatrixWork fp32 = product(16, 16, 128, 128, 4);
  fp32.on_vector_pipe = true;
  EXPECT_DOUBLE_EQ(node_cost({.matrix = {fp32}}, node()).vector, 16 * 16 * 128 / 16.0);
  // Depthwise: one output channel per group. 9 taps on the pipe: 64 x 9 / 16 = 36 cycles; on the
  // unit 8 tiles x (4 + 4) = 64.
  const NodeCost narrow = node_cost({.matrix = {product(64, 1, 9, 512, 1)}}, node());
  EXPECT_DOUBLE_EQ(narrow.vector, 36);
  EXPECT_DOUBLE_EQ(narrow.matrix.total, 0);
}

TEST(Ingest, IsBoundByThePcieLinksOfTheTile) {
  const machine::MachineModel machine = *machine::load_machine("training-tile");
  const program::Replicas replicas{
      .count = 16, .available = 25, .dies = {1, 1}, .batch = 32, .block = 2};
  const program::Ingest ingest{
      .tensors = {"x"}, .bytes = Bytes(1'843'200), .bytes_per_replica = Bytes(115'200)};
  const TransferTime time = ingest_time(ingest, replicas, machine::whole_die(machine, {}), machine);
  // 32 x 4 x 3 x 60 x 80 B over five links of 32 GB/s = 16 B a cycle: 23,040 cycles; one host
  // decodes 20 GB/s = 10 B a cycle: 184,320.
  EXPECT_EQ(time.cost.busiest, machine::LinkClass::HostDecode);
  EXPECT_DOUBLE_EQ(time.cost.busy, 184'320);
  EXPECT_DOUBLE_EQ(time.cost.bytes[static_cast<std::size_t>(machine::LinkClass::Pcie)], 368'640);
}

TEST(Ingest, FromAMachinesOwnDramTakesItsRate) {
  const machine::MachineModel machine = *machine::load_machine("tenstorrent-n150");
  const program::Ingest ingest{
      .tensors = {"x"}, .bytes = Bytes(267'000'000), .bytes_per_replica = Bytes(267'000'000)};
  const TransferTime time = ingest_time(ingest, {}, machine::whole_die(machine, {}), machine);
  // A row of 8 cores takes an eighth over a link of 32 B a cycle: 1,042,969 cycles of 1 ns, more
  // than the 1,000,000 of the DRAM.
  EXPECT_EQ(time.cost.busiest, machine::LinkClass::NodeLink);
  EXPECT_NEAR(time.cost.busy, 267e6 / 8 / 32, 1);
  EXPECT_DOUBLE_EQ(time.cost.bytes[static_cast<std::size_t>(machine::LinkClass::Hbm)], 267e6);
  EXPECT_EQ(time.cost.latency, Cycles{500 + 10 + 8});
}

TEST(Transfer, TellsWhenItsFirstPanelIsThere) {
  const machine::MachineModel machine = *machine::load_machine("d1");
  program::Transfer transfer;
  transfer.panels = 8;
  transfer.moves.push_back(
      {.tensor = "w",
       .region = machine::whole_die(machine, {}),
       .pattern = machine::all_gather(machine::Axis::Columns, Bytes(64 * 1800))});
  const TransferTime time = transfer_time(transfer, {}, machine);
  // A = 16 x 22 + 2 = 354 cycles, L = 1900; 1900 / 0.9 = 2112, an eighth of it 264. 500 ps a cycle.
  EXPECT_EQ(time.total.count(), (354 + 2112) * 500);
  EXPECT_EQ(time.first.count(), (354 + 264) * 500);
}

}  // namespace
}  // namespace dojo::cost
