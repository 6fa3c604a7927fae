// assign_roles: what each tensor is for. A value and everything that only moves its elements (its
// group) have one role; it follows from who reads the group.
#include <algorithm>

#include "dojo/graph/internal/op_classes.h"
#include "dojo/graph/internal/value_groups.h"
#include "dojo/graph/lower_passes.h"

namespace dojo::graph {

ValueGroups value_groups(const Graph& graph) {
  ValueGroups groups;
  groups.root.resize(graph.values.size());
  groups.reads.resize(graph.values.size());
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    groups.root[i] = ValueId{i};
  }
  for (std::uint32_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (is_move(op)) {
      for (const std::optional<ValueId>& output : op.outputs) {
        if (output.has_value()) {
          groups.root[output->index] = groups.root[op.inputs[0]->index];
        }
      }
      continue;
    }
    for (std::size_t slot = 0; slot < op.inputs.size(); ++slot) {
      if (op.inputs[slot].has_value()) {
        groups.reads[groups.root[op.inputs[slot]->index].index].push_back({OpId{i}, slot});
      }
    }
  }
  return groups;
}

namespace {

class RoleAssigner {
 public:
  explicit RoleAssigner(Graph& graph)
      : graph_(graph), groups_(value_groups(graph)), uses_(uses_of(graph)) {}

  void run() {
    find_matrix_reach();
    find_residuals();
    for (std::size_t i = graph_.ops.size(); i-- > 0;) {
      const Op& op = graph_.ops[i];
      if (is_move(op)) {
        continue;
      }
      for (std::size_t slot = 0; slot < op.outputs.size(); ++slot) {
        if (op.outputs[slot].has_value() && is_float(graph_.value(*op.outputs[slot]).format)) {
          graph_.value(*op.outputs[slot]).role = role_of(op, slot, *op.outputs[slot]);
        }
      }
    }
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      graph_.values[i].role = graph_.value(groups_.root[i]).role;
    }
  }

 private:
  const std::vector<Read>& reads(ValueId value) const { return groups_.reads[value.index]; }
  const Op& op(const Read& read) const { return graph_.ops[read.op.index]; }

  bool is_matrix_operand(ValueId root) const {
    return std::any_of(reads(root).begin(), reads(root).end(), [&](const Read& read) {
      const std::vector<std::size_t> operands = matrix_operands(op(read));
      return std::find(operands.begin(), operands.end(), read.slot) != operands.end();
    });
  }

  // Which values have a matrix operation before them in their phase, and after them.
  void find_matrix_reach() {
    has_matrix_before_.assign(graph_.values.size(), false);
    has_matrix_after_.assign(graph_.values.size(), false);
    for (const Op& each : graph_.ops) {
      bool before = !matrix_operands(each).empty();
      for (const std::optional<ValueId>& input : each.inputs) {
        if (input.has_value() && is_same_phase(*input, each)) {
          before = before || has_matrix_before_[input->index];
        }
      }
      for (const std::optional<ValueId>& output : each.outputs) {
        if (output.has_value()) {
          has_matrix_before_[output->index] = before;
        }
      }
    }
    for (std::size_t i = graph_.ops.size(); i-- > 0;) {
      const Op& each = graph_.ops[i];
      bool after = !matrix_operands(each).empty();
      for (const std::optional<ValueId>& output : each.outputs) {
        after = after || (output.has_value() && has_matrix_after_[output->index]);
      }
      for (const std::optional<ValueId>& input : each.inputs) {
        if (input.has_value() && is_same_phase(*input, each)) {
          has_matrix_after_[input->index] = has_matrix_after_[input->index] || after;
        }
      }
    }
  }

  bool is_same_phase(ValueId value, const Op& reader) const {
    const std::optional<OpId> definition = uses_.definition[value.index];
    return definition.has_value() && graph_.ops[definition->index].phase == reader.phase;
  }

  // x + f(x): an add of two op values of one shape, rank 2 or more, before the last matrix
  // operation of the forward part (or anywhere in the backward part). Residual are its result and
  // each of its operands that something else reads, too.
  void find_residuals() {
    is_residual_.assign(graph_.values.size(), false);
    for (const Op& each : graph_.ops) {
      if (!is_op(each, "aten.add") || each.phase == Phase::Update || each.inputs.size() < 2 ||
          !each.inputs[0].has_value() || !each.inputs[1].has_value()) {
        continue;
      }
      const Value& result = graph_.value(*each.outputs[0]);
      const bool is_in_trunk =
          each.phase == Phase::Backward || has_matrix_after_[each.outputs[0]->index];
      if (!is_float(result.format) || result.shape.size() < 2 || !is_in_trunk) {
        continue;
      }
      bool are_alike = true;
      for (const std::optional<ValueId>& input : each.inputs) {
        const ValueId root = groups_.root[input->index];
        are_alike = are_alike && graph_.value(*input).shape == result.shape &&
                    graph_.value(root).kind == ValueKind::Op;
      }
      if (!are_alike) {
        continue;
      }
      is_residual_[each.outputs[0]->index] = true;
      for (const std::optional<ValueId>& input : each.inputs) {
        const ValueId root = groups_.root[input->index];
        if (reads(root).size() > 1) {
          is_residual_[root.index] = true;
        }
      }
    }
  }

  // What the backward part makes for updates alone, or for nobody: then it is handed out. Readers
  // come later in the op list, so their roles are known: this runs from the last op.
  bool is_weight_gradient(ValueId root) const {
    return std::all_of(reads(root).begin(), reads(root).end(), [&](const Read& read) {
      const Op& reader = op(read);
      return reader.phase == Phase::Update ||
             (is_op(reader, "aten.add") &&
              graph_.value(*reader.outputs[0]).role == Role::WeightGradient);
    });
  }

  bool is_norm_input(ValueId root) const {
    return std::any_of(reads(root).begin(), reads(root).end(),
                       [&](const Read& read) { return is_norm(op(read)) && read.slot == 0; });
  }

  // Rounding is monotone, so the largest of rounded values is the largest value, rounded: what a
  // maximum makes an operand of can be stored as one.
  bool is_pooled_into_operand(ValueId root) const {
    return std::any_of(reads(root).begin(), reads(root).end(), [&](const Read& read) {
      const Op& reader = op(read);
      return is_op(reader, "aten.max_pool2d_with_indices") && reader.outputs[0].has_value() &&
             graph_.value(*reader.outputs[0]).role == Role::MatrixOperand;
    });
  }

  Role role_of(const Op& definition, std::size_t slot, ValueId value) const {
    if (definition.phase == Phase::Update) {
      return updated_role(definition, slot);
    }
    if (definition.phase == Phase::Forward) {
      return forward_role(definition, slot, value);
    }
    return backward_role(definition, value);
  }

  // What an optimiser makes of a weight and its states.
  Role updated_role(const Op& definition, std::size_t slot) const {
    const std::optional<std::size_t> operand = updated_operand(definition, slot);
    if (!operand.has_value() || !definition.inputs[*operand].has_value()) {
      return Role::None;
    }
    switch (slot) {
      case 0:
        return is_matrix_operand(groups_.root[definition.inputs[*operand]->index])
                   ? Role::MasterWeight
                   : Role::MasterParameter;
      case 1:
        return Role::FirstMoment;
      default:
        return Role::SecondMoment;
    }
  }

  Role forward_role(const Op& definition, std::size_t slot, ValueId value) const {
    if (is_norm(definition) && slot > 0) {
      return Role::Statistic;
    }
    if (!has_matrix_after_[value.index] && has_matrix_before_[value.index]) {
      return Role::Loss;
    }
    if (is_residual_[value.index]) {
      return Role::Residual;
    }
    if (is_norm_input(value)) {
      return Role::PreNorm;
    }
    const bool is_operand = is_matrix_operand(value) || is_pooled_into_operand(value);
    return is_operand ? Role::MatrixOperand : Role::Activation;
  }

  Role backward_role(const Op& definition, ValueId value) const {
    if (is_weight_gradient(value)) {
      return Role::WeightGradient;
    }
    if (!has_matrix_before_[value.index] && !is_matrix_operand(value)) {
      return Role::Loss;
    }
    if (is_residual_[value.index]) {
      return Role::GradientResidual;
    }
    if (is_matrix_operand(value)) {
      return Role::GradientOperand;
    }
    return is_norm_backward(definition) ? Role::GradientPreNorm : Role::Gradient;
  }

  Graph& graph_;
  ValueGroups groups_;
  Uses uses_;
  std::vector<bool> has_matrix_before_;
  std::vector<bool> has_matrix_after_;
  std::vector<bool> is_residual_;
};

}  // namespace

void assign_roles(Graph& graph) { RoleAssigner(graph).run(); }

}  // namespace dojo::graph
