// What the files of the interpreter share.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/base/result.h"
#include "dojo/base/thread_pool.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/verify.h"
#include "dojo/numerics/association.h"

namespace dojo::run::internal {

// A tensor as numbers: floats decoded, everything else as int64.
struct Array {
  Format format = Format::F32;
  graph::Shape shape;
  int bias = 0;
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
  std::vector<std::uint32_t> codes;  // of floats that are stored in fewer than 32 bits

  std::int64_t elements() const { return graph::element_count(shape); }
  bool has_floats() const { return is_float(format); }
  float number(std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    return has_floats() ? floats[at] : static_cast<float>(ints[at]);
  }
  std::int64_t integer(std::int64_t i) const { return ints[static_cast<std::size_t>(i)]; }
};

// What an op made: FP32 values or integers, still to be stored in the output's format; or elements
// that were only moved, which keep codes and bias.
struct Made {
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
  std::vector<std::uint32_t> codes;
  bool keeps_codes = false;
  int bias = 0;
};

// A point of a nest's loops, by loop index.
using Point = std::vector<std::int64_t>;

// An index per dimension of an operand.
class Position {
 public:
  void push_back(std::int64_t index) { at_[size_++] = index; }
  std::size_t size() const { return size_; }
  std::int64_t operator[](std::size_t i) const { return at_[i]; }
  std::int64_t back() const { return at_[size_ - 1]; }

 private:
  std::array<std::int64_t, graph::kMaxRank> at_{};
  std::size_t size_ = 0;
};

// One op being evaluated.
struct Evaluation {
  const graph::Graph& graph;
  const graph::Op& op;
  graph::LoopNest nest;
  std::vector<const Array*> in;  // nullptr: not given
  std::vector<Made> out;         // by output; those nobody reads may stay empty
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::vector<std::uint32_t> tensor_ids;  // of the outputs
  ThreadPool* pool = nullptr;             // for what is many independent sums

  bool has_in(std::size_t i) const { return i < in.size() && in[i] != nullptr; }
  bool has_out(std::size_t i) const { return i < op.outputs.size() && op.outputs[i].has_value(); }
  const graph::Value& out_value(std::size_t i) const { return graph.value(*op.outputs[i]); }
  std::string where() const;

  // --- the op's nest ---
  const graph::Stage& stage(std::string_view name = "") const;
  // body(point) for each point of the stage's parallel loops, in order.
  template <class Body>
  void each(const graph::Stage& stage, const Body& body) const {
    const std::vector<std::size_t> loops = parallel_loops(stage);
    Point point(nest.loops.size(), 0);
    do {
      body(point);
    } while (advance(loops, point));
  }
  // The same one by one: how many there are, the i-th, the one after.
  std::int64_t results(const graph::Stage& stage) const;
  Point point_at(const graph::Stage& stage, std::int64_t i) const;
  void advance(const graph::Stage& stage, Point& point) const;
  // Folds over the stage's other loops in their order, cut as k_parts says, from `start`;
  // add(acc, point) and chain(total, part).
  template <class Add, class Chain>
  float fold(const graph::Stage& stage, Point& point, float start, const Add& add,
             const Chain& chain) const {
    const FoldedLoops folded = folded_loops(stage);
    const auto add_point = [&](float acc, std::span<const std::int64_t> at) {
      for (std::size_t i = 0; i < at.size(); ++i) {
        point[folded.loops[i]] = at[i];
      }
      return add(acc, std::as_const(point));
    };
    const float value =
        numerics::fold_in_order(folded.extents, folded.cuts, start, add_point, chain);
    for (const std::size_t loop : folded.loops) {
      point[loop] = 0;
    }
    return value;
  }
  // A sum of products in the Graph's order; add(sum, point) calls sum.add(a, b), or does nothing.
  template <class Add>
  float sum_products(const graph::Stage& stage, Point& point, const Add& add) const {
    FoldedLoops folded = folded_loops(stage);
    folded.cuts.order = graph.lowering->sum_order;
    const auto add_point = [&](auto& sum, std::span<const std::int64_t> at) {
      for (std::size_t i = 0; i < at.size(); ++i) {
        point[folded.loops[i]] = at[i];
      }
      add(sum, std::as_const(point));
    };
    const float value = numerics::sum_products(folded.extents, folded.cuts, add_point);
    for (const std::size_t loop : folded.loops) {
      point[loop] = 0;
    }
    return value;
  }
  template <class Add>
  float sum(const graph::Stage& stage, Point& point, const Add& add) const {
    return fold(stage, point, 0.0F, add, [](float total, float part) { return total + part; });
  }
  // In the loops' own order, whatever k_parts says: for results that have no parts.
  template <class Body>
  void visit(const graph::Stage& stage, Point& point, const Body& body) const {
    const std::vector<std::size_t> loops = folded_loops(stage).loops;
    do {
      body(std::as_const(point));
    } while (advance(loops, point));
  }
  std::vector<bool> is_folded(const graph::Stage& stage) const;  // by loop
  std::int64_t folded_points(const graph::Stage& stage) const;
  // The operand of the stage that reads input i (or writes output i).
  const graph::Operand& reading(const graph::Stage& stage, int input) const;
  const graph::Operand& writing(const graph::Stage& stage, int output) const;
  // The element's index per dimension; nullopt: no element, since a divisor does not divide.
  static std::optional<Position> position(const graph::Operand& operand, const Point& point);
  // Its number in row-major order; nullopt: outside of the tensor.
  static std::optional<std::int64_t> element(const graph::Operand& operand,
                                             const Position& position);
  static std::int64_t element_at(const graph::Operand& operand, const Point& point);

 private:
  struct FoldedLoops {
    std::vector<std::size_t> loops;
    std::vector<std::int64_t> extents;
    numerics::ReduceCuts cuts;
  };
  std::vector<std::size_t> parallel_loops(const graph::Stage& stage) const;
  FoldedLoops folded_loops(const graph::Stage& stage) const;
  // The next point, the last loop fastest; false, and all loops at 0, after the last one.
  bool advance(const std::vector<std::size_t>& loops, Point& point) const;
};

inline std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

// The operand's value at a point: its pad value outside; nullopt where there is no point.
std::optional<float> value_at(const Evaluation& e, const graph::Operand& operand,
                              const Point& point);
// Room for the floats of output i.
void resize_out(Evaluation& e, std::size_t i);

// Whether x comes before `best` in a maximum: greater, or the first NaN.
inline bool takes_over(float x, float best) { return x > best || (x != x && best == best); }
inline bool takes_over(std::int64_t x, std::int64_t best) { return x > best; }

using Interpret = Result<void> (*)(Evaluation&);
struct InterpretRow {
  std::string_view op;
  Interpret interpret;
};

void add_elementwise_interpreters(std::vector<InterpretRow>& rows);
void add_nest_interpreters(std::vector<InterpretRow>& rows);
void add_pool_interpreters(std::vector<InterpretRow>& rows);
void add_moving_interpreters(std::vector<InterpretRow>& rows);
void add_loss_interpreters(std::vector<InterpretRow>& rows);
void add_norm_interpreters(std::vector<InterpretRow>& rows);
const std::vector<InterpretRow>& all_interpreters();

// Whether the op only moves elements, so that its outputs keep codes and bias (docs/graph.md): one
// operand is read, in the output's format, and nothing but zeros is put beside its elements.
bool keeps_codes(const graph::Graph& graph, const graph::Op& op);

// Coordinates of element i of a shape, and back.
std::vector<std::int64_t> coordinates(const graph::Shape& shape, std::int64_t i);
std::int64_t number_of(const graph::Shape& shape, const std::vector<std::int64_t>& at);

// The element of `from`, which broadcasts to `shape`, for element i of that shape.
std::int64_t broadcast_element(const graph::Shape& from, const graph::Shape& shape, std::int64_t i);

}  // namespace dojo::run::internal
