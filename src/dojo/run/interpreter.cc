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

Array array_of(const Tensor& tensor, numerics::DenormalScale denormals) {
  Array array{tensor.format, tensor.shape, tensor.bias, {}, {}, {}};
  for (std::int64_t i = 0; i < array.elements(); ++i) {
    switch (tensor.format) {
      case Format::F32:
        array.floats.push_back(load<float>(tensor.bytes.data(), i));
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
      default:
        array.codes.push_back(bytes_of(tensor.format) == 1
                                  ? load<std::uint8_t>(tensor.bytes.data(), i)
                                  : load<std::uint16_t>(tensor.bytes.data(), i));
        array.floats.push_back(numerics::decode(
            numerics::cfloat_spec(tensor.format, tensor.bias, denormals), array.codes.back()));
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

numerics::DenormalScale scale_of(graph::Denormals denormals) {
  return denormals == graph::Denormals::Paper ? numerics::DenormalScale::Paper
                                              : numerics::DenormalScale::Gradual;
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

// A value that was stored with a bias.
struct Rounded {
  std::size_t index = 0;  // in State::biases
  int bias = 0;
  std::int64_t elements = 0;
  numerics::EncodeStats stats{};
};

class Step {
 public:
  Step(const Graph& graph, std::vector<std::uint32_t> ids, const State& before)
      : graph_(graph),
        ids_(std::move(ids)),
        state_(before),
        arrays_(graph.values.size()),
        denormals_(scale_of(graph.lowering->denormals)),
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
      const bool is_rounded = is_float(value.format) && value.format != Format::F32;
      if (is_rounded && value.kind != ValueKind::Input && tensor.format == Format::F32) {
        DOJO_TRY(arrays_[i], rounded_leaf(value, tensor));
        continue;
      }
      const auto size = static_cast<std::size_t>(stored_bytes(value).count());
      if (tensor.format != value.format || tensor.shape != value.shape ||
          tensor.bytes.size() != size) {
        return Error{
            ErrorKind::InvalidInput,
            fmt::format("leaf {} is {}[{}], but {}[{}] was given", dojo::quoted(value.label),
                        info(value.format).name, fmt::join(value.shape, ","),
                        info(tensor.format).name, fmt::join(tensor.shape, ","))};
      }
      arrays_[i] = array_of(tensor, denormals_);
    }
    return {};
  }

  Result<void> run() {
    for (const Op& op : graph_.ops) {
      DOJO_TRY_VOID(run(op));
    }
    for (const Rounded& each : rounded_) {
      numerics::note_step(graph_.lowering->bias, each.bias, each.stats, each.elements,
                          state_.biases[each.index].memory);
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
    array.codes.resize(is_float(value.format) && value.format != Format::F32 ? count : 0);
    return array;
  }

  // FP32 values as a leaf stores them, with the bias that comes with them.
  Result<Array> rounded_leaf(const Value& value, const Tensor& tensor) const {
    Array array{value.format, value.shape, tensor.bias, {}, {}, {}};
    const auto count = static_cast<std::size_t>(array.elements());
    if (tensor.shape != value.shape || tensor.bytes.size() != count * sizeof(float)) {
      return Error{
          ErrorKind::InvalidInput,
          fmt::format("leaf {} has another shape than the graph's", dojo::quoted(value.label))};
    }
    for (std::int64_t i = 0; i < array.elements(); ++i) {
      round(array, false, load<float>(tensor.bytes.data(), i), 0);
    }
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
    const bool has_own_bias = has_bias(value.format) && !value.again_of.has_value();
    if (has_own_bias) {
      array.bias = bias_for(id, made.floats);
    } else if (value.again_of.has_value()) {
      array.bias = arrays_[value.again_of->index].bias;
    }
    const RandomStream stream{state_.seed, ids_[id.index],
                              static_cast<std::uint32_t>(state_.completed_steps)};
    numerics::EncodeStats stats;
    for (std::size_t i = 0; i < made.floats.size(); ++i) {
      const std::uint16_t random = value.is_stochastic ? stream.bits16(i) : std::uint16_t{0};
      const numerics::Flags flags = round(array, value.is_stochastic, made.floats[i], random);
      note(stats, made.floats[i], array.floats.back(), flags);
    }
    if (has_own_bias) {
      rounded_.back().stats = stats;
    }
    return array;
  }

  // Appends x as the array's format stores it.
  numerics::Flags round(Array& array, bool is_stochastic, float x, std::uint16_t random) const {
    numerics::Flags flags;
    const numerics::CFloatSpec spec = numerics::cfloat_spec(array.format, array.bias, denormals_);
    const std::uint16_t code = is_stochastic ? numerics::encode_stochastic(spec, x, random, flags)
                                             : numerics::encode_nearest(spec, x, flags);
    array.codes.push_back(code);
    array.floats.push_back(numerics::decode(spec, code));
    return flags;
  }

  static void note(numerics::EncodeStats& stats, float x, float stored,
                   const numerics::Flags& flags) {
    const bool is_finite = std::isfinite(x);
    stats.amax = is_finite ? std::max(stats.amax, std::fabs(x)) : stats.amax;
    stats.not_finite += is_finite ? 0 : 1;
    stats.saturated += flags.overflow || (flags.invalid && !std::isnan(stored)) ? 1 : 0;
    stats.zeroed += x != 0 && stored == 0 ? 1 : 0;
    stats.flags |= flags;
  }

  int bias_for(ValueId id, const std::vector<float>& values) {
    const BiasPolicy& policy = graph_.lowering->bias;
    float amax = 0;
    for (const float x : values) {
      amax = std::isfinite(x) ? std::max(amax, std::fabs(x)) : amax;
    }
    for (std::size_t i = 0; i < state_.biases.size(); ++i) {
      if (state_.biases[i].tensor == ids_[id.index]) {
        const int bias =
            numerics::choose_bias(policy, graph_.value(id).format, state_.biases[i].memory, amax);
        rounded_.push_back({i, bias, std::ssize(values), {}});
        return bias;
      }
    }
    DOJO_CHECK(false);  // initial_state() made one for each, and the state has been checked
  }

  const Graph& graph_;
  std::vector<std::uint32_t> ids_;
  State state_;
  std::vector<Array> arrays_;  // by value
  std::vector<Rounded> rounded_;
  numerics::DenormalScale denormals_;
  ThreadPool pool_;
};

}  // namespace

Tensor as_f32(const Tensor& tensor, graph::Denormals denormals) {
  if (!is_float(tensor.format) || tensor.format == Format::F32) {
    return tensor;
  }
  Tensor values{Format::F32, tensor.bias, tensor.shape, {}};
  for (const float value : array_of(tensor, scale_of(denormals)).floats) {
    save(values.bytes, value);
  }
  return values;
}

Result<State> initial_state(const Graph& graph, std::uint64_t seed) {
  DOJO_TRY(const std::vector<std::uint32_t> ids, graph::tensor_ids(graph));
  State state{0, seed, graph::graph_sha256(graph), {}};
  const graph::Uses uses = graph::uses_of(graph);
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (!has_bias(graph.values[i].format) || graph.values[i].again_of.has_value() ||
        !uses.definition[i].has_value() ||
        internal::keeps_codes(graph, graph.ops[uses.definition[i]->index])) {
      continue;
    }
    state.biases.push_back({ids[i], {}});
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
              before.biases.size() == expected.biases.size();
  for (std::size_t i = 0; fits && i < expected.biases.size(); ++i) {
    fits = before.biases[i].tensor == expected.biases[i].tensor &&
           numerics::is_sound(graph.lowering->bias, before.biases[i].memory);
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
