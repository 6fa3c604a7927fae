#include "dojo/place/internal/drafter.h"

#include <algorithm>

#include "dojo/graph/op_table.h"

namespace dojo::place::internal {

using graph::Op;
using graph::Operand;
using graph::Stage;
using graph::TensorKind;
using program::Axis;
using program::NodeWork;
using program::Phase;
using program::Transfer;

// --- streams ---
std::size_t Drafter::join_streams(OpId id) {
  const Op& op = graph_.ops[id.index];
  std::optional<std::size_t> first;
  for (const auto& input : op.inputs) {
    if (!input.has_value() || !is_in_registers(*input)) {
      continue;
    }
    const std::size_t stream = *stream_of_[input->index];
    if (!first.has_value()) {
      first = stream;
    } else if (*first != stream) {
      merge(*first, stream);
    }
  }
  if (!first.has_value()) {
    first = streams_.size();
    streams_.emplace_back();
  }
  begin(*first, id);
  return *first;
}

void Drafter::merge(std::size_t into, std::size_t from) {
  Stream& a = streams_[into];
  Stream& b = streams_[from];
  a.ops.insert(a.ops.end(), b.ops.begin(), b.ops.end());
  a.kinds += "+" + b.kinds;
  a.split = a.has_matrix || !b.has_matrix ? a.split : b.split;
  a.work = sum(a.work, b.work);
  a.rows = std::max(a.rows, b.rows);
  a.columns = std::max(a.columns, b.columns);
  a.after.merge(b.after);
  a.pipelined.merge(b.pipelined);
  a.reads.merge(b.reads);
  a.read_values.merge(b.read_values);
  a.stored.insert(a.stored.end(), b.stored.begin(), b.stored.end());
  a.writes.merge(b.writes);
  a.has_matrix = a.has_matrix || b.has_matrix;
  a.unread.merge(b.unread);
  for (const std::uint32_t open_value : b.values) {
    stream_of_[open_value] = into;
    a.values.push_back(open_value);
  }
  b = {};
}

std::int64_t Drafter::width(OpId id, Axis axis) const {
  const SplitNest& split = op_plan(id).split;
  if (split.on(axis).has_value() && !makes_alike(graph_.ops[id.index], op_plan(id), axis)) {
    return split.on(axis)->cut.parts;
  }
  if (split.is_flat(axis)) {
    return split.split().parts(axis);
  }
  return mesh_.places(axis);
}

std::int64_t Drafter::node_rows(OpId id) const {
  return (width(id, Axis::Group) - 1) * mesh_.rows_per_group() + width(id, Axis::NodeY);
}

void Drafter::begin(std::size_t index, OpId id) {
  Stream& stream = streams_[index];
  const Op& op = graph_.ops[id.index];
  stream.ops.push_back(id);
  stream.kinds += stream.kinds.empty() ? "" : "+";
  stream.kinds += op.info->name;
  const bool is_matrix = op.info->group == graph::OpGroup::Matrix;
  if (!stream.split.has_value() || (is_matrix && !stream.has_matrix)) {
    stream.split = op_plan(id).split.split();
  }
  stream.has_matrix = stream.has_matrix || is_matrix;
  stream.rows = std::max(stream.rows, node_rows(id));
  stream.columns = std::max(stream.columns, width(id, Axis::NodeX));
  for (const auto& input : op.inputs) {
    if (input.has_value() && is_in_registers(*input)) {
      stream.unread.erase(root(*input).index);
    }
    if (!input.has_value() || is_in_registers(*input)) {
      continue;
    }
    stream.read_values.insert(input->index);
    stream.reads.insert(storage(*input));
    if (producer_[input->index].has_value()) {
      stream.after.insert(*producer_[input->index]);
    }
  }
}

// --- stages ---
void Drafter::add_stage(OpId id, const Stage& stage, std::optional<std::int64_t> panel,
                        std::size_t stream) {
  const auto is_at_hand = [&](ValueId input) { return is_in_registers(input); };
  NodeWork& work = streams_[stream].work;
  work = sum(work, work_.stage_work(id, stage, panel, is_at_hand, streams_[stream].has_matrix));
}

bool Drafter::reads_any(const Stage& stage, const std::vector<graph::TensorRef>& tensors) {
  return std::any_of(stage.operands.begin(), stage.operands.end(), [&](const Operand& operand) {
    return operand.use == graph::OperandUse::Read &&
           std::find(tensors.begin(), tensors.end(), operand.tensor) != tensors.end();
  });
}

void Drafter::run_stages(OpId id, std::size_t stream, std::optional<std::int64_t> panel) {
  scratch_.clear();
  run_stages_from(0, id, stream, panel);
}

void Drafter::run_stages_from(std::size_t first, OpId id, std::size_t stream,
                              std::optional<std::int64_t> panel) {
  partial_.clear();
  std::vector<graph::TensorRef> sums;  // that go on in the next micro-batch
  const std::vector<Stage>& stages = op_plan(id).split.nest().stages;
  for (std::size_t i = first; i < stages.size(); ++i) {
    const Stage& stage = stages[i];
    if (reads_any(stage, sums)) {
      open_[id.index].rest = i;
      open_[id.index].scratch = scratch_;
      break;
    }
    if (reads_any(stage, partial_)) {
      stream = end_partials(id, stream);
    }
    add_stage(id, stage, panel, stream);
    touch_scratch(id, stage, stream);
    for (const Operand& operand : stage.operands) {
      if (operand.use != graph::OperandUse::Write) {
        continue;
      }
      if (goes_on(id, operand.tensor)) {
        sums.push_back(operand.tensor);
        add_to_sum(id, operand.tensor);
      } else if (work_.is_written_in_parts(id, stage, operand) && !is_early(id, operand.tensor)) {
        partial_.push_back(operand.tensor);
      }
    }
  }
  finish_op(id, stream);
}

void Drafter::touch_scratch(OpId id, const Stage& stage, std::size_t stream) {
  for (const Operand& operand : stage.operands) {
    if (operand.tensor.kind != TensorKind::Scratch) {
      continue;
    }
    if (!scratch_.contains(operand.tensor.index)) {
      const Bytes bytes = graph::bytes(stage, operand, op_plan(id).split.busiest(), Format::F32);
      scratch_[operand.tensor.index] = add_buffer(fmt_scratch(id, operand.tensor.index), bytes);
      if (goes_on(id, operand.tensor)) {
        const BufferId sum = scratch_[operand.tensor.index];
        draft_.buffers[sum].is_carried = draft_.buffers[sum].is_sum = true;
        open_[id.index].sums.push_back({.tensor = operand.tensor, .parts = sum});
      }
    }
    const BufferId buffer = scratch_[operand.tensor.index];
    (operand.use == graph::OperandUse::Write ? streams_[stream].writes : streams_[stream].reads)
        .insert(buffer);
  }
}

std::string Drafter::fmt_scratch(OpId id, int index) const {
  const Op& op = graph_.ops[id.index];
  const std::string name =
      op.outputs.front().has_value() ? value(*op.outputs.front()).name : std::string(op.info->name);
  return name + ":scratch" + std::to_string(index);
}

std::size_t Drafter::end_partials(OpId id, std::size_t stream) {
  const Op& op = graph_.ops[id.index];
  for (const graph::TensorRef& tensor : partial_) {
    if (tensor.kind == TensorKind::Output) {
      const auto& slot = op.outputs[static_cast<std::size_t>(tensor.index)];
      if (slot.has_value()) {
        begin_storage(*slot);
        streams_[stream].writes.insert(storage(*slot));
        streams_[stream].stored.push_back(*slot);
      }
    }
  }
  // Later stages read its operands again: what is only in registers has to be stored.
  for (const auto& input : op.inputs) {
    if (input.has_value() && is_in_registers(*input)) {
      streams_[stream].unread.insert(root(*input).index);
    }
  }
  const auto compute = flush(stream);
  if (const auto sums = open_.find(id.index); sums != open_.end()) {
    sums->second.is_in_phases = true;
  }
  const std::size_t first_sum = draft_.phases.size();
  std::set<DraftId> sums;
  for (const graph::TensorRef& tensor : partial_) {
    if (const auto sum = emit_combine(id, tensor, compute)) {
      sums.insert(*sum);
    }
  }
  if (join_sums(first_sum)) {
    sums = {first_sum};
  }
  partial_.clear();
  const std::size_t next = streams_.size();
  streams_.emplace_back();
  begin(next, id);
  use_fetched(streams_[next]);
  streams_[next].after.insert(sums.begin(), sums.end());
  if (compute.has_value()) {
    streams_[next].after.insert(*compute);
  }
  return next;
}

bool Drafter::join_sums(std::size_t first) {
  const auto way = [](const program::Move& move) {
    program::Move same = move;
    same.tensor.clear();
    same.pattern.bytes = Bytes(0);
    return same;
  };
  for (std::size_t i = first; i < draft_.phases.size(); ++i) {
    const auto& moves = std::get<Transfer>(draft_.phases[i].phase.body).moves;
    const auto& others = std::get<Transfer>(draft_.phases[first].phase.body).moves;
    if (!std::equal(moves.begin(), moves.end(), others.begin(), others.end(),
                    [&](const auto& a, const auto& b) { return way(a) == way(b); })) {
      return false;
    }
  }
  if (draft_.phases.size() < first + 2) {
    return draft_.phases.size() == first + 1;
  }
  DraftPhase& joined = draft_.phases[first];
  auto& moves = std::get<Transfer>(joined.phase.body).moves;
  for (std::size_t i = first + 1; i < draft_.phases.size(); ++i) {
    const DraftPhase& other = draft_.phases[i];
    const auto& more = std::get<Transfer>(other.phase.body).moves;
    for (std::size_t k = 0; k < moves.size(); ++k) {
      moves[k].pattern.bytes += more[k].pattern.bytes;
    }
    for (auto member : {&Phase::reads, &Phase::writes}) {
      auto& list = joined.phase.*member;
      list.insert(list.end(), (other.phase.*member).begin(), (other.phase.*member).end());
    }
    joined.reads.insert(joined.reads.end(), other.reads.begin(), other.reads.end());
    joined.writes.insert(joined.writes.end(), other.writes.begin(), other.writes.end());
  }
  for (auto& producer : producer_) {
    if (producer.has_value() && *producer > first) {
      producer = first;
    }
  }
  draft_.phases.resize(first + 1);
  return true;
}

void Drafter::begin_storage(ValueId id) {
  if (!storage_[id.index].has_value()) {
    const auto in_place = in_place_of(id);
    storage_[id.index] = in_place.has_value() ? *in_place : add_storage(id);
  }
}

std::optional<BufferId> Drafter::in_place_of(ValueId id) const {
  for (const graph::Update& update : graph_.updates) {
    const ValueId target = update.target;
    if (root(update.value) != id || plan_.held[target.index] != plan_.held[id.index] ||
        !uses_.definition[id.index].has_value()) {
      continue;
    }
    const auto& readers = uses_.readers[target.index];
    const bool is_read_later =
        !readers.empty() && readers.back().index > uses_.definition[id.index]->index;
    if (!is_read_later && update.value == id) {
      return storage_[target.index];
    }
  }
  return std::nullopt;
}

std::optional<DraftId> Drafter::emit_combine(OpId id, const graph::TensorRef& tensor,
                                             std::optional<DraftId> compute,
                                             std::optional<BufferId> given) {
  const Op& op = graph_.ops[id.index];
  const OpPlan& plan = op_plan(id);
  std::optional<ValueId> result;
  Combine what;
  if (tensor.kind == TensorKind::Output) {
    result = op.outputs[static_cast<std::size_t>(tensor.index)];
    if (!result.has_value()) {
      return std::nullopt;
    }
    what = output_combine(id, tensor);
  } else {
    what = scratch_combine(id, tensor);
  }
  what.raw[program::Axis::Micro] = what.stored[program::Axis::Micro];
  DraftPhase draft;
  draft.is_forward = op.phase == graph::Phase::Forward;
  draft.block = block_of(op.module);
  draft.phase.region = mesh_.region;
  std::vector<program::Move> moves = combine(what, plan.split, mesh_, machine_);
  const auto over_replicas =
      result.has_value() ? take_sum_over_replicas(value(*result), moves) : std::nullopt;
  if (given.has_value() && result.has_value()) {
    if (moves.empty() && !over_replicas.has_value()) {
      return take_sum(id, *result, *given, *compute);
    }
    begin_storage(*result);
  }
  draft.phase.body = Transfer{.moves = std::move(moves)};
  draft.phase.reads = draft.phase.writes = {what.tensor};
  if (compute.has_value()) {
    draft.phase.after = {{static_cast<std::uint32_t>(*compute)}};
  }
  const BufferId parts =
      given.has_value() ? *given
      : result.has_value()
          ? add_buffer(what.tensor + ":parts",
                       program::slice_bytes(what.raw.without_partials(), what.shape, what.format))
          : scratch_[tensor.index];
  draft.reads = {parts};
  draft.writes = {parts};
  if (compute.has_value() && !given.has_value()) {
    draft_.phases[*compute].writes.push_back(parts);
  }
  if (result.has_value()) {
    draft.writes.push_back(storage(*result));
  }
  const bool has_moves = !std::get<Transfer>(draft.phase.body).moves.empty();
  const auto added = has_moves ? std::optional(add_phase(std::move(draft))) : compute;
  if (result.has_value()) {
    producer_[result->index] = added;
  }
  if (over_replicas.has_value()) {
    put_in_bucket(*result, *over_replicas, parts, has_moves);
  }
  return added;
}

}  // namespace dojo::place::internal
