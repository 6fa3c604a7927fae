// LoopNest: an op as named loops, maps from the loops to each operand's dimensions, and a cost per
// point. FLOPs, bytes, halos, broadcasts, reductions and every slice of an op derive from it, so
// partitioning is written once and not once per op.
//
// Invariants (held by tests over all rows of the op table):
// - Owner-form: the Access of each written dimension is injective in the parallel loops, and every
//   loop of a stage that is not in a write map is reduce, scan or indexed. A point of the output is
//   computed in one place, and splitting parallel loops never changes a bit.
// - The order of a stage's reduce loops is the order of summation, the last one innermost.
// - Stages run one after the other on the same slices; loops are shared by all stages.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "dojo/base/format.h"
#include "dojo/base/units.h"
#include "dojo/graph/graph.h"

namespace dojo::graph {

// Half open: begin <= i < end. Empty when end <= begin.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  constexpr std::int64_t length() const { return end > begin ? end - begin : 0; }
  constexpr bool is_empty() const { return end <= begin; }
  friend constexpr bool operator==(const Interval&, const Interval&) = default;
};

struct Loop {
  std::string name;         // unique in the nest: "n", "ky"
  std::int64_t extent = 1;  // points; the loop runs over 0 .. extent-1
};

// What a stage does with a loop.
enum class LoopKind : std::uint8_t {
  Parallel,  // each point writes its own element
  Reduce,    // points are combined in ascending order
  Scan,      // each point needs the one before; never split
  Indexed,   // a reduction over the points that an index operand selects, ascending
};

enum class Combine : std::uint8_t { Sum, Max, Min };

struct StageLoop {
  int loop = 0;  // index into LoopNest::loops
  LoopKind kind = LoopKind::Parallel;
  Combine combine = Combine::Sum;  // of a reduce loop
  // Of an indexed loop: the parallel loop whose points its index operand picks. Each of its points
  // goes to one of those, so work counts the indexed loop and not the picked one.
  std::optional<int> picks = std::nullopt;
};

struct Term {
  int loop = 0;  // index into LoopNest::loops
  std::int64_t stride = 1;
};

// floor((multiplier * i + addend) / divisor) for loop i; multiplier and divisor above zero, so it
// is monotone: resizing and adaptive pooling.
struct Ratio {
  int loop = 0;
  std::int64_t multiplier = 1;
  std::int64_t addend = 0;
  std::int64_t divisor = 1;
};

// index = (offset + sum of stride * loop [+ ratio]) / divisor. Where the divisor does not divide
// there is no element (the input gradient of a strided convolution). An index outside the tensor
// reads the operand's pad value.
struct Affine {
  std::int64_t offset = 0;
  std::vector<Term> terms = {};
  std::int64_t divisor = 1;
  std::optional<Ratio> ratio = std::nullopt;  // only with divisor 1
  // The loop whose points this dimension counts: work takes the tensor's extent instead of the
  // loop's. So the input gradient of a convolution carries exactly the forward's count.
  std::optional<int> counted_loop = std::nullopt;
};

// The index is read from another operand of the stage: gather, embedding.
struct Indexed {
  int by = 0;  // position in Stage::operands
};

// The whole dimension is needed for any point.
struct Whole {};

using Access = std::variant<Affine, Indexed, Whole>;

enum class TensorKind : std::uint8_t {
  Input,    // operand number `index` of the op
  Output,   // output number `index` of the op
  Scratch,  // an FP32 intermediate between stages, LoopNest::scratch[index]
};

struct TensorRef {
  TensorKind kind = TensorKind::Input;
  int index = 0;
  friend bool operator==(const TensorRef&, const TensorRef&) = default;
};

enum class OperandUse : std::uint8_t { Read, Write };

struct Operand {
  TensorRef tensor;
  OperandUse use = OperandUse::Read;
  Shape shape;                 // of the tensor
  std::vector<Access> access;  // one per dimension of the tensor
  double pad_value = 0;        // what an index outside reads: 0, -inf for a maximum
};

enum class BodyClass : std::uint8_t {
  Matrix,  // multiply and accumulate on the matrix unit
  Vector,  // lanes of the vector pipe
  Move,    // loads and stores only
  Whole,   // not divisible: on one node
};

// What one point costs.
struct PointCost {
  std::int64_t macs = 0;         // multiply-accumulates of the matrix unit
  std::int64_t vector_ops = 0;   // additions, multiplications, comparisons, selects
  std::int64_t special_ops = 0;  // exp, log, erf, tanh, sin, cos, square roots, divisions
  std::int64_t conversions = 0;  // roundings to a storage format
};

struct Stage {
  std::string name;  // "max", "sum", "apply"; empty if there is one stage
  BodyClass body = BodyClass::Vector;
  std::vector<StageLoop> loops =
      {};  // parallel loops first, then the others in order of combination
  std::vector<Operand> operands = {};  // a matrix stage: its two factors first
  PointCost per_point = {};            // for each point of all loops
  PointCost per_result = {};  // for each point of the parallel loops (bias, scale, rounding)
};

struct LoopNest {
  std::vector<Loop> loops;
  std::vector<Shape> scratch;  // FP32 intermediates
  std::vector<Stage> stages;

  std::optional<int> loop_named(std::string_view name) const;
};

// A slice of a nest: one interval per loop, by loop index.
using Slice = std::vector<Interval>;
Slice whole_slice(const LoopNest& nest);

// --- work ---
struct Work {
  std::int64_t points = 0;   // of all loops; those that fall into padding count
  std::int64_t results = 0;  // of the parallel loops
  PointCost total;           // per_point * points + per_result * results
};
// A slice of a counted loop (see Affine) counts its share of the tensor's extent, a slice of a
// picked loop its share of the indexed loop's points; both rounded up.
Work work(const LoopNest& nest, const Stage& stage);
Work work(const LoopNest& nest, const Stage& stage, const Slice& slice);

// Matrix and convolution FLOPs, 2 per multiply-accumulate, as torch.utils.flop_counter counts.
Flops flops(const LoopNest& nest);
// Multiply-accumulates whose operands all lie inside their tensors (without padding).
std::int64_t macs_inside(const LoopNest& nest);

// --- footprints ---
// The indices of a dimension of `extent` elements that the slice reads or writes: exact for its
// ends when the divisor is 1 and no border clips, else a hull (never too small). Indexed and Whole:
// the whole dimension. Empty if the slice is.
Interval footprint(const Access& access, const Slice& slice, std::int64_t extent);
std::vector<Interval> footprint(const Operand& operand, const Slice& slice);

// How far a needed interval reaches beyond the owned one.
struct Halo {
  std::int64_t low = 0;
  std::int64_t high = 0;
  friend bool operator==(const Halo&, const Halo&) = default;
};
Halo halo(const Interval& owned, const Interval& needed);

// Bytes of the operand that the slice touches, stored in `format`. An indexed dimension counts at
// most one element per point of its index.
Bytes bytes(const Stage& stage, const Operand& operand, const Slice& slice, Format format);

// --- what a split of a loop implies ---
// Whether the operand's maps contain the loop, directly or through the index operand.
bool contains(const Stage& stage, const Operand& operand, int loop);
// The operand is needed whole on each part: an all-gather or multicast.
bool is_shared_along(const Stage& stage, const Operand& operand, int loop);
// The parts of the loop make partial results that must be combined.
bool is_partial_along(const Stage& stage, int loop);
// nullopt: the stage has no such loop.
std::optional<LoopKind> kind_of(const Stage& stage, int loop);

// The loops that `k_parts` may cut: reduce loops of any stage, in the order of the nest.
std::vector<int> reduce_loops(const LoopNest& nest);

// A matrix stage as a matrix product: result[batch, m, n] += left[batch, m, k] right[batch, n, k].
// m: parallel loops of the first factor alone, n: of the second alone, batch: of both.
struct MatrixRoles {
  std::vector<int> m;
  std::vector<int> n;
  std::vector<int> k;
  std::vector<int> batch;
};
MatrixRoles matrix_roles(const Stage& stage);

}  // namespace dojo::graph
