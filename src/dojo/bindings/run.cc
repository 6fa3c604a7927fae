// Bindings of run: the executor. Arrays come in without a copy and go out as copies.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "dojo/bindings/bindings.h"
#include "dojo/numerics/encode.h"
#include "dojo/run/executor.h"

namespace dojo::bindings {
namespace {

using run::Executor;
using Array = nb::ndarray<nb::numpy, nb::ro, nb::c_contig, nb::device::cpu>;

std::optional<Format> format_of(nb::dlpack::dtype type) {
  if (type == nb::dtype<float>()) {
    return Format::F32;
  }
  if (type == nb::dtype<std::uint8_t>()) {
    return Format::U8;
  }
  if (type == nb::dtype<std::int32_t>()) {
    return Format::I32;
  }
  if (type == nb::dtype<std::int64_t>()) {
    return Format::I64;
  }
  if (type == nb::dtype<bool>()) {
    return Format::Bool;
  }
  return std::nullopt;
}

// Shape and label stay here while the executor reads them through a TensorInput.
struct Given {
  std::string label;
  graph::Shape shape{};
  Array array{};
  Format format = Format::F32;

  run::TensorInput input() const {
    return {.label = label,
            .format = format,
            .shape = shape,
            .bytes = {static_cast<const std::byte*>(array.data()), array.nbytes()}};
  }
};

Given given(std::string label, Array array) {
  const std::optional<Format> format = format_of(array.dtype());
  if (!format.has_value()) {
    throw ApiError(Error{
        ErrorKind::InvalidInput,
        "tensor \"" + label + "\": expected an array of float32, uint8, int32, int64 or bool"});
  }
  Given given{.label = std::move(label), .array = std::move(array), .format = *format};
  for (std::size_t i = 0; i < given.array.ndim(); ++i) {
    given.shape.push_back(static_cast<std::int64_t>(given.array.shape(i)));
  }
  return given;
}

template <class T>
nb::object copied(std::span<const std::byte> bytes, const graph::Shape& shape) {
  const std::size_t size = std::max<std::size_t>(bytes.size(), 1);
  auto memory = std::make_unique<std::byte[]>(size);
  if (!bytes.empty()) {
    std::memcpy(memory.get(), bytes.data(), bytes.size());
  }
  const nb::capsule owner(memory.get(),
                          [](void* p) noexcept { delete[] static_cast<std::byte*>(p); });
  const std::vector<std::size_t> extents(shape.begin(), shape.end());
  return nb::cast(
      nb::ndarray<nb::numpy, T>(memory.release(), extents.size(), extents.data(), owner));
}

// Codes, those of BF16 and F16 too, come out as their stored bits.
nb::object as_array(const run::TensorOutput& tensor) {
  switch (tensor.format) {
    case Format::F32:
      return copied<float>(tensor.bytes, tensor.shape);
    case Format::Bf16:
    case Format::F16:
    case Format::Shp:
    case Format::Uhp:
      return copied<std::uint16_t>(tensor.bytes, tensor.shape);
    case Format::I32:
      return copied<std::int32_t>(tensor.bytes, tensor.shape);
    case Format::I64:
      return copied<std::int64_t>(tensor.bytes, tensor.shape);
    case Format::Bool:
      return copied<bool>(tensor.bytes, tensor.shape);
    case Format::U8:
    case Format::Cf8_1_4_3:
    case Format::Cf8_1_5_2:
    case Format::E4m3:
    case Format::E5m2:
      return copied<std::uint8_t>(tensor.bytes, tensor.shape);
  }
  DOJO_CHECK(false);
  return nb::none();
}

// What an output is worth: codes and BF16 as FP32.
nb::object as_values(const Executor& executor, const run::TensorOutput& tensor) {
  if (!is_float(tensor.format) || tensor.format == Format::F32) {
    return as_array(tensor);
  }
  const bool is_paper = executor.graph().lowering->denormals == graph::Denormals::Paper;
  std::vector<float> values(static_cast<std::size_t>(graph::element_count(tensor.shape)));
  numerics::decode(
      tensor.bytes,
      {.format = tensor.format,
       .bias = tensor.bias,
       .denormals = is_paper ? numerics::DenormalScale::Paper : numerics::DenormalScale::Gradual},
      values);
  return copied<float>(std::as_bytes(std::span(values)), tensor.shape);
}

nb::dict outputs_of(const Executor& executor, const std::vector<std::string>& labels) {
  nb::dict outputs;
  for (const std::string& label : labels) {
    outputs[label.c_str()] = as_values(executor, value_or_throw(executor.output(label)));
  }
  return outputs;
}

using Run = Result<void> (Executor::*)(std::span<const run::TensorInput>);

void run_on(Executor& self, const nb::dict& inputs, Run run) {
  std::vector<Given> arrays;
  for (const auto& [label, array] : inputs) {
    arrays.push_back(given(nb::cast<std::string>(label), nb::cast<Array>(array)));
  }
  std::vector<run::TensorInput> tensors;
  for (const Given& each : arrays) {
    tensors.push_back(each.input());
  }
  Result<void> done;
  {
    const nb::gil_scoped_release release;
    done = (self.*run)(tensors);
  }
  value_or_throw(std::move(done));
}

nb::dict step(Executor& self, const nb::dict& inputs) {
  run_on(self, inputs, &Executor::step);
  nb::dict outputs = outputs_of(self, self.forward_outputs());
  outputs.update(outputs_of(self, self.later_outputs()));
  return outputs;
}

nb::dict forward(Executor& self, const nb::dict& inputs) {
  run_on(self, inputs, &Executor::forward);
  return outputs_of(self, self.forward_outputs());
}

nb::dict backward(Executor& self, const nb::dict& inputs) {
  run_on(self, inputs, &Executor::backward);
  return outputs_of(self, self.later_outputs());
}

nb::dict snapshot(const Executor& self) {
  const run::State state = self.state();
  nb::dict windows;
  for (const run::State::TensorBias& bias : state.biases) {
    const std::vector<float>& amax = bias.memory.amax;
    const std::optional<int> learnt = bias.memory.learnt;
    windows[nb::int_(bias.tensor)] = nb::make_tuple(
        copied<float>(std::as_bytes(std::span(amax)), {static_cast<std::int64_t>(amax.size())}),
        bias.memory.position,
        learnt.has_value() ? nb::object(nb::make_tuple(*learnt, bias.memory.votes)) : nb::none());
  }
  nb::dict dict;
  dict["step"] = state.completed_steps;
  dict["seed"] = state.seed;
  dict["windows"] = windows;
  return dict;
}

// The executor's own state says which tensors have a bias.
void restore(Executor& self, const nb::dict& snapshot) {
  run::State state = self.state();
  state.completed_steps = nb::cast<std::int64_t>(snapshot["step"]);
  state.seed = nb::cast<std::uint64_t>(snapshot["seed"]);
  const auto windows = nb::cast<nb::dict>(snapshot["windows"]);
  if (windows.size() != state.biases.size()) {
    throw ApiError(Error{ErrorKind::InvalidInput,
                         "restore: the state has bias windows of other tensors than this step; "
                         "resume with the model, recipe and machine it was saved with"});
  }
  for (run::State::TensorBias& bias : state.biases) {
    const nb::int_ key(bias.tensor);
    if (!windows.contains(key)) {
      throw ApiError(Error{ErrorKind::InvalidInput,
                           "restore: the state lacks a bias window of this step; resume with the "
                           "model, recipe and machine it was saved with"});
    }
    const auto memory = nb::cast<nb::tuple>(windows[key]);
    const auto amax =
        nb::cast<nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>>(memory[0]);
    bias.memory = {};
    bias.memory.amax.assign(amax.data(), amax.data() + amax.size());
    bias.memory.position = nb::cast<std::int64_t>(memory[1]);
    if (!memory[2].is_none()) {
      const auto learnt = nb::cast<nb::tuple>(memory[2]);
      bias.memory.learnt = nb::cast<int>(learnt[0]);
      bias.memory.votes = nb::cast<int>(learnt[1]);
    }
  }
  value_or_throw(self.restore(state));
}

nb::list tensor_log(const Executor& self) {
  nb::list list;
  for (const run::TensorLogRow& row : self.tensor_log()) {
    nb::dict dict;
    dict["name"] = row.name;
    dict["module"] = row.module;
    dict["format"] = std::string(info(row.format).name);
    dict["bias"] = row.bias;
    dict["amax"] = row.amax;
    dict["elements"] = row.elements;
    dict["saturated"] = row.saturated;
    dict["zeroed"] = row.zeroed;
    dict["not_finite"] = row.not_finite;
    dict["bias_changes"] = row.bias_changes;
    list.append(dict);
  }
  return list;
}

nb::list stored_tensors(const Executor& self) {
  nb::list list;
  for (const run::StoredTensor& tensor : self.stored_tensors()) {
    nb::dict dict;
    dict["ops"] = tensor.ops;
    dict["module"] = tensor.module;
    dict["phase"] = std::string(graph::name_of(tensor.phase));
    dict["value"] = tensor.value;
    dict["format"] = std::string(info(tensor.format).name);
    dict["elements"] = tensor.elements;
    dict["is_saved"] = tensor.is_saved;
    dict["is_piece"] = tensor.is_piece;
    list.append(dict);
  }
  return list;
}

nb::list profile(const Executor& self) {
  nb::list list;
  for (const run::TaskTime& time : self.profile()) {
    nb::dict dict;
    dict["ops"] = time.ops;
    dict["module"] = time.module;
    dict["phase"] = std::string(graph::name_of(time.phase));
    dict["seconds"] = time.seconds;
    dict["kernel_seconds"] = time.kernel_seconds;
    list.append(dict);
  }
  return list;
}

// What a caller does with one.
nb::class_<Executor> bind_steps(nb::module_& module) {
  return nb::class_<Executor>(module, "Executor", "Runs a lowered Graph on values, step by step.")
      .def(
          "__init__",
          [](Executor* self, const graph::Graph& graph, int threads, std::uint64_t seed) {
            new (self) Executor(
                value_or_throw(Executor::create(graph, {.threads = threads, .seed = seed})));
          },
          nb::arg("graph"), nb::arg("threads") = 1, nb::arg("seed") = 0)
      .def("step", &step, nb::arg("inputs"),
           "One step on C-contiguous arrays by label; returns the outputs by label.")
      .def("forward", &forward, nb::arg("inputs"),
           "The forward part of a step; returns the outputs that it makes.")
      .def("backward", &backward, nb::arg("inputs"),
           "The rest of the step that forward began; returns the other outputs.")
      .def(
          "write",
          [](Executor& self, const std::string& label, const Array& array,
             std::optional<int> bias) {
            const Given tensor = given(label, array);
            run::TensorInput input = tensor.input();
            input.bias = bias;
            value_or_throw(self.write(input));
          },
          nb::arg("label"), nb::arg("array"), nb::arg("bias") = nb::none(),
          "Contents of a weight, buffer or state; one in a rounded format takes FP32 values, "
          "which\n"
          "are rounded to nearest, with that bias or one that the Graph's rule chooses.")
      .def(
          "read",
          [](const Executor& self, const std::string& label) {
            return as_values(self, value_or_throw(self.read(label)));
          },
          nb::arg("label"),
          "A copy of a weight, buffer or state, floats as FP32. Written back with leaf_bias(), it "
          "is\n"
          "the same to the bit.")
      .def(
          "leaf_bias",
          [](const Executor& self, const std::string& label) {
            const run::TensorOutput tensor = value_or_throw(self.read(label));
            return has_bias(tensor.format) ? std::optional(tensor.bias) : std::nullopt;
          },
          nb::arg("label"), "The bias of a weight, buffer or state, if its format has one.");
}

}  // namespace

void bind_run(nb::module_& module) {
  bind_steps(module)
      .def("snapshot", &snapshot,
           "Completed steps, seed and what biases follow: {tensor id: (amax history, position, "
           "None or (learnt bias, votes))}.")
      .def("restore", &restore, nb::arg("snapshot"), "Puts back what snapshot() gave.")
      .def("tensor_log", &tensor_log,
           "How each rounded tensor fared: bias, amax, saturated, zeroed, bias changes.")
      .def("profile", &profile,
           "The tasks of the step in the order they run: ops, module, phase, seconds in the last "
           "step, and how many of these outside element-wise work.")
      .def("stored_tensors", &stored_tensors,
           "What a step stores: ops and module that make it, phase, the Graph's value (or '': an "
           "intermediate), format, elements, whether the backward part reads it, whether it is "
           "memory of pieces.")
      .def_prop_ro("completed_steps", &Executor::completed_steps)
      .def_prop_ro("seed", &Executor::seed)
      .def_prop_ro("threads", &Executor::threads)
      .def_prop_ro(
          "arena_bytes", [](const Executor& self) { return self.arena_bytes().count(); },
          "Bytes planned for op values.")
      .def_prop_ro(
          "saved_bytes", [](const Executor& self) { return self.saved_bytes().count(); },
          "Bytes that live from the forward to the backward part.");
}

}  // namespace dojo::bindings
