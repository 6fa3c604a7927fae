#include "dojo/place/internal/drafter.h"

#include <algorithm>

#include "dojo/graph/op_table.h"

namespace dojo::place::internal {

using graph::Op;
using graph::Value;
using graph::ValueKind;
using program::Axis;
using program::Layout;
using program::Sharing;
using program::Transfer;

Draft Drafter::run() {
  place_leaves();
  draft_.lead =
      stages_ != nullptr ? std::min(mesh_.micro_batches, mesh_.stage_count() - stage_) : 1;
  if (mesh_.micro_batches > 1) {
    draft_in_turns();
  } else {
    add_ingest();
    for (const OpId op : order_of_ops()) {
      draft_op(op);
    }
  }
  flush_all();
  flush_buckets();
  copy_updates();
  send_onward();
  for (const graph::Output& output : graph_.outputs) {
    const auto buffer = storage_[root(output.value).index];
    if (buffer.has_value() && is_held_here(root(output.value))) {
      draft_.buffers[*buffer].is_result = true;
      keep_of_all_samples(output.value, *buffer);
    }
  }
  mark_carried();
  for (DraftId i = 0; i < draft_.phases.size(); ++i) {
    draft_.order.push_back(i);
  }
  return std::move(draft_);
}

BufferId Drafter::add_storage(ValueId id) {
  const BufferId buffer = add_buffer(value(id).name, held_bytes(id) * times_held(id));
  draft_.buffers[buffer].is_carried = times_held(id) > 1;
  draft_.buffers[buffer].is_alike = is_alike(id);
  const Layout& layout = plan_.held[id.index];
  const auto copies = [&](Axis axis) {
    return layout[axis].sharing == Sharing::Replicated ? mesh_.places(axis) : 1;
  };
  // Of copies in groups alone no line of neighbours has one.
  draft_.buffers[buffer].copies_y =
      copies(Axis::NodeY) > 1 ? copies(Axis::Group) * copies(Axis::NodeY) : 1;
  draft_.buffers[buffer].copies_x = copies(Axis::NodeX);
  return buffer;
}

// --- leaves ---
bool Drafter::is_streamed(ValueId id) const {
  if (!machine_.dram.has_value()) {
    return false;
  }
  const auto& readers = uses_.readers[id.index];
  return std::all_of(readers.begin(), readers.end(), [&](OpId op) {
    const auto& inputs = graph_.ops[op.index].inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].has_value() || inputs[i]->index != id.index) {
        continue;
      }
      const Fetch one = fetches_.of(op, static_cast<int>(i));
      if (op_plan(op).is_alias || !one.is_gathered || !can_be_panels(one)) {
        return false;
      }
    }
    return true;
  });
}

void Drafter::place_leaves() {
  std::int64_t bytes = 0;  // of the whole step
  std::int64_t each = 0;
  for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
    const ValueId id{i};
    const Value& leaf = value(id);
    if (leaf.kind == ValueKind::Op || !is_held_here(id)) {
      continue;
    }
    const bool is_data = leaf.kind == ValueKind::Input && !leaf.shape.empty();
    const Bytes held = is_data && is_streamed(id) ? Bytes(0) : held_bytes(id) * times_held(id);
    storage_[i] = add_buffer(leaf.name, held, !plan_.in_memory[i]);
    if (is_data) {
      draft_.buffers.back().copies_backward = draft_.lead;
    }
    draft_.buffers.back().is_statistic = is_statistic(id);
    if (is_data) {  // the next step's data come in while this step reads its own
      ingested_.push_back(add_buffer(leaf.name + ":next", held, true));
      ingest_.tensors.push_back(leaf.name);
      const Layout& layout = plan_.held[i];
      Layout replica;
      replica[Axis::Replica] = layout[Axis::Replica];
      bytes += graph::stored_bytes(leaf).count();
      each += program::slice_bytes(replica, leaf.shape, leaf.format).count();
    }
  }
  place_arrivals();
  ingest_.bytes = Bytes((bytes + mesh_.micro_batches - 1) / mesh_.micro_batches);
  ingest_.bytes_per_replica = Bytes((each + mesh_.micro_batches - 1) / mesh_.micro_batches);
}

void Drafter::add_ingest() {
  if (ingest_.tensors.empty()) {
    return;
  }
  DraftPhase phase;
  phase.phase.region = mesh_.region;
  phase.phase.writes = ingest_.tensors;
  phase.phase.body = std::move(ingest_);
  phase.writes = std::move(ingested_);
  add_phase(std::move(phase));
}

void Drafter::flush_all() {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    flush(i);
  }
}

bool Drafter::is_statistic(ValueId id) const {
  const auto& readers = uses_.readers[id.index];
  return value(id).kind == ValueKind::Buffer && !readers.empty() &&
         std::all_of(readers.begin(), readers.end(), [&](OpId reader) {
           return graph_.ops[reader.index].info->group == graph::OpGroup::Normalisation;
         });
}

std::vector<OpId> Drafter::order_of_ops() const {
  std::vector<OpId> order;
  std::vector<bool> is_done(graph_.ops.size(), false);
  std::map<std::uint32_t, std::vector<OpId>> waiting;  // by the op that has to be done first
  const auto take = [&](OpId id) {
    order.push_back(id);
    is_done[id.index] = true;
  };
  for (std::uint32_t i = 0; i < graph_.ops.size() && mesh_.replicas.count == 1; ++i) {
    if (graph_.ops[i].info->group == graph::OpGroup::Update) {
      if (const auto before = first_not_done(OpId{i}, is_done)) {
        waiting[before->index].push_back(OpId{i});
      }
    }
  }
  for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
    if (is_done[i]) {
      continue;
    }
    take(OpId{i});
    const auto freed = waiting.extract(i);
    for (const OpId update : freed.empty() ? std::vector<OpId>{} : freed.mapped()) {
      const auto before = first_not_done(update, is_done);
      if (before.has_value()) {
        waiting[before->index].push_back(update);
      } else if (!is_done[update.index]) {
        take(update);
      }
    }
  }
  return order;
}

std::optional<OpId> Drafter::first_not_done(OpId update, const std::vector<bool>& is_done) const {
  for (const auto& input : graph_.ops[update.index].inputs) {
    if (!input.has_value()) {
      continue;
    }
    const auto& made = uses_.definition[input->index];
    if (made.has_value() && !is_done[made->index]) {
      return made;
    }
    if (value(*input).kind == ValueKind::Weight || value(*input).kind == ValueKind::State) {
      if (const auto reader = reader_not_done(*input, is_done)) {
        return reader;
      }
    }
  }
  return std::nullopt;
}

std::optional<OpId> Drafter::reader_not_done(ValueId id, const std::vector<bool>& is_done) const {
  for (const OpId reader : uses_.readers[id.index]) {
    if (graph_.ops[reader.index].info->group == graph::OpGroup::Update) {
      continue;
    }
    if (!is_done[reader.index]) {
      return reader;
    }
    if (op_plan(reader).is_alias) {
      const ValueId alias = *graph_.ops[reader.index].outputs.front();
      if (const auto later = reader_not_done(alias, is_done)) {
        return later;
      }
    }
  }
  return std::nullopt;
}

// --- states in DRAM ---
std::vector<ValueId> Drafter::states_in_memory(OpId id) const {
  std::vector<ValueId> states;
  for (const auto& input : graph_.ops[id.index].inputs) {
    if (input.has_value() && plan_.in_memory[input->index]) {
      states.push_back(*input);
    }
  }
  return states;
}

DraftId Drafter::move_states(const std::vector<ValueId>& states, bool is_load,
                             std::optional<DraftId> after) {
  DraftPhase draft;
  Transfer transfer;
  for (const ValueId state : states) {
    const Bytes bytes = held_bytes(state);
    transfer.moves.push_back(
        {.tensor = value(state).name,
         .scope = program::Scope::Memory,
         .region = mesh_.region,
         .pattern = is_load ? machine::scatter_from_edge(machine::Side::West, bytes)
                            : machine::gather_to_edge(machine::Side::West, bytes)});
    draft.phase.reads.push_back(value(state).name);
    (is_load ? draft.writes : draft.reads).push_back(storage(state));
  }
  draft.phase.region = mesh_.region;
  draft.phase.body = std::move(transfer);
  if (after.has_value()) {
    draft.phase.after = {{static_cast<std::uint32_t>(*after)}};
  }
  draft.beside = is_load ? last_compute() : std::nullopt;
  return add_phase(std::move(draft));
}

// --- one op ---
void Drafter::draft_op(OpId id) {
  const Op& op = graph_.ops[id.index];
  const OpPlan& plan = op_plan(id);
  if (plan.is_alias) {
    alias(*op.inputs.front(), *op.outputs.front());
    return;
  }
  if (!is_run_here(id)) {
    return;
  }
  receive(id);
  make_inputs_ready(id);
  transfers_.clear();
  landings_.clear();
  const std::vector<ValueId> states = states_in_memory(id);
  if (!states.empty()) {
    transfers_.push_back(move_states(states, true, std::nullopt));
  }
  begin_sums(id);
  const Panels panels = fetch_operands(id, transfers_, landings_);
  const std::size_t stream = join_streams(id);
  use_fetched(streams_[stream]);
  streams_[stream].pipelined.insert(panels.transfers.begin(), panels.transfers.end());
  run_stages(id, stream, panels.block);
  if (!states.empty()) {
    flush(stream);
    end_states(id, states);
  }
}

// An update takes its states back. Else nothing has changed: who reads them next has them come
// anew, to other bytes.
void Drafter::end_states(OpId id, const std::vector<ValueId>& states) {
  if (graph_.ops[id.index].info->group == graph::OpGroup::Update) {
    move_states(states, false, last_compute());
    return;
  }
  for (const ValueId state : states) {
    storage_[state.index] = add_buffer(value(state).name, held_bytes(state));
  }
}

void Drafter::alias(ValueId from, ValueId to) {
  storage_[to.index] = storage_[from.index];
  producer_[to.index] = producer_[from.index];
  if (stream_of_[from.index].has_value()) {
    open(to, *stream_of_[from.index]);
  }
}

void Drafter::make_inputs_ready(OpId id) {
  const Op& op = graph_.ops[id.index];
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    if (op.inputs[i].has_value() && buckets_.holds(root(*op.inputs[i]))) {
      flush_buckets();
    }
    if (!op.inputs[i].has_value() || !stream_of_[op.inputs[i]->index].has_value()) {
      continue;
    }
    const bool has_to_move = !fetches_.of(id, static_cast<int>(i)).is_empty();
    if (!is_in_registers(*op.inputs[i]) || has_to_move) {
      flush(*stream_of_[op.inputs[i]->index]);
    }
  }
}

Draft draft_phases(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
                   const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches) {
  return Drafter(graph, plan, mesh, machine, panel_budget, fetches).run();
}

Draft draft_stage(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
                  const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches,
                  const StagePlan& stages, int stage) {
  return Drafter(graph, plan, mesh, machine, panel_budget, fetches, &stages, stage).run();
}

}  // namespace dojo::place::internal
