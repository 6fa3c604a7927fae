#include "dojo/graph/graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <unordered_map>

#include "dojo/base/text.h"
#include "dojo/graph/internal/saturating.h"
#include "dojo/graph/internal/words.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"

namespace dojo::graph {

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    count = saturating_multiply(count, extent);
  }
  return count;
}

const std::vector<RoleInfo>& roles() {
  static const std::vector<RoleInfo> rows{
      {Role::None, "none", "not decided, or an integer or a mask"},
      {Role::WeightOperand, "weight_operand", "a weight as a matrix or convolution operand"},
      {Role::MatrixOperand, "matrix_operand",
       "an activation that is a matrix or convolution operand"},
      {Role::PreNorm, "pre_norm", "stored input of a normalisation"},
      {Role::Residual, "residual", "the residual stream"},
      {Role::Activation, "activation", "any other stored activation"},
      {Role::Statistic, "statistic", "means, variances, softmax maxima and sums"},
      {Role::Loss, "loss", "the loss and what leads to it from the last layer"},
      {Role::GradientOperand, "gradient_operand",
       "gradient that is a matrix or convolution operand"},
      {Role::GradientPreNorm, "gradient_pre_norm", "gradient of a stored input of a normalisation"},
      {Role::GradientResidual, "gradient_residual", "gradient of the residual stream"},
      {Role::Gradient, "gradient", "any other gradient of an activation"},
      {Role::WeightGradient, "weight_gradient", "gradient of a parameter"},
      {Role::MasterWeight, "master_weight", "a weight of products, as it lives from step to step"},
      {Role::MasterParameter, "master_parameter",
       "any other parameter, as it lives from step to step"},
      {Role::FirstMoment, "first_moment", "the optimiser's momentum, or mean of gradients"},
      {Role::SecondMoment, "second_moment", "the optimiser's mean of squared gradients"},
  };
  return rows;
}

std::string_view name_of(Phase phase) { return kPhaseWords[static_cast<std::size_t>(phase)]; }

std::string_view name_of(Role role) { return roles()[static_cast<std::size_t>(role)].name; }

std::optional<Role> role_named(std::string_view name) {
  for (const RoleInfo& row : roles()) {
    if (row.name == name) {
      return row.role;
    }
  }
  return std::nullopt;
}

ValueId Graph::add(Value value) {
  values.push_back(std::move(value));
  return ValueId{static_cast<std::uint32_t>(values.size() - 1)};
}

Bytes stored_bytes(const Value& value) {
  return Bytes(saturating_multiply(element_count(value.shape), bytes_of(value.format)));
}

Uses uses_of(const Graph& graph) {
  Uses uses;
  uses.definition.resize(graph.values.size());
  uses.readers.resize(graph.values.size());
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
    for (const std::optional<ValueId>& output : graph.ops[i].outputs) {
      if (output.has_value()) {
        uses.definition[output->index] = OpId{i};
      }
    }
    for (const std::optional<ValueId>& input : graph.ops[i].inputs) {
      if (input.has_value()) {
        std::vector<OpId>& readers = uses.readers[input->index];
        if (readers.empty() || readers.back() != OpId{i}) {
          readers.push_back(OpId{i});
        }
      }
    }
  }
  return uses;
}

ValueId storage_of(const Graph& graph, const Uses& uses, ValueId id) {
  while (uses.definition[id.index].has_value()) {
    const Op& op = graph.ops[uses.definition[id.index]->index];
    if (!op.info->is_strided_view || graph.value(*op.inputs[0]).format != graph.value(id).format) {
      break;
    }
    id = *op.inputs[0];
  }
  return id;
}

namespace {

std::string_view name_of(ValueKind kind) {
  switch (kind) {
    case ValueKind::Op:
      return "op";
    case ValueKind::Input:
      return "input";
    case ValueKind::Weight:
      return "weight";
    case ValueKind::Buffer:
      return "buffer";
    case ValueKind::State:
      return "state";
  }
  return "";
}

// What the ids are the hashes of, by value index; fields are divided by a character that the text
// form escapes, so that no two lists of fields give one key.
std::vector<std::string> tensor_keys(const Graph& graph) {
  std::vector<std::string> keys(graph.values.size());
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (graph.values[i].kind != ValueKind::Op) {
      keys[i] = fmt::format("{}\x1f{}", name_of(graph.values[i].kind), graph.values[i].label);
    }
  }
  std::unordered_map<std::string, int> ordinals;
  for (const Op& op : graph.ops) {
    for (const std::optional<ValueId>& output : op.outputs) {
      if (output.has_value()) {
        std::string key = fmt::format("op\x1f{}\x1f{}\x1f{}", op.module, static_cast<int>(op.phase),
                                      name_of(graph.value(*output).role));
        const int ordinal = ordinals[key]++;
        keys[output->index] = fmt::format("{}\x1f{}", key, ordinal);
      }
    }
  }
  return keys;
}

}  // namespace

Result<std::vector<std::uint32_t>> tensor_ids(const Graph& graph) {
  const std::vector<std::string> keys = tensor_keys(graph);
  std::vector<std::uint32_t> ids(graph.values.size());
  std::unordered_map<std::string_view, std::size_t> owner_of_key;
  std::unordered_map<std::uint32_t, std::size_t> owner_of_id;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Value& value = graph.values[i];
    if (const auto [same, is_new] = owner_of_key.emplace(keys[i], i); !is_new) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("%{} and %{} are both {} {}: give each its own label",
                               graph.values[same->second].name, value.name, name_of(value.kind),
                               quoted(value.label))};
    }
    ids[i] = static_cast<std::uint32_t>(std::stoul(sha256_hex(keys[i]).substr(0, 8), nullptr, 16));
    const bool hangs_on_it = !value.is_fused && !value.again_of.has_value() &&
                             (value.is_stochastic || has_bias(value.format));
    if (!hangs_on_it) {
      continue;
    }
    if (const auto [same, is_new] = owner_of_id.emplace(ids[i], i); !is_new) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("%{} and %{} have the same tensor id {:08x}: rename the module of "
                               "one of them",
                               graph.values[same->second].name, value.name, ids[i])};
    }
  }
  return ids;
}

std::string graph_sha256(const Graph& graph) { return sha256_hex(print_graph(graph)); }

}  // namespace dojo::graph
