// Of Delivery: micro-batches.
#include <fmt/format.h>

#include <algorithm>

#include "dojo/place/internal/delivery.h"

namespace dojo::place::internal {

using graph::Stage;
using program::Axis;

Turn Delivery::turn_at(std::size_t index) const {
  if (micro_batches_.count == 1) {
    return Turn::After;
  }
  const PhaseId phase = written_out_.of[index];
  return phase < micro_batches_.first ? Turn::Before
         : phase < micro_batches_.end ? Turn::Each
                                      : Turn::After;
}

const graph::EarlyOutput* Delivery::early_sum(OpId id) const {
  return micro_batches_.count > 1 ? early_output_of(graph_.ops[id.index], uses_) : nullptr;
}

// Of what the one before had of its samples nothing is left, nor of what it made.
void Delivery::begin_micro_batch(std::int64_t micro_batch) {
  micro_batch_ = micro_batch;
  for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
    const bool is_sliced = plan_.layouts.held[i][Axis::Micro].sharing == program::Sharing::Sliced;
    const auto& made = uses_.definition[i];
    const bool is_made_again = made.has_value() && plan_.layouts.turn[made->index] == Turn::Each &&
                               !pending_.contains(graph_.values[i].name);
    const graph::EarlyOutput* const early = made.has_value() ? early_sum(*made) : nullptr;
    const bool is_known =
        early != nullptr && graph_.ops[made->index].outputs[size_of(early->output)] == ValueId{i};
    if (is_known || (!is_sliced && !is_made_again)) {
      continue;
    }
    made_by_[i].clear();
    for (Node node = 0; node < nodes_; ++node) {
      const Elements kept = plan_.layouts.is_kept[i] ? own_[i][node] : none(graph_.values[i].shape);
      const bool is_there = made.has_value()
                                ? arrival(ValueId{i}) != nullptr
                                : is_held_here(ValueId{i}) || arrival(ValueId{i}) != nullptr;
      own_[i][node] = is_there ? held(ValueId{i}, node) : none(graph_.values[i].shape);
      add(own_[i][node], kept);
    }
  }
  for (auto& [op, progress] : progress_) {
    if (plan_.layouts.turn[op] == Turn::Each) {
      progress = {};
    }
  }
}

// Sums in FP32 that no nodes have to join are there now.
void Delivery::end_micro_batches(std::optional<std::size_t> index) {
  std::vector<std::pair<std::string, std::size_t>> whole;
  for (const auto& [name, pending] : pending_) {
    const auto value = named_.find(name);
    if (pending.goes_on && !pending.is_in_memory && value != named_.end() &&
        graph_.value(value->second).format == Format::F32) {
      whole.emplace_back(name, index.value_or(pending.last_writer));
    }
  }
  for (const auto& [name, writer] : whole) {
    complete(name, writer);
  }
}

// All micro-batches of a sum that labels decide.
void Delivery::run_early(std::size_t index, OpId id, const graph::EarlyOutput& sum) {
  for (const Stage& stage : plan_.layouts.ops[id.index].split.nest().stages) {
    for (micro_batch_ = 0; micro_batch_ < micro_batches_.count; ++micro_batch_) {
      for (const graph::Operand& operand : stage.operands) {
        const int number = operand.tensor.index;
        const bool is_read =
            operand.use == graph::OperandUse::Read &&
            std::find(sum.operands.begin(), sum.operands.end(), number) != sum.operands.end();
        if (is_read) {
          read(index, id, stage, operand);
        } else if (operand.use == graph::OperandUse::Write && number == sum.output) {
          write(index, id, stage, operand);
        }
      }
    }
  }
  micro_batch_ = 0;
  const std::string name = tensor_name(id, {graph::TensorKind::Output, sum.output});
  if (pending_.contains(name)) {
    complete(name, index);  // if no nodes have to join it
  }
}

void Delivery::go_on(std::size_t index, OpId id, const Stage& stage, Pending& pending, Node node,
                     const Elements& made, const std::string& name) {
  if (pending.is_in_memory) {
    report(fmt::format("phase {} goes on with %{}, which lies in DRAM", index, name));
  }
  for (std::size_t i = 0; i < made.size(); ++i) {
    if (made[i] == 0) {
      continue;
    }
    if (pending.had[node][i] != micro_batch_) {
      report(fmt::format("phase {} adds micro-batch {} to element {} of %{}, which has had {}",
                         index, micro_batch_, i, name, pending.had[node][i]));
    }
    pending.had[node][i] = micro_batch_ + 1;
  }
  // The last replica may have fewer samples.
  const SplitNest& split = plan_.layouts.ops[id.index].split;
  SplitNest::Place place = split_place(node);
  pending.has_to[node] = 0;
  for (std::int64_t m = 0; m < split.on(Axis::Micro)->cut.parts; ++m) {
    place[index_of(Axis::Micro)] = m;
    const graph::Slice slice = split.slice(place);
    const bool has_points = std::none_of(
        stage.loops.begin(), stage.loops.end(),
        [&](const graph::StageLoop& loop) { return slice[size_of(loop.loop)].is_empty(); });
    pending.has_to[node] += has_points ? 1 : 0;
  }
}

bool Delivery::is_finished(const Pending& pending, const std::string& name, std::size_t index) {
  if (pending.is_in_memory) {
    report(fmt::format("phase {} uses %{}, which lies in DRAM", index, name));
    return false;
  }
  for (Node node = 0; node < nodes_ && pending.goes_on; ++node) {
    for (std::size_t i = 0; i < pending.all.size(); ++i) {
      if (pending.had[node][i] != 0 && pending.had[node][i] != pending.has_to[node]) {
        report(fmt::format("phase {} uses %{}, of which node {} has had {} micro-batches of {}",
                           index, name, node, pending.had[node][i], pending.has_to[node]));
        return false;
      }
    }
  }
  return true;
}

}  // namespace dojo::place::internal
