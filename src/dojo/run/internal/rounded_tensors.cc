#include "dojo/run/internal/rounded_tensors.h"

#include <algorithm>
#include <utility>

namespace dojo::run::internal {

RoundedTensors::RoundedTensors(const graph::Graph& graph, const Plan& plan,
                               std::span<const std::uint32_t> ids)
    : policy_(graph.lowering->bias), index_(plan.buffers.size()), again_of_(plan.buffers.size()) {
  const graph::Uses uses = graph::uses_of(graph);
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    const graph::Value& value = graph.values[i];
    const std::optional<View>& view = plan.views[i];
    // Moved values share their operand's buffer, codes and bias.
    if (value.kind != graph::ValueKind::Op || !view.has_value() || value.is_fused ||
        !is_float(value.format) || value.format == Format::F32 ||
        plan.buffers[view->buffer.index].value != ValueId{i}) {
      continue;
    }
    if (value.again_of.has_value()) {
      again_of_[view->buffer.index] = plan.views[value.again_of->index]->buffer;
      continue;
    }
    const graph::Op& op = graph.ops[uses.definition[i]->index];
    Tensor tensor;
    tensor.value = ValueId{i};
    tensor.buffer = view->buffer;
    tensor.format = value.format;
    tensor.id = ids[i];
    tensor.module = op.module;
    tensor.is_forward = op.phase == graph::Phase::Forward;
    tensor.elements = graph::element_count(value.shape);
    if (has_bias(value.format) && policy_.rule == BiasRule::Delayed) {
      tensor.memory.amax.reserve(static_cast<std::size_t>(policy_.window));  // no step allocates
    }
    index_[view->buffer.index] = tensors_.size();
    tensors_.push_back(std::move(tensor));
  }
}

const RoundedTensors::Tensor* RoundedTensors::of(BufferId buffer) const {
  const std::optional<std::size_t> index = index_[buffer.index];
  return index.has_value() ? &tensors_[*index] : nullptr;
}

void RoundedTensors::begin_step() {
  for (Tensor& tensor : tensors_) {
    tensor.stats = {};
  }
}

bool RoundedTensors::follows_pass(BufferId buffer) const {
  const Tensor* tensor = of(buffer);
  return tensor != nullptr && has_bias(tensor->format) &&
         numerics::follows_pass(policy_, tensor->memory);
}

std::optional<int> RoundedTensors::bias(BufferId buffer, float amax) const {
  const Tensor* tensor = of(buffer);
  if (tensor == nullptr || !has_bias(tensor->format)) {
    return std::nullopt;
  }
  return numerics::choose_bias(policy_, tensor->format, tensor->memory, amax);
}

void RoundedTensors::add(BufferId buffer, const numerics::EncodeStats& stats) {
  if (const std::optional<std::size_t> index = index_[buffer.index]) {
    tensors_[*index].stats += stats;
  }
}

void RoundedTensors::end_step(Part part, std::span<const int> bias) {
  for (Tensor& tensor : tensors_) {
    const bool is_of_part = part == Part::Whole || tensor.is_forward == (part == Part::Forward);
    if (!has_bias(tensor.format) || !is_of_part) {
      continue;
    }
    const int now = bias[tensor.buffer.index];
    numerics::note_step(policy_, now, tensor.stats, tensor.elements, tensor.memory);
    if (tensor.previous_bias.has_value() && *tensor.previous_bias != now) {
      ++tensor.bias_changes;
    }
    tensor.previous_bias = now;
  }
}

std::vector<State::TensorBias> RoundedTensors::memories() const {
  std::vector<State::TensorBias> memories;
  for (const Tensor& tensor : tensors_) {
    if (has_bias(tensor.format)) {
      memories.push_back({tensor.id, tensor.memory});
    }
  }
  return memories;
}

bool RoundedTensors::fit(std::span<const State::TensorBias> memories) const {
  const std::vector<State::TensorBias> mine = this->memories();
  return std::equal(memories.begin(), memories.end(), mine.begin(), mine.end(),
                    [&](const State::TensorBias& theirs, const State::TensorBias& ours) {
                      return theirs.tensor == ours.tensor &&
                             numerics::is_sound(policy_, theirs.memory);
                    });
}

void RoundedTensors::set_memories(std::span<const State::TensorBias> memories) {
  std::size_t next = 0;
  for (Tensor& tensor : tensors_) {
    if (has_bias(tensor.format)) {
      const numerics::BiasMemory& from = memories[next++].memory;
      tensor.memory.amax.assign(from.amax.begin(), from.amax.end());  // keeps what is reserved
      tensor.memory.position = from.position;
      tensor.memory.learnt = from.learnt;
      tensor.memory.votes = from.votes;
    }
  }
}

std::vector<TensorLogRow> RoundedTensors::log(const graph::Graph& graph,
                                              std::span<const int> bias) const {
  std::vector<TensorLogRow> log;
  for (const Tensor& tensor : tensors_) {
    const graph::Value& value = graph.value(tensor.value);
    log.push_back({value.name, tensor.module, tensor.id, tensor.format, bias[tensor.buffer.index],
                   tensor.stats.amax, tensor.elements, tensor.stats.saturated, tensor.stats.zeroed,
                   tensor.stats.not_finite, tensor.bias_changes});
  }
  return log;
}

}  // namespace dojo::run::internal
