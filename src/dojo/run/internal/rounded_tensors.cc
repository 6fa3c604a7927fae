#include "dojo/run/internal/rounded_tensors.h"

#include <algorithm>
#include <utility>

namespace dojo::run::internal {

RoundedTensors::RoundedTensors(const graph::Graph& graph, const Plan& plan,
                               std::span<const std::uint32_t> ids)
    : margin_(graph.lowering->bias.margin), index_(plan.buffers.size()) {
  const graph::Uses uses = graph::uses_of(graph);
  const int length = graph.lowering->bias.window;
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    const graph::Value& value = graph.values[i];
    const std::optional<View>& view = plan.views[i];
    // Moved values share their operand's buffer, codes and bias.
    if (value.kind != graph::ValueKind::Op || !view.has_value() || value.is_fused ||
        !is_float(value.format) || value.format == Format::F32 ||
        plan.buffers[view->buffer.index].value != ValueId{i}) {
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
    tensor.window.length = length;
    tensor.window.history.reserve(static_cast<std::size_t>(length));  // no step allocates
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
  return tensor != nullptr && has_bias(tensor->format) && tensor->window.history.empty();
}

std::optional<int> RoundedTensors::bias(BufferId buffer, float amax) const {
  const Tensor* tensor = of(buffer);
  if (tensor == nullptr || !has_bias(tensor->format)) {
    return std::nullopt;
  }
  return tensor->window.bias(tensor->format, amax, margin_);
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
    if (tensor.window.length > 0) {
      tensor.window.push(tensor.stats.amax);
    }
    const int now = bias[tensor.buffer.index];
    if (tensor.previous_bias.has_value() && *tensor.previous_bias != now) {
      ++tensor.bias_changes;
    }
    tensor.previous_bias = now;
  }
}

std::vector<State::Window> RoundedTensors::windows() const {
  std::vector<State::Window> windows;
  for (const Tensor& tensor : tensors_) {
    if (has_bias(tensor.format)) {
      windows.push_back({tensor.id, tensor.window});
    }
  }
  return windows;
}

bool RoundedTensors::fit(std::span<const State::Window> windows) const {
  const std::vector<State::Window> mine = this->windows();
  return std::equal(windows.begin(), windows.end(), mine.begin(), mine.end(),
                    [](const State::Window& theirs, const State::Window& ours) {
                      const numerics::BiasWindow& window = theirs.history;
                      return theirs.tensor == ours.tensor && window.length == ours.history.length &&
                             std::ssize(window.history) <= window.length && window.position >= 0 &&
                             window.position < std::max(window.length, 1);
                    });
}

void RoundedTensors::set_windows(std::span<const State::Window> windows) {
  std::size_t next = 0;
  for (Tensor& tensor : tensors_) {
    if (has_bias(tensor.format)) {
      const numerics::BiasWindow& from = windows[next++].history;
      tensor.window.history.assign(from.history.begin(), from.history.end());
      tensor.window.position = from.position;
    }
  }
}

std::vector<TensorLogRow> RoundedTensors::log(const graph::Graph& graph,
                                              std::span<const int> bias) const {
  std::vector<TensorLogRow> log;
  for (const Tensor& tensor : tensors_) {
    const graph::Value& value = graph.value(tensor.value);
    log.push_back({value.name, tensor.module, tensor.id, tensor.format, bias[tensor.buffer.index],
                   tensor.stats.amax, graph::element_count(value.shape), tensor.stats.saturated,
                   tensor.stats.zeroed, tensor.stats.not_finite, tensor.bias_changes});
  }
  return log;
}

}  // namespace dojo::run::internal
