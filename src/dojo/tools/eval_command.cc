// dojo graph eval FILE: one step of a lowered Graph by the slow interpreter.
//
// Tensors come from and go to safetensors files, under these names: input/LABEL; leaf/LABEL
// (weights, buffers, states) and leaf_bias/LABEL (of a leaf whose format has a bias); output/LABEL;
// floats of any format as their FP32 values; bias_window/ID and bias_position/ID (the amax history
// of a tensor with a bias and the place of its next entry; ID: its tensor id, 8 hexadecimal
// digits); bias_learnt/ID (a learnt bias and its votes).
// Metadata: step (completed steps) and seed.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "dojo/base/text.h"
#include "dojo/graph/text.h"
#include "dojo/run/interpreter.h"
#include "dojo/run/safetensors.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"

namespace dojo::tools {
namespace {

using run::Safetensors;
using run::SafetensorsDtype;
using run::SafetensorsEntry;

struct EvalOptions {
  std::string graph;
  std::string inputs;
  std::string outputs;
  std::string check;
};

Error wrong(const std::string& file, const std::string& message) {
  return Error{ErrorKind::InvalidInput, fmt::format("{}: {}", file, message)};
}

// Codes lie in files as U8.
Format format_of(SafetensorsDtype dtype) {
  switch (dtype) {
    case SafetensorsDtype::F32:
      return Format::F32;
    case SafetensorsDtype::Bf16:
      return Format::Bf16;
    case SafetensorsDtype::U8:
      return Format::U8;
    case SafetensorsDtype::I32:
      return Format::I32;
    case SafetensorsDtype::I64:
      return Format::I64;
    case SafetensorsDtype::Bool:
      return Format::Bool;
  }
  DOJO_CHECK(false);
  return Format::U8;
}

SafetensorsDtype dtype_of(Format format) {
  switch (format) {
    case Format::F32:
      return SafetensorsDtype::F32;
    case Format::Bf16:
      return SafetensorsDtype::Bf16;
    case Format::I32:
      return SafetensorsDtype::I32;
    case Format::I64:
      return SafetensorsDtype::I64;
    case Format::Bool:
      return SafetensorsDtype::Bool;
    case Format::U8:
    case Format::Cf8_1_4_3:
    case Format::Cf8_1_5_2:
    case Format::E4m3:
    case Format::E5m2:
      return SafetensorsDtype::U8;
    case Format::F16:
    case Format::Shp:
    case Format::Uhp:
      throw ApiError(Error{ErrorKind::Unsupported,
                           fmt::format("a tensor in {} cannot be put into a file yet: expected "
                                       "f32, bf16, an 8-bit float or an integer",
                                       info(format).name)});
  }
  DOJO_CHECK(false);
  return SafetensorsDtype::U8;
}

// One tensor of 64-bit integers, or nothing if there is none of that name.
std::optional<std::vector<std::int64_t>> integers_in(const Safetensors& file,
                                                     const std::string& name, std::size_t count,
                                                     const std::string& path) {
  const auto found = file.entries.find(name);
  if (found == file.entries.end()) {
    return std::nullopt;
  }
  const SafetensorsEntry& entry = found->second;
  std::vector<std::int64_t> integers(count);
  if (entry.dtype != SafetensorsDtype::I64 || entry.bytes.size() != 8 * count) {
    throw ApiError(wrong(path, fmt::format("{}: expected {} I64", name, count)));
  }
  std::memcpy(integers.data(), entry.bytes.data(), entry.bytes.size());
  return integers;
}

int leaf_bias(const graph::Value& leaf, const std::optional<std::vector<std::int64_t>>& bias,
              const std::string& path) {
  if (!has_bias(leaf.format)) {
    return 0;
  }
  if (!bias.has_value() || bias->front() < 0 || bias->front() > kMaxBias) {
    throw ApiError(wrong(
        path, fmt::format("leaf {} is {}: expected leaf_bias/{}, 0 to {}", dojo::quoted(leaf.label),
                          info(leaf.format).name, leaf.label, kMaxBias)));
  }
  return static_cast<int>(bias->front());
}

std::map<std::string, run::Tensor> leaves_of(const graph::Graph& graph, const Safetensors& file,
                                             const std::string& path) {
  std::map<std::string, run::Tensor> leaves;
  for (const graph::Value& value : graph.values) {
    if (value.kind == graph::ValueKind::Op) {
      continue;
    }
    const bool is_input = value.kind == graph::ValueKind::Input;
    const auto found = file.entries.find((is_input ? "input/" : "leaf/") + value.label);
    if (found != file.entries.end()) {
      const auto bias = integers_in(file, "leaf_bias/" + value.label, 1, path);
      leaves.emplace(value.label, run::Tensor{.format = format_of(found->second.dtype),
                                              .bias = leaf_bias(value, bias, path),
                                              .shape = found->second.shape,
                                              .bytes = found->second.bytes});
    }
  }
  return leaves;
}

std::int64_t number_in(const Safetensors& file, const std::string& name, const std::string& path) {
  const auto found = file.metadata.find(name);
  if (found == file.metadata.end()) {
    return 0;
  }
  const Result<std::int64_t> number = parse_int(found->second);
  if (!number.has_value()) {
    throw ApiError(wrong(path, fmt::format("metadata {}: {}", name, number.error().message)));
  }
  return *number;
}

// What a tensor's bias remembers; nothing before the first step.
void read_memory(const Safetensors& file, const std::string& path, const std::string& id,
                 numerics::BiasMemory& memory) {
  const auto amax = file.entries.find("bias_window/" + id);
  const auto position = integers_in(file, "bias_position/" + id, 1, path);
  if (amax != file.entries.end()) {
    if (amax->second.dtype != SafetensorsDtype::F32 || !position.has_value()) {
      throw ApiError(wrong(path, fmt::format("bias window {}: expected bias_window/{} as F32 and "
                                             "bias_position/{} as one I64",
                                             id, id, id)));
    }
    const std::vector<std::byte>& bytes = amax->second.bytes;
    memory.amax.resize(bytes.size() / sizeof(float));
    std::memcpy(memory.amax.data(), bytes.data(), bytes.size());
    memory.position = position->front();
  }
  if (const auto learnt = integers_in(file, "bias_learnt/" + id, 2, path)) {
    memory.learnt = static_cast<int>(learnt->at(0));
    memory.votes = static_cast<int>(learnt->at(1));
  }
}

run::State state_before(const graph::Graph& graph, const Safetensors& file,
                        const std::string& path) {
  const auto seed = static_cast<std::uint64_t>(number_in(file, "seed", path));
  run::State state = value_of(run::initial_state(graph, seed));
  state.completed_steps = number_in(file, "step", path);
  for (run::State::TensorBias& bias : state.biases) {
    read_memory(file, path, fmt::format("{:08x}", bias.tensor), bias.memory);
  }
  return state;
}

SafetensorsEntry entry_of(const run::Tensor& tensor) {
  return {.dtype = dtype_of(tensor.format), .shape = tensor.shape, .bytes = tensor.bytes};
}

template <class T>
std::vector<std::byte> bytes_of_values(const T* values, std::size_t count) {
  std::vector<std::byte> bytes(count * sizeof(T));
  if (count > 0) {
    std::memcpy(bytes.data(), values, bytes.size());
  }
  return bytes;
}

void add_integers(const std::string& name, const std::vector<std::int64_t>& integers,
                  const graph::Shape& shape, Safetensors& file) {
  file.entries.emplace(
      name, SafetensorsEntry{.dtype = SafetensorsDtype::I64,
                             .shape = shape,
                             .bytes = bytes_of_values(integers.data(), integers.size())});
}

void add_memory(const run::State::TensorBias& bias, Safetensors& file) {
  const std::string id = fmt::format("{:08x}", bias.tensor);
  const numerics::BiasMemory& memory = bias.memory;
  file.entries.emplace(
      "bias_window/" + id,
      SafetensorsEntry{.dtype = SafetensorsDtype::F32,
                       .shape = {std::ssize(memory.amax)},
                       .bytes = bytes_of_values(memory.amax.data(), memory.amax.size())});
  add_integers("bias_position/" + id, {memory.position}, {}, file);
  if (memory.learnt.has_value()) {
    add_integers("bias_learnt/" + id, {*memory.learnt, memory.votes}, {2}, file);
  }
}

Safetensors file_of(const run::Interpretation& result, graph::Denormals denormals) {
  Safetensors file;
  for (const auto& [label, tensor] : result.outputs) {
    file.entries.emplace("output/" + label, entry_of(run::as_f32(tensor, denormals)));
  }
  for (const auto& [label, tensor] : result.leaves) {
    file.entries.emplace("leaf/" + label, entry_of(run::as_f32(tensor, denormals)));
    if (has_bias(tensor.format)) {
      add_integers("leaf_bias/" + label, {tensor.bias}, {}, file);
    }
  }
  for (const run::State::TensorBias& bias : result.state.biases) {
    add_memory(bias, file);
  }
  file.metadata.emplace("step", std::to_string(result.state.completed_steps));
  file.metadata.emplace("seed", std::to_string(result.state.seed));
  return file;
}

// Every tensor of `expected` must be in `got` with the same bits.
std::size_t check_bits(const Safetensors& got, const Safetensors& expected,
                       const std::string& path) {
  if (expected.entries.empty()) {
    throw ApiError(wrong(path, "holds no tensor to check against"));
  }
  for (const auto& [name, wanted] : expected.entries) {
    const auto found = got.entries.find(name);
    if (found == got.entries.end()) {
      throw ApiError(wrong(path, fmt::format("tensor {} is none of this step's", name)));
    }
    const SafetensorsEntry& entry = found->second;
    if (entry.dtype != wanted.dtype || entry.shape != wanted.shape) {
      throw ApiError(wrong(path, fmt::format("tensor {} has another type or shape than this "
                                             "step's",
                                             name)));
    }
    const auto [here, there] =
        std::mismatch(entry.bytes.begin(), entry.bytes.end(), wanted.bytes.begin());
    if (here != entry.bytes.end()) {
      const auto element = (here - entry.bytes.begin()) / run::bytes_of(entry.dtype);
      throw ApiError(
          wrong(path, fmt::format("tensor {} differs, first in element {}", name, element)));
    }
  }
  return expected.entries.size();
}

void evaluate(const EvalOptions& options) {
  const graph::Graph graph = value_of(graph::load_graph(options.graph));
  const Safetensors inputs = value_of(run::read_safetensors(options.inputs));
  const run::Interpretation result =
      value_of(run::interpret_step(graph, leaves_of(graph, inputs, options.inputs),
                                   state_before(graph, inputs, options.inputs)));
  const Safetensors file = file_of(result, graph.lowering->denormals);
  if (!options.outputs.empty()) {
    value_of(run::write_safetensors(options.outputs, file));
  }
  if (!options.check.empty()) {
    const std::size_t count =
        check_bits(file, value_of(run::read_safetensors(options.check)), options.check);
    fmt::print("{} tensors equal, bit for bit\n", count);
  }
}

}  // namespace

void add_eval_command(CLI::App& graph_command) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App* command = graph_command.add_subcommand(
      "eval", "One step of a lowered Graph, by the slow interpreter on scalar code alone");
  command->add_option("graph", options->graph, "The lowered Graph")->type_name("FILE")->required();
  command->add_option("--inputs", options->inputs, "input/LABEL, leaf/LABEL and bias windows")
      ->type_name("FILE.safetensors")
      ->required();
  command->add_option("--outputs", options->outputs, "Write outputs, leaves and windows")
      ->type_name("FILE.safetensors");
  command->add_option("--check", options->check, "Compare with these tensors, bit for bit")
      ->type_name("FILE.safetensors");
  command->callback([options] { evaluate(*options); });
}

}  // namespace dojo::tools
