// Same seed, same bits: a training run has one result, whatever the number of threads, the
// instruction set, and whether the process was killed and another one went on from its checkpoint.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "dojo/graph/lower.h"
#include "dojo/graph/text.h"
#include "dojo/run/executor.h"

namespace dojo::run {
namespace {

using graph::Graph;
using graph::Value;
using graph::ValueKind;
using numerics::Isa;
using numerics::ProductUnit;

constexpr std::uint32_t kSteps = 6;
constexpr std::uint32_t kKilledAfter = 3;

template <class T>
T value_of(Result<T> result) {
  if (!result.has_value()) {
    throw std::runtime_error(result.error().to_string());
  }
  return *std::move(result);
}

// Dropout, and stochastic rounding where the recipe has no masters.
Graph network(std::string_view name, std::string_view recipe) {
  const std::string path = fmt::format("{}/tests/conformance/{}.graph", DOJO_SOURCE_DIR, name);
  return value_of(graph::lower(value_of(graph::load_graph(path)),
                               value_of(graph::recipe_named(recipe)), "none"));
}

struct Drawn {
  Format format = Format::F32;
  std::vector<std::byte> bytes;
};

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(T));
}

Drawn drawn(const Value& value, std::uint32_t step, std::mt19937& rng) {
  Drawn tensor{is_float(value.format) ? Format::F32 : value.format, {}};
  std::normal_distribution<float> normal(0, 0.3F);
  for (std::int64_t i = 0; i < graph::element_count(value.shape); ++i) {
    if (value.format == Format::I64) {
      append(tensor.bytes,
             value.label == "step" ? std::int64_t{step} + 1 : static_cast<std::int64_t>(rng() % 5));
    } else if (value.label.ends_with("running_var")) {
      append(tensor.bytes, 1.0F);
    } else {
      append(tensor.bytes, value.label == "lr" ? 0.02F : normal(rng));
    }
  }
  return tensor;
}

void train(Executor& executor, std::uint32_t step) {
  std::mt19937 rng(1000 + step);
  std::vector<Drawn> tensors;
  std::vector<const Value*> values;
  for (const Value& value : executor.graph().values) {
    if (value.kind == ValueKind::Input) {
      values.push_back(&value);
      tensors.push_back(drawn(value, step, rng));
    }
  }
  std::vector<TensorInput> inputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    inputs.push_back({values[i]->label, tensors[i].format, values[i]->shape, tensors[i].bytes, {}});
  }
  const Result<void> done = executor.step(inputs);
  ASSERT_TRUE(done.has_value()) << done.error().to_string();
}

Executor untrained(const Graph& graph, int threads, Isa isa, ProductUnit unit) {
  return value_of(
      Executor::create(graph, {.threads = threads, .seed = 7, .isa = isa, .unit = unit}));
}

Executor fresh(const Graph& graph, int threads, Isa isa, ProductUnit unit) {
  Executor executor = untrained(graph, threads, isa, unit);
  std::mt19937 rng(1);
  for (const Value& value : graph.values) {
    if (value.kind == ValueKind::Weight || value.kind == ValueKind::Buffer) {
      const Drawn tensor = drawn(value, 0, rng);
      const Result<void> done =
          executor.write({value.label, tensor.format, value.shape, tensor.bytes, {}});
      EXPECT_TRUE(done.has_value()) << done.error().to_string();
    }
  }
  return executor;
}

// --- what a run leaves behind, as bytes ---
class Writer {
 public:
  template <class T>
  void number(T value) {
    append(bytes, value);
  }
  void block(std::span<const std::byte> block) {
    number(static_cast<std::int64_t>(block.size()));
    bytes.insert(bytes.end(), block.begin(), block.end());
  }
  std::vector<std::byte> bytes;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <class T>
  T number() {
    T value{};
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_ = bytes_.subspan(sizeof value);
    return value;
  }
  std::span<const std::byte> block() {
    const auto size = static_cast<std::size_t>(number<std::int64_t>());
    const std::span<const std::byte> block = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return block;
  }

 private:
  std::span<const std::byte> bytes_;
};

template <class Visit>
void each_leaf(const Graph& graph, const Visit& visit) {
  for (const Value& value : graph.values) {
    if (value.kind != ValueKind::Op && value.kind != ValueKind::Input) {
      visit(value);
    }
  }
}

// Leaves and state: a checkpoint, and all but the seed that later steps depend on.
std::vector<std::byte> saved(const Executor& executor) {
  Writer writer;
  each_leaf(executor.graph(), [&](const Value& value) {
    const TensorOutput tensor = value_of(executor.read(value.label));
    writer.number(tensor.bias);
    writer.block(tensor.bytes);
  });
  const State state = executor.state();
  writer.number(state.completed_steps);
  for (const State::TensorBias& each : state.biases) {
    writer.block(std::as_bytes(std::span(each.memory.amax)));
    writer.number(each.memory.position);
    writer.number(each.memory.learnt.value_or(-1));
    writer.number(each.memory.votes);
  }
  return writer.bytes;
}

void resume(Executor& executor, std::span<const std::byte> bytes) {
  Reader reader(bytes);
  each_leaf(executor.graph(), [&](const Value& value) {
    const int bias = reader.number<int>();
    const std::span<const std::byte> block = reader.block();
    const std::vector<std::byte> aligned(block.begin(), block.end());
    const Result<void> done =
        executor.write({value.label, value.format, value.shape, aligned,
                        has_bias(value.format) ? std::optional(bias) : std::nullopt});
    ASSERT_TRUE(done.has_value()) << done.error().to_string();
  });
  State state = executor.state();
  state.completed_steps = reader.number<std::int64_t>();
  for (State::TensorBias& each : state.biases) {
    const std::span<const std::byte> amax = reader.block();
    each.memory.amax.resize(amax.size() / sizeof(float));
    std::ranges::copy(amax, std::as_writable_bytes(std::span(each.memory.amax)).begin());
    each.memory.position = reader.number<std::int64_t>();
    const int learnt = reader.number<int>();
    each.memory.learnt = learnt < 0 ? std::nullopt : std::optional(learnt);
    each.memory.votes = reader.number<int>();
  }
  const Result<void> done = executor.restore(state);
  ASSERT_TRUE(done.has_value()) << done.error().to_string();
}

// After each step: leaves, state and loss.
using History = std::vector<std::vector<std::byte>>;

void train_on(Executor& executor, std::uint32_t from, History& history) {
  for (std::uint32_t step = from; step < kSteps; ++step) {
    train(executor, step);
    std::vector<std::byte> bytes = saved(executor);
    const TensorOutput loss = value_of(executor.output("loss"));
    bytes.insert(bytes.end(), loss.bytes.begin(), loss.bytes.end());
    history.push_back(std::move(bytes));
  }
}

// Empty: none.
std::string difference(const History& one, const History& other) {
  if (one.size() != other.size()) {
    return fmt::format("{} and {} steps", one.size(), other.size());
  }
  for (std::size_t step = 0; step < one.size(); ++step) {
    if (one[step] != other[step]) {
      return fmt::format("after step {} of {}", step + 1, one.size());
    }
  }
  return "";
}

// One thread, the plain path: the definition.
const History& reference(const std::string& name, const std::string& recipe) {
  static std::map<std::string, History> made;
  History& history = made[name + recipe];
  if (history.empty()) {
    Executor executor = fresh(network(name, recipe), 1, Isa::Plain, ProductUnit::Fma);
    train_on(executor, 0, history);
  }
  return history;
}

struct Setting {
  const char* network;
  const char* recipe;
  Isa isa;
  ProductUnit unit;
};

std::string path_of(const Setting& setting) {
  return fmt::format("{}{}", numerics::name_of(setting.isa),
                     setting.unit == ProductUnit::Bf16Dot ? "_dot" : "");
}

class Conformance : public ::testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    if (GetParam().isa > numerics::best_isa()) {
      GTEST_SKIP() << "THIS CPU HAS NO " << numerics::name_of(GetParam().isa)
                   << ": that path stays untested here";
    }
    if (GetParam().unit == ProductUnit::Bf16Dot && !numerics::product_unit().can_use_dot) {
      GTEST_SKIP() << "THIS CPU HAS NO BF16 DOT INSTRUCTION: that unit stays untested here";
    }
  }
};

TEST_P(Conformance, AnyNumberOfThreadsGivesTheSameBits) {
  const auto& [name, recipe, isa, unit] = GetParam();
  for (const int threads : {1, 2, 3}) {
    Executor executor = fresh(network(name, recipe), threads, isa, unit);
    History history;
    train_on(executor, 0, history);
    EXPECT_EQ(difference(history, reference(name, recipe)), "") << threads << " threads";
  }
}

// Trains, writes a checkpoint, trains on, and dies without a chance to tidy up.
[[noreturn]] void train_and_die(const Setting& setting, const std::string& path) {
  Executor executor = fresh(network(setting.network, setting.recipe), 2, setting.isa, setting.unit);
  for (std::uint32_t step = 0; step < kSteps - 1; ++step) {
    if (step == kKilledAfter) {
      const std::vector<std::byte> bytes = saved(executor);
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
    }
    train(executor, step);
  }
  static_cast<void>(std::raise(SIGKILL));
  std::abort();
}

TEST_P(Conformance, AProcessThatGoesOnForAKilledOneGivesTheSameBits) {
  const auto& [name, recipe, isa, unit] = GetParam();
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::string path = fmt::format("{}/{}.{}.{}.checkpoint", ::testing::TempDir(), name, recipe,
                                       path_of(GetParam()));
  EXPECT_EXIT(train_and_die(GetParam(), path), ::testing::KilledBySignal(SIGKILL), "");
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(content.empty());
  Executor executor = untrained(network(name, recipe), 1, isa, unit);
  resume(executor, std::as_bytes(std::span(content)));
  History history;
  train_on(executor, kKilledAfter, history);
  const History& whole = reference(name, recipe);
  EXPECT_EQ(difference(history, {whole.begin() + kKilledAfter, whole.end()}), "");
}

TEST(ConformanceItself, SeesAnotherSeed) {
  const Graph graph = network("small_cnn", "cfloat8");
  Executor executor = value_of(Executor::create(graph, {.threads = 1, .seed = 8}));
  Executor usual = fresh(graph, 1, numerics::best_isa(), ProductUnit::Fma);
  resume(executor, saved(usual));
  History history;
  train_on(executor, 0, history);
  EXPECT_NE(history.front(), reference("small_cnn", "cfloat8").front());
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const char* network : {"small_cnn", "small_transformer"}) {
    for (const char* recipe : {"cfloat8", "cfloat8_no_master", "fp32"}) {
      for (const Isa isa : {Isa::Plain, Isa::Avx2, Isa::Avx512}) {
        all.push_back({network, recipe, isa, ProductUnit::Fma});
      }
      all.push_back({network, recipe, Isa::Avx512, ProductUnit::Bf16Dot});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Networks, Conformance, ::testing::ValuesIn(settings()),
                         [](const auto& setting) {
                           return fmt::format("{}_{}_{}", setting.param.network,
                                              setting.param.recipe, path_of(setting.param));
                         });

}  // namespace
}  // namespace dojo::run
