#include "dojo/graph/statistics.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"

namespace dojo::graph {
namespace {

void add(OpStatistics& sum, const OpStatistics& each) {
  sum.matrix_flops += each.matrix_flops;
  sum.macs_inside += each.macs_inside;
  sum.vector_ops += each.vector_ops;
  sum.special_ops += each.special_ops;
  sum.conversions += each.conversions;
  sum.bytes_read += each.bytes_read;
  sum.bytes_written += each.bytes_written;
}

// The most that any stage touches of an operand; stages of one op read it from where it lies.
void note_bytes(std::map<std::pair<TensorKind, int>, Bytes>& touched, const Graph& graph,
                const Op& op, const Stage& stage, const Operand& operand, const Slice& all) {
  const auto& slots = operand.tensor.kind == TensorKind::Input ? op.inputs : op.outputs;
  if (operand.tensor.kind == TensorKind::Scratch ||
      (operand.tensor.kind == TensorKind::Output && operand.use == OperandUse::Read)) {
    return;
  }
  const std::optional<ValueId> id = slots[operand.tensor.index];
  if (!id.has_value() || graph.value(*id).is_fused) {
    return;
  }
  Bytes& bytes_touched = touched[{operand.tensor.kind, operand.tensor.index}];
  bytes_touched = std::max(bytes_touched, bytes(stage, operand, all, graph.value(*id).format));
}

}  // namespace

OpStatistics statistics_of(const Graph& graph, const Op& op) {
  const LoopNest nest = nest_of(graph, op);
  const Slice all = whole_slice(nest);
  OpStatistics out;
  out.matrix_flops = flops(nest);
  out.macs_inside = macs_inside(nest);
  std::map<std::pair<TensorKind, int>, Bytes> touched;
  for (const Stage& stage : nest.stages) {
    const PointCost total = work(nest, stage).total;
    out.vector_ops += total.vector_ops;
    out.special_ops += total.special_ops;
    out.conversions += total.conversions;
    for (const Operand& operand : stage.operands) {
      note_bytes(touched, graph, op, stage, operand, all);
    }
  }
  for (const auto& [tensor, size] : touched) {
    (tensor.first == TensorKind::Input ? out.bytes_read : out.bytes_written) += size;
  }
  return out;
}

OpStatistics Statistics::total() const {
  OpStatistics sum;
  for (const OpStatistics& phase : by_phase) {
    add(sum, phase);
  }
  return sum;
}

namespace {

nlohmann::ordered_json to_json(const OpStatistics& each) {
  return {{"matrix_flops", each.matrix_flops.count()},
          {"macs_inside", each.macs_inside},
          {"vector_ops", each.vector_ops},
          {"special_ops", each.special_ops},
          {"conversions", each.conversions},
          {"bytes_read", each.bytes_read.count()},
          {"bytes_written", each.bytes_written.count()}};
}

}  // namespace

std::string statistics_json(const Statistics& statistics) {
  const nlohmann::ordered_json json{{"parameters", statistics.parameters},
                                    {"total", to_json(statistics.total())},
                                    {"forward", to_json(statistics.by_phase[0])},
                                    {"backward", to_json(statistics.by_phase[1])},
                                    {"update", to_json(statistics.by_phase[2])},
                                    {"weight_bytes", statistics.weight_bytes.count()},
                                    {"buffer_bytes", statistics.buffer_bytes.count()},
                                    {"state_bytes", statistics.state_bytes.count()},
                                    {"input_bytes", statistics.input_bytes.count()},
                                    {"saved_bytes", statistics.saved_bytes.count()},
                                    {"saved_bytes_f32", statistics.saved_bytes_f32.count()},
                                    {"ops", statistics.ops}};
  return json.dump(2) + "\n";
}

std::vector<ValueId> saved_values(const Graph& graph) {
  const Uses uses = uses_of(graph);
  std::vector<bool> is_saved(graph.values.size(), false);
  for (const Op& op : graph.ops) {
    for (std::size_t i = 0; i < op.inputs.size() && op.phase != Phase::Forward; ++i) {
      const auto operand = std::min(i, op.info->operands.size() - 1);
      if (op.inputs[i].has_value() && !op.info->operands[operand].is_shape_only) {
        const ValueId root = storage_of(graph, uses, *op.inputs[i]);
        const std::optional<OpId> definition = uses.definition[root.index];
        is_saved[root.index] = definition.has_value() &&
                               graph.ops[definition->index].phase == Phase::Forward &&
                               graph.value(root).role != Role::WeightOperand;
      }
    }
  }
  std::vector<ValueId> out;
  for (std::uint32_t i = 0; i < is_saved.size(); ++i) {
    if (is_saved[i]) {
      out.push_back(ValueId{i});
    }
  }
  return out;
}

Statistics statistics_of(const Graph& graph) {
  Statistics out;
  for (const Op& op : graph.ops) {
    ++out.ops[std::string(op.info->name)];
    add(out.by_phase[static_cast<std::size_t>(op.phase)], statistics_of(graph, op));
  }
  for (const Value& value : graph.values) {
    switch (value.kind) {
      case ValueKind::Weight:
        out.parameters += element_count(value.shape);
        out.weight_bytes += stored_bytes(value);
        break;
      case ValueKind::Buffer:
        out.buffer_bytes += stored_bytes(value);
        break;
      case ValueKind::State:
        out.state_bytes += stored_bytes(value);
        break;
      case ValueKind::Input:
        out.input_bytes += stored_bytes(value);
        break;
      case ValueKind::Op:
        break;
    }
  }
  for (const ValueId id : saved_values(graph)) {
    Value value = graph.value(id);
    out.saved_bytes += stored_bytes(value);
    value.format = is_float(value.format) ? Format::F32 : value.format;
    out.saved_bytes_f32 += stored_bytes(value);
  }
  return out;
}

}  // namespace dojo::graph
