#include "dojo/run/interpreter.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "dojo/base/philox.h"
#include "dojo/base/text.h"
#include "dojo/graph/verify.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/run/internal/interpret.h"

namespace dojo::run {

using graph::Graph;
using graph::Op;
using graph::Shape;
using graph::Value;
using graph::ValueKind;
using internal::Array;
using internal::Evaluation;
using internal::Made;

namespace {

template <class T>
T load(const std::byte* bytes, std::int64_t i) {
  T value;
  std::memcpy(&value, bytes + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void save(std::vector<std::byte>& bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(T));
}

Array array_of(const Tensor& tensor) {
  Array array{tensor.format, tensor.shape, tensor.bias, {}, {}, {}};
  for (std::int64_t i = 0; i < array.elements(); ++i) {
    switch (tensor.format) {
      case Format::F32:
        array.floats.push_back(load<float>(tensor.bytes.data(), i));
        break;
      case Format::Bf16:
      case Format::F16:
      case Format::Uhp:
        array.codes.push_back(load<std::uint16_t>(tensor.bytes.data(), i));
        array.floats.push_back(
            numerics::decode(numerics::cfloat_spec(tensor.format, 0), array.codes.back()));
        break;
      case Format::U8:
      case Format::Bool:
        array.ints.push_back(load<std::uint8_t>(tensor.bytes.data(), i));
        break;
      case Format::I32:
        array.ints.push_back(load<std::int32_t>(tensor.bytes.data(), i));
        break;
      case Format::I64:
        array.ints.push_back(load<std::int64_t>(tensor.bytes.data(), i));
        break;
      case Format::Cf8_1_4_3:
      case Format::Cf8_1_5_2:
      case Format::Shp:
      case Format::E4m3:
      case Format::E5m2:
        DOJO_CHECK(false);  // no leaf is one
    }
  }
  return array;
}

Tensor tensor_of(const Array& array) {
  Tensor tensor{array.format, array.bias, array.shape, {}};
  for (std::int64_t i = 0; i < array.elements(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    switch (array.format) {
      case Format::F32:
        save(tensor.bytes, array.floats[at]);
        break;
      case Format::Bf16:
      case Format::F16:
      case Format::Shp:
      case Format::Uhp:
        save(tensor.bytes, static_cast<std::uint16_t>(array.codes[at]));
        break;
      case Format::Cf8_1_4_3:
      case Format::Cf8_1_5_2:
      case Format::E4m3:
      case Format::E5m2:
        save(tensor.bytes, static_cast<std::uint8_t>(array.codes[at]));
        break;
      case Format::U8:
      case Format::Bool:
        save(tensor.bytes, static_cast<std::uint8_t>(array.ints[at]));
        break;
      case Format::I32:
        save(tensor.bytes, static_cast<std::int32_t>(array.ints[at]));
        break;
      case Format::I64:
        save(tensor.bytes, array.ints[at]);
        break;
    }
  }
  return tensor;
}

// What an integer is when it has been stored.
std::int64_t stored_integer(Format format, std::int64_t value) {
  switch (format) {
    case Format::U8:
      return static_cast<std::uint8_t>(value);
    case Format::Bool:
      return value != 0 ? 1 : 0;
    case Format::I32:
      return static_cast<std::int32_t>(value);
    default:
      return value;
  }
}

class Step {
 public:
  Step(const Graph& graph, std::vector<std::uint32_t> ids, const State& before)
      : graph_(graph),
        ids_(std::move(ids)),
        state_(before),
        arrays_(graph.values.size()),
        denormals_(graph.lowering->denormals == graph::Denormals::Paper
                       ? numerics::DenormalScale::Paper
                       : numerics::DenormalScale::Gradual),
        pool_(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 64u))) {}

  Result<void> take_leaves(const std::map<std::string, Tensor>& leaves) {
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      if (value.kind == ValueKind::Op) {
        continue;
      }
      const auto given = leaves.find(value.label);
      if (given == leaves.end()) {
        if (value.kind != ValueKind::State) {
          return Error{ErrorKind::InvalidInput,
                       "leaf " + dojo::quoted(value.label) + " is missing"};
        }
        arrays_[i] = zeros(value);
        continue;
      }
      const Tensor& tensor = given->second;
      const auto size = static_cast<std::size_t>(stored_bytes(value).count());
      if (tensor.format != value.format || tensor.shape != value.shape ||
          tensor.bytes.size() != size) {
        return Error{
            ErrorKind::InvalidInput,
            fmt::format("leaf {} is {}[{}], but {}[{}] was given", dojo::quoted(value.label),
                        info(value.format).name, fmt::join(value.shape, ","),
                        info(tensor.format).name, fmt::join(tensor.shape, ","))};
      }
      arrays_[i] = array_of(tensor);
    }
    return {};
  }

  Result<void> run() {
    for (const Op& op : graph_.ops) {
      DOJO_TRY_VOID(run(op));
    }
    for (auto& [index, window] : pushed_) {
      if (state_.windows[index].history.length > 0) {
        state_.windows[index].history.push(window);
      }
    }
    ++state_.completed_steps;
    return {};
  }

  Interpretation result() {
    Interpretation result;
    for (const graph::Output& output : graph_.outputs) {
      result.outputs.emplace(output.label, tensor_of(arrays_[output.value.index]));
    }
    std::vector<Array> after = arrays_;  // updates take effect together
    for (const graph::Update& update : graph_.updates) {
      after[update.target.index] = arrays_[update.value.index];
    }
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      if (value.kind != ValueKind::Op && value.kind != ValueKind::Input) {
        result.leaves.emplace(value.label, tensor_of(after[i]));
      }
    }
    result.state = state_;
    return result;
  }

 private:
  static Array zeros(const Value& value) {
    Array array{value.format, value.shape, 0, {}, {}, {}};
    const auto count = static_cast<std::size_t>(array.elements());
    (array.has_floats() ? array.floats.resize(count) : array.ints.resize(count));
    array.codes.resize(value.format == Format::Bf16 ? count : 0);
    return array;
  }

  Result<void> run(const Op& op) {
    const auto& rows = internal::all_interpreters();
    const auto row = std::find_if(rows.begin(), rows.end(),
                                  [&](const auto& each) { return each.op == op.info->name; });
    if (row == rows.end()) {
      return Error{ErrorKind::Unsupported,
                   fmt::format("the interpreter does not know {} (in module {})", op.info->name,
                               dojo::quoted(op.module))};
    }
    Evaluation evaluation{graph_,
                          op,
                          graph::nest_of(graph_, op),
                          {},
                          {},
                          state_.seed,
                          static_cast<std::uint32_t>(state_.completed_steps),
                          {},
                          &pool_};
    for (const std::optional<ValueId>& input : op.inputs) {
      evaluation.in.push_back(input.has_value() ? &arrays_[input->index] : nullptr);
    }
    for (const std::optional<ValueId>& output : op.outputs) {
      evaluation.tensor_ids.push_back(output.has_value() ? ids_[output->index] : 0);
    }
    evaluation.out.resize(op.outputs.size());
    DOJO_TRY_VOID(row->interpret(evaluation));
    for (std::size_t i = 0; i < op.outputs.size(); ++i) {
      if (op.outputs[i].has_value()) {
        arrays_[op.outputs[i]->index] = stored(*op.outputs[i], std::move(evaluation.out[i]));
      }
    }
    return {};
  }

  Array stored(ValueId id, Made made) {
    const Value& value = graph_.value(id);
    Array array{value.format, value.shape, made.bias, {}, {}, {}};
    if (!array.has_floats()) {
      DOJO_CHECK(static_cast<std::int64_t>(made.ints.size()) == array.elements());
      for (const std::int64_t integer : made.ints) {
        array.ints.push_back(stored_integer(value.format, integer));
      }
      return array;
    }
    DOJO_CHECK(static_cast<std::int64_t>(made.floats.size()) == array.elements());
    if (made.keeps_codes || value.format == Format::F32) {
      array.floats = std::move(made.floats);
      array.codes = std::move(made.codes);
      return array;
    }
    if (has_bias(value.format)) {
      array.bias = bias_for(id, made.floats);
    }
    const RandomStream stream{state_.seed, ids_[id.index],
                              static_cast<std::uint32_t>(state_.completed_steps)};
    for (std::size_t i = 0; i < made.floats.size(); ++i) {
      const std::uint16_t random = value.is_stochastic ? stream.bits16(i) : std::uint16_t{0};
      round(array, value, made.floats[i], random);
    }
    return array;
  }

  void round(Array& array, const Value& value, float x, std::uint16_t random) const {
    const numerics::CFloatSpec spec = numerics::cfloat_spec(value.format, array.bias, denormals_);
    const std::uint16_t code = value.is_stochastic ? numerics::encode_stochastic(spec, x, random)
                                                   : numerics::encode_nearest(spec, x);
    array.codes.push_back(code);
    array.floats.push_back(numerics::decode(spec, code));
  }

  int bias_for(ValueId id, const std::vector<float>& values) {
    float amax = 0;
    for (const float x : values) {
      amax = std::isfinite(x) ? std::max(amax, std::fabs(x)) : amax;
    }
    for (std::size_t i = 0; i < state_.windows.size(); ++i) {
      if (state_.windows[i].tensor == ids_[id.index]) {
        pushed_.emplace_back(i, amax);
        return state_.windows[i].history.bias(graph_.value(id).format, amax,
                                              graph_.lowering->bias.margin);
      }
    }
    DOJO_CHECK(false);  // initial_state() made one for each, and the state has been checked
  }

  const Graph& graph_;
  std::vector<std::uint32_t> ids_;
  State state_;
  std::vector<Array> arrays_;  // by value
  std::vector<std::pair<std::size_t, float>> pushed_;
  numerics::DenormalScale denormals_;
  ThreadPool pool_;
};

}  // namespace

Result<State> initial_state(const Graph& graph, std::uint64_t seed) {
  DOJO_TRY(const std::vector<std::uint32_t> ids, graph::tensor_ids(graph));
  State state{0, seed, graph::graph_sha256(graph), {}};
  const graph::Uses uses = graph::uses_of(graph);
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (!has_bias(graph.values[i].format) || !uses.definition[i].has_value() ||
        internal::keeps_codes(graph, graph.ops[uses.definition[i]->index])) {
      continue;
    }
    State::Window window{ids[i], {}};
    window.history.length = graph.lowering->bias.window;
    state.windows.push_back(std::move(window));
  }
  return state;
}

Result<Interpretation> interpret_step(const Graph& graph,
                                      const std::map<std::string, Tensor>& leaves,
                                      const State& before) {
  if (!graph.is_lowered()) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("graph {} is not lowered: lower it with a recipe first",
                             dojo::quoted(graph.name))};
  }
  DOJO_TRY_VOID(graph::verify(graph));
  DOJO_TRY(std::vector<std::uint32_t> ids, graph::tensor_ids(graph));
  DOJO_TRY(const State expected, initial_state(graph, before.seed));
  bool fits = before.graph_sha256 == expected.graph_sha256 &&
              before.windows.size() == expected.windows.size();
  for (std::size_t i = 0; fits && i < expected.windows.size(); ++i) {
    const numerics::BiasWindow& window = before.windows[i].history;
    const int length = expected.windows[i].history.length;
    fits = before.windows[i].tensor == expected.windows[i].tensor && window.length == length &&
           std::ssize(window.history) <= length && window.position >= 0 &&
           window.position < std::max(length, 1);
  }
  if (!fits) {
    return Error{ErrorKind::InvalidInput, fmt::format("this state belongs to another graph than {}",
                                                      dojo::quoted(graph.name))};
  }
  Step step(graph, std::move(ids), before);
  DOJO_TRY_VOID(step.take_leaves(leaves));
  DOJO_TRY_VOID(step.run());
  return step.result();
}

}  // namespace dojo::run
