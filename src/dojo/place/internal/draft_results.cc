#include "dojo/place/internal/drafter.h"

#include <algorithm>

#include "dojo/graph/op_table.h"

namespace dojo::place::internal {

using graph::Op;
using graph::Operand;
using graph::Stage;
using graph::TensorKind;
using program::Axis;
using program::Compute;
using program::Layout;
using program::Sharing;
using program::Transfer;

// --- sums of gradients over replicas, several in one transfer ---
void Drafter::put_in_bucket(ValueId id, const program::Move& move, BufferId parts, bool has_moves) {
  Bucket::Entry entry{.value = id, .after = *producer_[id.index], .buffers = {storage(id)}};
  if (!has_moves) {
    entry.buffers.push_back(parts);
  }
  if (const auto full = buckets_.put(entry, move)) {
    send(*full);
  }
}

void Drafter::send(const Bucket& bucket) {
  DraftPhase draft;
  draft.phase.region = mesh_.region;
  draft.phase.body = Transfer{.moves = {bucket.move}};
  std::set<DraftId> after;
  std::set<BufferId> buffers;
  for (const Bucket::Entry& entry : bucket.entries) {
    draft.phase.reads.push_back(value(entry.value).name);
    after.insert(entry.after);
    buffers.insert(entry.buffers.begin(), entry.buffers.end());
  }
  draft.phase.writes = draft.phase.reads;
  for (const DraftId one : after) {
    draft.phase.after.push_back({static_cast<std::uint32_t>(one)});
  }
  draft.reads.assign(buffers.begin(), buffers.end());
  draft.writes = draft.reads;
  const DraftId added = add_phase(std::move(draft));
  for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {  // the sums and views of them
    if (producer_[i].has_value() && bucket.holds(root(ValueId{i}))) {
      producer_[i] = added;
    }
  }
}

void Drafter::flush_buckets() {
  for (const Bucket& bucket : buckets_.take_all()) {
    send(bucket);
  }
}

Combine Drafter::output_combine(OpId id, const graph::TensorRef& tensor) const {
  const OpPlan& plan = op_plan(id);
  const auto slot = static_cast<std::size_t>(tensor.index);
  const graph::Value& result = value(*graph_.ops[id.index].outputs[slot]);
  return {.tensor = result.name,
          .shape = result.shape,
          .format = plan.masked.empty() ? Format::F32 : result.format,
          .raw = plan.raw[slot],
          .stored = plan.stored[slot]};
}

Combine Drafter::scratch_combine(OpId id, const graph::TensorRef& tensor) const {
  const OpPlan& plan = op_plan(id);
  Combine what;
  what.tensor = fmt_scratch(id, tensor.index);
  std::replace(what.tensor.begin(), what.tensor.end(), ':', '.');
  for (const Stage& stage : plan.split.nest().stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use == graph::OperandUse::Write && operand.tensor == tensor) {
        what.shape = operand.shape;
        what.raw = plan.split.written(stage, operand);
      }
    }
  }
  what.stored = what.raw.without_partials();
  return what;
}

void Drafter::finish_op(OpId id, std::size_t stream) {
  const Op& op = graph_.ops[id.index];
  if (!partial_.empty() || has_new_sums(id)) {
    // Everything else that the op made is stored with it.
    store_outputs(id, stream);
    const auto compute = flush(stream);
    for (const graph::TensorRef& tensor : partial_) {
      emit_combine(id, tensor, compute);
    }
    partial_.clear();
    return;
  }
  bool has_fused = false;
  for (const auto& output : op.outputs) {
    has_fused = has_fused || (output.has_value() && value(*output).is_fused);
  }
  store_outputs(id, stream);
  if (!has_fused) {
    flush(stream);
  }
}

void Drafter::store_outputs(OpId id, std::size_t stream) {
  const auto& outputs = graph_.ops[id.index].outputs;
  for (std::size_t slot = 0; slot < outputs.size(); ++slot) {
    const auto& output = outputs[slot];
    if (!output.has_value() || producer_[output->index].has_value() ||
        goes_on(id, {TensorKind::Output, static_cast<int>(slot)})) {
      continue;
    }
    const bool is_partial = std::any_of(partial_.begin(), partial_.end(), [&](const auto& tensor) {
      return tensor.kind == TensorKind::Output &&
             outputs[static_cast<std::size_t>(tensor.index)] == output;
    });
    if (value(*output).is_fused && !is_partial) {
      open(*output, stream);
      streams_[stream].unread.insert(output->index);
      continue;
    }
    begin_storage(*output);
    if (!is_partial) {
      streams_[stream].writes.insert(storage(*output));
      streams_[stream].stored.push_back(*output);
      open(*output, stream);
    }
  }
}

std::optional<DraftId> Drafter::flush(std::size_t index) {
  Stream stream = std::move(streams_[index]);
  streams_[index] = {};
  if (stream.is_empty()) {
    return std::nullopt;
  }
  for (const std::uint32_t unread : stream.unread) {
    materialise(ValueId{unread}, stream);
  }
  DraftPhase draft;
  draft.phase.region = mesh_.lines(stream.rows, stream.columns);
  const Op& op = graph_.ops[stream.ops.front().index];
  Compute compute{.ops = stream.ops,
                  .kinds = stream.kinds,
                  .module = op.module,
                  .part = op.phase,
                  .split = stream.split.value_or(program::Split{}),
                  .work = stream.work};
  for (const DraftId one : stream.pipelined) {
    compute.pipelined.push_back({static_cast<std::uint32_t>(one)});
  }
  draft.is_forward = op.phase == graph::Phase::Forward;
  draft.block = block_of(op.module);
  draft.phase.body = std::move(compute);
  for (const std::uint32_t read : stream.read_values) {
    draft.phase.reads.push_back(value(ValueId{read}).name);
  }
  for (const ValueId stored : stream.stored) {
    draft.phase.writes.push_back(value(stored).name);
  }
  for (const DraftId one : stream.after) {
    draft.phase.after.push_back({static_cast<std::uint32_t>(one)});
  }
  draft.reads.assign(stream.reads.begin(), stream.reads.end());
  draft.writes.assign(stream.writes.begin(), stream.writes.end());
  const DraftId added = add_phase(std::move(draft));
  close(stream, added);
  for (const OpId done : stream.ops) {
    end_sums(done, added);
  }
  return added;
}

void Drafter::materialise(ValueId id, Stream& stream) {
  const Bytes bytes = held_bytes(id);
  storage_[id.index] = add_storage(id);
  stream.writes.insert(storage(id));
  stream.stored.push_back(id);
  stream.work.stored += bytes;
}

void Drafter::close(const Stream& stream, DraftId added) {
  for (const std::uint32_t open_value : stream.values) {
    stream_of_[open_value].reset();
    producer_[open_value] = added;
    storage_[open_value] = storage_[root(ValueId{open_value}).index];
  }
  for (const ValueId stored : stream.stored) {
    producer_[stored.index] = added;
  }
}

void Drafter::copy_updates() {
  for (const graph::Update& update : graph_.updates) {
    const auto from = storage_[update.value.index];
    const auto to = storage_[update.target.index];
    if (from == to || !from.has_value() || !to.has_value()) {
      continue;
    }
    const auto moved = move_update(update);
    DraftPhase draft;
    draft.phase.region = mesh_.region;
    Compute compute;
    compute.kinds = "update";
    compute.part = graph::Phase::Update;
    compute.work.loaded = held_bytes(update.value);
    compute.work.stored = held_bytes(update.target);
    compute.work.points =
        program::slice_elements(plan_.held[update.target.index], value(update.target).shape);
    compute.work.total_points = graph::element_count(value(update.target).shape);
    draft.phase.body = std::move(compute);
    draft.phase.reads = {value(update.value).name};
    draft.phase.writes = {value(update.target).name};
    const auto before = moved.has_value() ? moved : producer_[update.value.index];
    if (before.has_value()) {
      draft.phase.after = {{static_cast<std::uint32_t>(*before)}};
    }
    draft.reads = {*from};
    draft.writes = {*to};
    add_phase(std::move(draft));
  }
}

std::optional<DraftId> Drafter::move_update(const graph::Update& update) {
  const Layout& from = plan_.held[update.value.index];
  const Layout& to = plan_.held[update.target.index];
  Layout whole;
  whole[Axis::Replica] = from[Axis::Replica];
  const bool stays_in_groups =
      from[Axis::Group].sharing == Sharing::Sliced && from[Axis::Group] == to[Axis::Group];
  whole[Axis::Group] = stays_in_groups ? from[Axis::Group] : program::AxisState{};
  if (from == to || from == whole) {
    return std::nullopt;
  }
  const Bytes bytes =
      program::slice_bytes(whole, value(update.value).shape, value(update.value).format);
  DraftPhase draft;
  draft.phase.region = mesh_.region;
  const std::int64_t rows = stays_in_groups ? mesh_.rows_per_group() : mesh_.region.rows();
  draft.phase.body =
      Transfer{.moves = {{.tensor = value(update.value).name,
                          .region = mesh_.lines(rows, mesh_.region.columns()),
                          .pattern = machine::all_gather(machine::Axis::Both, bytes)}},
               .is_fallback = true};
  draft.phase.reads = {value(update.value).name};
  if (producer_[update.value.index].has_value()) {
    draft.phase.after = {{static_cast<std::uint32_t>(*producer_[update.value.index])}};
  }
  draft.reads = {storage(update.value)};
  return add_phase(std::move(draft));
}

}  // namespace dojo::place::internal
