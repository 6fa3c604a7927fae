#include "dojo/run/internal/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/run/internal/builder.h"
#include "dojo/run/memory_plan.h"

namespace dojo::run::internal {
namespace {

// PERF: one MiB of FP32 results stays in a core's second-level cache between kernel and map.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 18;

// The buffers that a task reads and writes, each once, in order of first mention.
struct Touched {
  std::vector<BufferId> reads;
  std::vector<BufferId> writes;
};

void add_once(std::vector<BufferId>& list, BufferId buffer) {
  if (std::find(list.begin(), list.end(), buffer) == list.end()) {
    list.push_back(buffer);
  }
}

Touched touched_by(const Task& task) {
  Touched touched{task.reads, task.writes};
  for (const MapStep& step : task.steps) {
    for (const View& view : step.in) {
      add_once(touched.reads, view.buffer);
    }
    for (const View& view : step.out) {
      add_once(touched.writes, view.buffer);
    }
  }
  return touched;
}

struct Access {
  std::vector<std::size_t> writers;  // tasks
  std::vector<std::size_t> readers;  // tasks, each once
};

std::vector<Access> accesses_of(const Plan& plan) {
  std::vector<Access> accesses(plan.buffers.size());
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
    const Touched touched = touched_by(plan.tasks[t]);
    for (const BufferId buffer : touched.reads) {
      accesses[buffer.index].readers.push_back(t);
    }
    for (const BufferId buffer : touched.writes) {
      accesses[buffer.index].writers.push_back(t);
    }
  }
  return accesses;
}

// Buffers that must have their contents when the step ends.
std::set<BufferId> kept_buffers(const Plan& plan) {
  std::set<BufferId> kept;
  for (const PlannedOutput& output : plan.outputs) {
    kept.insert(output.view.buffer);
  }
  for (const LeafUpdate& update : plan.updates) {
    kept.insert(update.source.buffer);
  }
  return kept;
}

// Where tasks hold pieces.
std::set<BufferId> piece_buffers(const Plan& plan) {
  std::set<BufferId> buffers;
  for (const Task& task : plan.tasks) {
    const auto add = [&](const Task& with_pieces) {
      if (with_pieces.producer.has_value()) {
        buffers.insert(with_pieces.piece_buffer);
      }
    };
    add(task);
    if (task.feeder != nullptr) {
      add(*task.feeder);
      buffers.insert(task.feeder_buffer);
    }
  }
  return buffers;
}

bool is_whole(const View& view, const Buffer& buffer) {
  return view.is_contiguous() && view.offset == 0 && view.elements() == buffer.elements;
}

class MapJoiner {
 public:
  MapJoiner(Plan& plan, const graph::Graph& graph)
      : plan_(plan),
        kept_(kept_buffers(plan)),
        accesses_(accesses_of(plan)),
        always_measures_(graph.lowering.has_value() &&
                         graph.lowering->bias.rule == BiasRule::Current),
        is_gone_(plan.tasks.size(), false) {
    for (std::size_t i = 0; i < plan.buffers.size(); ++i) {
      const std::optional<ValueId> value = plan.buffers[i].value;
      is_storable_.push_back(value.has_value() && !graph.value(*value).is_fused);
    }
  }

  void run() {
    for (std::size_t t = 0; t < plan_.tasks.size(); ++t) {
      if (plan_.tasks[t].is_map()) {
        while (take_map_into(t)) {
        }
      }
    }
    for (std::size_t t = 0; t < plan_.tasks.size(); ++t) {
      if (!is_gone_[t] && plan_.tasks[t].is_map() && !measures_each_step(t)) {
        take_rows_into(t);
        while (take_feeder_into(t)) {
        }
      }
    }
    std::vector<Task> kept;
    for (std::size_t t = 0; t < plan_.tasks.size(); ++t) {
      if (!is_gone_[t]) {
        kept.push_back(std::move(plan_.tasks[t]));
      }
    }
    plan_.tasks = std::move(kept);
  }

 private:
  // The task that makes this operand for task t alone, whole and in FP32, if there is one.
  std::optional<std::size_t> sole_writer(BufferId id, std::size_t t) const {
    const Buffer& buffer = plan_.buffers[id.index];
    const Access& access = accesses_[id.index];
    const bool is_intermediate = buffer.format == Format::F32 && buffer.place == Place::Arena &&
                                 !is_storable_[id.index] && !kept_.contains(id);
    if (!is_intermediate || access.writers.size() != 1 || access.readers.size() != 1 ||
        access.readers.front() != t || access.writers.front() == t) {
      return std::nullopt;
    }
    for (const MapStep& step : plan_.tasks[t].steps) {
      for (const View& view : step.in) {
        if (view.buffer == id && !(is_whole(view, buffer) && view.elements() == elements(t))) {
          return std::nullopt;
        }
      }
    }
    return access.writers.front();
  }

  std::int64_t elements(std::size_t t) const {
    return plan_.tasks[t].steps.front().out.front().elements();
  }

  bool take_map_into(std::size_t t) {
    for (const BufferId id : touched_by(plan_.tasks[t]).reads) {
      const std::optional<std::size_t> writer = sole_writer(id, t);
      if (!writer.has_value() || !plan_.tasks[*writer].is_map() ||
          elements(*writer) != elements(t)) {
        continue;
      }
      Task& from = plan_.tasks[*writer];
      bool writes_only_this = true;
      for (const BufferId written : touched_by(from).writes) {
        const Place place = plan_.buffers[written.index].place;
        writes_only_this = writes_only_this &&
                           (written == id || place == Place::Register || place == Place::Nowhere);
      }
      if (!writes_only_this) {
        continue;
      }
      Task& to = plan_.tasks[t];
      to.steps.insert(to.steps.begin(), std::make_move_iterator(from.steps.begin()),
                      std::make_move_iterator(from.steps.end()));
      from.steps.clear();
      take_ops(from, to);
      is_gone_[*writer] = true;
      plan_.buffers[id.index].place = Place::Register;
      for (const BufferId read : touched_by(to).reads) {
        std::vector<std::size_t>& readers = accesses_[read.index].readers;
        std::erase(readers, *writer);
        if (std::find(readers.begin(), readers.end(), t) == readers.end()) {
          readers.push_back(t);
        }
      }
      for (const BufferId written : touched_by(to).writes) {
        std::replace(accesses_[written.index].writers.begin(),
                     accesses_[written.index].writers.end(), *writer, t);
      }
      return true;
    }
    return false;
  }

  static void take_ops(const Task& from, Task& to) {
    std::vector<OpId> ops = from.joined;
    ops.push_back(from.op);
    to.joined.insert(to.joined.begin(), ops.begin(), ops.end());
  }

  // With a bias that follows the current amax, a pass runs twice; its kernel must not.
  bool measures_each_step(std::size_t t) const {
    if (!always_measures_) {
      return false;
    }
    const std::vector<BufferId> writes = touched_by(plan_.tasks[t]).writes;
    return std::any_of(writes.begin(), writes.end(),
                       [&](BufferId id) { return has_bias(plan_.buffers[id.index].format); });
  }

  void take_rows_into(std::size_t t) {
    std::optional<std::size_t> latest;
    BufferId piece_of;
    for (const BufferId id : touched_by(plan_.tasks[t]).reads) {
      const std::optional<std::size_t> writer = sole_writer(id, t);
      if (writer.has_value() && plan_.tasks[*writer].rows.has_value() &&
          (!latest.has_value() || *writer > *latest)) {
        latest = writer;
        piece_of = id;
      }
    }
    if (!latest.has_value() || !can_wait(*latest, piece_of, t)) {
      return;
    }
    Task& from = plan_.tasks[*latest];
    Task& to = plan_.tasks[t];
    to.producer = std::move(from.rows);
    to.reads = from.reads;
    std::copy_if(from.writes.begin(), from.writes.end(), std::back_inserter(to.writes),
                 [&](BufferId id) { return id != piece_of; });
    take_ops(from, to);
    to.piece_of = piece_of;
    to.piece_rows = rows_of_a_piece(*to.producer, 1);
    plan_.buffers[piece_of.index].place = Place::Piece;
    to.piece_buffer = piece_memory(to);
    to.writes.push_back(to.piece_buffer);
    is_gone_[*latest] = true;
    for (const BufferId read : to.reads) {
      std::vector<std::size_t>& readers = accesses_[read.index].readers;
      std::replace(readers.begin(), readers.end(), *latest, t);
    }
  }

  // Whether nobody before task t needs what a producer makes besides its rows.
  bool can_wait(std::size_t from, BufferId rows, std::size_t t) const {
    for (const BufferId id : plan_.tasks[from].writes) {
      const std::vector<std::size_t>& readers = accesses_[id.index].readers;
      if (id != rows &&
          (kept_.contains(id) || std::any_of(readers.begin(), readers.end(),
                                             [&](std::size_t reader) { return reader < t; }))) {
        return false;
      }
    }
    return true;
  }

  // As many rows as a piece has room for, a multiple of `unit`.
  static std::int64_t rows_of_a_piece(const RowProducer& producer, std::int64_t unit) {
    const std::int64_t elements = std::max<std::int64_t>(producer.row_elements * unit, 1);
    const std::int64_t units = std::clamp<std::int64_t>(
        kPieceElements / elements, 1, std::max<std::int64_t>(producer.rows / unit, 1));
    return units * unit;
  }

  // Memory for a piece of the task.
  BufferId piece_memory(const Task& task) {
    plan_.buffers.push_back({Format::F32,
                             task.piece_rows * task.producer->row_elements,
                             Place::Arena,
                             std::nullopt,
                             false,
                             {}});
    return BufferId{static_cast<std::uint32_t>(plan_.buffers.size() - 1)};
  }

  // The task that makes what the producer of task t reads by rows, for it alone: then that need not
  // be stored whole, either.
  bool take_feeder_into(std::size_t t) {
    if (!plan_.tasks[t].producer.has_value() || !plan_.tasks[t].producer->source.has_value() ||
        plan_.tasks[t].feeder != nullptr) {
      return false;
    }
    const BufferId source = plan_.tasks[t].producer->source->buffer;
    const std::optional<std::size_t> writer = sole_writer(source, t);
    if (!writer.has_value() || !feeds(plan_.tasks[*writer], source, *plan_.tasks[t].producer)) {
      return false;
    }
    Task& to = plan_.tasks[t];
    Task from = std::move(plan_.tasks[*writer]);
    is_gone_[*writer] = true;
    take_ops(from, to);
    std::erase(to.reads, source);
    for (const BufferId read : touched_by(from).reads) {
      add_once(to.reads, read);
    }
    if (from.rows.has_value()) {
      from.producer = std::move(from.rows);
      from.rows.reset();
      from.piece_of = source;
    }
    if (from.producer.has_value()) {
      to.piece_rows =
          rows_of_a_piece(*to.producer, from.producer->row_elements / to.producer->row_elements);
      from.piece_rows = to.piece_rows * to.producer->row_elements / from.producer->row_elements;
      from.piece_buffer = piece_memory(from);
      to.writes.push_back(from.piece_buffer);
    }
    plan_.buffers[source.index].place = Place::Piece;
    std::erase(to.writes, to.piece_buffer);
    to.piece_buffer = piece_memory(to);
    to.feeder_buffer = piece_memory(to);
    to.writes.push_back(to.piece_buffer);
    if (from.is_map()) {
      to.writes.push_back(to.feeder_buffer);
    }
    to.feeder = std::make_shared<const Task>(std::move(from));
    return true;
  }

  // Whether a task makes `source` and nothing else, in whole rows of the producer that reads it.
  bool feeds(const Task& task, BufferId source, const RowProducer& reader) const {
    if ((!task.is_map() && !task.rows.has_value()) || task.feeder != nullptr) {
      return false;
    }
    for (const BufferId written : touched_by(task).writes) {
      const Place place = plan_.buffers[written.index].place;
      if (written != source && written != task.piece_buffer && place != Place::Register &&
          place != Place::Nowhere) {
        return false;
      }
    }
    const std::int64_t elements = reader.rows * reader.row_elements;
    const std::optional<RowProducer>& made_by = task.is_map() ? task.producer : task.rows;
    return plan_.buffers[source.index].elements == elements &&
           (!made_by.has_value() || (made_by->rows * made_by->row_elements == elements &&
                                     made_by->row_elements % reader.row_elements == 0));
  }

  Plan& plan_;
  std::set<BufferId> kept_;
  std::vector<Access> accesses_;
  std::vector<bool> is_storable_;  // by buffer: a value that is not fused
  bool always_measures_;
  std::vector<bool> is_gone_;
};

Result<void> check_leaves(const graph::Graph& graph) {
  for (const graph::Value& value : graph.values) {
    if (value.kind == graph::ValueKind::Input && has_bias(value.format)) {
      return Error{
          ErrorKind::Unsupported,
          fmt::format("{} is an input in {}, which has no bias when it comes from outside: "
                      "make it f32 and convert it in the graph",
                      quoted(value.label), info(value.format).name)};
    }
  }
  return {};
}

// What an output or an update hands over: contiguous, and not the caller's memory.
View settled(Builder& builder, Plan& plan, const View& view) {
  const Buffer& buffer = plan.buffers[view.buffer.index];
  const bool is_foreign = buffer.place == Place::Input || buffer.place == Place::Constant;
  return view.is_contiguous() && !is_foreign ? view : builder.copied(view);
}

// The outputs that forward ops make, or all others.
void settle_outputs(Builder& builder, Plan& plan, const graph::Graph& graph, bool is_forward) {
  const std::vector<std::optional<OpId>> definition = graph::uses_of(graph).definition;
  for (const graph::Output& output : graph.outputs) {
    const std::optional<OpId> made = definition[output.value.index];
    const bool is_made_forward =
        made.has_value() && graph.ops[made->index].phase == graph::Phase::Forward;
    if (is_made_forward == is_forward) {
      const View view = settled(builder, plan, *plan.views[output.value.index]);
      plan.outputs.push_back({output.label, view, output.value, is_forward});
    }
  }
}

// Forward outputs are settled before the first op that is not forward, so that they have their
// contents when the forward part has run.
Result<void> expand_ops(Builder& builder, Plan& plan, const graph::Graph& graph) {
  const auto is_forward = [](const graph::Op& op) { return op.phase == graph::Phase::Forward; };
  const auto forward_end = std::find_if(graph.ops.rbegin(), graph.ops.rend(), is_forward).base();
  const auto count = static_cast<std::uint32_t>(forward_end - graph.ops.begin());
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
    if (i == count) {
      settle_outputs(builder, plan, graph, true);
    }
    const graph::Op& op = graph.ops[i];
    const Expansion expand = find_expansion(op.info->name);
    if (expand == nullptr) {
      return Error{ErrorKind::Unsupported,
                   fmt::format("no kernel runs {} (in module {}): add a row to the expansions in "
                               "src/dojo/run/internal",
                               op.info->name, quoted(op.module))};
    }
    builder.begin(OpId{i});
    DOJO_TRY_VOID(expand(builder));
  }
  if (count == graph.ops.size()) {
    settle_outputs(builder, plan, graph, true);
  }
  settle_outputs(builder, plan, graph, false);
  return {};
}

}  // namespace

void join_maps(Plan& plan, const graph::Graph& graph) { MapJoiner(plan, graph).run(); }

void update_in_place(Plan& plan) {
  const std::vector<Access> accesses = accesses_of(plan);
  std::size_t first_safe = 0;  // no task from here on can fail
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
    first_safe = plan.tasks[t].can_fail ? t + 1 : first_safe;
  }
  std::map<BufferId, int> handed_over;  // as an output, or as the source of an update
  for (const PlannedOutput& output : plan.outputs) {
    ++handed_over[output.view.buffer];
  }
  for (const LeafUpdate& update : plan.updates) {
    ++handed_over[update.source.buffer];
  }
  for (LeafUpdate& update : plan.updates) {
    const BufferId source = update.source.buffer;
    Buffer& buffer = plan.buffers[source.index];
    const Access& made = accesses[source.index];
    if (buffer.place != Place::Arena || made.writers.size() != 1 || handed_over[source] != 1 ||
        handed_over.contains(update.target) || !is_whole(update.source, buffer)) {
      continue;
    }
    const std::size_t writer = made.writers.front();
    const Task& task = plan.tasks[writer];
    bool is_safe = task.is_map() && !task.producer.has_value() && writer >= first_safe;
    for (const std::size_t reader : accesses[update.target.index].readers) {
      is_safe = is_safe && reader <= writer;
    }
    bool is_written = false;  // a later step of the task would read the new contents
    bool has_biases = false;  // then the pass may run twice, and must not write FP32 at the first
    bool writes_floats = false;
    for (const MapStep& step : task.steps) {
      for (const View& view : step.in) {
        const bool is_target = view.buffer == update.target;
        is_safe = is_safe && (!is_target || (is_whole(view, buffer) && !is_written));
      }
      for (const View& view : step.out) {
        is_written = is_written || view.buffer == source;
        const Format format = plan.buffers[view.buffer.index].format;
        has_biases = has_biases || has_bias(format);
        writes_floats = writes_floats || format == Format::F32;
      }
    }
    is_safe = is_safe && !(has_biases && writes_floats);
    if (is_safe) {
      buffer.place = Place::Leaf;
      plan.leaf_of[source.index] = update.target;
      update.is_in_place = true;
    }
  }
}

void place_buffers(Plan& plan, const graph::Graph& graph) {
  const std::vector<Access> accesses = accesses_of(plan);
  const std::set<BufferId> kept = kept_buffers(plan);
  const auto end = static_cast<std::int64_t>(plan.tasks.size());
  const std::set<BufferId> pieces = piece_buffers(plan);
  std::vector<Lifetime> lifetimes;
  for (std::uint32_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer& buffer = plan.buffers[i];
    const Access& access = accesses[i];
    if (buffer.place != Place::Arena || access.writers.empty()) {
      continue;
    }
    Lifetime life{end, 0, Bytes(buffer.elements * bytes_of(buffer.format))};
    bool is_made_forward = false;
    bool is_read_later = false;
    for (const std::size_t task : access.writers) {
      life.first = std::min(life.first, static_cast<std::int64_t>(task));
      life.last = std::max(life.last, static_cast<std::int64_t>(task));
      is_made_forward = graph.ops[plan.tasks[task].op.index].phase == graph::Phase::Forward;
    }
    for (const std::size_t task : access.readers) {
      life.last = std::max(life.last, static_cast<std::int64_t>(task));
      is_read_later =
          is_read_later || graph.ops[plan.tasks[task].op.index].phase == graph::Phase::Backward;
    }
    if (kept.contains(BufferId{i})) {
      life.last = end;
    }
    if (is_made_forward && is_read_later) {
      plan.saved_size += life.size;
    }
    lifetimes.push_back(life);
    plan.stored.push_back({BufferId{i}, static_cast<std::size_t>(life.first),
                           is_made_forward && is_read_later, pieces.contains(BufferId{i})});
  }
  const MemoryPlan memory = plan_memory(lifetimes);
  plan.arena_size = memory.size;
  plan.arena_offset.assign(plan.buffers.size(), 0);
  for (std::size_t i = 0; i < plan.stored.size(); ++i) {
    plan.arena_offset[plan.stored[i].buffer.index] = memory.offsets[i];
  }
}

void compile_maps(Plan& plan) {
  for (Task& task : plan.tasks) {
    if (task.is_map()) {
      task.program = std::make_shared<const MapProgram>(task.steps, plan.buffers);
    }
    if (task.feeder != nullptr && task.feeder->is_map()) {
      Task feeder = *task.feeder;
      feeder.program = std::make_shared<const MapProgram>(feeder.steps, plan.buffers);
      task.feeder = std::make_shared<const Task>(std::move(feeder));
    }
  }
}

void find_parts(Plan& plan, const graph::Graph& graph) {
  const auto is_forward = [&](const Task& task) {
    return graph.ops[task.op.index].phase == graph::Phase::Forward;
  };
  const auto later = std::find_if_not(plan.tasks.begin(), plan.tasks.end(), is_forward);
  plan.is_in_two_parts = std::none_of(later, plan.tasks.end(), is_forward);
  plan.forward_tasks = static_cast<std::size_t>(later - plan.tasks.begin());
  plan.reads.assign(plan.buffers.size(), {});
  for (const Task& task : plan.tasks) {
    for (const BufferId buffer : touched_by(task).reads) {
      ReadInParts& read = plan.reads[buffer.index];
      (is_forward(task) ? read.forward : read.later) = true;
    }
  }
}

Result<Plan> make_plan(const graph::Graph& graph, std::span<const std::uint32_t> ids) {
  DOJO_TRY_VOID(check_leaves(graph));
  Plan plan;
  Builder builder(graph, plan, ids);
  DOJO_TRY_VOID(expand_ops(builder, plan, graph));
  std::set<BufferId> targets;
  for (const graph::Update& update : graph.updates) {
    targets.insert(plan.views[update.target.index]->buffer);
  }
  for (const graph::Update& update : graph.updates) {
    View source = settled(builder, plan, *plan.views[update.value.index]);
    if (targets.contains(source.buffer)) {  // a leaf that this step changes, too
      source = builder.copied(source);
    }
    plan.updates.push_back({plan.views[update.target.index]->buffer, source});
  }
  join_maps(plan, graph);
  plan.leaf_of.resize(plan.buffers.size());
  for (std::uint32_t i = 0; i < plan.buffers.size(); ++i) {
    plan.leaf_of[i] = BufferId{i};
  }
  update_in_place(plan);
  place_buffers(plan, graph);
  compile_maps(plan);
  find_parts(plan, graph);
  return plan;
}

}  // namespace dojo::run::internal
