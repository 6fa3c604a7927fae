// Executor: runs a lowered Graph on values, one training step at a time. It owns the weights,
// buffers and states (the leaves that live from step to step), one arena for everything an op
// makes, and the history that CFloat8 biases follow.
//
// Invariants (tested):
// - Values are those docs/graph.md defines: the same bits for any number of threads, any
//   instruction set and product unit, and those of the slow interpreter (interpreter.h).
// - What is stored lies in its lowered format; memory for op values is planned once and not
//   allocated in a step.
// - A step either happens, or fails and leaves leaves, history and step count as they were.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/format.h"
#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/graph/graph.h"
#include "dojo/numerics/bias.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/product_unit.h"

namespace dojo::run {

struct ExecutorOptions {
  int threads = 1;         // 1 .. 256; has no effect on values
  std::uint64_t seed = 0;  // of dropout masks and stochastic rounding
  // What to use where it changes no bit; given to test the others.
  numerics::Isa isa = numerics::best_isa();
  numerics::ProductUnit unit = numerics::product_unit().unit;
};

// A tensor handed in: row-major, aligned to its element size. The memory stays the caller's.
struct TensorInput {
  std::string_view label;
  Format format = Format::F32;
  std::span<const std::int64_t> shape{};
  std::span<const std::byte> bytes{};
  // Of a leaf with a bias; needed with codes. With FP32 values the rule of the Graph chooses one.
  std::optional<int> bias{};
};

// A tensor handed out; valid until the next call that changes the executor.
struct TensorOutput {
  Format format = Format::F32;
  int bias = 0;  // of a configurable float
  graph::Shape shape{};
  std::span<const std::byte> bytes{};
};

// What a run carries besides its leaves. With them it continues bit for bit.
struct State {
  struct TensorBias {
    std::uint32_t tensor = 0;  // graph::tensor_ids
    numerics::BiasMemory memory{};
    friend bool operator==(const TensorBias&, const TensorBias&) = default;
  };
  std::int64_t completed_steps = 0;
  std::uint64_t seed = 0;
  std::string graph_sha256{};
  std::vector<TensorBias> biases{};  // one per value with a bias, in the order of the Graph
  friend bool operator==(const State&, const State&) = default;
};

// How a rounded tensor fared.
struct TensorLogRow {
  std::string name;    // of the value, without %
  std::string module;  // of the op that makes it
  std::uint32_t tensor = 0;
  Format format = Format::F32;
  int bias = 0;                   // of the last step
  float amax = 0;                 // largest finite magnitude before rounding, last step
  std::int64_t elements = 0;      // of the tensor
  std::int64_t saturated = 0;     // last step: beyond the range, or not finite
  std::int64_t zeroed = 0;        // last step: not zero, rounded to zero
  std::int64_t not_finite = 0;    // last step: Inf or NaN
  std::int64_t bias_changes = 0;  // since the executor was made
};

// How long a task of the last step took. A task is one pass over memory: one op, part of one (a sum
// of a norm), or several whose results need not be stored in between.
struct TaskTime {
  std::string ops;     // "aten.convolution+aten.relu"
  std::string module;  // of the last of them
  graph::Phase phase = graph::Phase::Forward;
  double seconds = 0;
  double kernel_seconds = 0;  // of these, outside element-wise work: products, sums, pools, copies
};

// A tensor that a step stores in the arena: a value of the Graph, or an intermediate of an op.
// What is handed on inside a task is not stored, but the memory of one piece of it is listed, too.
struct StoredTensor {
  std::string ops;  // of the task that makes it, as in TaskTime
  std::string module;
  graph::Phase phase = graph::Phase::Forward;
  std::string value;  // name without %; empty: an intermediate
  Format format = Format::F32;
  std::int64_t elements = 0;
  bool is_saved = false;  // made by a forward op and read by a backward one
  bool is_piece = false;  // memory of a piece, up to 2^18 elements, or one row
};

class Executor {
 public:
  // Errors: the Graph is not lowered or not right; an op without a kernel; options out of range.
  static Result<Executor> create(graph::Graph graph, const ExecutorOptions& options);
  ~Executor();
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) noexcept;

  const graph::Graph& graph() const;
  int threads() const;

  // A weight, buffer or state, as codes of its own format, or as FP32 values, which are rounded to
  // nearest; so what read() gave, decoded and written with its bias, is the same again. Weights and
  // buffers must be written before the first step; states begin as zeros.
  Result<void> write(const TensorInput& tensor);
  Result<TensorOutput> read(std::string_view label) const;

  // One step: all inputs by label. Errors: an input is missing, unknown or of another type; a
  // weight has no value yet; an index (of an embedding, a label) is out of range.
  Result<void> step(std::span<const TensorInput> inputs);

  // The same step in two parts, for a caller who computes the loss between them: the forward ops,
  // then all others. Each takes the inputs that its ops read, by label, and further ones if given;
  // what forward read must still have the same contents. A step is complete, as completed_steps()
  // counts, with its forward part; backward runs once for it. Errors: those of step(); the Graph
  // has a forward op after others; backward without a forward before it.
  Result<void> forward(std::span<const TensorInput> inputs);
  Result<void> backward(std::span<const TensorInput> inputs);

  // Labels of the outputs that the forward ops make, and of all others.
  std::vector<std::string> forward_outputs() const;
  std::vector<std::string> later_outputs() const;

  // An output of the last step, or of the part of it that has run.
  Result<TensorOutput> output(std::string_view label) const;

  std::int64_t completed_steps() const;
  std::uint64_t seed() const;
  State state() const;
  // Errors: the state belongs to another Graph. Leaves are restored with write().
  Result<void> restore(const State& state);

  // Of op values: the arena, and what of it lives from the forward to the backward part.
  Bytes arena_bytes() const;
  Bytes saved_bytes() const;
  std::vector<StoredTensor> stored_tensors() const;
  std::vector<TensorLogRow> tensor_log() const;
  // The tasks of the step in the order they run, with their times in the last step (zeros before
  // the first).
  std::vector<TaskTime> profile() const;

 private:
  class Impl;
  explicit Executor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dojo::run
