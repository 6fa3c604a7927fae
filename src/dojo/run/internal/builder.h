// Builder: what an expansion sees of an op, and what it may make of it. An expansion turns one op
// into tasks whose FP32 arithmetic is that of the op's definition.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/numerics/association.h"
#include "dojo/numerics/reduce.h"
#include "dojo/run/internal/map_program.h"
#include "dojo/run/internal/plan.h"
#include "dojo/run/internal/view.h"

namespace dojo::run::internal {

class Builder {
 public:
  // `ids` are graph::tensor_ids.
  Builder(const graph::Graph& graph, Plan& plan, std::span<const std::uint32_t> ids);

  void begin(OpId op);

  // --- the op ---
  const graph::Graph& graph() const { return graph_; }
  const graph::Op& op() const { return graph_.ops[op_.index]; }
  bool has_in(std::size_t i) const;
  const View& in(std::size_t i) const;
  Format in_format(std::size_t i) const;
  const graph::Shape& in_shape(std::size_t i) const;
  bool has_out(std::size_t i) const;
  const graph::Value& out_value(std::size_t i) const;
  // What the random bits of output i hang on.
  std::uint32_t tensor_id(std::size_t i) const;
  // "aten.embedding in "wte"": how messages name the op.
  std::string where() const;
  // The stage of the op's nest with that name, or the only one.
  const graph::Stage& stage(std::string_view name = "") const;
  std::int64_t loop_extent(std::string_view name) const;
  // The ratio in the access of dimension `dim` of operand `input`, in the only stage, if any.
  std::optional<graph::Ratio> read_ratio(int input, std::size_t dim) const;
  // How the reduce loops of the stage are cut, and the order of sums of products; their extents
  // must be these, in order.
  numerics::ReduceCuts cuts(const graph::Stage& stage, const graph::Shape& extents) const;

  // --- storage ---
  // The buffer of output i, made at the first call; a buffer that is never written if nobody reads
  // the output.
  View out(std::size_t i);
  // An intermediate.
  View temporary(graph::Shape shape, Format format = Format::F32);
  // For a result of a kernel that nobody reads.
  View unread(graph::Shape shape, Format format = Format::F32);
  // A number, to be broadcast; stored as F32 or I64.
  View constant(double value);
  View constant(std::int64_t value);
  // Output i is this view: nothing moves, codes and bias stay. The formats must be equal.
  void set_out(std::size_t i, View view);

  // --- tasks ---
  // Element-wise; inputs are broadcast to the shape of the outputs.
  void map(const BlockKernel& kernel, const std::vector<View>& in, const std::vector<View>& out,
           const Params& params = {});
  // A kernel that reads and writes whole buffers.
  void whole(const std::vector<View>& in, const std::vector<View>& out,
             std::function<Result<void>(const StepContext&)> run, bool can_fail = false);
  // `further`: what the producer writes besides, whole rows at their own place.
  void rows(const std::vector<View>& in, const View& out, RowProducer producer,
            const std::vector<View>& further = {});

  // A stage of the nest as one reduction: the result, an FP32 intermediate, has the shape of x
  // without the dimensions `reduced`, which are the stage's reduce loops in order.
  View reduce(numerics::Reduction reduction, const View& x,
              const std::vector<std::int64_t>& reduced, std::string_view stage_name,
              const View* center = nullptr);

  // The sums of numerics::NormGradientSums over a stage, each an FP32 intermediate; dy and x are
  // reducible and lie alike. Constants are broadcast to the outputs, or to the points.
  struct GradientConstants {
    View mean;
    View rstd;
    View weight;
    bool has_point_stats = false;  // mean and rstd
    bool has_point_weight = false;
  };
  struct GradientSums {
    View g;
    View g_h;
    View dy_h;
    View dy;
  };
  GradientSums reduce_norm_gradient(const View& dy, const View& x,
                                    const GradientConstants& constants,
                                    const std::vector<std::int64_t>& reduced,
                                    std::string_view stage_name);
  // Whether reductions read the elements as they lie.
  bool is_reducible(const View& x) const;

  // The same elements as contiguous FP32, copied only if they are not.
  View dense(const View& x);
  // Contiguous in the format it has.
  View packed(const View& x);
  // A copy, contiguous in the format it has.
  View copied(const View& x);
  // Where a kernel writes the FP32 values of output i: the output itself if it is FP32, else an
  // intermediate, which finish() rounds into the output.
  View target(std::size_t i);
  void finish(std::size_t i, const View& target);

  Format format_of(const View& view) const { return plan_.buffers[view.buffer.index].format; }

 private:
  struct Reducible {
    numerics::PreparedReduction prepared;
    graph::Shape shape;    // of the result
    graph::Shape extents;  // of the reduced loops
  };
  Reducible reducible(const View& x, const std::vector<std::int64_t>& reduced,
                      std::string_view stage_name) const;
  BufferId add_buffer(Buffer buffer);

  const graph::Graph& graph_;
  Plan& plan_;
  std::span<const std::uint32_t> ids_;
  OpId op_;
  graph::LoopNest nest_;  // of op_
};

// The dimension list 0 .. rank-1 without those given.
std::vector<std::int64_t> other_dims(std::size_t rank, const std::vector<std::int64_t>& dims);
// The view with extents of 1 where dimensions were reduced away, to broadcast against the original.
View keep_dims(const View& reduced, const std::vector<std::int64_t>& dims);

// --- expansions ---
using Expansion = Result<void> (*)(Builder&);
struct ExpansionRow {
  std::string_view op;
  Expansion expand;
};
// nullptr: this version cannot run the op.
Expansion find_expansion(std::string_view op);
const std::vector<ExpansionRow>& all_expansions();

}  // namespace dojo::run::internal
