// Whether everything arrives (delivery.h) where ops are split otherwise than the rules say: small
// placements that random ones led to and that were wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "dojo/graph/nest.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/place/internal/delivery.h"
#include "dojo/place/internal/delivery_testing.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/place/place.h"

namespace dojo::place {
namespace {

using testing::Facts;
using testing::with_facts;

// What the op that makes a value is split over, by the names of its loops; "": nothing.
struct Otherwise {
  std::string value;
  std::string over_groups;
  std::string over_rows;
  std::string over_columns;
};

struct Step {
  const char* file;
  const char* recipe;
  const char* machine;
  Facts facts;
};

Deal deal_of(const graph::Graph& graph, const Otherwise& otherwise) {
  std::size_t op = 0;
  while (graph.value(*graph.ops.at(op).outputs.front()).name != otherwise.value) {
    ++op;
  }
  const graph::LoopNest nest = graph::nest_of(graph, graph.ops[op]);
  const auto number_of = [&](const std::string& name) {
    const auto found = std::find_if(nest.loops.begin(), nest.loops.end(),
                                    [&](const auto& loop) { return loop.name == name; });
    EXPECT_EQ(found == nest.loops.end(), name.empty()) << otherwise.value << " " << name;
    return static_cast<int>(found - nest.loops.begin());
  };
  return {.kind = op_kinds(graph)[op],
          .group_loop = number_of(otherwise.over_groups),
          .row_loop = number_of(otherwise.over_rows),
          .column_loop = number_of(otherwise.over_columns)};
}

void expect_delivery(const Step& one, Choice choice, const std::vector<Otherwise>& splits) {
  const machine::MachineModel machine = with_facts(one.machine, one.facts);
  const auto captured = graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/" + one.file);
  ASSERT_TRUE(captured.has_value()) << captured.error().to_string();
  const auto lowered = lower_for_machine(*captured, *graph::recipe_named(one.recipe), machine);
  ASSERT_TRUE(lowered.has_value()) << lowered.error().to_string();
  for (const Otherwise& otherwise : splits) {
    const Deal deal = deal_of(*lowered, otherwise);
    const std::vector<Deal> all = deals_of(*lowered, machine, choice, deal.kind).all;
    EXPECT_NE(std::find(all.begin(), all.end(), deal), all.end()) << otherwise.value;
    choice.deals.push_back(deal);
  }
  std::sort(choice.deals.begin(), choice.deals.end(),
            [](const Deal& a, const Deal& b) { return a.kind < b.kind; });
  const Result<PlacedStep> step = place_as(*lowered, machine, choice);
  ASSERT_TRUE(step.has_value()) << step.error().to_string();
  const internal::Plan plan =
      *internal::plan_on(step->graph, machine, *internal::mesh_for(choice, step->graph, machine));
  internal::Delivery delivery(step->graph, plan, step->program, machine);
  for (const std::string& breach : delivery.run(3)) {
    ADD_FAILURE() << breach;
  }
  EXPECT_GT(delivery.elements_checked(), 1000);
}

// A norm's backward sums rows over columns of nodes: what adds up the gradients of its parameters
// is a second phase. (The product is split so that their update waits for nothing else.)
TEST(DeliveredOtherwise, SumsOverSamplesBehindSumsOfRows) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "cfloat8",
                   .machine = "d1",
                   .facts = {{"mesh.die.dead", "[]"}, {"mesh.die.size", "3x3"}}},
                  {.dies = {1, 1}, .block = 3, .micro_batches = 2},
                  {{"d.blocks.1.up.weight", "", "", ""}});
}

// Columns of a weight lie over groups and in shares over columns of nodes. A line across the nodes
// that deals its shares out reads columns for every group.
TEST(DeliveredOtherwise, LinesThatDealOutToAllGroups) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "fp32",
                   .machine = "training-tile",
                   .facts = {{"mesh.die.dead", "[]"}, {"mesh.die.size", "5x3"}}},
                  {.dies = {1, 1}, .free_groups = 5}, {});
}

// Nodes send their neighbours more rows than those read, where rows then go on to others.
TEST(DeliveredOtherwise, HalosThatAreGathered) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "cfloat8_shp",
                   .machine = "training-tile",
                   .facts = {{"mesh.die.dead", "2,2"}, {"mesh.die.size", "6x5"}}},
                  {.dies = {1, 1}, .free_groups = 2},
                  {{"mul.13", "d3", "d2", ""}, {"mul.14", "", "d2", "d1"}});
}

// A group's rows with their halos are more than its rows.
TEST(DeliveredOtherwise, GroupsAreGatheredWithHalos) {
  expect_delivery({.file = "conformance/small_cnn.graph",
                   .recipe = "bf16",
                   .machine = "training-tile",
                   .facts = {{"mesh.die.dead", "[]"}, {"mesh.die.size", "6x2"}}},
                  {.dies = {1, 1}, .free_groups = 2}, {{"x.b", "d3", "d2", "d1"}});
}

// Shares of the last block, which is shorter, are of more rows than shares of the others.
TEST(DeliveredOtherwise, HalosOfSharesOfAShorterBlock) {
  expect_delivery({.file = "golden/run/small_step.graph",
                   .recipe = "cfloat8_no_master",
                   .machine = "training-tile",
                   .facts = {{"mesh.die.dead", "3,2"}, {"mesh.die.size", "6x6"}}},
                  {.dies = {1, 2}, .block = 2, .has_groups = true}, {{"d.q.weight", "", "n", ""}});
}

// What lies over columns of nodes is read from one index in so many by each group.
TEST(DeliveredOtherwise, HalosThatGroupsReadInTurns) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "cfloat8",
                   .machine = "training-tile",
                   .facts = {{"mesh.die.dead", "0,4 2,4"},
                             {"mesh.die.size", "4x5"},
                             {"interface.processors", "1"},
                             {"tile.dies", "2x2"}}},
                  {.dies = {2, 1}, .block = 8, .free_groups = 8},
                  {{"mm.6", "n", "", "m"}, {"view.48", "d1", "", "d0"}});
}

// An update is done again for one of its results; who takes the others reads the first ones.
TEST(DeliveredOtherwise, ResultsThatAreMadeAgainForNobody) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "cfloat8_no_master",
                   .machine = "d1",
                   .facts = {{"mesh.die.dead", "0,3"},
                             {"mesh.die.size", "5x4"},
                             {"node.code", "0 KB"},
                             {"node.buffers", "1 KB"},
                             {"node.sram", "24 KB"}}},
                  {.dies = {1, 1},
                   .block = 3,
                   .has_groups = true,
                   .streams_states = true,
                   .panels = Bytes(1024)},
                  {{"gelu_backward", "", "", ""}, {"mm.4", "", "", ""}});
}

// Groups have the same rows, each of them other ones: what shares are gathered from is a row.
TEST(DeliveredOtherwise, SharesOfWhatGroupsHaveAlike) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "cfloat8_shp",
                   .machine = "d1",
                   .facts = {{"mesh.die.dead", "2,2"},
                             {"mesh.die.size", "6x3"},
                             {"node.code", "0 KB"},
                             {"node.buffers", "1 KB"},
                             {"node.sram", "48 KB"}}},
                  {.dies = {1, 1}, .block = 3, .free_groups = 2, .micro_batches = 2},
                  {{"mul.3", "d1", "", "d2"}, {"addmm.2", "", "n", ""}});
}

// What is done again waits for what came just before, which may have brought the same.
TEST(DeliveredOtherwise, OperandsThatComeForOpsDoneAgain) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "bf16",
                   .machine = "d1",
                   .facts = {{"mesh.die.dead", "[]"},
                             {"mesh.die.size", "6x4"},
                             {"node.code", "0 KB"},
                             {"node.buffers", "1 KB"},
                             {"node.sram", "24 KB"}}},
                  {.dies = {1, 1},
                   .block = 3,
                   .micro_batches = 3,
                   .streams_states = true,
                   .panels = Bytes(1024)},
                  {{"add", "", "d2", "d1"},
                   {"layer_norm", "", "r1", ""},
                   {"layer_norm_backward.1", "", "", ""}});
}

// Transfers do not begin with what others brought, though they may wait for them.
TEST(DeliveredOtherwise, TransfersThatWaitForOthers) {
  expect_delivery({.file = "conformance/small_transformer.graph",
                   .recipe = "cfloat8_shp",
                   .machine = "d1",
                   .facts = {{"mesh.die.dead", "2,2"},
                             {"mesh.die.size", "6x3"},
                             {"node.code", "0 KB"},
                             {"node.buffers", "1 KB"},
                             {"node.sram", "48 KB"}}},
                  {.dies = {1, 1}, .block = 3, .free_groups = 2, .micro_batches = 2},
                  {{"layer_norm", "", "r1", ""},
                   {"view.12", "", "", "d1"},
                   {"mul.3", "d1", "", "d2"},
                   {"addmm.2", "", "n", ""},
                   {"addmm.3", "", "", ""},
                   {"layer_norm_backward", "", "", ""},
                   {"layer_norm_backward.1", "", "", ""}});
}

// A gradient ends in the weight's blocks of columns only where it has the weight's blocks of
// groups.
TEST(DeliveredOtherwise, GradientsOfWeightsInOtherGroups) {
  expect_delivery(
      {.file = "conformance/small_transformer.graph",
       .recipe = "bf16",
       .machine = "training-tile",
       .facts = {{"mesh.die.dead", "0,1"}, {"mesh.die.size", "4x5"}, {"tile.dies", "2x4"}}},
      {.dies = {1, 1}, .block = 3, .free_groups = 4, .micro_batches = 3},
      {{"addmm", "n", "", "n"},
       {"addmm.1", "n", "", "n"},
       {"add.2", "", "", ""},
       {"addmm.2", "n", "", "m"},
       {"view.49", "d2", "", "d1"}});
}

}  // namespace
}  // namespace dojo::place
