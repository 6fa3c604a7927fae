// Of Drafter: micro-batches. What runs for each of them is drafted once; sums over samples stay
// open until all have run.
#include <algorithm>

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/drafter.h"

namespace dojo::place::internal {

using graph::Op;
using graph::Stage;
using graph::TensorKind;
using graph::TensorRef;
using program::Axis;
using program::Compute;
using program::Layout;
using program::Sharing;
using program::Transfer;

namespace {

// Sums of fewer bytes a node stay in SRAM where states lie in DRAM: a transfer each is not worth
// it.
constexpr std::int64_t kLeastInMemory = 1024;

}  // namespace

void Drafter::draft_in_turns() {
  const std::vector<OpId> order = order_of_ops();
  turn_ = Turn::Before;
  for (const OpId op : order) {
    const graph::EarlyOutput* const early = early_output_of(graph_.ops[op.index], uses_);
    if (turn_of(op) == Turn::Before) {
      draft_op(op);
    } else if (early != nullptr && is_run_here(op)) {
      draft_early(op, *early);
    }
  }
  flush_all();
  send_onward();
  turn_ = Turn::Each;
  last_compute_.reset();
  add_ingest();
  draft_half(order);
  if (stages_ != nullptr) {
    is_backward_half_ = true;
    last_compute_.reset();
    draft_half(order);
    is_backward_half_ = false;
  }
  turn_ = Turn::After;
  last_compute_.reset();
  for (const OpId op : order) {
    if (open_.contains(op.index)) {
      finish_sums(op);
    } else if (turn_of(op) == Turn::After) {
      draft_op(op);
    }
  }
}

// Of a pipeline's stage the half at hand, else all that runs for each micro-batch.
void Drafter::draft_half(const std::vector<OpId>& order) {
  for (const OpId op : order) {
    if (turn_of(op) == Turn::Each && is_in_half(op)) {
      draft_op(op);
    }
  }
  flush_all();
  send_onward();
}

// --- sums that are known before ---
bool Drafter::is_early(OpId id, const TensorRef& tensor) const {
  if (turn_of(id) != Turn::Each || tensor.kind != TensorKind::Output) {
    return false;
  }
  const graph::EarlyOutput* const early = early_output_of(graph_.ops[id.index], uses_);
  return early != nullptr && early->output == tensor.index;
}

void Drafter::draft_early(OpId id, const graph::EarlyOutput& sum) {
  const Op& op = graph_.ops[id.index];
  const SplitNest& split = op_plan(id).split;
  const ValueId result = *op.outputs[static_cast<std::size_t>(sum.output)];
  const Stage& stage = *writing_of(split.nest(), sum.output)->stage;
  DraftPhase draft;
  Compute compute{.ops = {id},
                  .kinds = std::string(op.info->name),
                  .module = op.module,
                  .part = op.phase,
                  .split = split.split()};
  compute.work.points =
      graph::work(split.nest(), stage, split.busiest()).points * mesh_.micro_batches;
  compute.work.total_points = graph::work(split.nest(), stage).points;
  compute.work.vector_ops = compute.work.points;
  compute.work.stored = Bytes(bytes_of(Format::F32));
  std::set<DraftId> after;
  for (const int operand : sum.operands) {
    const auto& input = op.inputs[static_cast<std::size_t>(operand)];
    if (!input.has_value()) {
      continue;
    }
    if (stream_of_[input->index].has_value()) {
      flush(*stream_of_[input->index]);
    }
    std::vector<BufferId> landings;
    if (Fetch one = fetches_.of(id, operand); !one.is_empty()) {
      after.insert(emit_fetch(id, *input, std::move(one), 1, landings));
    }
    if (producer_[input->index].has_value()) {
      after.insert(*producer_[input->index]);
    }
    draft.reads.insert(draft.reads.end(), landings.begin(), landings.end());
    draft.reads.push_back(storage(*input));
    draft.phase.reads.push_back(value(*input).name);
    compute.work.loaded += Bytes(compute.work.points * bytes_of(value(*input).format));
  }
  for (const DraftId one : after) {
    draft.phase.after.push_back({static_cast<std::uint32_t>(one)});
  }
  begin_storage(result);
  draft.phase.region = mesh_.lines(node_rows(id), width(id, Axis::NodeX));
  draft.phase.body = std::move(compute);
  draft.phase.writes = {value(result).name};
  draft.writes = {storage(result)};
  std::sort(draft.reads.begin(), draft.reads.end());
  const DraftId added = add_phase(std::move(draft));
  emit_combine(id, {TensorKind::Output, sum.output}, added);
}

// --- sums over samples ---
Layout Drafter::raw_of(OpId id, const TensorRef& tensor) const {
  return tensor.kind == TensorKind::Output ? op_plan(id).raw[static_cast<std::size_t>(tensor.index)]
                                           : scratch_combine(id, tensor).raw;
}

bool Drafter::goes_on(OpId id, const TensorRef& tensor) const {
  if (turn_of(id) != Turn::Each || plan_.turn.empty() || tensor.kind == TensorKind::Input) {
    return false;
  }
  const bool is_there =
      tensor.kind == TensorKind::Scratch ||
      graph_.ops[id.index].outputs[static_cast<std::size_t>(tensor.index)].has_value();
  return is_there && !is_early(id, tensor) &&
         raw_of(id, tensor)[Axis::Micro].sharing == Sharing::Partial;
}

void Drafter::begin_sums(OpId id) {
  const auto& outputs = graph_.ops[id.index].outputs;
  for (std::size_t slot = 0; slot < outputs.size(); ++slot) {
    const TensorRef tensor{TensorKind::Output, static_cast<int>(slot)};
    if (!goes_on(id, tensor)) {
      continue;
    }
    const graph::Value& result = value(*outputs[slot]);
    const Bytes bytes =
        program::slice_bytes(raw_of(id, tensor).without_partials(), result.shape, Format::F32);
    OpenSums::Sum sum{.tensor = tensor, .parts = add_buffer(result.name + ":parts", bytes)};
    draft_.buffers[sum.parts].is_sum = true;
    if (mesh_.streams_states && bytes >= Bytes(kLeastInMemory)) {
      sum.in_memory = bytes;
      transfers_.push_back(move_sum(id, sum, true));
      landings_.push_back(sum.parts);
    } else {
      draft_.buffers[sum.parts].is_carried = true;
    }
    open_[id.index].sums.push_back(sum);
  }
}

DraftId Drafter::move_sum(OpId id, const OpenSums::Sum& sum, bool is_load) {
  const auto slot = static_cast<std::size_t>(sum.tensor.index);
  const std::string& name = value(*graph_.ops[id.index].outputs[slot]).name;
  DraftPhase draft;
  const machine::Pattern pattern =
      is_load ? machine::scatter_from_edge(machine::Side::West, sum.in_memory)
              : machine::gather_to_edge(machine::Side::West, sum.in_memory);
  draft.phase.region = mesh_.region;
  draft.phase.body = Transfer{.moves = {{.tensor = name,
                                         .scope = program::Scope::Memory,
                                         .region = mesh_.region,
                                         .pattern = pattern}}};
  (is_load ? draft.writes : draft.reads).push_back(sum.parts);
  if (sum.made_by.has_value()) {
    draft.phase.after = {{static_cast<std::uint32_t>(*sum.made_by)}};
  }
  draft.beside = is_load ? last_compute() : std::nullopt;
  return add_phase(std::move(draft));
}

bool Drafter::has_new_sums(OpId id) const {
  const auto found = open_.find(id.index);
  return found != open_.end() && !found->second.is_in_phases &&
         std::any_of(found->second.sums.begin(), found->second.sums.end(),
                     [](const OpenSums::Sum& sum) { return !sum.made_by.has_value(); });
}

void Drafter::add_to_sum(OpId id, const TensorRef& tensor) {
  for (OpenSums::Sum& sum : open_.at(id.index).sums) {
    sum.is_added_to = sum.is_added_to || sum.tensor == tensor;
  }
}

void Drafter::end_sums(OpId id, DraftId compute) {
  const auto found = open_.find(id.index);
  if (found == open_.end()) {
    return;
  }
  for (OpenSums::Sum& sum : found->second.sums) {
    if (sum.made_by.has_value() || !sum.is_added_to) {
      continue;
    }
    draft_.phases[compute].reads.push_back(sum.parts);
    draft_.phases[compute].writes.push_back(sum.parts);
    sum.made_by = compute;
    if (sum.in_memory > Bytes(0)) {
      sum.made_by = move_sum(id, sum, false);
    }
  }
}

void Drafter::finish_sums(OpId id) {
  const OpenSums open = open_.at(id.index);
  std::set<DraftId> made;
  for (OpenSums::Sum sum : open.sums) {
    if (sum.in_memory > Bytes(0)) {
      const std::string name = draft_.buffers[sum.parts].name;
      sum.parts = add_buffer(name, sum.in_memory);
      sum.made_by = move_sum(id, sum, true);
    }
    if (const auto added = emit_combine(id, sum.tensor, sum.made_by, sum.parts)) {
      made.insert(*added);
    }
  }
  if (open.rest > 0) {
    run_rest(id, open, made);
  }
}

DraftId Drafter::take_sum(OpId id, ValueId result, BufferId parts, DraftId made_by) {
  if (value(result).format != Format::F32) {
    return round_sum(id, result, parts, made_by);
  }
  storage_[result.index] = parts;
  producer_[result.index] = made_by;
  return made_by;
}

DraftId Drafter::round_sum(OpId id, ValueId result, BufferId parts, DraftId made_by) {
  const Op& op = graph_.ops[id.index];
  const Layout& layout = plan_.held[result.index];
  begin_storage(result);
  DraftPhase draft;
  Compute compute{.ops = {id},
                  .kinds = std::string(op.info->name),
                  .module = op.module,
                  .part = op.phase,
                  .split = op_plan(id).split.split()};
  compute.work.loaded = program::slice_bytes(layout, value(result).shape, Format::F32);
  compute.work.stored = compute.work.rounded = held_bytes(result);
  compute.work.points = program::slice_elements(layout, value(result).shape);
  compute.work.total_points = graph::element_count(value(result).shape);
  draft.phase.region = mesh_.region;
  draft.phase.body = std::move(compute);
  draft.phase.writes = {value(result).name};
  draft.phase.after = {{static_cast<std::uint32_t>(made_by)}};
  draft.reads = {parts};
  draft.writes = {storage(result)};
  const DraftId added = add_phase(std::move(draft));
  producer_[result.index] = added;
  return added;
}

// The stages behind the sums, which do not run over samples.
void Drafter::run_rest(OpId id, const OpenSums& open, const std::set<DraftId>& after) {
  const Op& op = graph_.ops[id.index];
  const std::size_t index = streams_.size();
  Stream& stream = streams_.emplace_back();
  stream.ops = {id};
  stream.kinds = std::string(op.info->name);
  stream.split = op_plan(id).split.split();
  stream.rows = node_rows(id);
  stream.columns = width(id, Axis::NodeX);
  stream.after = after;
  const std::vector<Stage>& stages = op_plan(id).split.nest().stages;
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    const TensorRef tensor{TensorKind::Input, static_cast<int>(i)};
    const bool is_read =
        std::any_of(stages.begin() + static_cast<std::ptrdiff_t>(open.rest), stages.end(),
                    [&](const Stage& stage) { return reads_any(stage, {tensor}); });
    if (op.inputs[i].has_value() && is_read) {
      stream.read_values.insert(op.inputs[i]->index);
      stream.reads.insert(storage(*op.inputs[i]));
      if (producer_[op.inputs[i]->index].has_value()) {
        stream.after.insert(*producer_[op.inputs[i]->index]);
      }
    }
  }
  scratch_ = open.scratch;
  run_stages_from(open.rest, id, index, std::nullopt);
}

// --- memory ---
void Drafter::mark_carried() {
  std::vector<bool> is_before(draft_.buffers.size(), false);
  for (const DraftPhase& phase : draft_.phases) {
    for (const auto* list : {&phase.reads, &phase.writes}) {
      for (const BufferId buffer : *list) {
        if (phase.turn == Turn::Before) {
          is_before[buffer] = true;
        } else if (phase.turn == Turn::Each && is_before[buffer]) {
          draft_.buffers[buffer].is_carried = true;
        }
      }
    }
  }
}

void Drafter::keep_of_all_samples(ValueId id, BufferId buffer) {
  const bool is_of_one = times_held(root(id)) == 1;
  if (is_of_one && plan_.held[id.index][Axis::Micro].sharing == Sharing::Sliced) {
    draft_.buffers[buffer].bytes = draft_.buffers[buffer].bytes * mesh_.micro_batches;
    draft_.buffers[buffer].is_carried = true;
  }
}

}  // namespace dojo::place::internal
