// TaskRunner: runs the tasks of a plan in order, element-wise ones block by block on all threads,
// and what feeds them piece by piece; takes their times.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/base/thread_pool.h"
#include "dojo/graph/graph.h"
#include "dojo/run/executor.h"
#include "dojo/run/internal/map_program.h"
#include "dojo/run/internal/memory.h"
#include "dojo/run/internal/plan.h"
#include "dojo/run/internal/rounded_tensors.h"

namespace dojo::run::internal {

class TaskRunner {
 public:
  // Keeps references to all of them.
  TaskRunner(const graph::Graph& graph, const Plan& plan, RoundedTensors& rounded,
             ThreadPool& pool);

  // Tasks [begin, end). Chooses the biases of what they round, in context.bias.
  Result<void> run(const StepContext& context, std::size_t begin, std::size_t end);

  std::vector<TaskTime> profile() const;

 private:
  struct Times {
    double seconds = 0;
    double kernel_seconds = 0;
  };

  void prepare_scratch();
  Result<void> run_task(const StepContext& context, const Task& task);
  // Where a bias follows this very pass, the pass runs twice: first for the amax.
  void run_map(const StepContext& context, const Task& task);
  // Fills totals_.
  void run_pass(const StepContext& context, const Task& task, MapMode mode);
  // Elements [first, last) of what the task's map reads from its producer, made by that and by what
  // feeds it; adds to pieces_.
  void make_piece(const StepContext& context, const Task& task, std::int64_t first,
                  std::int64_t last);
  void run_range(const StepContext& context, const Task& task, std::int64_t first,
                 std::int64_t last, MapMode mode);
  // There are as many as threads, so one is always free.
  std::size_t take_scratch();

  const graph::Graph& graph_;
  const Plan& plan_;
  RoundedTensors& rounded_;
  ThreadPool& pool_;
  std::vector<MapScratch> scratch_;  // one per thread
  std::unique_ptr<std::atomic<bool>[]> scratch_is_taken_;
  std::optional<AlignedBytes> scratch_memory_;
  std::vector<numerics::EncodeStats> totals_;  // of the last pass
  std::vector<Piece> pieces_;                  // of the pass that runs
  double kernel_seconds_ = 0;                  // of the task that runs
  std::vector<Times> times_;                   // by task
};

}  // namespace dojo::run::internal
