// The invariants of a Graph. Everything that is made, read or rewritten passes here; all code after
// it may rely on it.
//
// Every Graph: names are unique and well formed; ranks and extents within kMax...; every op value
// has one definition before its uses; operands, attributes, shapes and formats are those of the
// op's row; updates go to weights, buffers and states, once each, with the same type.
// Not lowered: floats of op values are F32; no fused or stochastic values, no k_parts.
// Lowered: a fused value is FP32, with exactly one reader, in the phase of its definition; an op
// that only moves elements keeps their format, unless its output is fused; no row that is for
// unlowered Graphs only; k_parts cut reduce loops of the op's nest, in its order, into
// at least two parts.
#pragma once

#include <cstdint>
#include <optional>

#include "dojo/graph/graph.h"

namespace dojo::graph {

inline constexpr std::size_t kMaxRank = 16;
inline constexpr std::int64_t kMaxExtent = std::int64_t{1} << 40;
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 48;  // of one tensor

// Errors name the value, the op and its module.
Result<void> verify(const Graph& graph);

// What is wrong and where, for those who can point at it.
struct Problem {
  Error error;
  std::optional<OpId> op;
  std::optional<ValueId> value;
};
std::optional<Problem> find_problem(const Graph& graph);

}  // namespace dojo::graph
