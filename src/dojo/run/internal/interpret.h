// What the files of the interpreter share.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
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

  bool has_in(std::size_t i) const { return i < in.size() && in[i] != nullptr; }
  bool has_out(std::size_t i) const { return i < op.outputs.size() && op.outputs[i].has_value(); }
  const graph::Value& out_value(std::size_t i) const { return graph.value(*op.outputs[i]); }
  std::string where() const;

  // --- the op's nest ---
  const graph::Stage& stage(std::string_view name = "") const;
  // body(point) for each point of the stage's parallel loops, in order.
  void each(const graph::Stage& stage, const std::function<void(Point&)>& body) const;
  // Folds over the stage's other loops in their order, cut as k_parts says, from `start`;
  // add(acc, point) and chain(total, part).
  float fold(const graph::Stage& stage, Point& point, float start,
             const std::function<float(float, const Point&)>& add,
             const std::function<float(float, float)>& chain) const;
  float sum(const graph::Stage& stage, Point& point,
            const std::function<float(float, const Point&)>& add) const;
  // In the loops' own order, whatever k_parts says: for results that have no parts.
  void visit(const graph::Stage& stage, Point& point,
             const std::function<void(const Point&)>& body) const;
  std::int64_t folded_points(const graph::Stage& stage) const;
  // The operand of the stage that reads input i (or writes output i).
  const graph::Operand& reading(const graph::Stage& stage, int input) const;
  const graph::Operand& writing(const graph::Stage& stage, int output) const;
  // The element's index per dimension; nullopt: no element, since a divisor does not divide.
  std::optional<std::vector<std::int64_t>> position(const graph::Operand& operand,
                                                    const Point& point) const;
  // Its number in row-major order; nullopt: outside of the tensor.
  static std::optional<std::int64_t> element(const graph::Operand& operand,
                                             const std::vector<std::int64_t>& position);
  std::int64_t element_at(const graph::Operand& operand, const Point& point) const;
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
const std::vector<InterpretRow>& all_interpreters();

// Whether the op only moves elements, so that its outputs keep codes and bias (docs/graph.md): one
// operand is read, in the output's format, and nothing but zeros is put beside its elements.
bool keeps_codes(const graph::Graph& graph, const graph::Op& op);

// The element of `from`, which broadcasts to `shape`, for element i of that shape.
std::int64_t broadcast_element(const graph::Shape& from, const graph::Shape& shape, std::int64_t i);

}  // namespace dojo::run::internal
