#include "dojo/run/executor.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/graph/verify.h"
#include "dojo/run/internal/builder.h"
#include "dojo/run/internal/interpret.h"
#include "dojo/run/interpreter.h"
#include "dojo/run/op_cases.h"

namespace dojo::run {
namespace {

using graph::Graph;
using graph::Value;
using graph::ValueKind;
using testing::Cuts;
using testing::OpCase;
using testing::RoundingOf;

TensorInput as_input(std::string_view label, const Tensor& tensor) {
  return {label, tensor.format, tensor.shape, tensor.bytes};
}

Tensor as_tensor(const TensorOutput& output) {
  return {output.format, output.bias, output.shape, {output.bytes.begin(), output.bytes.end()}};
}

// Writes weights and buffers, then steps with the inputs.
Result<void> step_with(Executor& executor, const std::map<std::string, Tensor>& leaves) {
  std::vector<TensorInput> inputs;
  for (const Value& value : executor.graph().values) {
    if (value.kind == ValueKind::Op || !leaves.contains(value.label)) {
      continue;
    }
    const TensorInput tensor = as_input(value.label, leaves.at(value.label));
    if (value.kind == ValueKind::Input) {
      inputs.push_back(tensor);
    } else {
      DOJO_TRY_VOID(executor.write(tensor));
    }
  }
  return executor.step(inputs);
}

std::string first_difference(const Tensor& a, const Tensor& b) {
  if (a.bias != b.bias || a.format != b.format || a.shape != b.shape) {
    return fmt::format("bias {} and {}", a.bias, b.bias);
  }
  const auto width = static_cast<std::size_t>(bytes_of(a.format));
  for (std::size_t i = 0; i < a.bytes.size(); i += width) {
    if (std::memcmp(&a.bytes[i], &b.bytes[i], width) != 0) {
      std::uint64_t x = 0;
      std::uint64_t y = 0;
      std::memcpy(&x, &a.bytes[i], width);
      std::memcpy(&y, &b.bytes[i], width);
      return fmt::format("element {}: {:x} and {:x}", i / width, x, y);
    }
  }
  return "";
}

void expect_like_interpreter(const Graph& graph, const OpCase& one,
                             const ExecutorOptions& options) {
  auto executor = Executor::create(graph, options);
  ASSERT_TRUE(executor.has_value()) << executor.error().to_string();
  auto state = initial_state(graph, options.seed);
  ASSERT_TRUE(state.has_value()) << state.error().to_string();
  EXPECT_EQ(executor->state(), *state);
  for (std::uint32_t step = 0; step < 3; ++step) {
    const auto leaves = testing::random_leaves(graph, one, 100 + step);
    const auto expected = interpret_step(graph, leaves, *state);
    ASSERT_TRUE(expected.has_value()) << expected.error().to_string();
    const auto stepped = step_with(*executor, leaves);
    ASSERT_TRUE(stepped.has_value()) << stepped.error().to_string();
    for (const auto& [label, tensor] : expected->outputs) {
      const auto made = executor->output(label);
      ASSERT_TRUE(made.has_value()) << made.error().to_string();
      ASSERT_EQ(first_difference(as_tensor(*made), tensor), "") << label << ", step " << step;
    }
    EXPECT_EQ(executor->state(), expected->state);
    *state = expected->state;
  }
}

class EveryOp : public ::testing::TestWithParam<std::string> {
 protected:
  // try_case for each case of the op, until one fails.
  template <class Try>
  void for_each_case(const Try& try_case) {
    for (const OpCase& one : testing::op_cases()) {
      if (one.op == GetParam() && !HasFatalFailure()) {
        try_case(one);
      }
    }
  }
};

TEST_P(EveryOp, GivesTheBitsOfTheInterpreter) {
  for_each_case([&](const OpCase& one) {
    for (const Format format :
         {Format::F32, Format::Bf16, Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::Shp}) {
      for (const Cuts cuts : {Cuts::None, Cuts::Two, Cuts::Many, Cuts::Runs}) {
        // A bias that follows the current amax, and one that follows two steps.
        const BiasRule rule = format == Format::Cf8_1_5_2 ? BiasRule::Current : BiasRule::Delayed;
        const Graph graph =
            testing::graph_of(one, format, cuts, RoundingOf::Nearest, {.rule = rule, .window = 2});
        const std::string text = graph::print_graph(graph);
        if (cuts == Cuts::Runs && text.find(" by ") == std::string::npos) {
          continue;  // no loop has parts enough: as Cuts::Many
        }
        SCOPED_TRACE(text);
        const auto verified = graph::verify(graph);
        ASSERT_TRUE(verified.has_value()) << verified.error().to_string();
        const bool is_plain = cuts == Cuts::Two;
        expect_like_interpreter(graph, one,
                                {.threads = is_plain ? 1 : 2,
                                 .seed = 7,
                                 .isa = is_plain ? numerics::Isa::Plain : numerics::best_isa()});
        if (HasFatalFailure()) {
          return;
        }
      }
    }
  });
}

TEST_P(EveryOp, RoundsStochasticallyWithTheBitsOfTheInterpreter) {
  for_each_case([&](const OpCase& one) {
    for (const Format format : {Format::Bf16, Format::Cf8_1_5_2}) {
      const Graph graph =
          testing::graph_of(one, format, Cuts::None, RoundingOf::Stochastic, {.window = 2});
      SCOPED_TRACE(graph::print_graph(graph));
      expect_like_interpreter(graph, one, {.threads = 2, .seed = 11});
    }
  });
}

std::vector<std::string> tried_ops() {
  std::set<std::string> names;
  for (const OpCase& one : testing::op_cases()) {
    names.insert(one.op);
  }
  return {names.begin(), names.end()};
}

INSTANTIATE_TEST_SUITE_P(Ops, EveryOp, ::testing::ValuesIn(tried_ops()), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST(OpTable, EveryRowThatMayBeLoweredHasAKernelAnInterpreterAndACase) {
  std::set<std::string_view> interpreted;
  for (const internal::InterpretRow& row : internal::all_interpreters()) {
    EXPECT_TRUE(interpreted.insert(row.op).second) << row.op << " twice";
  }
  std::set<std::string_view> expanded;
  for (const internal::ExpansionRow& row : internal::all_expansions()) {
    EXPECT_TRUE(expanded.insert(row.op).second) << row.op << " twice";
  }
  const std::vector<std::string> ops = tried_ops();
  const std::set<std::string_view> tried(ops.begin(), ops.end());
  for (const graph::OpInfo& row : graph::all_ops()) {
    EXPECT_NE(row.is_unlowered_only, expanded.contains(row.name)) << row.name << ": kernel";
    EXPECT_NE(row.is_unlowered_only, interpreted.contains(row.name)) << row.name << ": interpreter";
    EXPECT_NE(row.is_unlowered_only, tried.contains(row.name)) << row.name << ": case";
  }
}

}  // namespace
}  // namespace dojo::run
