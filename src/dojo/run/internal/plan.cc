#include "dojo/run/internal/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/run/internal/accesses.h"
#include "dojo/run/internal/builder.h"
#include "dojo/run/internal/function_table.h"
#include "dojo/run/memory_plan.h"

namespace dojo::run::internal {
namespace {

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
  FunctionTables tables;
  for (Task& task : plan.tasks) {
    if (task.is_map()) {
      task.program = std::make_shared<const MapProgram>(task.steps, plan.buffers, tables);
    }
    if (task.feeder != nullptr && task.feeder->is_map()) {
      Task feeder = *task.feeder;
      feeder.program = std::make_shared<const MapProgram>(feeder.steps, plan.buffers, tables);
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
