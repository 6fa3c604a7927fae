// Whole training steps: tests/golden/run/small_step.graph, lowered by each recipe.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <random>

#include "dojo/base/text.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/run/executor.h"
#include "dojo/run/interpreter.h"
#include "dojo/run/testing.h"

namespace dojo::run {
namespace {

using graph::Graph;
using graph::Value;
using graph::ValueKind;

using testing::expect_done;
using testing::value_of;

// Some reduce loop of every third op is cut, as a placement might.
void cut_some_sums(Graph& graph) {
  for (std::size_t i = 0; i < graph.ops.size(); i += 3) {
    graph::Op& op = graph.ops[i];
    const graph::LoopNest nest = graph::nest_of(graph, op);
    for (const int loop : graph::reduce_loops(nest)) {
      const graph::Loop& each = nest.loops[static_cast<std::size_t>(loop)];
      const std::int64_t block = (each.extent + 2) / 3;
      const std::int64_t parts = (each.extent + block - 1) / block;
      if (parts >= 2) {
        op.k_parts.push_back({each.name, parts, block});
      }
    }
  }
}

// "RECIPE", or "RECIPE,OVERRIDE".
Graph small_step(std::string_view text) {
  const std::string path = DOJO_SOURCE_DIR "/tests/golden/run/small_step.graph";
  const auto comma = text.find(',');
  graph::Recipe recipe = value_of(graph::recipe_named(text.substr(0, comma)));
  if (comma != std::string_view::npos) {
    expect_done(graph::change(recipe, text.substr(comma + 1)));
  }
  Graph graph = value_of(graph::lower(value_of(graph::load_graph(path)), recipe, "none"));
  cut_some_sums(graph);
  return graph;
}

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(T));
}

// Floats of any format as FP32 values.
Tensor drawn(const Value& value, std::mt19937& rng) {
  Tensor tensor{is_float(value.format) ? Format::F32 : value.format, 0, value.shape, {}};
  std::normal_distribution<float> normal(0, 0.3F);
  const bool is_variance = value.label.ends_with("running_var");
  for (std::int64_t i = 0; i < graph::element_count(value.shape); ++i) {
    if (is_float(value.format)) {
      append(tensor.bytes, value.label == "lr" ? 0.05F : is_variance ? 1.0F : normal(rng));
    } else if (value.format == Format::I64) {
      append(tensor.bytes, static_cast<std::int64_t>(rng() % 5));
    } else {
      append(tensor.bytes, static_cast<std::uint8_t>(rng()));
    }
  }
  return tensor;
}

using Tensors = std::map<std::string, Tensor>;

Tensors drawn_leaves(const Graph& graph, std::uint32_t seed,
                     const std::function<bool(ValueKind)>& is_wanted) {
  Tensors tensors;
  std::mt19937 rng(seed);
  for (const Value& value : graph.values) {
    if (is_wanted(value.kind)) {
      tensors.emplace(value.label, drawn(value, rng));
    }
  }
  return tensors;
}

bool is_input(ValueKind kind) { return kind == ValueKind::Input; }
bool is_parameter(ValueKind kind) { return kind == ValueKind::Weight || kind == ValueKind::Buffer; }

Tensors inputs_of_step(const Graph& graph, std::uint32_t step) {
  return drawn_leaves(graph, 1000 + step, is_input);
}

std::vector<TensorInput> as_inputs(const Tensors& tensors) {
  std::vector<TensorInput> inputs;
  for (const auto& [label, tensor] : tensors) {
    inputs.push_back({label, tensor.format, tensor.shape, tensor.bytes,
                      has_bias(tensor.format) ? std::optional(tensor.bias) : std::nullopt});
  }
  return inputs;
}

Tensor as_tensor(const TensorOutput& output) {
  return {output.format, output.bias, output.shape, {output.bytes.begin(), output.bytes.end()}};
}

Executor executor_of(const Graph& graph, const ExecutorOptions& options) {
  Executor executor = value_of(Executor::create(graph, options));
  const Tensors parameters = drawn_leaves(graph, 1, is_parameter);
  for (const TensorInput& tensor : as_inputs(parameters)) {
    expect_done(executor.write(tensor));
  }
  return executor;
}

Tensors leaves_of(const Executor& executor) {
  Tensors leaves;
  for (const Value& value : executor.graph().values) {
    if (value.kind != ValueKind::Op && !is_input(value.kind)) {
      leaves.emplace(value.label, as_tensor(value_of(executor.read(value.label))));
    }
  }
  return leaves;
}

void step(Executor& executor, std::uint32_t number) {
  const Tensors inputs = inputs_of_step(executor.graph(), number);
  expect_done(executor.step(as_inputs(inputs)));
}

void expect_equal(const Tensors& got, const Tensors& wanted) {
  for (const auto& [label, tensor] : wanted) {
    ASSERT_TRUE(got.contains(label)) << label;
    EXPECT_EQ(got.at(label), tensor) << label;
  }
}

class Step : public ::testing::TestWithParam<const char*> {};

TEST_P(Step, GivesTheBitsOfTheInterpreterForAnyThreadsAndInstructions) {
  const Graph graph = small_step(GetParam());
  State state = value_of(initial_state(graph, 5));
  Tensors leaves = leaves_of(executor_of(graph, {}));
  std::vector<Executor> executors;
  for (const int threads : {1, 2, 3}) {
    executors.push_back(executor_of(graph, {.threads = threads, .seed = 5}));
  }
  executors.push_back(executor_of(graph, {.threads = 2, .seed = 5, .isa = numerics::Isa::Plain}));
  for (std::uint32_t number = 0; number < 4; ++number) {
    Tensors all = inputs_of_step(graph, number);
    all.insert(leaves.begin(), leaves.end());
    const Interpretation expected = value_of(interpret_step(graph, all, state));
    for (Executor& executor : executors) {
      step(executor, number);
      expect_equal(leaves_of(executor), expected.leaves);
      EXPECT_EQ(as_tensor(value_of(executor.output("loss"))), expected.outputs.at("loss"));
      EXPECT_EQ(executor.state(), expected.state);
      ASSERT_FALSE(::testing::Test::HasFailure()) << "step " << number;
    }
    leaves = expected.leaves;
    state = expected.state;
  }
}

TEST_P(Step, GoesOnFromASavedStateWithTheSameBits) {
  const Graph graph = small_step(GetParam());
  for (const std::uint32_t stop : {1u, 3u, 6u}) {
    Executor whole = executor_of(graph, {.threads = 2, .seed = 9});
    for (std::uint32_t number = 0; number < stop; ++number) {
      step(whole, number);
    }
    const State saved = whole.state();
    const Tensors leaves = leaves_of(whole);
    Executor resumed = value_of(Executor::create(graph, {.threads = 1, .seed = 1234}));
    for (const TensorInput& tensor : as_inputs(leaves)) {
      expect_done(resumed.write(tensor));
    }
    expect_done(resumed.restore(saved));
    EXPECT_EQ(resumed.completed_steps(), stop);
    for (std::uint32_t number = stop; number < stop + 3; ++number) {
      step(whole, number);
      step(resumed, number);
    }
    expect_equal(leaves_of(resumed), leaves_of(whole));
    EXPECT_EQ(resumed.state(), whole.state());
  }
}

// The Graph in which everybody reads what was made first; what is made again has no reader.
Graph reading_what_was_saved(Graph graph) {
  for (graph::Op& op : graph.ops) {
    for (std::optional<ValueId>& input : op.inputs) {
      if (input.has_value() && graph.value(*input).again_of.has_value()) {
        input = graph.value(*input).again_of;
      }
    }
  }
  return graph;
}

TEST_P(Step, HasTheBitsOfOneThatSavesWhatThisOneMakesAgain) {
  const Graph graph = small_step(GetParam());
  const Graph saving = reading_what_was_saved(graph);
  const bool is_fp32 = std::string_view(GetParam()) == "fp32";  // in which nothing is rounded
  EXPECT_EQ(graph::graph_sha256(graph) == graph::graph_sha256(saving), is_fp32);
  Executor executor = executor_of(graph, {.threads = 2, .seed = 5});
  Executor other = executor_of(saving, {.threads = 2, .seed = 5});
  for (std::uint32_t number = 0; number < 4; ++number) {
    step(executor, number);
    step(other, number);
    expect_equal(leaves_of(executor), leaves_of(other));
    EXPECT_EQ(executor.state().biases, other.state().biases);
  }
}

TEST_P(Step, LearnsOneBatchByHeart) {
  const Graph graph = small_step(GetParam());
  Executor executor = executor_of(graph, {.threads = 2, .seed = 2});
  const auto loss = [&] {
    float value = 0;
    std::memcpy(&value, value_of(executor.output("loss")).bytes.data(), 4);
    return value;
  };
  step(executor, 0);
  const float first = loss();
  for (int i = 0; i < 60; ++i) {
    step(executor, 0);
  }
  EXPECT_LT(loss(), 0.3F * first);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Step,
    ::testing::Values("fp32", "bf16", "cfloat8", "cfloat8_shp", "ocp_fp8", "cfloat8_no_master",
                      "cfloat8,sum_order=tile4", "cfloat8_shp,sum_order=w21",
                      "bf16,sum_order=exact", "cfloat8_fixed_bias", "cfloat8,bias=learnt",
                      "cfloat8_no_master,*=first_moment:cf8_1_5_2:stochastic",
                      "cfloat8_no_master_nearest,bias=current"),
    [](const auto& param) {
      std::string name = param.param;
      std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
      return name;
    });

TEST(ExecutorState, OfAnotherGraphIsRefused) {
  Executor executor = executor_of(small_step("cfloat8"), {});
  const Executor other = executor_of(small_step("bf16"), {});
  const auto refused = executor.restore(other.state());
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("belongs to another graph"), std::string::npos);
  State damaged = executor.state();
  ASSERT_FALSE(damaged.biases.empty());
  damaged.biases[0].memory.position = 99;
  EXPECT_FALSE(executor.restore(damaged).has_value());
  expect_done(executor.restore(executor.state()));
}

TEST(ExecutorStep, ThatFailsLeavesEverythingAsItWas) {
  for (const char* recipe : {"fp32", "cfloat8"}) {
    const Graph graph = small_step(recipe);
    Executor executor = executor_of(graph, {.threads = 2, .seed = 3});
    step(executor, 0);
    const State state = executor.state();
    const Tensors leaves = leaves_of(executor);
    for (const char* input : {"t", "target"}) {  // of the embedding, of the loss
      for (const std::int64_t index : {std::int64_t{5}, std::int64_t{-1}, INT64_MAX}) {
        Tensors wrong = inputs_of_step(graph, 1);
        std::memcpy(wrong.at(input).bytes.data(), &index, 8);
        const auto failed = executor.step(as_inputs(wrong));
        ASSERT_FALSE(failed.has_value()) << input;
        EXPECT_NE(failed.error().message.find(fmt::format("{} is out of range", index)),
                  std::string::npos)
            << failed.error().message;
        expect_equal(leaves_of(executor), leaves);
        EXPECT_EQ(executor.state(), state);
        EXPECT_FALSE(executor.output("loss").has_value());
      }
    }
    step(executor, 1);
    Executor unharmed = executor_of(graph, {.threads = 2, .seed = 3});
    step(unharmed, 0);
    step(unharmed, 1);
    expect_equal(leaves_of(executor), leaves_of(unharmed));
  }
}

TEST(ExecutorInputs, ThatAreWrongAreNamed) {
  const Graph graph = small_step("fp32");
  Executor executor = executor_of(graph, {});
  const Tensors right = inputs_of_step(graph, 0);
  const auto message = [&](const std::vector<TensorInput>& inputs) {
    const auto failed = executor.step(inputs);
    return failed.has_value() ? "no error" : failed.error().message;
  };
  const auto expect_message = [&](const std::vector<TensorInput>& inputs, const char* part) {
    EXPECT_NE(message(inputs).find(part), std::string::npos) << message(inputs);
  };
  std::vector<TensorInput> inputs = as_inputs(right);
  const auto named = [&](std::string_view label) -> TensorInput& {
    return *std::find_if(inputs.begin(), inputs.end(),
                         [&](const TensorInput& each) { return each.label == label; });
  };
  inputs.erase(std::find_if(inputs.begin(), inputs.end(),
                            [](const TensorInput& each) { return each.label == "target"; }));
  expect_message(inputs, "input \"target\" (i64[4]) is missing");
  inputs = as_inputs(right);
  inputs.push_back(named("t"));
  expect_message(inputs, "\"t\" is not expected, or given twice");
  inputs = as_inputs(right);
  named("target").format = Format::F32;
  expect_message(inputs, "input \"target\" is i64[4], but f32[4] was given");
  inputs = as_inputs(right);
  const graph::Shape turned{3, 4};
  named("t").shape = turned;
  expect_message(inputs, "input \"t\" is i64[4,3], but i64[3,4] was given");
  inputs = as_inputs(right);
  named("x").bytes = named("x").bytes.first(7);
  expect_message(inputs, "needs 1728 bytes, 7 were given");
  std::vector<std::byte> shifted(33);
  inputs = as_inputs(right);
  named("target").bytes = std::span(shifted).subspan(
      reinterpret_cast<std::uintptr_t>(shifted.data()) % 2 == 0 ? 1 : 0, 32);
  expect_message(inputs, "not aligned");
}

TEST(ExecutorLeaves, ThatAreWrongAreNamed) {
  const Graph graph = small_step("fp32");
  Executor empty = value_of(Executor::create(graph, {}));
  const Tensors inputs = inputs_of_step(graph, 0);
  const auto unwritten = empty.step(as_inputs(inputs));
  ASSERT_FALSE(unwritten.has_value());
  EXPECT_NE(unwritten.error().message.find("has no value yet"), std::string::npos);
  const auto unknown = empty.read("conv.wieght");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("conv.weight"), std::string::npos)
      << unknown.error().message;
  EXPECT_FALSE(empty.output("loss").has_value());
  EXPECT_FALSE(empty.output("lsos").has_value());
}

TEST(ExecutorCreate, RefusesAGraphThatIsNotLowered) {
  const Graph graph =
      value_of(graph::load_graph(DOJO_SOURCE_DIR "/tests/golden/run/small_step.graph"));
  const auto refused = Executor::create(graph, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("not lowered"), std::string::npos);
  EXPECT_FALSE(Executor::create(small_step("fp32"), {.threads = 0}).has_value());
}

TEST(ExecutorMemory, SavesCodesAndReusesTheArena) {
  const Executor fp32 = executor_of(small_step("fp32"), {});
  const Executor cfloat8 = executor_of(small_step("cfloat8"), {});
  EXPECT_LT(cfloat8.saved_bytes() / fp32.saved_bytes(), 0.6);  // half of it BF16 before norms
  EXPECT_LT(cfloat8.arena_bytes(), fp32.arena_bytes());
  EXPECT_GE(cfloat8.arena_bytes(), cfloat8.saved_bytes());
}

TEST(ExecutorProfile, SaysWhereTheTimeOfTheLastStepWent) {
  Executor executor = executor_of(small_step("cfloat8"), {.threads = 2, .seed = 1});
  for (const TaskTime& task : executor.profile()) {
    EXPECT_EQ(task.seconds, 0) << task.ops;
  }
  step(executor, 0);
  const auto begin = std::chrono::steady_clock::now();
  step(executor, 1);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  double sum = 0;
  std::string ops;
  for (const TaskTime& task : executor.profile()) {
    EXPECT_GT(task.seconds, 0) << task.ops;
    EXPECT_LE(task.kernel_seconds, task.seconds) << task.ops;
    EXPECT_GE(task.kernel_seconds, 0) << task.ops;
    sum += task.seconds;
    ops += fmt::format("{} {}\n", graph::name_of(task.phase), task.ops);
  }
  EXPECT_LE(sum, wall.count());
  // What is joined stands in the order of the Graph.
  EXPECT_NE(ops.find("fwd aten._native_batch_norm_legit_functional+aten.relu\n"), std::string::npos)
      << ops;
  EXPECT_NE(ops.find("upd dojo.sgd\n"), std::string::npos) << ops;
}

TEST(ExecutorLog, TellsOfEveryRoundedTensor) {
  const Graph graph = small_step("cfloat8");
  Executor executor = executor_of(graph, {.threads = 2, .seed = 1});
  for (std::uint32_t number = 0; number < 5; ++number) {
    step(executor, number);
  }
  const std::vector<TensorLogRow> log = executor.tensor_log();
  EXPECT_GE(log.size(), executor.state().biases.size());
  for (const TensorLogRow& row : log) {
    EXPECT_NE(row.format, Format::F32) << row.name;
    EXPECT_GT(row.amax, 0) << row.name;
    EXPECT_LE(row.zeroed + row.saturated, row.elements) << row.name;
    EXPECT_LT(row.bias_changes, 5) << row.name;
  }
}

TEST(ExecutorLog, CountsWhatSaturatedAndWhatBecameZero) {
  const Graph graph = value_of(graph::parse_graph(
      R"(graph "one" recipe "cfloat8" machine "none" {bias_margin=1, bias_window=4, denormals="paper"} {
  %x = input f32[5] "x"
  %y = dojo.convert(%x) : cf8_1_4_3[5] matrix_operand @"" fwd
  output %y "y"
}
)"));
  Executor executor = value_of(Executor::create(graph, {}));
  const auto step_on = [&](std::array<float, 5> values) {
    const std::vector<std::int64_t> shape{5};
    const TensorInput input{"x", Format::F32, shape, std::as_bytes(std::span(values))};
    expect_done(executor.step(std::span(&input, 1)));
    return executor.tensor_log().at(0);
  };
  const TensorLogRow first = step_on({1, 1e-9F, 0, -INFINITY, NAN});
  EXPECT_EQ(first.amax, 1);
  EXPECT_EQ(first.zeroed, 1);
  EXPECT_EQ(first.saturated, 2);
  EXPECT_EQ(first.not_finite, 2);
  EXPECT_EQ(first.elements, 5);
  EXPECT_EQ(first.bias_changes, 0);
  const TensorLogRow second = step_on({64, -64, 3, 0, 1});  // the bias still follows 1
  EXPECT_EQ(second.bias, first.bias);
  EXPECT_EQ(second.saturated, 2);
  const TensorLogRow third = step_on({64, -64, 3, 0, 1});
  EXPECT_EQ(third.bias, first.bias - 6);
  EXPECT_EQ(third.saturated, 0);
  EXPECT_EQ(third.bias_changes, 1);
}

}  // namespace
}  // namespace dojo::run
