// The values of a Graph that are rounded when they are stored: which bias each takes
// (numerics/bias.h), and how they fared.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/numerics/bias.h"
#include "dojo/numerics/encode.h"
#include "dojo/run/executor.h"
#include "dojo/run/internal/plan.h"

namespace dojo::run::internal {

// Which ops a call of the executor runs.
enum class Part : std::uint8_t { Forward, Backward, Whole };

class RoundedTensors {
 public:
  // `ids` are graph::tensor_ids.
  RoundedTensors(const graph::Graph& graph, const Plan& plan, std::span<const std::uint32_t> ids);

  void begin_step();
  // The buffer whose bias this one takes, which holds its codes once more.
  std::optional<BufferId> again_of(BufferId buffer) const { return again_of_[buffer.index]; }
  // Whether the bias of this buffer must follow the pass that stores it.
  bool follows_pass(BufferId buffer) const;
  // The bias of a pass with that amax, which counts only if follows_pass(); nullopt: has none.
  std::optional<int> bias(BufferId buffer, float amax) const;
  void add(BufferId buffer, const numerics::EncodeStats& stats);
  // The step is done: what its passes showed is noted. `bias` is by buffer.
  void end_step(Part part, std::span<const int> bias);

  std::vector<State::TensorBias> memories() const;
  // Whether they are memories of these tensors, in order, and sound.
  bool fit(std::span<const State::TensorBias> memories) const;
  void set_memories(std::span<const State::TensorBias> memories);
  std::vector<TensorLogRow> log(const graph::Graph& graph, std::span<const int> bias) const;

 private:
  struct Tensor {
    ValueId value;
    BufferId buffer;
    Format format = Format::F32;
    std::uint32_t id = 0;
    std::string module;
    bool is_forward = false;
    std::int64_t elements = 0;
    numerics::BiasMemory memory;  // of a configurable float
    numerics::EncodeStats stats;  // of this step
    std::optional<int> previous_bias;
    std::int64_t bias_changes = 0;
  };
  const Tensor* of(BufferId buffer) const;

  BiasPolicy policy_;
  std::vector<Tensor> tensors_;                    // in the order of the Graph's values
  std::vector<std::optional<std::size_t>> index_;  // by buffer
  std::vector<std::optional<BufferId>> again_of_;  // by buffer
};

}  // namespace dojo::run::internal
