// The slow interpreter: one step of a lowered Graph, one element at a time, written from
// docs/graph.md and the nests of the op table on the scalar twins of numerics. It shares no code
// with the executor but the numerics' scalar functions, and gives the same bits (tested); it is
// what the executor is held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dojo/base/format.h"
#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/run/executor.h"

namespace dojo::run {

// A tensor with its own memory, row-major.
struct Tensor {
  Format format = Format::F32;
  int bias = 0;  // of a configurable float
  graph::Shape shape{};
  std::vector<std::byte> bytes{};
  friend bool operator==(const Tensor&, const Tensor&) = default;
};

// The same values in FP32, the bias kept beside them; a tensor of integers or FP32 as it is.
Tensor as_f32(const Tensor& tensor, graph::Denormals denormals);

struct Interpretation {
  std::map<std::string, Tensor> outputs;  // by label
  std::map<std::string, Tensor> leaves;   // weights, buffers and states after the step, by label
  State state;                            // after the step
};

// `leaves` holds every input, weight and buffer by label; a state that is missing is zeros. A leaf
// in a rounded format comes in it, or in FP32 with its bias beside it, as as_f32() gives it.
// `before` is the state that the step begins with. Errors as of Executor::create and
// Executor::step.
Result<Interpretation> interpret_step(const graph::Graph& graph,
                                      const std::map<std::string, Tensor>& leaves,
                                      const State& before);

// The state of a run that has made no step yet.
Result<State> initial_state(const graph::Graph& graph, std::uint64_t seed);

}  // namespace dojo::run
