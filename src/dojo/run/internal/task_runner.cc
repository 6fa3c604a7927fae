#include "dojo/run/internal/task_runner.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "dojo/run/internal/plan_listing.h"

namespace dojo::run::internal {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

TaskRunner::TaskRunner(const graph::Graph& graph, const Plan& plan, RoundedTensors& rounded,
                       ThreadPool& pool)
    : graph_(graph), plan_(plan), rounded_(rounded), pool_(pool), times_(plan.tasks.size()) {
  prepare_scratch();
  pieces_.reserve(3);
}

void TaskRunner::prepare_scratch() {
  std::size_t registers = 0;
  std::size_t stats = 0;
  for (const Task& task : plan_.tasks) {
    if (task.feeder != nullptr && task.feeder->program != nullptr) {
      registers = std::max(registers, task.feeder->program->registers());
    }
    if (task.program != nullptr) {
      registers = std::max(registers, task.program->registers());
      stats = std::max(stats, task.program->encoded().size());
    }
  }
  constexpr std::int64_t kBytes = kBlock * 8;
  const auto threads = static_cast<std::size_t>(pool_.threads());
  scratch_.resize(threads);
  scratch_is_taken_ = std::make_unique<std::atomic<bool>[]>(threads);
  scratch_memory_.emplace(static_cast<std::int64_t>(threads * (registers + 1)) * kBytes);
  std::byte* next = scratch_memory_->get();
  for (MapScratch& scratch : scratch_) {
    for (std::size_t i = 0; i < registers; ++i, next += kBytes) {
      scratch.registers.push_back(next);
    }
    scratch.raw = next;
    next += kBytes;
    scratch.stats.resize(stats);
  }
}

Result<void> TaskRunner::run(const StepContext& context, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    const Clock::time_point start = Clock::now();
    kernel_seconds_ = 0;
    DOJO_TRY_VOID(run_task(context, plan_.tasks[i]));
    const double seconds = seconds_since(start);
    times_[i] = {seconds, plan_.tasks[i].is_map() ? kernel_seconds_ : seconds};
  }
  return {};
}

Result<void> TaskRunner::run_task(const StepContext& context, const Task& task) {
  if (task.is_map()) {
    run_map(context, task);
    return {};
  }
  if (task.rows.has_value()) {
    float* out = reinterpret_cast<float*>(context.data[task.writes.front().index]);
    task.rows->produce(context, 0, task.rows->rows, out);
    return {};
  }
  return task.run(context);
}

void TaskRunner::run_map(const StepContext& context, const Task& task) {
  const std::vector<BufferId>& encoded = task.program->encoded();
  const auto follows_pass = [&](BufferId id) { return rounded_.follows_pass(id); };
  const bool measures = std::any_of(encoded.begin(), encoded.end(), follows_pass);
  if (measures) {
    run_pass(context, task, MapMode::Measure);
  }
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    const float amax = measures ? totals_[i].amax : 0.0F;
    if (const std::optional<int> bias = rounded_.bias(encoded[i], amax)) {
      context.bias[encoded[i].index] = *bias;
    } else if (const std::optional<BufferId> first = rounded_.again_of(encoded[i])) {
      context.bias[encoded[i].index] = context.bias[first->index];
    }
  }
  run_pass(context, task, MapMode::Store);
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    rounded_.add(encoded[i], totals_[i]);
  }
}

void TaskRunner::run_pass(const StepContext& context, const Task& task, MapMode mode) {
  for (MapScratch& scratch : scratch_) {
    std::fill(scratch.stats.begin(), scratch.stats.end(), numerics::EncodeStats{});
  }
  if (!task.producer.has_value()) {
    pieces_.clear();
    run_range(context, task, 0, task.program->elements(), mode);
  } else {
    const std::int64_t elements = task.program->elements();
    const std::int64_t step = task.piece_rows * task.producer->row_elements;
    for (std::int64_t first = 0; first < elements; first += step) {
      const std::int64_t last = std::min(elements, first + step);
      pieces_.clear();
      make_piece(context, task, first, last);
      run_range(context, task, first, last, mode);
    }
  }
  totals_.assign(task.program->encoded().size(), {});
  for (const MapScratch& scratch : scratch_) {
    for (std::size_t i = 0; i < totals_.size(); ++i) {
      totals_[i] += scratch.stats[i];
    }
  }
}

void TaskRunner::make_piece(const StepContext& context, const Task& task, std::int64_t first,
                            std::int64_t last) {
  const auto add = [&](BufferId of, BufferId memory) {
    pieces_.push_back({of, reinterpret_cast<float*>(context.data[memory.index]), first});
  };
  if (task.feeder != nullptr) {
    if (task.feeder->producer.has_value()) {
      make_piece(context, *task.feeder, first, last);
    }
    if (task.feeder->is_map()) {
      add(task.producer->source->buffer, task.feeder_buffer);
      run_range(context, *task.feeder, first, last, MapMode::Store);
    }
  }
  const Clock::time_point start = Clock::now();
  StepContext with_pieces = context;
  with_pieces.pieces = pieces_;
  const std::int64_t row = task.producer->row_elements;
  task.producer->produce(with_pieces, first / row, last / row,
                         reinterpret_cast<float*>(context.data[task.piece_buffer.index]));
  kernel_seconds_ += seconds_since(start);
  add(task.piece_of, task.piece_buffer);
}

void TaskRunner::run_range(const StepContext& context, const Task& task, std::int64_t first,
                           std::int64_t last, MapMode mode) {
  // PERF: at least four ranges per thread to balance, and at least four blocks per range.
  const std::int64_t blocks = (last - first + kBlock - 1) / kBlock;
  const std::int64_t grain = std::max<std::int64_t>(4, blocks / (4 * pool_.threads())) * kBlock;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    const std::size_t slot = take_scratch();
    task.program->run(context, first + begin, first + end, mode, pieces_, scratch_[slot]);
    scratch_is_taken_[slot].store(false, std::memory_order_release);
  };
  pool_.parallel_for(last - first, grain, std::ref(body));
}

std::size_t TaskRunner::take_scratch() {
  for (std::size_t slot = 0;; slot = (slot + 1) % scratch_.size()) {
    if (!scratch_is_taken_[slot].exchange(true, std::memory_order_acquire)) {
      return slot;
    }
  }
}

std::vector<TaskTime> TaskRunner::profile() const {
  std::vector<TaskTime> times;
  for (std::size_t i = 0; i < plan_.tasks.size(); ++i) {
    const Task& task = plan_.tasks[i];
    const graph::Op& op = graph_.ops[task.op.index];
    times.push_back(
        {op_names(graph_, task), op.module, op.phase, times_[i].seconds, times_[i].kernel_seconds});
  }
  return times;
}

}  // namespace dojo::run::internal
