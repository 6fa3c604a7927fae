#include "dojo/place/internal/split_nest.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "dojo/base/text.h"
#include "dojo/cost/pattern_cost.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/internal/fetch.h"
#include "dojo/place/internal/layout_plan.h"

namespace dojo::place::internal {
namespace {

using graph::Interval;
using program::Axis;
using program::Sharing;

machine::MachineModel die() { return *machine::load_machine("d1"); }

// A die that offers rows x columns of its nodes.
Mesh mesh_of(int rows, int columns, std::int64_t batch = 1) {
  Mesh mesh = meshes(die(), batch).front();
  mesh.region.nodes_of_die = {rows, columns};
  return mesh;
}

graph::Graph parsed(const std::string& body) {
  auto graph = graph::parse_graph("graph \"t\" {\n" + body + "\n}\n");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *graph;
}

// The conv reads an activation that lies in rows over node.y, as a conv before it left it.
graph::Graph convolutions() {
  return parsed(R"(
    %x = input f32[1,64,56,56] "x"
    %w = weight f32[64,64,3,3] "w"
    %y = aten.convolution(%x, %w) {padding=[1,1]} : f32[1,64,56,56] @"a" fwd
    %z = aten.convolution(%y, %w) {padding=[1,1]} : f32[1,64,56,56] @"b" fwd
    output %z "z")");
}

TEST(Halo, OfA3x3ConvolutionIsOneRowOnEitherSide) {
  const graph::Graph graph = convolutions();
  const Mesh mesh = mesh_of(8, 1);
  const LayoutPlan plan = plan_layouts(graph, mesh);
  // 56 rows in 8 parts of 7: rows 21..27 of the output need 20..28.
  EXPECT_EQ(plan.ops[1].split.on(Axis::NodeY)->cut, (program::AxisCut{Axis::NodeY, 8, 7}));
  const Fetch moved = fetch(graph, OpId{1}, 0, plan, mesh, die());
  ASSERT_EQ(moved.moves.size(), 1);
  // One row of 56 x 64 channels in FP32 per side: 4 times the 3,584 B of one-byte codes.
  EXPECT_EQ(moved.moves[0].pattern,
            machine::halo({.north = Bytes(4 * 3584), .south = Bytes(4 * 3584)}));
  EXPECT_EQ(moved.moves[0].reach, 1);
  EXPECT_FALSE(moved.is_fallback);
}

TEST(Halo, OfAStridedStemIsThreeRowsLowAndTwoHigh) {
  const graph::Graph graph = parsed(R"(
    %x = input u8[1,3,224,224] "x"
    %w = weight f32[64,3,7,7] "w"
    %y = aten.convolution(%x, %w) {padding=[3,3], stride=[2,2]} : f32[1,64,112,112] @"a" fwd
    output %y "y")");
  const Mesh mesh = mesh_of(16, 1);
  const LayoutPlan plan = plan_layouts(graph, mesh);
  // 112 rows in 16 parts of 7; part 5 needs 67..85 and its node owns 70..83 of X.
  EXPECT_EQ(plan.ops[0].split.on(Axis::NodeY)->cut.block, 7);
  const Fetch moved = fetch(graph, OpId{0}, 0, plan, mesh, die());
  ASSERT_EQ(moved.moves.size(), 1);
  EXPECT_EQ(moved.moves[0].pattern, machine::halo({.north = Bytes(3 * 224 * 3),
                                                   .south = Bytes(2 * 224 * 3)}));  // 2,016, 1,344
}

TEST(Weights, OfASpatialSplitAreGatheredWhole) {
  const graph::Graph graph = convolutions();
  const Mesh mesh = mesh_of(8, 8);
  const LayoutPlan plan = plan_layouts(graph, mesh);
  const Fetch moved = fetch(graph, OpId{1}, 1, plan, mesh, die());
  ASSERT_EQ(moved.moves.size(), 1);
  EXPECT_EQ(moved.moves[0].pattern,
            machine::all_gather(machine::Axis::Both, Bytes(64 * 64 * 9 * 4)));
  EXPECT_EQ(moved.landing, Bytes(64 * 64 * 9 * 4));
}

TEST(Product, OnAGridTakes232By216OfTheDocumentsExample) {
  const graph::Graph graph = parsed(R"(
    %a = input bf16[4096,4096] "a"
    %b = weight f32[4096,4096] "b"
    %c = aten.mm(%a, %b) : f32[4096,4096] @"" fwd
    output %c "c")");
  const Mesh mesh = mesh_of(18, 19, 4096);
  const LayoutPlan plan = plan_layouts(graph, mesh);
  EXPECT_EQ(plan.ops[0].split.on(Axis::NodeY)->cut, (program::AxisCut{Axis::NodeY, 18, 232}));
  EXPECT_EQ(plan.ops[0].split.on(Axis::NodeX)->cut, (program::AxisCut{Axis::NodeX, 19, 216}));
  // The left factor has no n: each row of nodes gathers its 232 x 4096 strip; the right no m.
  const Fetch left = fetch(graph, OpId{0}, 0, plan, mesh, die());
  EXPECT_EQ(left.moves[0].pattern, machine::all_gather(machine::Axis::Rows, Bytes(232 * 4096 * 2)));
  EXPECT_EQ(left.moves.size(), 1);
}

TEST(Assign, RefusesWhatWouldNotBeSlices) {
  // [4, 6] -> [24]: the inner loop alone is no interval of the result, unless the outer one stands
  // still.
  const graph::Graph graph = parsed(R"(
    %x = input f32[4,6] "x"
    %y = aten.view(%x) {size=[24]} : f32[24] @"" fwd
    output %y "y")");
  const graph::LoopNest nest = graph::nest_of(graph, graph.ops[0]);
  ASSERT_EQ(nest.loops.size(), 2);
  SplitNest inner(nest);
  EXPECT_FALSE(inner.assign(Axis::NodeX, 1, 2));
  SplitNest both(nest);
  EXPECT_TRUE(both.assign(Axis::NodeY, 0, 1));
  EXPECT_TRUE(both.assign(Axis::NodeX, 1, 2));
  const auto writing = writing_of(both.nest(), 0);
  EXPECT_EQ(program::to_string(both.written(*writing->stage, *writing->operand)),
            "[0: node.y 4x6, 0: node.x 3x2]");
}

TEST(Assign, CutsSumsInBlocksOfOneSizeOnly) {
  const graph::Graph graph = parsed(R"(
    %x = input f32[30,8] "x"
    %y = aten.sum(%x) {dim=[0]} : f32[8] @"" fwd
    output %y "y")");
  SplitNest split(graph::nest_of(graph, graph.ops[0]));
  const int rows = *split.nest().loop_named("d0");
  ASSERT_TRUE(split.assign(Axis::Replica, rows, 15));
  EXPECT_FALSE(split.assign(Axis::NodeY, rows, 4));  // 15 is no multiple of 4
  EXPECT_TRUE(split.assign(Axis::NodeY, rows, 5));
  EXPECT_EQ(program::reduction_cuts(split.nest(), split.split()),
            (std::vector<graph::ReduceCut>{{"d0", 6, 5}}));
}

graph::Graph lowered(const std::string& path, const machine::MachineModel& machine) {
  auto graph = graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/golden/" + path);
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return graph->is_lowered() ? *graph
                             : *graph::lower(*graph, *graph::recipe_named("cfloat8"), machine.name);
}

// Elements of the tensor that a place writes, as one interval per dimension.
std::set<std::vector<std::int64_t>> elements_of(const std::vector<Interval>& box) {
  std::set<std::vector<std::int64_t>> out{{}};
  for (const Interval& dim : box) {
    std::set<std::vector<std::int64_t>> longer;
    for (const std::vector<std::int64_t>& one : out) {
      for (std::int64_t i = dim.begin; i < dim.end; ++i) {
        std::vector<std::int64_t> next = one;
        next.push_back(i);
        longer.insert(next);
      }
    }
    out = std::move(longer);
  }
  return out;
}

// Over all places of the axes that slice the output: each element once, none missing.
void expect_tiles(const SplitNest& split, const graph::Stage& stage, const graph::Operand& operand,
                  const std::string& what) {
  const program::Layout layout = split.written(stage, operand);
  std::set<std::vector<std::int64_t>> seen;
  std::vector<SplitNest::Place> places{{}};
  for (const Axis axis : program::kAxes) {
    const std::size_t count = places.size();
    const std::int64_t parts =
        layout[axis].sharing == Sharing::Sliced ? split.on(axis)->cut.parts : 1;
    for (std::int64_t part = 1; part < parts; ++part) {
      for (std::size_t i = 0; i < count; ++i) {
        places.push_back(places[i]);
        places.back()[static_cast<std::size_t>(axis)] = part;
      }
    }
  }
  for (const SplitNest::Place& place : places) {
    for (const auto& element : elements_of(graph::footprint(operand, split.slice(place)))) {
      EXPECT_TRUE(seen.insert(element).second) << what << ": an element has two owners";
    }
  }
  EXPECT_EQ(std::ssize(seen), graph::element_count(operand.shape)) << what;
}

// A stage that runs on part of an output only (concatenation by parts) tiles that part.
bool writes_everything(const SplitNest& split, const graph::Operand& operand) {
  std::int64_t elements = 1;
  for (const Interval& dim : graph::footprint(operand, graph::whole_slice(split.nest()))) {
    elements *= dim.length();
  }
  return elements == graph::element_count(operand.shape);
}

TEST(Slices, TileTheOutputsOfEveryOpOfTheTable) {
  machine::MachineModel machine = die();
  const graph::Graph graph = lowered("graph/every_op.graph", machine);
  for (const auto& [rows, columns] : {std::pair{18, 19}, {3, 2}, {1, 5}}) {
    Mesh mesh = mesh_of(rows, columns, global_batch(graph));
    mesh = rows == 3 ? with_micro_batches(mesh, 2) : mesh;
    const LayoutPlan plan = plan_layouts(graph, mesh);
    for (std::size_t i = 0; i < graph.ops.size(); ++i) {
      for (const graph::Stage& stage : plan.ops[i].split.nest().stages) {
        for (const graph::Operand& operand : stage.operands) {
          const bool is_output = operand.use == graph::OperandUse::Write &&
                                 operand.tensor.kind == graph::TensorKind::Output;
          if (is_output && graph::element_count(operand.shape) < 4000 &&
              writes_everything(plan.ops[i].split, operand)) {
            expect_tiles(plan.ops[i].split, stage, operand,
                         std::string(graph.ops[i].info->name) + " on " + std::to_string(rows));
          }
        }
      }
    }
  }
}

// Points of the busiest slice over the loops that choose an element: no more are read.
std::int64_t points_of(const graph::Operand& operand, const SplitNest& split) {
  std::set<int> loops;
  for (const graph::Access& access : operand.access) {
    if (const auto* map = std::get_if<graph::Affine>(&access)) {
      for (const graph::Term& term : map->terms) {
        loops.insert(term.loop);
      }
    }
  }
  std::int64_t points = 1;
  for (const int loop : loops) {
    points *= split.local_extent(loop);
  }
  return points;
}

// What a node holds and what it fetches cover what its slice reads.
TEST(Slices, OfEveryOperandHoldOrFetchWhatTheyRead) {
  const machine::MachineModel machine = *machine::load_machine("training-tile");
  for (const char* path : {"place/cnn.graph", "place/mlp.graph", "place/gpt.graph"}) {
    const graph::Graph graph = lowered(path, machine);
    for (const Mesh& mesh : meshes(machine, global_batch(graph))) {
      const LayoutPlan plan = plan_layouts(graph, mesh);
      for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
        const graph::Op& op = graph.ops[i];
        if (plan.ops[i].is_alias || plan.ops[i].split.has_flat() || !plan.ops[i].masked.empty()) {
          continue;
        }
        for (const graph::Stage& stage : plan.ops[i].split.nest().stages) {
          for (const graph::Operand& operand : stage.operands) {
            if (operand.use == graph::OperandUse::Write ||
                operand.tensor.kind != graph::TensorKind::Input) {
              continue;
            }
            const graph::Value& value =
                graph.value(*op.inputs[static_cast<std::size_t>(operand.tensor.index)]);
            const Fetch moved = fetch(graph, OpId{i}, operand.tensor.index, plan, mesh, machine);
            const program::Layout& held =
                plan.held[op.inputs[static_cast<std::size_t>(operand.tensor.index)]->index];
            const Bytes read =
                std::min(graph::bytes(stage, operand, plan.ops[i].split.busiest(), value.format),
                         Bytes(points_of(operand, plan.ops[i].split) * bytes_of(value.format)));
            const bool has_index = std::any_of(
                operand.access.begin(), operand.access.end(), [](const graph::Access& access) {
                  return std::holds_alternative<graph::Indexed>(access);
                });
            EXPECT_TRUE(has_index ||
                        program::slice_bytes(held, value.shape, value.format) + moved.landing >=
                            read)
                << path << " " << op.info->name << " %" << value.name;
          }
        }
      }
    }
  }
}

// 25 dies hold a 25th of the states each, but for blocks of 8 and axes that are not quite full.
TEST(States, ShrinkPerNodeAsNodesAreAdded) {
  const machine::MachineModel machine = *machine::load_machine("training-tile");
  const graph::Graph graph = lowered("place/mlp.graph", machine);
  const auto per_node = [&](machine::Shape dies) {
    Mesh mesh = internal::mesh_of(dies, 1, machine, 1);
    mesh.least_busy = 90;
    const LayoutPlan plan = plan_layouts(graph, mesh);
    double sum = 0;
    for (std::size_t i = 0; i < graph.values.size(); ++i) {
      const graph::Value& value = graph.values[i];
      const bool is_state =
          value.kind == graph::ValueKind::Weight || value.kind == graph::ValueKind::State;
      const Bytes held = program::slice_bytes(plan.held[i], value.shape, value.format);
      sum += is_state && graph::stored_bytes(value) > Bytes(1'000'000)
                 ? static_cast<double>(held.count())
                 : 0.0;
    }
    return sum;
  };
  const double die = per_node({.rows = 1, .columns = 1});
  const double tile = per_node({.rows = 5, .columns = 5});
  ASSERT_GT(tile, 0);
  EXPECT_GT(die / tile, 18);
  EXPECT_LT(die / tile, 30);
}

TEST(Gather, PicksFromItsOwnRowsWithoutMovingThem) {
  const graph::Graph graph = parsed(R"(
    %x = input f32[64,100] "x"
    %w = input f32[64,100] "w"
    %t = input i64[64,1] "t"
    %y = aten.add(%x, %w) : f32[64,100] @"a" fwd
    %z = aten.gather(%y, %t) {dim=1} : f32[64,1] @"b" fwd
    output %z "z")");
  const Mesh mesh = mesh_of(8, 1);
  const LayoutPlan plan = plan_layouts(graph, mesh);
  ASSERT_EQ(plan.ops[1].split.on(Axis::NodeY)->cut.parts, 8);
  // One of the 100 columns is picked, in the row that the node has.
  EXPECT_TRUE(fetch(graph, OpId{1}, 0, plan, mesh, die()).moves.empty());
}

TEST(FreeGroups, LeaveNoRowOverAndCrossTheSameEdges) {
  const machine::MachineModel tile = *machine::load_machine("training-tile");
  const Mesh mesh = meshes(tile, 1).back();
  EXPECT_EQ(free_groups(mesh, tile), (std::vector<std::int64_t>{5, 10, 15, 30, 45, 90}));
  const Mesh grouped = with_free_groups(mesh, 10);
  EXPECT_TRUE(grouped.has_free_groups());
  EXPECT_EQ(grouped.rows_per_group(), 9);
  const machine::MachineModel pod = *machine::load_machine("exapod");
  for (const std::int64_t groups : free_groups(meshes(pod, 1).back(), pod)) {
    const std::int64_t dies = pod.dies().rows / groups;  // 0: several groups in each row of them
    for (std::int64_t row = dies; dies > 0 && row < pod.dies().rows; ++row) {
      if ((row + 1) % dies != 0) {
        EXPECT_EQ(pod.row_boundary(static_cast<int>(row)),
                  pod.row_boundary(static_cast<int>(row % dies)))
            << groups << " groups, row " << row;
      }
    }
  }
}

// A sum over groups of one row of dies each: what is gathered along columns stays inside of a die.
TEST(FreeGroups, GatherInsideTheirDies) {
  const machine::MachineModel tile = *machine::load_machine("training-tile");
  const graph::Graph graph = parsed(R"(
    %x = input f32[128,4096] "x"
    %w = weight f32[4096,1024] "w"
    %y = aten.mm(%x, %w) : f32[128,1024] @"a" fwd
    output %y "y")");
  Mesh mesh = meshes(tile, 1).back();
  mesh = with_free_groups(mesh, 5);
  mesh.deals = {{.kind = 0, .group_loop = 2, .row_loop = 0, .column_loop = 1}};  // k, m, n
  const LayoutPlan plan = plan_layouts(graph, mesh);
  const program::Split split = plan.ops[0].split.split();
  EXPECT_EQ(program::to_string(split),
            "{m[128]: node.y 16x8, n[1024]: node.x 64x16, k[4096]: group 4x1024}");
  EXPECT_EQ(program::to_string(plan.held[1]),
            "[0: group 4x1024, 0: node.y 16x64, 1: node.x 64x16]");
  const Fetch moved = fetch(graph, OpId{0}, 1, plan, mesh, tile);
  ASSERT_EQ(moved.moves.size(), 1u);
  EXPECT_EQ(moved.moves[0].pattern,
            machine::all_gather(machine::Axis::Columns, Bytes(1024 * 16 * 4)));
  EXPECT_EQ(moved.moves[0].region.rows(), 16);
  const cost::TransferCost cost = cost::move_cost(moved.moves[0], mesh.replicas, tile);
  EXPECT_EQ(cost.bytes[static_cast<std::size_t>(machine::LinkClass::DieEdge)], 0.0);
}

TEST(Groups, DealTheSamplesOfAReplicaToWholeRows) {
  const machine::MachineModel tile = *machine::load_machine("training-tile");
  const Mesh whole = meshes(tile, 8).back();  // one replica of 5x5 dies
  ASSERT_EQ(whole.replicas.count, 1);
  const Mesh grouped = with_groups(whole);
  // 8 samples over 5 rows of dies: two groups of 9 rows on each of 4.
  EXPECT_EQ(grouped.groups, 8);
  EXPECT_EQ(grouped.rows_per_group(), 9);
  EXPECT_EQ(machine::to_string(grouped.region), "@die[0..3,0..4].logical[72x95]");
  EXPECT_EQ(with_groups(meshes(tile, 1).back()).groups, 1);
}

TEST(Groups, AnAxisOutsideOfOneThatIsDealtCannotTakeItsLoop) {
  const graph::Graph graph = parsed(R"(
    %x = input f32[8,16] "x"
    %y = aten.relu(%x) : f32[8,16] @"a" fwd
    output %y "y")");
  SplitNest split(graph::nest_of(graph, graph.ops.front()));
  ASSERT_TRUE(split.assign(Axis::Micro, 0, 4));
  EXPECT_FALSE(split.assign(Axis::Group, 0, 2));
  EXPECT_TRUE(split.assign(Axis::Group, 1, 8));
}

}  // namespace
}  // namespace dojo::place::internal
