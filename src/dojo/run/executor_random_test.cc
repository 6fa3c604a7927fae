// Random Graphs of element-wise chains, views, sums and products: whatever the executor joins,
// shares or keeps in registers, the bits are those of the interpreter.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "dojo/graph/lower_passes.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/graph/verify.h"
#include "dojo/run/executor.h"
#include "dojo/run/interpreter.h"

namespace dojo::run {
namespace {

using graph::Graph;
using graph::Op;
using graph::Shape;
using graph::Value;
using graph::ValueKind;

class RandomGraph {
 public:
  explicit RandomGraph(std::uint32_t seed) : rng_(seed) {
    graph_.name = fmt::format("random {}", seed);
    const BiasPolicy bias{.rule = static_cast<BiasRule>(pick(4)),
                          .window = 1 + pick(2),
                          .margin = pick(2),
                          .grid = pick(2) == 0 ? 1 : 4};
    graph_.lowering = graph::Lowering{"random", "none", graph::Denormals::Paper, bias,
                                      static_cast<SumOrder>(pick(2) == 0 ? 0 : pick(4))};
    for (int i = 0; i < 3; ++i) {
      add_leaf(ValueKind::Input, {rows_, columns_});
    }
    add_leaf(ValueKind::Weight, {columns_, columns_});
    add_leaf(ValueKind::Weight, {columns_});
    add_leaf(ValueKind::State, {rows_, columns_});
  }

  Graph made() {
    const int ops = 6 + pick(20);
    for (int i = 0; i < ops; ++i) {
      add_random_op();
    }
    const ValueId state{5};
    const ValueId updated = add_op("aten.mul", {state, any_matrix()}, {}, graph::Phase::Update);
    graph_.value(updated).format = graph_.value(state).format;
    graph_.value(updated).is_stochastic = graph_.value(state).format != Format::F32 && pick(2) == 0;
    graph_.updates.push_back({state, updated});
    // Every value that nothing reads is an output, so that nothing is computed for nothing.
    const graph::Uses uses = graph::uses_of(graph_);
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      if (uses.readers[i].empty() && uses.definition[i].has_value() && ValueId{i} != updated) {
        graph_.outputs.push_back({ValueId{i}, fmt::format("out{}", i)});
      }
    }
    graph::mark_fused(graph_);
    for (Value& value : graph_.values) {
      value.is_stochastic = value.is_stochastic && !value.is_fused;
    }
    return graph_;
  }

 private:
  int pick(int count) { return static_cast<int>(rng_() % static_cast<std::uint32_t>(count)); }

  ValueId add_leaf(ValueKind kind, Shape shape) {
    Value value;
    value.name = fmt::format("leaf{}", graph_.values.size());
    value.kind = kind;
    value.shape = std::move(shape);
    value.label = value.name;
    value.format = kind == ValueKind::Input ? Format::F32 : any_format();
    return graph_.add(value);
  }

  Format any_format() {
    const Format formats[] = {Format::F32,       Format::F32,       Format::Bf16, Format::Shp,
                              Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::F16,  Format::E4m3};
    return formats[pick(8)];
  }

  ValueId any_matrix() {
    std::vector<ValueId> found;
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      if (graph_.values[i].shape == Shape{rows_, columns_}) {
        found.push_back(ValueId{i});
      }
    }
    // Late values more often: long chains.
    const auto from = static_cast<std::size_t>(pick(2)) * (found.size() / 2);
    return found[from + static_cast<std::size_t>(pick(static_cast<int>(found.size() - from)))];
  }

  ValueId add_op(std::string_view name, std::vector<ValueId> operands,
                 std::map<std::string, graph::Attribute> attributes = {},
                 graph::Phase phase = graph::Phase::Forward) {
    Op op;
    op.info = graph::find_op(name);
    op.inputs.assign(operands.begin(), operands.end());
    op.attributes = std::move(attributes);
    op.module = fmt::format("m{}", graph_.ops.size());
    op.phase = phase;
    const auto normalised = graph::normalise_attributes(op);
    const auto types = graph::infer(graph::call_of(graph_, op));
    if (!normalised || !types) {
      throw std::runtime_error(types ? normalised.error().message : types.error().message);
    }
    Value value;
    value.name = fmt::format("v{}", graph_.values.size());
    value.shape = (*types)[0]->shape;
    const bool is_move = op.info->group == graph::OpGroup::Movement;
    value.format = is_move ? graph_.value(operands[0]).format : any_format();
    value.is_stochastic = !is_move && value.format != Format::F32 && pick(4) == 0;
    const ValueId id = graph_.add(value);
    op.outputs.assign(1, id);
    op.outputs.resize((*types).size());
    graph_.ops.push_back(std::move(op));
    return id;
  }

  void add_random_op() {
    const ValueId x = any_matrix();
    switch (pick(9)) {
      case 0:
        add_op("aten.add", {x, any_matrix()}, {{"alpha", 0.5}});
        break;
      case 1:
        add_op("aten.mul", {x, ValueId{4}});  // a row, broadcast
        break;
      case 2:
        add_op(pick(2) == 0 ? "aten.relu" : "aten.tanh", {x});
        break;
      case 3:
        add_op("aten.threshold_backward", {x, any_matrix()}, {{"threshold", 0.0}});
        break;
      case 4: {  // a round trip through other shapes
        const ValueId flat = add_op("aten.view", {x}, {{"size", std::vector{rows_ * columns_}}});
        const ValueId raised = add_op("aten.add", {flat}, {{"other", 0.25}});
        add_op("aten.view", {raised}, {{"size", std::vector{rows_, columns_}}});
        break;
      }
      case 5: {
        const ValueId turned =
            add_op("aten.permute", {x}, {{"dims", std::vector<std::int64_t>{1, 0}}});
        const ValueId changed = add_op("aten.sigmoid", {turned});
        add_op("aten.permute", {changed}, {{"dims", std::vector<std::int64_t>{1, 0}}});
        break;
      }
      case 6:
        add_op("aten.mm", {x, ValueId{3}});
        break;
      case 7: {
        const ValueId sums =
            add_op("aten.sum", {x}, {{"dim", std::vector<std::int64_t>{1}}, {"keepdim", true}});
        add_op("aten.sub", {any_matrix(), sums});
        break;
      }
      default:
        add_op("aten._softmax", {x}, {{"dim", std::int64_t{1}}});
    }
  }

  std::mt19937 rng_;
  Graph graph_;
  std::int64_t rows_ = 37;
  std::int64_t columns_ = 43;  // more than one block in all
};

std::map<std::string, Tensor> drawn_leaves(const Graph& graph, std::uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 1);
  std::map<std::string, Tensor> leaves;
  for (const Value& value : graph.values) {
    if (value.kind != ValueKind::Op) {
      Tensor tensor{Format::F32, 0, value.shape, {}};
      for (std::int64_t i = 0; i < graph::element_count(value.shape); ++i) {
        const float x = normal(rng);
        const auto* bytes = reinterpret_cast<const std::byte*>(&x);
        tensor.bytes.insert(tensor.bytes.end(), bytes, bytes + 4);
      }
      leaves.emplace(value.label, std::move(tensor));
    }
  }
  return leaves;
}

Tensor as_tensor(const TensorOutput& output) {
  return {output.format, output.bias, output.shape, {output.bytes.begin(), output.bytes.end()}};
}

void expect_like_interpreter(const Graph& graph, const ExecutorOptions& options) {
  auto executor = Executor::create(graph, options);
  ASSERT_TRUE(executor.has_value()) << executor.error().to_string();
  auto state = initial_state(graph, options.seed);
  ASSERT_TRUE(state.has_value());
  for (std::uint32_t step = 0; step < 3; ++step) {
    auto leaves = drawn_leaves(graph, step);
    std::vector<TensorInput> inputs;
    for (const Value& value : graph.values) {
      if (value.kind == ValueKind::Op) {
        continue;
      }
      const Tensor& tensor = leaves.at(value.label);
      const TensorInput input{value.label, tensor.format, tensor.shape, tensor.bytes};
      if (value.kind == ValueKind::Input) {
        inputs.push_back(input);
      } else {
        ASSERT_TRUE(executor->write(input).has_value());
        leaves.at(value.label) = as_tensor(*executor->read(value.label));
      }
    }
    const auto expected = interpret_step(graph, leaves, *state);
    ASSERT_TRUE(expected.has_value()) << expected.error().to_string();
    const auto stepped = executor->step(inputs);
    ASSERT_TRUE(stepped.has_value()) << stepped.error().to_string();
    for (const auto& [label, tensor] : expected->outputs) {
      ASSERT_EQ(as_tensor(*executor->output(label)), tensor) << label << ", step " << step;
    }
    for (const auto& [label, tensor] : expected->leaves) {
      ASSERT_EQ(as_tensor(*executor->read(label)), tensor) << label << ", step " << step;
    }
    ASSERT_EQ(executor->state(), expected->state);
    *state = expected->state;
  }
}

TEST(RandomGraphs, GiveTheBitsOfTheInterpreter) {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const Graph graph = RandomGraph(seed).made();
    SCOPED_TRACE(graph::print_graph(graph));
    const auto verified = graph::verify(graph);
    ASSERT_TRUE(verified.has_value()) << verified.error().to_string();
    expect_like_interpreter(graph,
                            {.threads = 1 + static_cast<int>(seed % 3),
                             .seed = seed,
                             .isa = seed % 4 == 0 ? numerics::Isa::Plain : numerics::best_isa()});
    if (HasFatalFailure()) {
      return;
    }
  }
}

}  // namespace
}  // namespace dojo::run
