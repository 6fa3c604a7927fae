// What `lower` needs to know of an op beyond its table row.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/graph/op_table.h"

namespace dojo::graph {

inline bool is_op(const Op& op, std::string_view name) { return op.info->name == name; }

// Operand positions that go into the matrix unit.
inline std::vector<std::size_t> matrix_operands(const Op& op) {
  if (op.info->group != OpGroup::Matrix) {
    return {};
  }
  const bool adds_first = is_op(op, "aten.addmm") || is_op(op, "aten.baddbmm");
  return adds_first ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{0, 1};
}

// One operand whose elements are only moved (or padded with zeros): outputs keep codes and bias.
inline bool is_move(const Op& op) {
  if (op.info->group != OpGroup::Movement || op.info->operands.size() != 1 ||
      op.info->is_variadic || is_op(op, "aten._to_copy") || is_op(op, "dojo.convert")) {
    return false;
  }
  return !is_op(op, "aten.constant_pad_nd") || float_attr(op, "value") == 0;
}

// Output element i depends on element i (or the broadcast element) of each operand alone.
inline bool is_elementwise(const Op& op) {
  return op.info->group == OpGroup::Elementwise || is_op(op, "dojo.convert");
}

// Whether the reader can compute that operand of its in the same pass.
inline bool takes_over(const Graph& graph, const Op& reader, const Value& operand) {
  return is_elementwise(reader) && reader.outputs.front().has_value() &&
         element_count(graph.value(*reader.outputs.front()).shape) == element_count(operand.shape);
}

// A normalisation that reads its stored input (operand 0) and writes statistics beside output 0.
inline bool is_norm(const Op& op) {
  return op.info->group == OpGroup::Normalisation && !op.info->name.ends_with("_backward");
}

inline bool is_norm_backward(const Op& op) {
  return op.info->group == OpGroup::Normalisation && op.info->name.ends_with("_backward");
}

// Computed row by row in one pass over the operand, so that a producer can feed it.
inline bool is_softmax(const Op& op) {
  return op.info->group == OpGroup::Softmax && !op.info->name.ends_with("_backward_data");
}

// Which operand of an optimiser's op becomes its output i: the weight, then the states.
inline std::optional<std::size_t> updated_operand(const Op& op, std::size_t output) {
  constexpr std::array<std::string_view, 3> kNames{"w", "m", "v"};
  if (op.info->group != OpGroup::Update || output >= kNames.size()) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < op.info->operands.size(); ++i) {
    if (op.info->operands[i].name == kNames[output]) {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace dojo::graph
