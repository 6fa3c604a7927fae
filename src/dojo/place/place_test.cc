#include "dojo/place/place.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "dojo/base/text.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/program/program_text.h"

namespace dojo::place {
namespace {

using graph::Graph;
using machine::MachineModel;
using program::Compute;
using program::Program;

MachineModel model(const std::string& name) { return *machine::load_machine(name); }

Graph captured(const std::string& name) {
  auto graph =
      graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/golden/place/" + name + ".graph");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *graph;
}

Graph lowered(const std::string& name, const MachineModel& machine,
              const std::string& recipe = "cfloat8") {
  Graph graph = captured(name);
  if (graph.is_lowered()) {
    return graph;
  }
  auto out = lower_for_machine(graph, *graph::recipe_named(recipe), machine);
  EXPECT_TRUE(out.has_value()) << out.error().to_string();
  return *out;
}

Program placed(const Graph& graph, const MachineModel& machine) {
  auto program = place(graph, machine);
  EXPECT_TRUE(program.has_value()) << program.error().to_string();
  return *program;
}

const graph::Op* op_of_module(const Graph& graph, const std::string& kind,
                              const std::string& module) {
  for (const graph::Op& op : graph.ops) {
    if (op.info->name == kind && op.module == module) {
      return &op;
    }
  }
  return nullptr;
}

class PlacedSteps : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  MachineModel machine = model(GetParam().second);
  Graph graph = lowered(GetParam().first, machine);
  Program program = placed(graph, machine);
};

TEST_P(PlacedSteps, HoldForTheMachine) {
  const auto verified = program::verify_program(program, machine);
  EXPECT_TRUE(verified.has_value()) << verified.error().to_string();
  EXPECT_EQ(program.graph_sha256, graph::graph_sha256(graph));
  EXPECT_EQ(program.machine_digest, machine.digest);
}

TEST_P(PlacedSteps, DoEveryOpThatIsNoView) {
  std::map<std::uint32_t, int> done;
  for (const program::Phase& phase : program.phases) {
    if (const auto* compute = std::get_if<Compute>(&phase.body)) {
      for (const OpId op : compute->ops) {
        ++done[op.index];
      }
    }
  }
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
    const graph::OpInfo& info = *graph.ops[i].info;
    EXPECT_TRUE(done.contains(i) || info.is_reshape || info.is_strided_view) << info.name;
  }
}

TEST_P(PlacedSteps, CountTheGraphsFlopsOnce) {
  Flops flops{};
  for (const graph::Op& op : graph.ops) {
    flops += graph::flops(graph::nest_of(graph, op));
  }
  EXPECT_EQ(program.flops(), flops);
}

// Slices of all nodes together are at least the whole.
TEST_P(PlacedSteps, LeaveNoWorkUndone) {
  for (const program::Phase& phase : program.phases) {
    if (const auto* compute = std::get_if<Compute>(&phase.body)) {
      const std::int64_t nodes = phase.region.nodes() * program.replicas.count;
      EXPECT_GE(compute->work.points * nodes, compute->work.total_points) << compute->kinds;
      EXPECT_GE(compute->work.macs * nodes, compute->work.total_macs) << compute->kinds;
    }
  }
}

TEST_P(PlacedSteps, ReadOnlyWhatIsThere) {
  std::set<std::string> there;
  for (const graph::Value& value : graph.values) {
    if (value.kind != graph::ValueKind::Op) {
      there.insert(value.name);
    }
  }
  std::map<std::string, std::string> views;  // alias -> what it is a view of
  for (const graph::Op& op : graph.ops) {
    if ((op.info->is_reshape || op.info->is_strided_view) && op.inputs.front().has_value() &&
        op.outputs.front().has_value()) {
      views[graph.value(*op.outputs.front()).name] = graph.value(*op.inputs.front()).name;
    }
  }
  for (const program::Phase& phase : program.phases) {
    for (std::string read : phase.reads) {
      while (!there.contains(read) && views.contains(read)) {
        read = views[read];
      }
      const bool is_scratch = read.find(".scratch") != std::string::npos;
      const bool is_own =
          std::find(phase.writes.begin(), phase.writes.end(), read) != phase.writes.end();
      EXPECT_TRUE(there.contains(read) || is_scratch || is_own) << read;
    }
    there.insert(phase.writes.begin(), phase.writes.end());
  }
}

TEST_P(PlacedSteps, ComeOutTheSameEveryTime) {
  EXPECT_EQ(program::print_program(placed(graph, machine)), program::print_program(program));
}

TEST_P(PlacedSteps, SurviveTheirTextForm) {
  const auto again = program::parse_program(program::print_program(program));
  ASSERT_TRUE(again.has_value()) << again.error().to_string();
  EXPECT_EQ(*again, program);
}

std::string step_name(const testing::TestParamInfo<std::pair<const char*, const char*>>& step) {
  std::string name = std::string(step.param.first) + "_" + step.param.second;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Steps, PlacedSteps,
                         testing::Values(std::pair{"cnn", "d1"}, std::pair{"cnn", "training-tile"},
                                         std::pair{"mlp", "d1"}, std::pair{"mlp", "training-tile"},
                                         std::pair{"gpt", "d1"}, std::pair{"gpt", "training-tile"},
                                         std::pair{"gemm", "d1"}, std::pair{"cnn", "system-tray"}),
                         step_name);

TEST(Batch, IsSplitOverReplicasInBlocks) {
  const Program program = placed(lowered("cnn", model("training-tile")), model("training-tile"));
  // 32 samples on 25 dies: blocks of ceil(32 / 25) = 2 on 16 dies, 9 idle.
  EXPECT_EQ(program.replicas.count, 16);
  EXPECT_EQ(program.replicas.available, 25);
  EXPECT_EQ(program.replicas.block, 2);
  EXPECT_EQ(program.replicas.dies, (machine::Shape{1, 1}));
}

TEST(ReductionCuts, OfAConvolutionsWeightAreSamplesOverReplicasAndRowsOverNodes) {
  const Graph graph = lowered("cnn", model("training-tile"));
  const graph::Op* gradient = op_of_module(graph, "dojo.conv_weight_grad", "stem");
  ASSERT_NE(gradient, nullptr);
  // 2 frames a sample, 2 samples a replica, 5 replicas in a row; 32 rows of the map in 16 parts
  // of 2.
  EXPECT_EQ(gradient->k_parts, (std::vector<graph::ReduceCut>{{"n", 16, 4, 5}, {"y", 16, 2}}));
}

TEST(ReductionCuts, OfOneReplicaCutNoSamples) {
  const Graph graph = lowered("cnn", model("d1"));
  const graph::Op* gradient = op_of_module(graph, "dojo.conv_weight_grad", "stem");
  ASSERT_NE(gradient, nullptr);
  for (const graph::ReduceCut& cut : gradient->k_parts) {
    EXPECT_NE(cut.loop, "n");
  }
  EXPECT_NE(graph::graph_sha256(graph),
            graph::graph_sha256(lowered("cnn", model("training-tile"))));
}

TEST(ReductionCuts, OfMatrixProductsKeepEnoughOfTheSumTogether) {
  for (const char* name : {"cnn", "mlp", "gpt"}) {
    for (const char* machine : {"d1", "training-tile"}) {
      const MachineModel tile = model(machine);
      const Graph graph = lowered(name, tile);
      for (const graph::Op& op : graph.ops) {
        const auto inside = std::find_if(op.k_parts.begin(), op.k_parts.end(),
                                         [](const auto& cut) { return cut.loop == "y"; });
        if (op.info->name != "dojo.conv_weight_grad" || inside == op.k_parts.end()) {
          continue;
        }
        const graph::LoopNest nest = graph::nest_of(graph, op);
        std::int64_t points = 1;
        for (const int loop : graph::reduce_loops(nest)) {
          const graph::Loop& each = nest.loops[static_cast<std::size_t>(loop)];
          const auto cut = std::find_if(op.k_parts.begin(), op.k_parts.end(),
                                        [&](const auto& one) { return one.loop == each.name; });
          points *= cut == op.k_parts.end() ? each.extent : cut->block;
        }
        EXPECT_GE(points, 128) << name << " " << op.module;
      }
    }
  }
}

TEST(ReductionCuts, DoNotDependOnThoseThatTheGraphHas) {
  const MachineModel tile = model("training-tile");
  Graph graph = lowered("cnn", tile);
  const auto with = propose_reduction_cuts(graph, tile);
  for (graph::Op& op : graph.ops) {
    op.k_parts.clear();
  }
  EXPECT_EQ(*propose_reduction_cuts(graph, tile), *with);
  EXPECT_FALSE(with->empty());
}

TEST(ReductionCuts, NameOnlyReduceLoopsInTheNestsOrder) {
  const MachineModel tile = model("training-tile");
  for (const char* name : {"cnn", "mlp", "gpt"}) {
    const Graph graph = lowered(name, tile);
    for (const graph::Op& op : graph.ops) {
      const graph::LoopNest nest = graph::nest_of(graph, op);
      int last = -1;
      for (const graph::ReduceCut& cut : op.k_parts) {
        const auto loop = nest.loop_named(cut.loop);
        ASSERT_TRUE(loop.has_value());
        EXPECT_GT(*loop, last);
        last = *loop;
        EXPECT_EQ(cut.parts,
                  (nest.loops[static_cast<std::size_t>(*loop)].extent + cut.block - 1) / cut.block);
      }
    }
  }
}

TEST(Place, RefusesAGraphThatIsCutForAnotherMachine) {
  const auto refused = place(lowered("cnn", model("training-tile")), model("d1"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::InvalidInput);
  for (const char* part : {"\"training-tile\"", "\"d1\"", "--relower", "k_parts={"}) {
    EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
  }
}

TEST(Place, TakesAGraphThatIsCutAnew) {
  Graph graph = lowered("cnn", model("training-tile"));
  ASSERT_TRUE(cut_reductions(graph, model("d1")).has_value());
  EXPECT_EQ(graph.lowering->machine, "d1");
  EXPECT_TRUE(place(graph, model("d1")).has_value());
  EXPECT_EQ(graph::graph_sha256(graph), graph::graph_sha256(lowered("cnn", model("d1"))));
}

TEST(Place, RefusesAGraphThatIsNotLowered) {
  const auto refused = place(captured("cnn"), model("d1"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("not lowered"), std::string::npos);
}

// --- memory ---
// The die with less SRAM per node, so that a small step needs remedies.
MachineModel small_die(std::int64_t kilobytes) {
  MachineModel machine = model("d1");
  machine.node.sram = Bytes(kilobytes * 1000);
  machine.node.code = Bytes(20'000);
  machine.node.buffers = Bytes(40'000);
  return machine;
}

TEST(Memory, IsNoLessThanTheLargestLiveSum) {
  const MachineModel machine = model("training-tile");
  const Program program = placed(lowered("cnn", machine), machine);
  std::map<std::uint32_t, std::int64_t> change;
  for (const program::MemoryEntry& entry : program.memory) {
    change[entry.first.index] += entry.bytes.count();
    change[entry.last.index + 1] -= entry.bytes.count();
  }
  std::int64_t live = 0;
  std::int64_t peak = 0;
  for (const auto& [phase, bytes] : change) {
    live += bytes;
    peak = std::max(peak, live);
  }
  EXPECT_GE(program.sram_peak(), program.reserved + Bytes(peak));
  EXPECT_LT(program.sram_peak(), program.reserved + Bytes(peak + peak / 10));
}

// Blocks of two products with a GELU each, whose inputs and outputs the backward part reads again:
// saved activations are most of the memory.
Graph deep_network() {
  constexpr int kLayers = 16;
  std::string leaves = "  %a0 = input bf16[4096,512] \"x\"\n  %d16 = input bf16[4096,512] \"d\"\n";
  std::string forward;
  std::string backward;
  for (int i = 0; i < kLayers; ++i) {
    leaves += fmt::format("  %w{} = weight f32[512,512] \"layers.{}.weight\"\n", i, i);
    forward += fmt::format(
        "  %c{0} = dojo.convert(%w{0}) : bf16[512,512] weight_operand @\"layers.{2}\" fwd\n"
        "  %h{0} = aten.mm(%a{0}, %c{0}) : bf16[4096,512] activation @\"layers.{2}\" fwd\n"
        "  %a{1} = aten.gelu(%h{0}) : bf16[4096,512] matrix_operand @\"layers.{2}\" fwd\n",
        i, i + 1, i / 2);
    const int j = kLayers - 1 - i;
    backward += fmt::format(
        "  %g{0} = aten.gelu_backward(%d{1}, %h{0}) : bf16[4096,512] gradient_operand "
        "@\"layers.{2}\" bwd\n"
        "  %t{0} = aten.permute(%a{0}) {{dims=[1,0]}} : bf16[512,4096] @\"layers.{2}\" bwd\n"
        "  %dw{0} = aten.mm(%t{0}, %g{0}) : f32[512,512] weight_gradient @\"layers.{2}\" bwd\n"
        "  %u{0} = aten.permute(%c{0}) {{dims=[1,0]}} : bf16[512,512] @\"layers.{2}\" bwd\n"
        "  %d{0} = aten.mm(%g{0}, %u{0}) : bf16[4096,512] gradient @\"layers.{2}\" bwd\n",
        j, j + 1, j / 2);
  }
  const std::string outputs = [] {
    std::string text;
    for (int i = 0; i < kLayers; ++i) {
      text += fmt::format("  output %dw{0} \"dw{0}\"\n", i);
    }
    return text;
  }();
  auto graph = graph::parse_graph(
      "graph \"deep\" recipe \"bf16\" machine \"d1\" "
      "{bias=\"delayed\", denormals=\"paper\"} {\n" +
      leaves + forward + backward + outputs + "}\n");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *graph;
}

std::map<std::string, int> remedies_at(std::int64_t kilobytes) {
  const MachineModel machine = small_die(kilobytes);
  Graph graph = deep_network();
  const auto cut = cut_reductions(graph, machine);
  if (!cut.has_value()) {
    EXPECT_EQ(cut.error().kind, ErrorKind::DoesNotFit);
    return {{"none fits", 1}};
  }
  const Program program = placed(graph, machine);
  EXPECT_TRUE(program::verify_program(program, machine).has_value());
  EXPECT_LE(program.sram_peak(), machine.node.sram);
  std::map<std::string, int> count;
  for (const program::Remedy& remedy : program.remedies) {
    ++count[remedy.what];
  }
  for (const program::Phase& phase : program.phases) {
    if (const auto* compute = std::get_if<Compute>(&phase.body)) {
      count["done again"] += compute->is_recomputed ? 1 : 0;
    }
  }
  return count;
}

TEST(Memory, TakesRemediesInOrderAsItGetsTight) {
  EXPECT_EQ(remedies_at(1250), (std::map<std::string, int>{{"done again", 0}}));
  // GELUs first, one phase each; then whole layers; then it does not fit.
  const auto some = remedies_at(600);
  EXPECT_GT(some.at("recompute"), 0);
  EXPECT_EQ(some.at("done again"), some.at("recompute"));
  EXPECT_FALSE(some.contains("checkpoint"));
  const auto more = remedies_at(360);
  EXPECT_GT(more.at("checkpoint"), 0);
  EXPECT_GE(more.at("recompute"), some.at("recompute"));
  EXPECT_TRUE(remedies_at(120).contains("none fits"));
}

TEST(Memory, SaysWhatItNeedsWhatThereIsAndTheNearestSettingThatFits) {
  const auto refused =
      lower_for_machine(captured("gpt"), *graph::recipe_named("cfloat8"), small_die(60));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::DoesNotFit);
  const std::string& message = refused.error().message;
  for (const char* part : {"does not fit machine d1: it needs ", " KB per node", "a node has 60 KB",
                           "nearest setting that fits: "}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  // The advice is true.
  const std::string before = "fits: nodes with ";
  const auto advice = message.find(before);
  ASSERT_NE(advice, std::string::npos) << message;
  const std::int64_t kilobytes = std::stoll(message.substr(advice + before.size()));
  EXPECT_GT(kilobytes, 60);
  MachineModel machine = small_die(60);
  machine.node.sram = Bytes(kilobytes * 1000);
  EXPECT_TRUE(
      lower_for_machine(captured("gpt"), *graph::recipe_named("cfloat8"), machine).has_value());
}

TEST(Replicas, GrowUntilTheirStateFits) {
  MachineModel machine = model("training-tile");
  machine.node.sram = Bytes(170'000);
  machine.node.code = Bytes(60'000);
  machine.node.buffers = Bytes(90'000);
  // 0.79 M weights and their two states in FP32, 12 B each, are more than 20 KB x 342 nodes hold.
  const auto low = lower_for_machine(captured("mlp"), *graph::recipe_named("cfloat8"), machine);
  ASSERT_TRUE(low.has_value()) << low.error().to_string();
  EXPECT_GT(placed(*low, machine).replicas.dies.count(), 1);
}

}  // namespace
}  // namespace dojo::place
