// Delivery (delivery.h) of steps with micro-batches.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "dojo/machine/description.h"
#include "dojo/place/internal/delivery.h"
#include "dojo/place/internal/delivery_testing.h"
#include "dojo/place/place.h"
#include "dojo/program/program.h"

namespace dojo::place {
namespace {

using internal::Delivery;
using internal::Plan;
using program::Program;
using testing::Facts;
using testing::lowered;
using testing::Placed;
using testing::with_facts;

Placed in_micro_batches(const std::string& file, const std::string& recipe,
                        const machine::MachineModel& machine, std::int64_t count) {
  const graph::Graph graph = lowered(file, recipe, machine);
  Result<RuledStep> ruled = place_by_rule(graph, machine, {.micro_batches = count});
  EXPECT_TRUE(ruled.has_value()) << ruled.error().to_string();
  Plan plan = *internal::plan_step(graph, machine, {.micro_batches = count});
  return {std::move(ruled->step.graph), std::move(plan), std::move(ruled->step.program), machine};
}

// The same on replicas of a die with so many samples each.
Placed on_replicas(std::int64_t block, std::int64_t count, const char* recipe,
                   bool has_groups = false, const char* file = "golden/place/without_norm.graph",
                   const char* size = "3x3") {
  const machine::MachineModel machine = with_facts(
      "training-tile", {{"mesh.die.dead", "0,1"}, {"mesh.die.size", size}, {"tile.dies", "2x2"}});
  const graph::Graph graph = lowered(file, recipe, machine);
  const Choice choice{
      .dies = {1, 1}, .block = block, .has_groups = has_groups, .micro_batches = count};
  Result<PlacedStep> step = place_as(graph, machine, choice);
  EXPECT_TRUE(step.has_value()) << step.error().to_string();
  internal::Mesh mesh = internal::with_micro_batches(
      internal::mesh_of({1, 1}, block, machine, batch_of(graph)), count);
  mesh = has_groups ? internal::with_groups(mesh) : mesh;
  Plan plan = *internal::plan_on(step->graph, machine, mesh);
  return {std::move(step->graph), std::move(plan), std::move(step->program), machine};
}

std::string first_of(const std::vector<std::string>& breaches) {
  return breaches.empty() ? "" : breaches.front();
}

void expect_delivered(const Placed& step, std::int64_t count, std::int64_t least = 1000) {
  EXPECT_EQ(step.program.micro.count, count);
  const auto verified = program::verify_program(step.program, step.machine);
  EXPECT_TRUE(verified.has_value()) << verified.error().to_string();
  const program::WrittenOut whole = program::write_out(step.program, count);
  const auto written = program::verify_program(whole.program, step.machine);
  EXPECT_TRUE(written.has_value()) << written.error().to_string();
  Delivery delivery(step.graph, step.plan, step.program, step.machine);
  for (const std::string& breach : delivery.run(3)) {
    ADD_FAILURE() << breach;
  }
  EXPECT_GT(delivery.elements_checked(), least);
  EXPECT_GT(delivery.sizes_checked(), std::min<std::int64_t>(least, 100));
}

TEST(DeliveredInMicroBatches, AlsoWhereTheLastOneHasFewerSamples) {
  const machine::MachineModel machine =
      with_facts("d1", {{"mesh.die.dead", "[]"}, {"mesh.die.size", "2x3"}});
  expect_delivered(in_micro_batches("conformance/small_transformer.graph", "cfloat8", machine, 2),
                   2);
}

TEST(DeliveredInMicroBatches, OnReplicasAndInGroups) {
  expect_delivered(on_replicas(6, 3, "cfloat8"), 3);
  expect_delivered(on_replicas(8, 4, "bf16"), 4);
  expect_delivered(on_replicas(7, 4, "fp32"), 4);  // 7, 7, 7 and 3 samples, two at a time
  expect_delivered(on_replicas(12, 3, "cfloat8_shp", true), 3);
}

// Rows of an embedding's gradient are added in the order of all samples, which groups share: what
// they come from is kept of each micro-batch.
TEST(DeliveredInMicroBatches, WhatTakesAllSamplesRunsBehindThem) {
  const char* const file = "golden/place/rows_of_a_table.graph";
  const Placed replicas = on_replicas(4, 2, "cfloat8", false, file);
  const Placed groups = on_replicas(8, 2, "cfloat8", true, file);
  const Placed alone = on_replicas(8, 2, "cfloat8", false, file);  // adds them as they come
  EXPECT_GT(groups.plan.mesh.groups, 1);
  for (const Placed* const step : {&replicas, &groups, &alone}) {
    const auto& kept = step->plan.layouts.is_kept;
    EXPECT_EQ(std::count(kept.begin(), kept.end(), true), step == &alone ? 0 : 2);
    expect_delivered(*step, 2, 10);
  }
}

// Groups hold rows of a table, which every group's samples add to; of two replicas each sends the
// other the samples of all its groups.
TEST(DeliveredInGroups, RowsOfATableHaveTheSamplesOfAllReplicas) {
  const char* const file = "golden/place/rows_of_a_table.graph";
  for (const std::int64_t count : {1, 2}) {
    for (const std::int64_t block : {4, 8}) {
      const Placed step = on_replicas(block, count, "cfloat8", true, file, "6x3");
      EXPECT_GT(step.plan.mesh.groups, 1);
      EXPECT_EQ(step.plan.mesh.replicas.count, 8 / block);
      expect_delivered(step, count, 10);
    }
  }
}

// A table's rows over groups and the node rows of each, and positions over node rows alone: whoever
// reads both gathers the rows, since no block of a group is one of all.
TEST(DeliveredInGroups, RowsOfATableComeWhole) {
  expect_delivered(on_replicas(2, 1, "fp32", true, "golden/place/positions.graph", "12x3"), 1, 10);
}

// States in wider numbers than their weight lie in other shares: they go back inside of each group.
TEST(DeliveredInGroups, StatesGoBackToTheirShares) {
  const Placed step =
      on_replicas(3, 1, "cfloat8_no_master", true, "golden/place/positions.graph", "16x4");
  expect_delivered(step, 1, 10);
  const auto goes_back = [&](const program::Phase& phase) {
    const auto* const transfer = std::get_if<program::Transfer>(&phase.body);
    return transfer != nullptr && transfer->is_fallback &&
           transfer->moves.front().tensor.ends_with("exp_avg.next") &&
           transfer->moves.front().region.rows() == step.plan.mesh.rows_per_group();
  };
  EXPECT_EQ(std::count_if(step.program.phases.begin(), step.program.phases.end(), goes_back), 1);
}

// A sum over the rows of a group ends in even shares of what groups and columns will have: those of
// all groups are joined next.
TEST(DeliveredInGroups, SumsOverGroupsBringTheSharesOfAll) {
  const char* const file = "conformance/small_cnn.graph";
  for (const auto& [block, size] : {std::pair{2, "4x4"}, {4, "8x3"}}) {
    const Placed step = on_replicas(block, 1, "fp32", true, file, size);
    EXPECT_EQ(step.plan.mesh.rows_per_group(), 2);
    expect_delivered(step, 1);
  }
}

// Sums that lie in DRAM with the states come for each micro-batch, go back, and come once more.
TEST(DeliveredInMicroBatches, SumsComeFromMemoryAndGoBack) {
  const machine::MachineModel machine =
      with_facts("system-tray", {{"mesh.die.dead", "[]"}, {"mesh.die.size", "2x2"}});
  const graph::Graph graph = lowered("conformance/small_transformer.graph", "cfloat8", machine);
  const Choice choice{.dies = {1, 1}, .block = 3, .micro_batches = 3, .streams_states = true};
  PlacedStep step = *place_as(graph, machine, choice);
  internal::Mesh mesh = internal::with_micro_batches(internal::mesh_of({1, 1}, 3, machine, 3), 3);
  mesh.streams_states = true;
  Plan plan = *internal::plan_on(step.graph, machine, mesh);
  Placed placed{std::move(step.graph), std::move(plan), std::move(step.program), machine};
  expect_delivered(placed, 3);
  int taken = 0;
  const Program whole = placed.program;
  for (std::size_t i = 0; i < whole.phases.size(); ++i) {  // every third that brings a sum in turn
    placed.program = whole;
    auto* const transfer = std::get_if<program::Transfer>(&placed.program.phases[i].body);
    if (transfer != nullptr && transfer->moves.front().scope == program::Scope::Memory &&
        transfer->moves.front().pattern.kind == machine::PatternKind::ScatterFromEdge &&
        transfer->moves.front().tensor.starts_with("d.")) {
      ++taken;
      transfer->moves.clear();
      if (taken % 3 == 0) {
        EXPECT_FALSE(placed.breaches(1).empty()) << i;
      }
    }
  }
  EXPECT_GT(taken, 4);
}

// Values do not depend on how many there are, where nothing but micro-batches changes: all sums are
// cut alike.
TEST(DeliveredInMicroBatches, SumsAreCutAlikeWhateverTheirNumber) {
  const Placed three = on_replicas(12, 3, "cfloat8");
  const Placed six = on_replicas(12, 6, "cfloat8");
  EXPECT_EQ(graph::print_graph(three.graph), graph::print_graph(six.graph));
}

// --- that it can fail ---
TEST(DeliveryInMicroBatchesItself, SeesOneTooFewAndOneTooMany) {
  Placed step = on_replicas(6, 3, "cfloat8");
  step.program.micro.count = 2;
  EXPECT_NE(first_of(step.breaches(1)).find("has had 2 micro-batches of 3"), std::string::npos);
  step.program.micro.count = 4;  // in the last nothing would be done
  EXPECT_FALSE(program::verify_program(step.program, step.machine).has_value());
}

// Each phase in turn runs once only, before or behind the micro-batches, instead of each time.
TEST(DeliveryInMicroBatchesItself, SeesAPhaseThatRunsOnceOnly) {
  Placed step = on_replicas(6, 3, "cfloat8");
  const program::MicroBatches right = step.program.micro;
  const auto without_waits = [&] {
    Program out = step.program;
    for (std::size_t i = 0; i < out.phases.size(); ++i) {
      std::erase_if(out.phases[i].previous,
                    [&](PhaseId id) { return out.runs(i) == 1 || out.runs(id.index) == 1; });
    }
    return out;
  };
  int found = 0;
  int tried = 0;
  for (std::uint32_t by = 2; by < 40; by += 6) {
    for (const bool is_first : {true, false}) {
      Placed other = step;
      (is_first ? other.program.micro.first : other.program.micro.end) =
          is_first ? PhaseId{right.first.index + by} : PhaseId{right.end.index - by};
      step.program.micro = other.program.micro;
      other.program = without_waits();
      step.program.micro = right;
      ++tried;
      found += other.breaches(1).empty() ? 0 : 1;
    }
  }
  EXPECT_EQ(found, tried);
}

TEST(DeliveryInMicroBatchesItself, MissesTransfersThatAreTakenAway) {
  Placed step = on_replicas(6, 3, "cfloat8");
  const Program whole = step.program;
  int transfers = 0;
  int found = 0;
  for (std::size_t i = 0; i < whole.phases.size(); ++i) {
    step.program = whole;
    auto* const taken = std::get_if<program::Transfer>(&step.program.phases[i].body);
    if (taken == nullptr || i % 2 != 0) {
      continue;
    }
    ++transfers;
    taken->moves.clear();
    found += step.breaches(1).empty() ? 0 : 1;
  }
  EXPECT_GT(transfers, 8);
  EXPECT_GE(found, transfers - 1);
}

TEST(DeliveryInMicroBatchesItself, SeesAReaderThatDoesNotWait) {
  Placed step = on_replicas(6, 3, "cfloat8");
  const Program whole = step.program;
  int tried = 0;
  int found = 0;
  for (std::size_t i = whole.micro.first.index; i < whole.micro.end.index; i += 4) {
    step.program = whole;
    step.program.phases[i].after.clear();
    ++tried;
    found += step.breaches(1).empty() ? 0 : 1;
  }
  EXPECT_GT(found, tried / 2) << tried;
}

// --- what cannot be cut ---
TEST(MicroBatches, AreRefusedWhereASumOverSamplesFeedsSamples) {
  const machine::MachineModel machine = *machine::load_machine("training-tile");
  const graph::Graph graph = lowered("golden/place/many_samples.graph", "cfloat8", machine);
  const auto refused = place_by_rule(graph, machine, {.micro_batches = 2});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message,
            "graph \"many_samples\" cannot be cut into micro-batches: "
            "aten._native_batch_norm_legit_functional of module \"bn\" sums over all samples "
            "before it goes through them");
  graph::Graph current = lowered("golden/place/without_norm.graph", "cfloat8", machine);
  current.lowering->bias.rule = BiasRule::Current;
  EXPECT_NE(place_by_rule(current, machine, {.micro_batches = 2})
                .error()
                .message.find("bias=current takes"),
            std::string::npos);
  graph::Graph exact = lowered("golden/place/without_norm.graph", "cfloat8", machine);
  exact.lowering->sum_order = SumOrder::Exact;
  EXPECT_NE(
      place_by_rule(exact, machine, {.micro_batches = 2}).error().message.find("rounded once"),
      std::string::npos);
}

}  // namespace
}  // namespace dojo::place
