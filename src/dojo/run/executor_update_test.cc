// Updates of weights and states in narrow formats against the same written out by hand.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "dojo/graph/text.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/run/executor.h"
#include "dojo/run/testing.h"

namespace dojo::run {
namespace {

constexpr int kCount = 1500;  // more than one block of the executor
const std::vector<std::int64_t> kShape{kCount};

using testing::expect_done;
using testing::value_of;

using Floats = std::vector<float>;

Floats drawn(std::uint32_t seed, float size) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, size);
  Floats values(kCount);
  std::generate(values.begin(), values.end(), [&] { return normal(rng); });
  return values;
}

TensorInput given(std::string_view label, const Floats& values) {
  return {label, Format::F32, kShape, std::as_bytes(std::span(values)), std::nullopt};
}

// A tensor as the test keeps it: values, and the codes that the executor should hold.
struct Stored {
  Format format = Format::F32;
  int bias = 0;
  std::uint32_t id = 0;  // of the update's value
  bool is_stochastic = false;
  Floats values = Floats(kCount, 0.0F);
  std::vector<std::uint16_t> codes = std::vector<std::uint16_t>(kCount, 0);

  void store(std::size_t i, float x, std::uint64_t seed, std::uint32_t step) {
    const numerics::CFloatSpec spec = numerics::cfloat_spec(format, bias);
    const RandomStream stream{seed, id, step};
    codes[i] = is_stochastic ? numerics::encode_stochastic(spec, x, stream.bits16(i))
                             : numerics::encode_nearest(spec, x);
    values[i] = numerics::decode(spec, codes[i]);
  }
};

void expect_codes(const Executor& executor, std::string_view label, const Stored& wanted) {
  const TensorOutput got = value_of(executor.read(label));
  ASSERT_EQ(got.format, wanted.format);
  EXPECT_EQ(got.bias, has_bias(wanted.format) ? wanted.bias : 0) << label;
  const auto width = static_cast<std::size_t>(bytes_of(got.format));
  for (std::size_t i = 0; i < kCount; ++i) {
    std::uint16_t code = 0;
    std::memcpy(&code, got.bytes.data() + i * width, width);
    ASSERT_EQ(code, wanted.codes[i]) << label << " " << i;
  }
}

std::uint32_t id_of(const graph::Graph& graph, std::string_view name) {
  const std::vector<std::uint32_t> ids = value_of(graph::tensor_ids(graph));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (graph.values[i].name == name) {
      return ids[i];
    }
  }
  throw std::runtime_error("no such value");
}

constexpr const char* kAdamW =
    R"(graph "adamw" recipe "r" machine "none" {bias="fixed", bias_shp=28} {
  %g = input f32[1500] "g"
  %lr = input f32[] "lr"
  %n = input i64[] "n"
  %w = weight shp[1500] "w"
  %m = state shp[1500] "m"
  %v = state uhp[1500] "v"
  %w1, %m1, %v1 = dojo.adamw(%w, %g, %m, %v, %lr, %n) {v_scale=16777216.0, weight_decay=0.01} : shp[1500] master_weight stochastic, shp[1500] first_moment, uhp[1500] second_moment stochastic @"a" upd
  update %w = %w1
  update %m = %m1
  update %v = %v1
}
)";

TEST(Update, OfAdamWInShpAndUhpIsTheOneWrittenOutByHand) {
  constexpr std::uint64_t kSeed = 77;
  const graph::Graph graph = value_of(graph::parse_graph(kAdamW));
  Executor executor = value_of(Executor::create(graph, {.threads = 2, .seed = kSeed}));
  Stored w{Format::Shp, 28, id_of(graph, "w1"), true};
  Stored m{Format::Shp, 28, id_of(graph, "m1"), false};
  Stored v{Format::Uhp, 0, id_of(graph, "v1"), true};
  const Floats begin = drawn(1, 0.1F);
  expect_done(executor.write(given("w", begin)));
  Stored written = w;
  written.is_stochastic = false;
  for (std::size_t i = 0; i < kCount; ++i) {
    written.store(i, begin[i], 0, 0);
  }
  w.values = written.values;
  expect_codes(executor, "w", written);
  for (std::int64_t n = 1; n <= 4; ++n) {
    const Floats g = drawn(10 + static_cast<std::uint32_t>(n), 1e-3F);
    const float lr = 3e-3F;
    const std::vector<std::int64_t> scalar;
    const TensorInput inputs[] = {
        given("g", g),
        {"lr", Format::F32, scalar, std::as_bytes(std::span(&lr, 1)), std::nullopt},
        {"n", Format::I64, scalar, std::as_bytes(std::span(&n, 1)), std::nullopt}};
    expect_done(executor.step(inputs));
    const double power1 = std::pow(0.9, n);  // exact enough: rounded to FP32 below
    const double power2 = std::pow(0.999, n);
    const auto correction1 = static_cast<float>(1 - power1);
    const auto correction2 = static_cast<float>(std::sqrt(1 - power2));
    for (std::size_t i = 0; i < kCount; ++i) {
      const float mean = m.values[i] + static_cast<float>(1 - 0.9) * (g[i] - m.values[i]);
      const float square =
          0.999F * (v.values[i] * 0x1p-24F) + static_cast<float>(1 - 0.999) * (g[i] * g[i]);
      const float kept = w.values[i] * (1.0F - lr * 0.01F);
      const float scale = std::sqrt(square) / correction2 + 1e-8F;
      const float moved = kept - (lr / correction1) * (mean / scale);
      const auto step = static_cast<std::uint32_t>(n - 1);
      w.store(i, moved, kSeed, step);
      m.store(i, mean, kSeed, step);
      v.store(i, square * 0x1p24F, kSeed, step);
    }
    expect_codes(executor, "w", w);
    expect_codes(executor, "m", m);
    expect_codes(executor, "v", v);
    ASSERT_FALSE(HasFailure()) << "step " << n;
  }
  EXPECT_GT(*std::min_element(v.values.begin(), v.values.end()), 0);  // none is flushed
}

// One plain step after the other on 1500 weights of 1, each 1/32 of the format's spacing.
Floats after_small_steps(std::string_view words, int steps) {
  const std::string text = fmt::format(
      R"(graph "sgd" recipe "r" machine "none" {{bias="fixed", bias_cf8_1_4_3=8}} {{
  %g = input f32[1500] "g"
  %lr = input f32[] "lr"
  %w = weight cf8_1_4_3[1500] "w"
  %w1, _ = dojo.sgd(%w, %g, none, %lr) : cf8_1_4_3[1500] {} @"a" upd
  update %w = %w1
}}
)",
      words);
  Executor executor =
      value_of(Executor::create(value_of(graph::parse_graph(text)), {.threads = 1, .seed = 5}));
  expect_done(executor.write(given("w", Floats(kCount, 1.5F))));
  const Floats g(kCount, 1.0F);
  const float lr = 0.125F / 32;
  const std::vector<std::int64_t> scalar;
  const TensorInput inputs[] = {
      given("g", g), {"lr", Format::F32, scalar, std::as_bytes(std::span(&lr, 1)), std::nullopt}};
  for (int i = 0; i < steps; ++i) {
    expect_done(executor.step(inputs));
  }
  const TensorOutput got = value_of(executor.read("w"));
  Floats values;
  for (const std::byte code : got.bytes) {
    values.push_back(numerics::decode(numerics::cfloat_spec(got.format, got.bias),
                                      static_cast<std::uint32_t>(code)));
  }
  return values;
}

TEST(Update, BelowHalfASpacingIsLostToNearestAndKeptOnAverageByStochasticRounding) {
  EXPECT_EQ(after_small_steps("master_weight", 64), Floats(kCount, 1.5F));
  const Floats values = after_small_steps("master_weight stochastic", 64);
  const float mean = std::accumulate(values.begin(), values.end(), 0.0F) / kCount;
  // 64 steps of 1/32 of a spacing of 1/8. The deviation of one element is below sqrt(64/32)/8.
  EXPECT_NEAR(mean, 1.5F - 2 * 0.125F, 4 * 0.18F / std::sqrt(static_cast<float>(kCount)));
}

TEST(Leaf, InARoundedFormatIsTheSameWhenItsValuesAreWrittenBack) {
  const graph::Graph graph = value_of(graph::parse_graph(
      R"(graph "leaf" recipe "r" machine "none" {bias="delayed"} {
  %w = weight shp[1500] "w"
  %y = dojo.convert(%w) : f32[1500] @"a" fwd
  output %y "y"
}
)"));
  Executor executor = value_of(Executor::create(graph, {}));
  const Floats begin = drawn(3, 1e-4F);
  expect_done(executor.write(given("w", begin)));
  expect_done(executor.step({}));
  const TensorOutput y = value_of(executor.output("y"));
  Floats values(kCount);
  std::memcpy(values.data(), y.bytes.data(), y.bytes.size());
  const TensorOutput w = value_of(executor.read("w"));
  const std::vector<std::byte> codes(w.bytes.begin(), w.bytes.end());
  const int bias = w.bias;
  EXPECT_EQ(bias, 42);  // amax is about 3.3e-4, in [2^-12, 2^-11): 31 + 12, one to spare
  TensorInput again = given("w", values);
  again.bias = bias;
  expect_done(executor.write(again));
  const TensorOutput back = value_of(executor.read("w"));
  EXPECT_EQ(std::vector<std::byte>(back.bytes.begin(), back.bytes.end()), codes);
  TensorInput as_codes{"w", Format::Shp, kShape, codes, std::nullopt};
  const auto refused = executor.write(as_codes);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("need the bias they were made with"), std::string::npos);
  as_codes.bias = bias;
  expect_done(executor.write(as_codes));
  EXPECT_EQ(value_of(executor.read("w")).bias, bias);
}

TEST(Input, InAFormatWithABiasIsRefused) {
  const auto executor = Executor::create(
      value_of(graph::parse_graph(R"(graph "in" recipe "r" machine "none" {bias="delayed"} {
  %x = input cf8_1_4_3[4] "x"
  %y = dojo.convert(%x) : f32[4] @"a" fwd
  output %y "y"
}
)")),
      {});
  ASSERT_FALSE(executor.has_value());
  EXPECT_NE(executor.error().message.find("\"x\" is an input in cf8_1_4_3"), std::string::npos);
}

}  // namespace
}  // namespace dojo::run
