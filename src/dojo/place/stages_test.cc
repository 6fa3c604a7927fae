// Pipelines: what stages do and send each other, walked node by node (delivery.h), and their
// memory.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/internal/bytewise_testing.h"
#include "dojo/place/internal/delivery.h"
#include "dojo/place/internal/delivery_testing.h"
#include "dojo/place/internal/stages.h"
#include "dojo/place/place.h"
#include "dojo/program/program.h"
#include "dojo/program/program_text.h"

namespace dojo::place {
namespace {

using internal::Delivery;
using internal::Plan;
using program::Program;
using testing::Facts;
using testing::lowered;
using testing::overwritten;
using testing::Placed;
using testing::with_facts;

Result<Placed> in_stages(const std::string& file, const std::string& recipe,
                         const machine::MachineModel& machine, const Choice& choice) {
  const graph::Graph graph = lowered(file, recipe, machine);
  DOJO_TRY(PlacedStep step, place_as(graph, machine, choice));
  DOJO_TRY(const internal::Mesh mesh, internal::mesh_for(choice, step.graph, machine));
  DOJO_TRY(Plan plan, internal::plan_on(step.graph, machine, mesh));
  return Placed{std::move(step.graph), std::move(plan), std::move(step.program), machine};
}

void expect_delivered(const Placed& step, std::int64_t least = 1000) {
  const auto verified = program::verify_program(step.program, step.machine);
  ASSERT_TRUE(verified.has_value()) << verified.error().to_string();
  const auto again = program::parse_program(program::print_program(step.program), "");
  ASSERT_TRUE(again.has_value()) << again.error().to_string();
  EXPECT_EQ(*again, step.program);
  std::int64_t elements = 0;
  for (std::size_t stage = 0; stage < step.program.stages.size(); ++stage) {
    Delivery delivery(step.graph, step.plan, step.program, step.machine, stage);
    for (const std::string& breach : delivery.run(3)) {
      ADD_FAILURE() << "stage " << stage << ": " << breach;
    }
    elements += delivery.elements_checked();
  }
  EXPECT_GT(elements, least);
}

machine::MachineModel small_tile(const char* size = "3x3") {
  return with_facts("training-tile", {{"mesh.die.dead", "0,1"},
                                      {"mesh.die.size", size},
                                      {"tile.dies", "2x2"},
                                      {"node.sram", "8 MB"}});
}

constexpr const char* kTransformer = "conformance/small_transformer.graph";

TEST(DeliveredInStages, EachSendsWhatTheNextOneNeeds) {
  for (const char* const recipe : {"cfloat8", "bf16", "fp32", "cfloat8_shp"}) {
    const Result<Placed> step =
        in_stages(kTransformer, recipe, small_tile("4x5"),
                  {.dies = {1, 1}, .stages = 2, .block = 3, .micro_batches = 3});
    ASSERT_TRUE(step.has_value()) << step.error().to_string();
    EXPECT_EQ(step->program.stages.size(), 2U);
    expect_delivered(*step);
    EXPECT_EQ(overwritten(*step), std::vector<std::string>{});
  }
}

TEST(DeliveredInStages, AlsoOnManyStagesAndReplicas) {
  const char* const many = "golden/place/without_norm.graph";
  const std::vector<std::pair<const char*, Choice>> choices{
      {kTransformer, {.dies = {1, 1}, .stages = 4, .block = 3, .micro_batches = 3}},
      {many, {.dies = {1, 1}, .stages = 2, .block = 12, .micro_batches = 6}},  // two replicas
      {many, {.dies = {1, 1}, .stages = 4, .block = 24, .micro_batches = 8}},
      {many, {.dies = {1, 2}, .stages = 2, .block = 24, .has_groups = true, .micro_batches = 4}},
  };
  for (const auto& [file, choice] : choices) {
    const Result<Placed> step = in_stages(file, "cfloat8", small_tile("4x5"), choice);
    ASSERT_TRUE(step.has_value()) << step.error().to_string();
    EXPECT_EQ(step->program.stages.size(), static_cast<std::size_t>(choice.stages));
    expect_delivered(*step, 100);
    EXPECT_EQ(overwritten(*step), std::vector<std::string>{});
  }
}

// Codes of weights in DRAM are made before the micro-batches, and not again when a block is.
TEST(DeliveredInStages, AlsoWhereBlocksAreDoneAgainAndWeightsLieInMemory) {
  const machine::MachineModel machine = with_facts("training-tile", {{"mesh.die.dead", "0,1"},
                                                                     {"mesh.die.size", "4x5"},
                                                                     {"tile.dies", "2x4"},
                                                                     {"node.code", "4 KB"},
                                                                     {"node.buffers", "4 KB"},
                                                                     {"node.sram", "26 KB"}});
  const Result<Placed> step = in_stages(kTransformer, "cfloat8", machine,
                                        {.dies = {1, 1},
                                         .stages = 4,
                                         .block = 3,
                                         .free_groups = 2,
                                         .micro_batches = 2,
                                         .streams_states = true});
  ASSERT_TRUE(step.has_value()) << step.error().to_string();
  const auto& in_memory = step->plan.layouts.in_memory;
  int weights = 0;
  for (std::size_t i = 0; i < in_memory.size(); ++i) {
    weights += in_memory[i] && step->graph.values[i].kind == graph::ValueKind::Weight;
  }
  EXPECT_GT(weights, 0);
  EXPECT_TRUE(std::any_of(step->program.remedies.begin(), step->program.remedies.end(),
                          [](const auto& remedy) { return remedy.what == "checkpoint"; }));
  expect_delivered(*step);
  EXPECT_EQ(overwritten(*step), std::vector<std::string>{});
}

// Whatever a search deals, on nodes with much room and with little: then things are done again.
TEST(DeliveredInStages, AlsoWhateverASearchDeals) {
  std::mt19937 random(16);
  int done = 0;
  int recomputed = 0;
  const std::vector<const char*> files{kTransformer, "golden/place/without_norm.graph",
                                       "golden/place/rows_of_a_table.graph"};
  const std::vector<const char*> rooms{"8 MB", "26 KB", "22 KB", "11 KB", "10 KB"};
  for (int draw = 0; draw < 14; ++draw) {
    const machine::MachineModel machine =
        with_facts("training-tile", {{"mesh.die.dead", "0,1"},
                                     {"mesh.die.size", "4x5"},
                                     {"tile.dies", "2x4"},
                                     {"node.code", "4 KB"},
                                     {"node.buffers", "4 KB"},
                                     {"node.sram", rooms[random() % rooms.size()]}});
    const char* const file = files[random() % files.size()];
    const graph::Graph graph = lowered(file, random() % 2 == 0 ? "cfloat8" : "bf16", machine);
    Choice choice{.dies = {1, 1 + static_cast<int>(random() % 2)},
                  .stages = 2 << random() % 2,
                  .block = batch_of(graph) < 8 ? batch_of(graph) : batch_of(graph) >> random() % 2};
    choice.micro_batches = std::min<std::int64_t>(choice.block, 2 + random() % 6);
    choice.streams_states = random() % 2 == 0 && has_dram_for_states(graph, machine, choice);
    const std::vector<Choice> grouped = with_free_groups(machine, choice);
    if (random() % 2 == 0 && !grouped.empty()) {
      choice = grouped[random() % grouped.size()];
    }
    const std::vector<int> kinds = op_kinds(graph);
    for (int kind = 0; kind <= *std::max_element(kinds.begin(), kinds.end()); ++kind) {
      const std::vector<Deal> deals = deals_of(graph, machine, choice, kind).all;
      const std::size_t drawn = random() % (4 * deals.size() + 1);
      if (drawn < deals.size()) {
        choice.deals.push_back(deals[drawn]);
      }
    }
    const Result<Placed> step = in_stages(file, graph.lowering->recipe, machine, choice);
    if (!step.has_value()) {
      continue;  // it does not fit, or is not to be cut so
    }
    ++done;
    recomputed += std::any_of(step->program.phases.begin(), step->program.phases.end(),
                              [](const program::Phase& phase) {
                                const auto* compute = std::get_if<program::Compute>(&phase.body);
                                return compute != nullptr && compute->is_recomputed;
                              });
    expect_delivered(*step, 10);
    EXPECT_EQ(overwritten(*step), std::vector<std::string>{});
    if (HasFailure()) {
      FAIL() << "draw " << draw << ", " << file;
    }
  }
  EXPECT_GE(done, 6);
  EXPECT_GE(recomputed, 1);
}

// --- what tests of delivery and memory notice ---
Placed two_stages() {
  return *in_stages(kTransformer, "cfloat8", small_tile("4x5"),
                    {.dies = {1, 1}, .stages = 2, .block = 3, .micro_batches = 3});
}

program::Move& first_onward(Program& program) {
  for (program::Phase& phase : program.phases) {
    auto* const transfer = std::get_if<program::Transfer>(&phase.body);
    if (transfer != nullptr && transfer->moves.front().scope == program::Scope::Onward) {
      return transfer->moves.front();
    }
  }
  throw std::logic_error("nothing goes onward");
}

TEST(StagesAreHeldTo, MessagesAsLargeAsTheirContent) {
  Placed step = two_stages();
  Bytes& bytes = first_onward(step.program).pattern.bytes;
  bytes = Bytes(bytes.count() / 2);
  const auto breaches = Delivery(step.graph, step.plan, step.program, step.machine, 0).run(1);
  ASSERT_EQ(breaches.size(), 1U);
  EXPECT_NE(breaches.front().find("in a message of"), std::string::npos) << breaches.front();
}

TEST(StagesAreHeldTo, SendingWhatTheNextOneReads) {
  Placed step = two_stages();
  first_onward(step.program).tensor = "text";
  const auto breaches = Delivery(step.graph, step.plan, step.program, step.machine, 0).run(1);
  ASSERT_EQ(breaches.size(), 1U);
  EXPECT_NE(breaches.front().find("goes to stage 1 0 times, not 3"), std::string::npos);
  const auto verified = program::verify_program(step.program, step.machine);
  ASSERT_FALSE(verified.has_value());
  EXPECT_NE(verified.error().message.find("nobody sends to stage 1"), std::string::npos)
      << verified.error().message;
}

TEST(StagesAreHeldTo, RoomForAllMicroBatchesUnderWay) {
  Placed step = two_stages();
  internal::Drafted& first = step.plan.drafted.front();
  int noticed = 0;
  int spanning = 0;
  for (std::optional<internal::Life>& life : first.fit.life) {
    if (life.has_value() && life->copies > 1) {
      ++spanning;
      --life->copies;
      noticed += overwritten(step).empty() ? 0 : 1;
      ++life->copies;
    }
  }
  EXPECT_GT(spanning, 5);
  EXPECT_GE(noticed, spanning - 1);  // of what comes in, one more is there for the next step
  for (program::MemoryEntry& entry : step.program.memory) {
    if (entry.tensor.ends_with(program::kArrived) && entry.copies > 1) {
      --entry.copies;
      break;
    }
  }
  const auto verified = program::verify_program(step.program, step.machine);
  ASSERT_FALSE(verified.has_value());
  EXPECT_NE(verified.error().message.find("have room"), std::string::npos);
}

TEST(StagesAreHeldTo, TheirOwnDiesAndPhases) {
  const Placed placed = two_stages();
  const auto refused = [&](const std::function<void(Program&)>& change) {
    Program program = placed.program;
    change(program);
    const auto verified = program::verify_program(program, placed.machine);
    return verified.has_value() ? std::string() : verified.error().message;
  };
  EXPECT_NE(refused([](Program& program) {
              program.stages[1].region = program.stages[0].region;
            }).find("stand on the same dies"),
            std::string::npos);
  EXPECT_NE(refused([](Program& program) { program.stages[0].after = {0}; }).find("in a circle"),
            std::string::npos);
  EXPECT_NE(refused([](Program& program) { program.stages[1].after = {5}; }).find("which is none"),
            std::string::npos);
  EXPECT_NE(
      refused([](Program& program) { ++program.stages[1].begins[0].index; }).find("do not foll"),
      std::string::npos);
  EXPECT_NE(refused([](Program& program) { program.micro.count = 1; }).find("two micro-batches"),
            std::string::npos);
  EXPECT_NE(refused([](Program& program) {
              const auto begin = program.stages[1].begins[0].index;
              program.phases[begin + 1].after = {{0}};
            }).find("of another stage"),
            std::string::npos);
  EXPECT_NE(refused([](Program& program) {
              program.phases.front().region = program.stages[1].region;
            }).find("leaves stage 0"),
            std::string::npos);
}

// Where a step is cut into stages changes no sum.
TEST(Stages, LeaveTheLoweredGraphAsItIs) {
  const machine::MachineModel machine = small_tile("4x5");
  const auto hash = [&](std::int64_t stages) {
    const Result<Placed> step =
        in_stages(kTransformer, "cfloat8", machine,
                  {.dies = {1, 1}, .stages = stages, .block = 3, .micro_batches = 3});
    return graph::graph_sha256(step->graph);
  };
  EXPECT_EQ(hash(2), hash(1));
  EXPECT_EQ(hash(4), hash(1));
}

TEST(Stages, AreRefusedWithWhatStandsInTheWay) {
  const machine::MachineModel machine = small_tile("4x5");
  const auto why = [&](const char* file, const Choice& choice) {
    const Result<Placed> step = in_stages(file, "cfloat8", machine, choice);
    return step.has_value() ? std::string() : step.error().message;
  };
  EXPECT_NE(why(kTransformer, {.dies = {1, 1}, .stages = 5, .block = 3, .micro_batches = 3})
                .find("has no room for 5 stages of 1x1 dies"),
            std::string::npos);
  EXPECT_NE(why(kTransformer, {.dies = {1, 1}, .stages = 2, .block = 3})
                .find("works on several micro-batches"),
            std::string::npos);
  EXPECT_NE(why("golden/place/rows_of_a_table.graph",
                {.dies = {1, 1}, .stages = 4, .block = 8, .micro_batches = 4})
                .find("has 2 blocks, too few for 4 stages"),
            std::string::npos);
}

// --- the cut ---
TEST(CutIntoStages, HasTheShortestLongestStage) {
  std::mt19937 random(3);
  for (int draw = 0; draw < 200; ++draw) {
    const std::size_t pieces = 2 + random() % 7;
    const int stages = 2 + static_cast<int>(random() % std::min<std::size_t>(pieces - 1, 4));
    std::vector<double> seconds;
    for (std::size_t i = 0; i < pieces; ++i) {
      seconds.push_back(static_cast<double>(1 + random() % 9));
    }
    const auto longest = [&](const std::vector<int>& stage_of) {
      std::vector<double> sum(static_cast<std::size_t>(stages), 0);
      for (std::size_t i = 0; i < pieces; ++i) {
        sum[static_cast<std::size_t>(stage_of[i])] += seconds[i];
      }
      return *std::max_element(sum.begin(), sum.end());
    };
    // All cuts: bit i says whether a stage begins behind piece i.
    double best = 1e9;
    for (std::uint32_t bits = 0; bits < (1U << (pieces - 1)); ++bits) {
      std::vector<int> stage_of{0};
      for (std::size_t i = 0; i + 1 < pieces; ++i) {
        stage_of.push_back(stage_of.back() + static_cast<int>(bits >> i & 1));
      }
      if (stage_of.back() + 1 == stages) {
        best = std::min(best, longest(stage_of));
      }
    }
    const std::vector<int> cut = internal::cut_into_stages(seconds, stages);
    EXPECT_EQ(cut.front(), 0);
    EXPECT_EQ(cut.back(), stages - 1);
    EXPECT_TRUE(std::is_sorted(cut.begin(), cut.end()));
    EXPECT_EQ(longest(cut), best);
  }
}

TEST(StagesStand, EachBesideTheOneBefore) {
  const machine::MachineModel pod = machine::resolve(*machine::load_description("exapod"));
  const internal::Mesh mesh = internal::mesh_of({5, 5}, 64, pod, 64, 24);
  EXPECT_EQ(mesh.replicas.dies.count(), 24 * 25);
  for (std::size_t stage = 1; stage < 24; ++stage) {
    const machine::Shape a = mesh.way_to_stage(stage - 1);
    const machine::Shape b = mesh.way_to_stage(stage);
    EXPECT_EQ(std::abs(a.rows - b.rows) + std::abs(a.columns - b.columns), 5) << stage;
  }
  EXPECT_FALSE(internal::grid_of_stages({2, 2}, 4, pod).has_value());  // some would cross tiles
  EXPECT_FALSE(internal::grid_of_stages({5, 5}, 121, pod).has_value());
}

}  // namespace
}  // namespace dojo::place
