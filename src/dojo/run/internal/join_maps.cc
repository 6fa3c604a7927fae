// The pass that joins element-wise tasks with what makes their operands.
#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "dojo/run/internal/accesses.h"
#include "dojo/run/internal/plan.h"

namespace dojo::run::internal {
namespace {

// PERF: one MiB of FP32 results stays in a core's second-level cache between kernel and map.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 18;

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

}  // namespace

void join_maps(Plan& plan, const graph::Graph& graph) { MapJoiner(plan, graph).run(); }

}  // namespace dojo::run::internal
