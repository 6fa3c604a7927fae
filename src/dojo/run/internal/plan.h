// Plan: a lowered Graph as a list of tasks over buffers. A task is either element-wise work (a
// list of MapSteps) or a kernel that runs as a whole. Builder and the expansions make it op by op
// (builder.h); the passes here then join element-wise chains, let updates write into their leaf,
// and decide where each buffer lies.
//
// What a plan computes is defined by its tasks in order; the passes change where intermediates lie
// and never a value.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/graph/graph.h"
#include "dojo/run/internal/map_program.h"
#include "dojo/run/internal/view.h"

namespace dojo::run::internal {

// A kernel whose FP32 result is made in rows that do not depend on each other (images of a
// convolution, rows of a matrix product or a softmax), so that its only reader can take it piece by
// piece.
struct RowProducer {
  std::int64_t rows = 0;
  std::int64_t row_elements = 0;
  // An operand of the same rows, contiguous, which `produce` reads with StepContext::elements and
  // so can take piece by piece, too.
  std::optional<View> source;
  // Rows [begin, end) to `out`.
  std::function<void(const StepContext&, std::int64_t begin, std::int64_t end, float* out)> produce;
};

struct Task {
  OpId op;
  std::vector<MapStep> steps;  // element-wise work, or empty:
  std::function<Result<void>(const StepContext&)> run;
  std::optional<RowProducer> rows;  // instead of run; writes writes[0], a contiguous FP32 buffer
  std::vector<BufferId> reads;
  std::vector<BufferId> writes;
  bool can_fail = false;

  // Filled by the passes.
  std::vector<OpId> joined;  // ops whose tasks this one took in, in order, before its own
  std::shared_ptr<const MapProgram> program;  // of steps
  std::optional<RowProducer> producer;        // makes `piece_of` for steps, piece by piece
  BufferId piece_of;
  BufferId piece_buffer;  // where the pieces lie
  std::int64_t piece_rows = 0;
  std::shared_ptr<const Task> feeder;  // makes pieces of producer->source in feeder_buffer
  BufferId feeder_buffer;

  bool is_map() const { return !steps.empty(); }
};

struct LeafUpdate {
  BufferId target;
  View source;
  bool is_in_place = false;
};

struct PlannedOutput {
  std::string label;
  View view;  // contiguous
  ValueId value;
  bool is_forward = false;  // its contents are there before the first op that is not forward
};

// Which parts of the step read a buffer.
struct ReadInParts {
  bool forward = false;
  bool later = false;
};

// A buffer that has memory of its own in the arena.
struct StoredBuffer {
  BufferId buffer;
  std::size_t task = 0;   // the first that writes it
  bool is_saved = false;  // made by a forward op and read by a backward one
  bool is_piece = false;  // holds one piece at a time of what a task hands on inside
};

struct Plan {
  std::vector<Buffer> buffers;
  std::vector<Task> tasks;
  std::vector<std::optional<View>> views;  // by ValueId; nullopt: a fused value
  std::vector<LeafUpdate> updates;
  std::vector<PlannedOutput> outputs;

  // Filled by the passes: bytes from the begin of the arena for buffers with Place::Arena, and the
  // leaf whose memory a buffer with Place::Leaf shares.
  std::vector<std::int64_t> arena_offset;
  std::vector<BufferId> leaf_of;
  std::vector<StoredBuffer> stored;
  Bytes arena_size;
  Bytes saved_size;

  // A step runs in two parts if all forward ops stand before the others: the first `forward_tasks`
  // tasks, then the rest.
  bool is_in_two_parts = false;
  std::size_t forward_tasks = 0;
  std::vector<ReadInParts> reads;  // by buffer
};

// The whole way; `ids` are graph::tensor_ids. Errors name the op that this version cannot run.
Result<Plan> make_plan(const graph::Graph& graph, std::span<const std::uint32_t> ids);

// --- passes, in order ---
// Joins an element-wise task with the tasks that make its FP32 operands where nothing else reads
// them.
void join_maps(Plan& plan, const graph::Graph& graph);
// An element-wise task that makes the new contents of a leaf writes them there.
void update_in_place(Plan& plan);
void place_buffers(Plan& plan, const graph::Graph& graph);
void compile_maps(Plan& plan);
void find_parts(Plan& plan, const graph::Graph& graph);

}  // namespace dojo::run::internal
