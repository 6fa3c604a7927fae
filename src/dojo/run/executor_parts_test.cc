// A step in two parts: forward, then the rest.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "dojo/graph/lower.h"
#include "dojo/graph/text.h"
#include "dojo/run/executor.h"

namespace dojo::run {
namespace {

// A joint graph: nothing is updated, what the loss says comes in as a tangent
// that only the backward part reads. Its outputs are permuted, so that they are
// copied to be handed out.
constexpr const char* kJoint = R"(graph "joint" {
  %x = input f32[4,6] "x"
  %t = input f32[4,3] "tangent"
  %w0 = weight f32[8,6] "a.weight"
  %w1 = weight f32[3,8] "b.weight"
  %w2 = weight f32[3,3] "c.weight"
  %w0t = aten.permute(%w0) {dims=[1,0]} : f32[6,8] @"a" fwd
  %y0 = aten.mm(%x, %w0t) : f32[4,8] @"a" fwd
  %a0 = aten.relu(%y0) : f32[4,8] @"act" fwd
  %m = dojo.mask() {p=0.5, size=[4,8]} : f32[4,8] @"drop" fwd
  %d = aten.mul(%a0, %m) : f32[4,8] @"drop" fwd
  %w1t = aten.permute(%w1) {dims=[1,0]} : f32[8,3] @"b" fwd
  %y1 = aten.mm(%d, %w1t) : f32[4,3] @"b" fwd
  %a1 = aten.relu(%y1) : f32[4,3] @"act" fwd
  %y2 = aten.mm(%a1, %w2) : f32[4,3] @"c" fwd
  %y2t = aten.permute(%y2) {dims=[1,0]} : f32[3,4] @"c" fwd
  %w2t = aten.permute(%w2) {dims=[1,0]} : f32[3,3] @"c" bwd
  %da1 = aten.mm(%t, %w2t) : f32[4,3] @"c" bwd
  %a1t = aten.permute(%a1) {dims=[1,0]} : f32[3,4] @"c" bwd
  %dw2 = aten.mm(%a1t, %t) : f32[3,3] @"c" bwd
  %dy1 = aten.threshold_backward(%da1, %a1) {threshold=0.0} : f32[4,3] @"act" bwd
  %dd = aten.mm(%dy1, %w1) : f32[4,8] @"b" bwd
  %dy1t = aten.permute(%dy1) {dims=[1,0]} : f32[3,4] @"b" bwd
  %dw1 = aten.mm(%dy1t, %d) : f32[3,8] @"b" bwd
  %da0 = aten.mul(%dd, %m) : f32[4,8] @"drop" bwd
  %dy0 = aten.threshold_backward(%da0, %a0) {threshold=0.0} : f32[4,8] @"act" bwd
  %xt = aten.permute(%x) {dims=[1,0]} : f32[6,4] @"a" bwd
  %dw0t = aten.mm(%xt, %dy0) : f32[6,8] @"a" bwd
  %dw0 = aten.permute(%dw0t) {dims=[1,0]} : f32[8,6] @"a" bwd
  output %y2t "output"
  output %dw0 "grad.a.weight"
  output %dw1 "grad.b.weight"
  output %dw2 "grad.c.weight"
}
)";

struct Array {
  graph::Shape shape;
  std::vector<float> values;

  TensorInput as_input(std::string_view label) const {
    return {.label = label,
            .format = Format::F32,
            .shape = shape,
            .bytes = std::as_bytes(std::span(values))};
  }
};

// Values in [-1, 1) that repeat for a seed.
Array made(graph::Shape shape, std::uint32_t seed) {
  Array array{std::move(shape), {}};
  for (std::int64_t i = 0; i < graph::element_count(array.shape); ++i) {
    seed = seed * 1664525U + 1013904223U;
    array.values.push_back(static_cast<float>(seed >> 8U) / 8388608.0F - 1.0F);
  }
  return array;
}

Executor executor_of(const char* text, std::string_view recipe, int threads = 1) {
  const auto captured = graph::parse_graph(text, "joint.graph");
  EXPECT_TRUE(captured.has_value()) << (captured ? "" : captured.error().to_string());
  auto lowered = graph::lower(*captured, *graph::recipe_named(recipe), "d1");
  EXPECT_TRUE(lowered.has_value()) << (lowered ? "" : lowered.error().to_string());
  auto executor = Executor::create(*std::move(lowered), {.threads = threads, .seed = 5});
  EXPECT_TRUE(executor.has_value()) << (executor ? "" : executor.error().to_string());
  EXPECT_TRUE(executor->write(made({8, 6}, 1).as_input("a.weight")).has_value());
  EXPECT_TRUE(executor->write(made({3, 8}, 2).as_input("b.weight")).has_value());
  EXPECT_TRUE(executor->write(made({3, 3}, 3).as_input("c.weight")).has_value());
  return *std::move(executor);
}

std::map<std::string, std::vector<std::byte>> bytes_of_outputs(
    const Executor& executor, const std::vector<std::string>& labels) {
  std::map<std::string, std::vector<std::byte>> found;
  for (const std::string& label : labels) {
    const auto output = executor.output(label);
    EXPECT_TRUE(output.has_value()) << (output ? "" : output.error().to_string());
    found[label] = {output->bytes.begin(), output->bytes.end()};
  }
  return found;
}

TEST(TwoParts, GiveTheBitsOfOneStep) {
  for (const char* recipe : {"fp32", "bf16", "cfloat8"}) {
    Executor whole = executor_of(kJoint, recipe);
    Executor parts = executor_of(kJoint, recipe, 2);
    for (std::uint32_t step = 0; step < 20; ++step) {  // more than a bias window
      const Array x = made({4, 6}, 10 + step);
      Array tangent = made({4, 3}, 100 + step);
      for (float& value : tangent.values) {
        value *= static_cast<float>(1U << step);
      }
      const std::vector both{x.as_input("x"), tangent.as_input("tangent")};
      ASSERT_TRUE(whole.step(both).has_value());
      ASSERT_TRUE(parts.forward(std::span(both).first(1)).has_value());
      const std::vector<std::string> forward = parts.forward_outputs();
      ASSERT_EQ(forward, std::vector<std::string>{"output"});
      EXPECT_EQ(bytes_of_outputs(whole, forward), bytes_of_outputs(parts, forward));
      ASSERT_TRUE(parts.backward(both).has_value());
      const std::vector<std::string> later = parts.later_outputs();
      ASSERT_EQ(later.size(), 3U);
      EXPECT_EQ(bytes_of_outputs(whole, later), bytes_of_outputs(parts, later));
      EXPECT_EQ(whole.state(), parts.state());
    }
  }
}

TEST(TwoParts, AForwardIsAStepEvenWithoutABackward) {
  Executor executor = executor_of(kJoint, "cfloat8");
  const Array x = made({4, 6}, 10);
  const std::vector inputs{x.as_input("x")};
  ASSERT_TRUE(executor.forward(inputs).has_value());
  const auto first = bytes_of_outputs(executor, {"output"});
  ASSERT_TRUE(executor.forward(inputs).has_value());
  EXPECT_EQ(executor.completed_steps(), 2);
  EXPECT_NE(first, bytes_of_outputs(executor, {"output"}));  // another dropout mask
}

TEST(TwoParts, BackwardRunsOnceForAForward) {
  Executor executor = executor_of(kJoint, "cfloat8");
  const Array x = made({4, 6}, 10);
  const Array tangent = made({4, 3}, 11);
  const std::vector both{x.as_input("x"), tangent.as_input("tangent")};
  for (int time = 0; time < 2; ++time) {
    const auto early = executor.backward(both);
    ASSERT_FALSE(early.has_value());
    EXPECT_NE(early.error().message.find("backward needs a forward before it"), std::string::npos);
    ASSERT_TRUE(executor.forward(both).has_value());
    ASSERT_TRUE(executor.backward(both).has_value());
  }
  ASSERT_TRUE(executor.step(both).has_value());
  EXPECT_FALSE(executor.backward(both).has_value());
  ASSERT_TRUE(executor.forward(both).has_value());
  ASSERT_TRUE(executor.restore(executor.state()).has_value());
  EXPECT_FALSE(executor.backward(both).has_value());
}

TEST(TwoParts, EachPartWantsTheInputsThatItReads) {
  Executor executor = executor_of(kJoint, "cfloat8");
  const Array x = made({4, 6}, 10);
  const Array tangent = made({4, 3}, 11);
  const auto lacking = executor.forward(std::vector{tangent.as_input("tangent")});
  ASSERT_FALSE(lacking.has_value());
  EXPECT_NE(lacking.error().message.find("input \"x\""), std::string::npos);
  EXPECT_EQ(executor.completed_steps(), 0);
  ASSERT_TRUE(executor.forward(std::vector{x.as_input("x")}).has_value());
  EXPECT_FALSE(executor.backward(std::vector{x.as_input("x")}).has_value());
  EXPECT_FALSE(executor.output("grad.a.weight").has_value());
  // The refusal left the saved activations as they were.
  ASSERT_TRUE(
      executor.backward(std::vector{x.as_input("x"), tangent.as_input("tangent")}).has_value());
  EXPECT_TRUE(executor.output("grad.a.weight").has_value());
}

TEST(TwoParts, RefuseAGraphWhoseForwardOpsAreNotTogether) {
  std::string text = kJoint;
  const std::string forward = "  %y2t = aten.permute(%y2) {dims=[1,0]} : f32[3,4] @\"c\" fwd\n";
  text.erase(text.find(forward), forward.size());
  text.insert(text.find("  output %y2t"),
              "  %z = aten.relu(%y2) : f32[4,3] @\"c\" fwd\n"
              "  %y2t = aten.permute(%z) {dims=[1,0]} : f32[3,4] @\"c\" fwd\n");
  Executor executor = executor_of(text.c_str(), "cfloat8");
  const Array x = made({4, 6}, 10);
  const auto refused = executor.forward(std::vector{x.as_input("x")});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("cannot run in two parts"), std::string::npos);
}

}  // namespace
}  // namespace dojo::run
