#include "dojo/place/internal/draft.h"

#include <algorithm>
#include <map>
#include <set>

#include "dojo/base/check.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/gradient_buckets.h"
#include "dojo/place/internal/op_work.h"

namespace dojo::place::internal {

using graph::Graph;
using graph::Op;
using graph::Operand;
using graph::Stage;
using graph::TensorKind;
using graph::Value;
using graph::ValueKind;
using program::Axis;
using program::Compute;
using program::Layout;
using program::NodeWork;
using program::Phase;
using program::Sharing;
using program::Transfer;

namespace {

// The module path up to the end of its second number, "layer1.0" or "stages.1.layers.0", where a
// module is inside; else up to its first, "encoder.layer.3"; empty without one.
std::string block_of(const std::string& module) {
  const auto end_of_number = [&](std::size_t from) {
    const auto digit = module.find_first_of("0123456789", from);
    return digit == std::string::npos ? digit : module.find('.', digit);
  };
  if (module.find_first_of("0123456789") == std::string::npos) {
    return {};
  }
  const auto first = end_of_number(0);
  const auto second = first == std::string::npos ? first : end_of_number(first);
  return module.substr(0, second == std::string::npos ? first : second);
}

// Ops whose work is one phase: each reads what the one before leaves in registers.
struct Stream {
  std::vector<OpId> ops;
  std::string kinds;
  std::optional<program::Split> split;
  NodeWork work;
  std::int64_t rows = 1;  // of nodes that work
  std::int64_t columns = 1;
  std::set<DraftId> after;
  std::set<DraftId> pipelined;
  std::set<BufferId> reads;
  std::set<std::uint32_t> read_values;
  std::vector<ValueId> stored;        // written when the phase ends
  std::vector<std::uint32_t> values;  // whose open stream this is
  std::set<std::uint32_t> unread;     // of these, results in registers that no op has taken yet
  std::set<BufferId> writes;
  bool has_matrix = false;
  bool is_empty() const { return ops.empty(); }
};

class Drafter {
 public:
  Drafter(const Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
          const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches)
      : graph_(graph),
        plan_(plan),
        mesh_(mesh),
        machine_(machine),
        panel_budget_(panel_budget),
        fetches_(fetches),
        uses_(graph::uses_of(graph)),
        work_(graph, plan),
        buckets_(mesh, machine) {
    const std::size_t values = graph.values.size();
    storage_.resize(values);
    producer_.resize(values);
    stream_of_.resize(values);
  }

  Draft run() {
    place_leaves();
    for (const OpId op : order_of_ops()) {
      draft_op(op);
    }
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      flush(i);
    }
    flush_buckets();
    copy_updates();
    for (const graph::Output& output : graph_.outputs) {
      if (const auto buffer = storage_[root(output.value).index]) {
        draft_.buffers[*buffer].is_result = true;
      }
    }
    for (DraftId i = 0; i < draft_.phases.size(); ++i) {
      draft_.order.push_back(i);
    }
    return std::move(draft_);
  }

 private:
  const Value& value(ValueId id) const { return graph_.value(id); }
  const OpPlan& op_plan(OpId id) const { return plan_.ops[id.index]; }
  ValueId root(ValueId id) const { return plan_.root[id.index]; }

  BufferId add_buffer(std::string name, Bytes bytes, bool is_pinned = false) {
    draft_.buffers.push_back({.name = std::move(name), .bytes = bytes, .is_pinned = is_pinned});
    return draft_.buffers.size() - 1;
  }
  BufferId storage(ValueId id) const {
    DOJO_CHECK(storage_[id.index].has_value());
    return *storage_[id.index];
  }
  BufferId add_storage(ValueId id) {
    const BufferId buffer = add_buffer(value(id).name, held_bytes(id));
    const Layout& layout = plan_.held[id.index];
    const auto copies = [&](Axis axis) {
      return layout[axis].sharing == Sharing::Replicated ? mesh_.places(axis) : 1;
    };
    draft_.buffers[buffer].copies_y = copies(Axis::Group) * copies(Axis::NodeY);
    draft_.buffers[buffer].copies_x = copies(Axis::NodeX);
    return buffer;
  }

  Bytes held_bytes(ValueId id) const {
    return program::slice_bytes(plan_.held[id.index], value(id).shape, value(id).format);
  }

  // --- leaves ---
  // Lies in the machine's DRAM and is brought from there to the panels of every op that reads it,
  // so that nothing of it stays in SRAM.
  bool is_streamed(ValueId id) const {
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

  void place_leaves() {
    program::Ingest ingest;
    std::vector<BufferId> next;
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      const ValueId id{i};
      const Value& leaf = value(id);
      if (leaf.kind == ValueKind::Op) {
        continue;
      }
      const bool is_data = leaf.kind == ValueKind::Input && !leaf.shape.empty();
      const Bytes held = is_data && is_streamed(id) ? Bytes(0) : held_bytes(id);
      storage_[i] = add_buffer(leaf.name, held, !comes_for_update(id));
      draft_.buffers.back().is_statistic = is_statistic(id);
      if (is_data) {  // the next step's data come in while this step reads its own
        next.push_back(add_buffer(leaf.name + ":next", held, true));
        ingest.tensors.push_back(leaf.name);
        const Layout& layout = plan_.held[i];
        Layout replica;
        replica[Axis::Replica] = layout[Axis::Replica];
        ingest.bytes += graph::stored_bytes(leaf);
        ingest.bytes_per_replica += program::slice_bytes(replica, leaf.shape, leaf.format);
      }
    }
    if (!ingest.tensors.empty()) {
      DraftPhase phase;
      phase.phase.region = mesh_.region;
      phase.phase.writes = ingest.tensors;
      phase.phase.body = std::move(ingest);
      phase.writes = std::move(next);
      draft_.phases.push_back(std::move(phase));
    }
  }

  // Running statistics: a norm's results do not depend on them while it trains.
  bool is_statistic(ValueId id) const {
    const auto& readers = uses_.readers[id.index];
    return value(id).kind == ValueKind::Buffer && !readers.empty() &&
           std::all_of(readers.begin(), readers.end(), [&](OpId reader) {
             return graph_.ops[reader.index].info->group == graph::OpGroup::Normalisation;
           });
  }

  // The Graph's order; updates as soon as they can be, so that no gradient lives longer than it
  // must. Over several replicas gradients wait for company.
  std::vector<OpId> order_of_ops() const {
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

  // What an update has to wait for: its operands, and all that read what it overwrites.
  std::optional<OpId> first_not_done(OpId update, const std::vector<bool>& is_done) const {
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

  // Of the value or of an alias of it; other updates aside, which take turns.
  std::optional<OpId> reader_not_done(ValueId id, const std::vector<bool>& is_done) const {
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
  // A state that one update reads and overwrites where it lies.
  bool comes_for_update(ValueId id) const {
    if (!mesh_.streams_states || value(id).kind != ValueKind::State ||
        uses_.readers[id.index].size() != 1) {
      return false;
    }
    const OpId reader = uses_.readers[id.index].front();
    return graph_.ops[reader.index].info->group == graph::OpGroup::Update &&
           std::any_of(graph_.updates.begin(), graph_.updates.end(), [&](const auto& update) {
             return update.target == id && uses_.definition[update.value.index] == reader &&
                    root(update.value) == update.value &&
                    plan_.held[id.index] == plan_.held[update.value.index];
           });
  }

  std::vector<ValueId> states_in_memory(OpId id) const {
    std::vector<ValueId> states;
    for (const auto& input : graph_.ops[id.index].inputs) {
      if (input.has_value() && value(*input).kind != ValueKind::Op && comes_for_update(*input)) {
        states.push_back(*input);
      }
    }
    return states;
  }

  // One transfer brings all of them, or takes them back.
  DraftId move_states(const std::vector<ValueId>& states, bool is_load,
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
  void draft_op(OpId id) {
    const Op& op = graph_.ops[id.index];
    const OpPlan& plan = op_plan(id);
    if (plan.is_alias) {
      alias(*op.inputs.front(), *op.outputs.front());
      return;
    }
    make_inputs_ready(id);
    transfers_.clear();
    landings_.clear();
    const std::vector<ValueId> states = states_in_memory(id);
    if (!states.empty()) {
      transfers_.push_back(move_states(states, true, std::nullopt));
    }
    const Panels panels = fetch_operands(id, transfers_, landings_);
    const std::size_t stream = join_streams(id);
    use_fetched(streams_[stream]);
    streams_[stream].pipelined.insert(panels.transfers.begin(), panels.transfers.end());
    run_stages(id, stream, panels.block);
    if (!states.empty()) {
      flush(stream);
      move_states(states, false, last_compute());
    }
  }

  // What was fetched for the op at hand.
  void use_fetched(Stream& stream) const {
    stream.after.insert(transfers_.begin(), transfers_.end());
    stream.reads.insert(landings_.begin(), landings_.end());
  }

  void alias(ValueId from, ValueId to) {
    storage_[to.index] = storage_[from.index];
    producer_[to.index] = producer_[from.index];
    if (stream_of_[from.index].has_value()) {
      open(to, *stream_of_[from.index]);
    }
  }

  void open(ValueId id, std::size_t stream) {
    stream_of_[id.index] = stream;
    streams_[stream].values.push_back(id.index);
  }

  bool is_in_registers(ValueId id) const {
    return stream_of_[id.index].has_value() && value(id).is_fused;
  }

  // Stored operands whose phase is still open are finished; so are fused ones that have to move,
  // and sums over replicas that wait for company.
  void make_inputs_ready(OpId id) {
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

  struct Panels {
    std::optional<std::int64_t> block;  // points of k per panel; none: operands arrive whole
    std::vector<DraftId> transfers;
  };

  // What one operand of the op at hand has to be fetched by.
  struct Pending {
    int input = 0;
    ValueId value;
    Fetch fetch;
    DraftId ready = 0;        // the phase that made the data, plus one
    std::int64_t panels = 1;  // that it comes in
  };

  std::vector<Pending> pending_fetches(OpId id) {
    const Op& op = graph_.ops[id.index];
    std::vector<Pending> pending;
    std::set<std::uint32_t> seen;
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      if (!op.inputs[i].has_value() || is_in_registers(*op.inputs[i]) ||
          !seen.insert(op.inputs[i]->index).second) {
        continue;
      }
      Fetch one = fetches_.of(id, static_cast<int>(i));
      if (!one.is_empty()) {
        const auto producer = producer_[op.inputs[i]->index];
        pending.push_back({static_cast<int>(i), *op.inputs[i], std::move(one),
                           producer.has_value() ? *producer + 1 : 0});
      }
    }
    std::stable_sort(pending.begin(), pending.end(),
                     [](const Pending& a, const Pending& b) { return a.ready < b.ready; });
    return pending;
  }

  // Decides what comes in panels: of k into a product, of any loop into the other ops.
  std::optional<std::int64_t> choose_panels(OpId id, std::vector<Pending>& pending) const {
    std::vector<std::pair<int, Bytes>> gathered;
    Bytes sum{};
    for (const Pending& each : pending) {
      if (can_be_panels(each.fetch)) {
        gathered.emplace_back(each.input, each.fetch.landing);
        sum += each.fetch.landing;
      }
    }
    const Bytes buffers = machine_.node.buffers;
    if (const auto block = work_.panel_block(id, sum, panel_budget_, buffers)) {
      for (Pending& each : pending) {
        each.panels = can_be_panels(each.fetch) ? work_.panel_count(id, *block) : 1;
      }
      return block;
    }
    std::vector<int> in_registers;
    const Op& op = graph_.ops[id.index];
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i].has_value() && is_in_registers(*op.inputs[i])) {
        in_registers.push_back(static_cast<int>(i));
      }
    }
    const auto pieces = work_.pieces(id, gathered, in_registers, panel_budget_, buffers);
    for (Pending& each : pending) {
      const bool is_piece = pieces.has_value() && can_be_panels(each.fetch) &&
                            std::find(pieces->operands.begin(), pieces->operands.end(),
                                      each.input) != pieces->operands.end();
      each.panels = is_piece ? pieces->count : 1;
    }
    return std::nullopt;
  }

  // Emits the transfers of all operands, earliest data first.
  Panels fetch_operands(OpId id, std::vector<DraftId>& transfers, std::vector<BufferId>& landings) {
    std::vector<Pending> pending = pending_fetches(id);
    Panels panels;
    panels.block = choose_panels(id, pending);
    // Panels of all operands come in turn, in one phase.
    std::optional<DraftId> in_panels;
    for (Pending& each : pending) {
      if (each.panels > 1 && in_panels.has_value()) {
        add_to_panels(*in_panels, each.value, std::move(each.fetch), landings);
        continue;
      }
      const bool is_panels = each.panels > 1;
      transfers.push_back(emit_fetch(id, each.value, std::move(each.fetch), each.panels, landings));
      if (is_panels) {
        in_panels = transfers.back();
        panels.transfers.push_back(transfers.back());
      }
    }
    return panels;
  }

  BufferId add_landing(ValueId id, Bytes bytes, std::int64_t panels) {
    const std::int64_t kept =
        panels > 1 ? 2 * ((bytes.count() + panels - 1) / panels) : bytes.count();
    return add_buffer(value(id).name + ":fetched", Bytes(kept));
  }

  void add_to_panels(DraftId phase, ValueId id, Fetch fetch, std::vector<BufferId>& landings) {
    auto& transfer = std::get<Transfer>(draft_.phases[phase].phase.body);
    landings.push_back(add_landing(id, fetch.landing, transfer.panels));
    DraftPhase& draft = draft_.phases[phase];
    transfer.moves.insert(transfer.moves.end(), fetch.moves.begin(), fetch.moves.end());
    transfer.is_fallback = transfer.is_fallback || fetch.is_fallback;
    draft.phase.reads.push_back(value(id).name);
    draft.reads.push_back(storage(id));
    draft.writes.push_back(landings.back());
    if (producer_[id.index].has_value()) {
      draft.phase.after.push_back({static_cast<std::uint32_t>(*producer_[id.index])});
    }
  }

  // All that moves inside a replica, but sums.
  static bool can_be_panels(const Fetch& fetch) {
    return std::all_of(fetch.moves.begin(), fetch.moves.end(), [](const program::Move& move) {
      return move.scope == program::Scope::Inside &&
             move.pattern.kind != machine::PatternKind::AllReduce;
    });
  }

  DraftId emit_fetch(OpId reader, ValueId id, Fetch fetch, std::int64_t panels,
                     std::vector<BufferId>& landings) {
    DraftPhase draft;
    const Op& op = graph_.ops[reader.index];
    draft.is_forward = op.phase == graph::Phase::Forward;
    draft.block = block_of(op.module);
    Transfer transfer{
        .moves = std::move(fetch.moves), .panels = panels, .is_fallback = fetch.is_fallback};
    draft.phase.region = mesh_.region;
    draft.phase.body = std::move(transfer);
    draft.phase.reads = {value(id).name};
    std::set<DraftId> after;
    if (producer_[id.index].has_value()) {
      after.insert(*producer_[id.index]);
    }
    const auto last = last_compute();
    if (panels > 1 && last.has_value()) {
      after.insert(*last);  // its buffers hold two panels: it runs beside its reader alone
    } else {
      draft.beside = last;
    }
    for (const DraftId one : after) {
      draft.phase.after.push_back({static_cast<std::uint32_t>(one)});
    }
    landings.push_back(add_landing(id, fetch.landing, panels));
    draft.reads = {storage(id)};
    draft.writes = {landings.back()};
    return add_phase(std::move(draft));
  }

  std::optional<DraftId> last_compute() const { return last_compute_; }

  DraftId add_phase(DraftPhase draft) {
    if (std::holds_alternative<Compute>(draft.phase.body)) {
      last_compute_ = draft_.phases.size();
    }
    draft_.phases.push_back(std::move(draft));
    return draft_.phases.size() - 1;
  }

  // --- streams ---
  // The stream of the op: that of its operands in registers, all of them together.
  std::size_t join_streams(OpId id) {
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

  void merge(std::size_t into, std::size_t from) {
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

  // Parts of the op along a node axis; all places if every one does the same, or makes a result
  // that ends alike everywhere.
  std::int64_t width(OpId id, Axis axis) const {
    const SplitNest& split = op_plan(id).split;
    if (split.on(axis).has_value() && !makes_alike(graph_.ops[id.index], op_plan(id), axis)) {
      return split.on(axis)->cut.parts;
    }
    if (split.is_flat(axis)) {
      return split.split().parts(axis);
    }
    return mesh_.places(axis);
  }

  void begin(std::size_t index, OpId id) {
    Stream& stream = streams_[index];
    const Op& op = graph_.ops[id.index];
    stream.ops.push_back(id);
    stream.kinds += (stream.kinds.empty() ? "" : "+") + std::string(op.info->name);
    const bool is_matrix = op.info->group == graph::OpGroup::Matrix;
    if (!stream.split.has_value() || (is_matrix && !stream.has_matrix)) {
      stream.split = op_plan(id).split.split();
    }
    stream.has_matrix = stream.has_matrix || is_matrix;
    const std::int64_t groups = width(id, Axis::Group);
    stream.rows =
        std::max(stream.rows, (groups - 1) * mesh_.rows_per_group() + width(id, Axis::NodeY));
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
  void add_stage(OpId id, const Stage& stage, std::optional<std::int64_t> panel,
                 std::size_t stream) {
    const auto is_at_hand = [&](ValueId input) { return is_in_registers(input); };
    NodeWork& work = streams_[stream].work;
    work = sum(work, work_.stage_work(id, stage, panel, is_at_hand, streams_[stream].has_matrix));
  }

  static bool reads_any(const Stage& stage, const std::vector<graph::TensorRef>& tensors) {
    return std::any_of(stage.operands.begin(), stage.operands.end(), [&](const Operand& operand) {
      return operand.use == graph::OperandUse::Read &&
             std::find(tensors.begin(), tensors.end(), operand.tensor) != tensors.end();
    });
  }

  // Runs the stages of the op; where a later one reads a sum that is still in parts, the phase ends
  // and the parts are combined first.
  void run_stages(OpId id, std::size_t stream, std::optional<std::int64_t> panel) {
    const OpPlan& plan = op_plan(id);
    partial_.clear();
    scratch_.clear();
    for (const Stage& stage : plan.split.nest().stages) {
      if (reads_any(stage, partial_)) {
        stream = end_partials(id, stream);
      }
      add_stage(id, stage, panel, stream);
      touch_scratch(id, stage, stream);
      for (const Operand& operand : stage.operands) {
        if (operand.use != graph::OperandUse::Write) {
          continue;
        }
        if (work_.is_written_in_parts(id, stage, operand)) {
          partial_.push_back(operand.tensor);
        }
      }
    }
    finish_op(id, stream);
  }

  void touch_scratch(OpId id, const Stage& stage, std::size_t stream) {
    for (const Operand& operand : stage.operands) {
      if (operand.tensor.kind != TensorKind::Scratch) {
        continue;
      }
      if (!scratch_.contains(operand.tensor.index)) {
        const Bytes bytes = graph::bytes(stage, operand, op_plan(id).split.busiest(), Format::F32);
        scratch_[operand.tensor.index] = add_buffer(fmt_scratch(id, operand.tensor.index), bytes);
      }
      const BufferId buffer = scratch_[operand.tensor.index];
      (operand.use == graph::OperandUse::Write ? streams_[stream].writes : streams_[stream].reads)
          .insert(buffer);
    }
  }

  std::string fmt_scratch(OpId id, int index) const {
    const Op& op = graph_.ops[id.index];
    const std::string name = op.outputs.front().has_value() ? value(*op.outputs.front()).name
                                                            : std::string(op.info->name);
    return name + ":scratch" + std::to_string(index);
  }

  // Ends the phase, combines everything partial, and begins the rest of the op.
  std::size_t end_partials(OpId id, std::size_t stream) {
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

  // Sums that go the same way go as one message. True if the phases from `first` on are one now.
  bool join_sums(std::size_t first) {
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

  void begin_storage(ValueId id) {
    if (!storage_[id.index].has_value()) {
      const auto in_place = in_place_of(id);
      storage_[id.index] = in_place.has_value() ? *in_place : add_storage(id);
    }
  }

  // The leaf whose bytes an update overwrites, if nobody reads the old value after this op.
  std::optional<BufferId> in_place_of(ValueId id) const {
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

  std::optional<DraftId> emit_combine(OpId id, const graph::TensorRef& tensor,
                                      std::optional<DraftId> compute) {
    const Op& op = graph_.ops[id.index];
    const OpPlan& plan = op_plan(id);
    Combine what;
    std::optional<ValueId> result;
    if (tensor.kind == TensorKind::Output) {
      const auto index = static_cast<std::size_t>(tensor.index);
      result = op.outputs[index];
      if (!result.has_value()) {
        return std::nullopt;
      }
      what = {.tensor = value(*result).name,
              .shape = value(*result).shape,
              .format = plan.masked.empty() ? Format::F32 : value(*result).format,
              .raw = plan.raw[index],
              .stored = plan.stored[index]};
    } else {
      what = scratch_combine(id, tensor);
    }
    DraftPhase draft;
    draft.is_forward = op.phase == graph::Phase::Forward;
    draft.block = block_of(op.module);
    draft.phase.region = mesh_.region;
    std::vector<program::Move> moves = combine(what, plan.split, mesh_, machine_);
    const auto over_replicas =
        result.has_value() ? take_sum_over_replicas(value(*result), moves) : std::nullopt;
    draft.phase.body = Transfer{.moves = std::move(moves)};
    draft.phase.reads = draft.phase.writes = {what.tensor};
    if (compute.has_value()) {
      draft.phase.after = {{static_cast<std::uint32_t>(*compute)}};
    }
    Layout partial = what.raw;
    for (program::AxisState& state : partial.axes) {
      state = state.sharing == Sharing::Partial ? program::AxisState{} : state;
    }
    const BufferId parts = result.has_value()
                               ? add_buffer(what.tensor + ":parts",
                                            program::slice_bytes(partial, what.shape, what.format))
                               : scratch_[tensor.index];
    draft.reads = {parts};
    draft.writes = {parts};
    if (compute.has_value()) {
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

  // --- sums of gradients over replicas, several in one transfer ---
  void put_in_bucket(ValueId id, const program::Move& move, BufferId parts, bool has_moves) {
    Bucket::Entry entry{.value = id, .after = *producer_[id.index], .buffers = {storage(id)}};
    if (!has_moves) {
      entry.buffers.push_back(parts);
    }
    if (const auto full = buckets_.put(entry, move)) {
      send(*full);
    }
  }

  void send(const Bucket& bucket) {
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

  void flush_buckets() {
    for (const Bucket& bucket : buckets_.take_all()) {
      send(bucket);
    }
  }

  Combine scratch_combine(OpId id, const graph::TensorRef& tensor) const {
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
    what.stored = what.raw;
    for (program::AxisState& state : what.stored.axes) {
      state = state.sharing == Sharing::Partial ? program::AxisState{} : state;
    }
    return what;
  }

  void finish_op(OpId id, std::size_t stream) {
    const Op& op = graph_.ops[id.index];
    if (!partial_.empty()) {
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

  void store_outputs(OpId id, std::size_t stream) {
    for (const auto& output : graph_.ops[id.index].outputs) {
      if (!output.has_value() || producer_[output->index].has_value()) {
        continue;
      }
      const bool is_partial =
          std::any_of(partial_.begin(), partial_.end(), [&](const auto& tensor) {
            return tensor.kind == TensorKind::Output &&
                   graph_.ops[id.index].outputs[static_cast<std::size_t>(tensor.index)] == output;
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

  // Makes a phase of the stream. Values that were only in registers are then stored in FP32.
  std::optional<DraftId> flush(std::size_t index) {
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
    return added;
  }

  void materialise(ValueId id, Stream& stream) {
    const Bytes bytes = held_bytes(id);
    storage_[id.index] = add_storage(id);
    stream.writes.insert(storage(id));
    stream.stored.push_back(id);
    stream.work.stored += bytes;
  }

  void close(const Stream& stream, DraftId added) {
    for (const std::uint32_t open_value : stream.values) {
      stream_of_[open_value].reset();
      producer_[open_value] = added;
      storage_[open_value] = storage_[root(ValueId{open_value}).index];
    }
    for (const ValueId stored : stream.stored) {
      producer_[stored.index] = added;
    }
  }

  // Updates that could not be written where the old value stands are copied at the end of the step.
  void copy_updates() {
    for (const graph::Update& update : graph_.updates) {
      const auto from = storage_[update.value.index];
      const auto to = storage_[update.target.index];
      if (from == to || !from.has_value()) {
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

  // A value that does not lie as the leaf it updates is gathered first.
  std::optional<DraftId> move_update(const graph::Update& update) {
    const Layout& from = plan_.held[update.value.index];
    const Layout& to = plan_.held[update.target.index];
    Layout whole;
    whole[Axis::Replica] = from[Axis::Replica];
    whole[Axis::Group] =
        from[Axis::Group].sharing == Sharing::Sliced ? from[Axis::Group] : program::AxisState{};
    if (from == to || from == whole) {
      return std::nullopt;
    }
    const Bytes bytes =
        program::slice_bytes(whole, value(update.value).shape, value(update.value).format);
    DraftPhase draft;
    draft.phase.region = mesh_.region;
    draft.phase.body =
        Transfer{.moves = {{.tensor = value(update.value).name,
                            .region = mesh_.region,
                            .pattern = machine::all_gather(machine::Axis::Both, bytes)}},
                 .is_fallback = true};
    draft.phase.reads = {value(update.value).name};
    if (producer_[update.value.index].has_value()) {
      draft.phase.after = {{static_cast<std::uint32_t>(*producer_[update.value.index])}};
    }
    draft.reads = {storage(update.value)};
    return add_phase(std::move(draft));
  }

  const Graph& graph_;
  const LayoutPlan& plan_;
  const Mesh& mesh_;
  const machine::MachineModel& machine_;
  Bytes panel_budget_;
  Fetches& fetches_;
  graph::Uses uses_;
  Draft draft_;
  std::vector<Stream> streams_;
  std::vector<std::optional<BufferId>> storage_;       // by value: where its bytes are
  std::vector<std::optional<DraftId>> producer_;       // by value: the phase that makes it
  std::vector<std::optional<std::size_t>> stream_of_;  // by value: its open stream
  std::optional<DraftId> last_compute_;
  OpWork work_;
  GradientBuckets buckets_;
  std::vector<DraftId> transfers_;         // of the op at hand: what brings its operands
  std::vector<BufferId> landings_;         // of the op at hand: where they are kept
  std::vector<graph::TensorRef> partial_;  // of the op at hand: sums still in parts
  std::map<int, BufferId> scratch_;        // of the op at hand
};

}  // namespace

Draft draft_phases(const Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
                   const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches) {
  return Drafter(graph, plan, mesh, machine, panel_budget, fetches).run();
}

}  // namespace dojo::place::internal
