// Drafter: makes the Draft of a step, op by op in an order of its own: what brings an op's
// operands, the op itself (in a stream with those whose results it has in registers), what combines
// its sums.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/place/internal/blocks.h"
#include "dojo/place/internal/draft.h"
#include "dojo/place/internal/gradient_buckets.h"
#include "dojo/place/internal/op_work.h"
#include "dojo/place/internal/turns.h"

namespace dojo::place::internal {

// Ops whose work is one phase: each reads what the one before leaves in registers.
struct Stream {
  std::vector<OpId> ops;
  std::string kinds;
  std::optional<program::Split> split;
  program::NodeWork work;
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

// Of an op that sums over samples, until all micro-batches have run.
struct OpenSums {
  struct Sum {
    graph::TensorRef tensor{};
    BufferId parts = 0;                // what it has come to
    Bytes in_memory{};                 // a node's share of it in DRAM; 0: it stays in SRAM
    bool is_added_to = false;          // by a stage that has been drafted
    std::optional<DraftId> made_by{};  // the phase that goes on with it, or takes it to DRAM
  };
  std::vector<Sum> sums;
  std::map<int, BufferId> scratch;
  std::size_t rest = 0;       // the first stage that needs them whole
  bool is_in_phases = false;  // the op has joined other sums before
};

class Drafter {
 public:
  Drafter(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
          const machine::MachineModel& machine, Bytes panel_budget, Fetches& fetches,
          const StagePlan* stages = nullptr, int stage = 0)
      : graph_(graph),
        plan_(plan),
        mesh_(mesh),
        machine_(machine),
        panel_budget_(panel_budget),
        fetches_(fetches),
        uses_(graph::uses_of(graph)),
        stages_(stages),
        stage_(stage),
        work_(graph, plan),
        buckets_(mesh, machine) {
    const std::size_t values = graph.values.size();
    storage_.resize(values);
    producer_.resize(values);
    stream_of_.resize(values);
  }

  Draft run();

 private:
  const graph::Value& value(ValueId id) const { return graph_.value(id); }
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
  BufferId add_storage(ValueId id);

  Bytes held_bytes(ValueId id) const {
    return program::slice_bytes(plan_.held[id.index], value(id).shape, value(id).format);
  }

  // --- leaves ---
  // Lies in the machine's DRAM and is brought from there to the panels of every op that reads it,
  // so that nothing of it stays in SRAM.
  bool is_streamed(ValueId id) const;

  void place_leaves();

  // Running statistics: a norm's results do not depend on them while it trains.
  bool is_statistic(ValueId id) const;

  // The Graph's order; updates as soon as they can be, so that no gradient lives longer than it
  // must. Over several replicas gradients wait for company.
  std::vector<OpId> order_of_ops() const;

  // What an update has to wait for: its operands, and all that read what it overwrites.
  std::optional<OpId> first_not_done(OpId update, const std::vector<bool>& is_done) const;

  // Of the value or of an alias of it; other updates aside, which take turns.
  std::optional<OpId> reader_not_done(ValueId id, const std::vector<bool>& is_done) const;

  // --- micro-batches ---
  Turn turn_of(OpId id) const { return plan_.turn.empty() ? Turn::After : plan_.turn[id.index]; }
  void draft_in_turns();
  void draft_half(const std::vector<OpId>& order);
  void flush_all();
  // A sum that labels decide, over all samples.
  void draft_early(OpId id, const graph::EarlyOutput& sum);
  bool is_early(OpId id, const graph::TensorRef& tensor) const;
  // In parts in time: it goes on with the next micro-batch.
  bool goes_on(OpId id, const graph::TensorRef& tensor) const;
  program::Layout raw_of(OpId id, const graph::TensorRef& tensor) const;
  bool lies_in_memory(OpId id, const graph::TensorRef& tensor, Bytes bytes) const;
  BufferId add_parts(OpId id, const graph::TensorRef& tensor);
  // Where the sums of the op at hand are, and what brings those from DRAM.
  void begin_sums(OpId id);
  void add_to_sum(OpId id, const graph::TensorRef& tensor);
  // The phase has gone on with those of the op that have been added to.
  void end_sums(OpId id, DraftId compute);
  void finish_sums(OpId id);
  // One that no nodes have to join: it is the result, or is rounded to it.
  DraftId take_sum(OpId id, ValueId result, BufferId parts, DraftId made_by);
  DraftId round_sum(OpId id, ValueId result, BufferId parts, DraftId made_by);
  DraftId move_sum(OpId id, const OpenSums::Sum& sum, bool is_load);
  void run_rest(OpId id, const OpenSums& open, const std::set<DraftId>& after);
  bool has_new_sums(OpId id) const;
  void add_ingest();

  // --- stages of a pipeline ---
  bool is_run_here(OpId id) const { return stages_ == nullptr || stages_->runs_on(id, stage_); }
  bool is_held_here(ValueId root) const {
    return stages_ == nullptr || stages_->holds(root, stage_);
  }
  bool is_in_half(OpId id) const {
    return stages_ == nullptr || op_plan(id).is_alias ||
           (stages_->part_of_op[id.index] == program::Part::Backward) == is_backward_half_;
  }
  // Room for what other stages send.
  void place_arrivals();
  // Sends what the part at hand has made and other stages read.
  void send_onward();
  void receive(OpId reader);
  DraftId move(const Crossing& crossing);
  const std::vector<Crossing>& crossings() const {
    static const std::vector<Crossing> kNone;
    return stages_ != nullptr ? stages_->crossings : kNone;
  }

  void mark_carried();
  // How much of it there is at a time, against what the nodes hold of one micro-batch.
  std::int64_t times_held(ValueId id) const {
    return !plan_.is_kept.empty() && plan_.is_kept[id.index] ? mesh_.micro_batches : 1;
  }
  // Made of nothing that differs between micro-batches.
  bool is_alike(ValueId id) const {
    const auto& maker = uses_.definition[id.index];
    return maker.has_value() && !plan_.turn.empty() &&
           !op_plan(*maker).split.on(program::Axis::Micro).has_value();
  }
  // A result of samples is kept of all micro-batches.
  void keep_of_all_samples(ValueId id, BufferId buffer);

  // --- states in DRAM ---
  std::vector<ValueId> states_in_memory(OpId id) const;

  // One transfer brings all of them, or takes them back.
  DraftId move_states(const std::vector<ValueId>& states, bool is_load,
                      std::optional<DraftId> after);
  void end_states(OpId id, const std::vector<ValueId>& states);

  // --- one op ---
  void draft_op(OpId id);

  // What was fetched for the op at hand.
  void use_fetched(Stream& stream) const {
    stream.after.insert(transfers_.begin(), transfers_.end());
    stream.reads.insert(landings_.begin(), landings_.end());
  }

  void alias(ValueId from, ValueId to);

  void open(ValueId id, std::size_t stream) {
    stream_of_[id.index] = stream;
    streams_[stream].values.push_back(id.index);
  }

  bool is_in_registers(ValueId id) const {
    return stream_of_[id.index].has_value() && value(id).is_fused;
  }

  // Stored operands whose phase is still open are finished; so are fused ones that have to move,
  // and sums over replicas that wait for company.
  void make_inputs_ready(OpId id);

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

  std::vector<Pending> pending_fetches(OpId id);

  // Decides what comes in panels: of k into a product, of any loop into the other ops.
  std::optional<std::int64_t> choose_panels(OpId id, std::vector<Pending>& pending) const;

  // Emits the transfers of all operands, earliest data first.
  Panels fetch_operands(OpId id, std::vector<DraftId>& transfers, std::vector<BufferId>& landings);

  BufferId add_landing(ValueId id, Bytes bytes, std::int64_t panels);

  void add_to_panels(DraftId phase, ValueId id, Fetch fetch, std::vector<BufferId>& landings);

  // All that moves inside a replica, but sums.
  static bool can_be_panels(const Fetch& fetch);

  DraftId emit_fetch(OpId reader, ValueId id, Fetch fetch, std::int64_t panels,
                     std::vector<BufferId>& landings);

  std::optional<DraftId> last_compute() const { return last_compute_; }

  DraftId add_phase(DraftPhase draft);

  // --- streams ---
  // The stream of the op: that of its operands in registers, all of them together.
  std::size_t join_streams(OpId id);

  void merge(std::size_t into, std::size_t from);

  // Parts of the op along a node axis; all places if every one does the same, or makes a result
  // that ends alike everywhere.
  std::int64_t width(OpId id, program::Axis axis) const;
  // That the op works on, from the first group's first to the last group's last.
  std::int64_t node_rows(OpId id) const;

  void begin(std::size_t index, OpId id);

  // --- stages ---
  void add_stage(OpId id, const graph::Stage& stage, std::optional<std::int64_t> panel,
                 std::size_t stream);

  static bool reads_any(const graph::Stage& stage, const std::vector<graph::TensorRef>& tensors);

  // Runs the stages of the op; where a later one reads a sum that is still in parts, the phase ends
  // and the parts are combined first.
  void run_stages(OpId id, std::size_t stream, std::optional<std::int64_t> panel);
  void run_stages_from(std::size_t first, OpId id, std::size_t stream,
                       std::optional<std::int64_t> panel);

  void touch_scratch(OpId id, const graph::Stage& stage, std::size_t stream);

  std::string fmt_scratch(OpId id, int index) const;

  // Ends the phase, combines everything partial, and begins the rest of the op.
  std::size_t end_partials(OpId id, std::size_t stream);

  // Sums that go the same way go as one message. True if the phases from `first` on are one now.
  bool join_sums(std::size_t first);

  void begin_storage(ValueId id);

  // The leaf whose bytes an update overwrites, if nobody reads the old value after this op.
  std::optional<BufferId> in_place_of(ValueId id) const;

  // `parts`: where they are, if not where the phase `compute` leaves them.
  std::optional<DraftId> emit_combine(OpId id, const graph::TensorRef& tensor,
                                      std::optional<DraftId> compute,
                                      std::optional<BufferId> parts = std::nullopt);

  // --- sums of gradients over replicas, several in one transfer ---
  void put_in_bucket(ValueId id, const program::Move& move, BufferId parts, bool has_moves);

  void send(const Bucket& bucket);

  void flush_buckets();

  // What nodes have to join of a result that exists, and of a stage's sum.
  Combine output_combine(OpId id, const graph::TensorRef& tensor) const;
  Combine scratch_combine(OpId id, const graph::TensorRef& tensor) const;

  void finish_op(OpId id, std::size_t stream);

  void store_outputs(OpId id, std::size_t stream);

  // Makes a phase of the stream. Values that were only in registers are then stored in FP32.
  std::optional<DraftId> flush(std::size_t index);

  void materialise(ValueId id, Stream& stream);

  void close(const Stream& stream, DraftId added);

  // Updates that could not be written where the old value stands are copied at the end of the step.
  void copy_updates();

  // A value that does not lie as the leaf it updates is gathered first.
  std::optional<DraftId> move_update(const graph::Update& update);

  const graph::Graph& graph_;
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
  const StagePlan* stages_;  // none: the step is no pipeline
  int stage_;                // that is drafted
  OpWork work_;
  GradientBuckets buckets_;
  std::vector<DraftId> transfers_;         // of the op at hand: what brings its operands
  std::vector<BufferId> landings_;         // of the op at hand: where they are kept
  std::vector<graph::TensorRef> partial_;  // of the op at hand: sums still in parts
  std::map<int, BufferId> scratch_;        // of the op at hand
  Turn turn_ = Turn::After;
  bool is_backward_half_ = false;
  program::Ingest ingest_;  // of a micro-batch
  std::vector<BufferId> ingested_;
  std::map<std::uint32_t, OpenSums> open_;  // by op
};

}  // namespace dojo::place::internal
