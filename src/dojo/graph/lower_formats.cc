// choose_formats: the recipe's format for each role, of leaves that are updated, too, and a
// dojo.convert wherever a matrix operation wants an operand in another format than it is stored in.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "dojo/base/text.h"
#include "dojo/graph/internal/op_classes.h"
#include "dojo/graph/internal/value_groups.h"
#include "dojo/graph/lower_passes.h"

namespace dojo::graph {
namespace {

class FormatChooser {
 public:
  FormatChooser(Graph& graph, const Recipe& recipe)
      : graph_(graph),
        recipe_(recipe),
        groups_(value_groups(graph)),
        definition_(uses_of(graph).definition),
        used_(recipe.overrides.size(), false) {
    find_first_and_last();
    for (const Value& value : graph.values) {
      names_.insert(value.name);
    }
  }

  Result<void> run() {
    store_roots();
    store_leaves();
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      convert_operands(OpId{i});
    }
    read_codes_in_backward();
    place_inserted_ops();
    for (std::size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i]) {
        const RecipeOverride& row = recipe_.overrides[i];
        return Error{
            ErrorKind::InvalidInput,
            fmt::format("recipe override {}={}:{} matches no tensor: give a module path "
                        "that `dojo graph show` prints after @, and a role it has",
                        row.module_pattern, name_of(row.role), info(row.stored.format).name)};
      }
    }
    return {};
  }

 private:
  // The matrix operations of the forward part without another one before, or without one after.
  void find_first_and_last() {
    std::vector<bool> has_before(graph_.values.size(), false);
    std::vector<bool> has_after(graph_.values.size(), false);
    bool has_embedding = false;
    for (const Op& op : graph_.ops) {
      if (op.phase != Phase::Forward) {
        continue;
      }
      bool before = false;
      for (const std::optional<ValueId>& input : op.inputs) {
        before = before || (input.has_value() && has_before[input->index]);
      }
      has_embedding = has_embedding || is_op(op, "aten.embedding");
      const bool is_matrix = !matrix_operands(op).empty();
      if (is_matrix && !before && !has_embedding) {
        first_and_last_.insert(op.module);
      }
      for (const std::optional<ValueId>& output : op.outputs) {
        if (output.has_value()) {
          has_before[output->index] = before || is_matrix;
        }
      }
    }
    for (auto op = graph_.ops.rbegin(); op != graph_.ops.rend(); ++op) {
      if (op->phase != Phase::Forward) {
        continue;
      }
      bool after = false;
      for (const std::optional<ValueId>& output : op->outputs) {
        after = after || (output.has_value() && has_after[output->index]);
      }
      const bool is_matrix = !matrix_operands(*op).empty();
      if (is_matrix && !after) {
        first_and_last_.insert(op->module);
      }
      for (const std::optional<ValueId>& input : op->inputs) {
        if (input.has_value()) {
          has_after[input->index] = has_after[input->index] || after || is_matrix;
        }
      }
    }
    first_and_last_.erase("");  // an operation outside of all modules names no layer
  }

  // The recipe's line for a role in a module; the last override that matches wins.
  StoredAs stored_as(Role role, const std::string& module) {
    StoredAs stored = recipe_.stored_as(role);
    const bool is_operand = role == Role::WeightOperand || role == Role::MatrixOperand ||
                            role == Role::GradientOperand ||
                            (role == Role::MasterWeight && !recipe_.has_masters());
    if (is_operand && first_and_last_.contains(module)) {
      stored.format = recipe_.first_and_last;
    }
    for (std::size_t i = 0; i < recipe_.overrides.size(); ++i) {
      const RecipeOverride& row = recipe_.overrides[i];
      if (row.role == role && matches(row.module_pattern, module)) {
        stored = row.stored;
        used_[i] = true;
      }
    }
    return stored;
  }

  // An input that only the backward part reads is the gradient of an output.
  bool is_gradient_input(ValueId root) const {
    return graph_.value(root).kind == ValueKind::Input &&
           std::none_of(groups_.reads[root.index].begin(), groups_.reads[root.index].end(),
                        [&](const Read& read) {
                          return graph_.ops[read.op.index].phase != Phase::Backward;
                        });
  }

  Role operand_role(ValueId root) const {
    const Value& value = graph_.value(root);
    if (value.kind == ValueKind::Weight || value.kind == ValueKind::Buffer) {
      return Role::WeightOperand;
    }
    if (is_gradient_input(root)) {
      return Role::GradientOperand;
    }
    const std::optional<OpId> definition = definition_[root.index];
    const bool is_gradient =
        definition.has_value() && graph_.ops[definition->index].phase == Phase::Backward;
    return is_gradient ? Role::GradientOperand : Role::MatrixOperand;
  }

  // The format in which each op value is stored; moved values follow their root.
  void store_roots() {
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      Value& value = graph_.values[i];
      const std::optional<OpId> definition = definition_[i];
      if (groups_.root[i].index != i || !definition.has_value() || !is_float(value.format)) {
        continue;
      }
      const std::string& module = graph_.ops[definition->index].module;
      const bool is_operand =
          value.role == Role::MatrixOperand || value.role == Role::GradientOperand;
      const StoredAs stored =
          is_operand ? stored_operand_root(ValueId{i}) : stored_as(value.role, module);
      value.format = stored.format;
      value.is_stochastic = stored.is_stochastic;
    }
  }

  // A leaf has the format of what an optimiser makes of it; moved values follow their root.
  void store_leaves() {
    for (const Update& update : graph_.updates) {
      const Value& value = graph_.value(groups_.root[update.value.index]);
      if (value.role == Role::MasterWeight || value.role == Role::MasterParameter ||
          value.role == Role::FirstMoment || value.role == Role::SecondMoment) {
        graph_.value(update.target).format = value.format;
      }
    }
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      if (graph_.values[i].kind == ValueKind::Op && is_float(graph_.values[i].format)) {
        graph_.values[i].format = graph_.value(groups_.root[i]).format;
      }
    }
    for (Op& op : graph_.ops) {
      if (is_op(op, "dojo.adamw") && graph_.value(*op.inputs[3]).format == Format::Uhp) {
        op.attributes["v_scale"] = recipe_.second_moment_scale;
      }
    }
  }

  // What the group's matrix readers want, if they agree; otherwise an ordinary activation, and each
  // reader gets its own conversion.
  StoredAs stored_operand_root(ValueId root) {
    Value& value = graph_.value(root);
    std::optional<StoredAs> wanted;
    for (const Read& read : groups_.reads[root.index]) {
      const Op& reader = graph_.ops[read.op.index];
      if (!is_matrix_slot(reader, read.slot)) {
        continue;
      }
      const StoredAs stored = stored_as(value.role, reader.module);
      if (wanted.has_value() && *wanted != stored) {
        value.role = value.role == Role::MatrixOperand ? Role::Activation : Role::Gradient;
        return stored_as(value.role, graph_.ops[definition_[root.index]->index].module);
      }
      wanted = stored;
    }
    // Without a matrix reader of its own it is an operand through a pooling.
    const std::string& module = graph_.ops[definition_[root.index]->index].module;
    return wanted.has_value() ? *wanted : stored_as(value.role, module);
  }

  static bool is_matrix_slot(const Op& op, std::size_t slot) {
    const std::vector<std::size_t> operands = matrix_operands(op);
    return std::find(operands.begin(), operands.end(), slot) != operands.end();
  }

  void convert_operands(OpId id) {
    for (const std::size_t slot : matrix_operands(graph_.ops[id.index])) {
      const ValueId operand = *graph_.ops[id.index].inputs[slot];
      if (!is_float(graph_.value(operand).format)) {
        continue;  // integers are exact operands
      }
      const Role role = operand_role(groups_.root[operand.index]);
      const StoredAs stored = stored_as(role, graph_.ops[id.index].module);
      graph_.ops[id.index].inputs[slot] = in_format(operand, stored, role, id);
    }
  }

  // The same elements in that format: the value itself, or a conversion of its root moved alike.
  ValueId in_format(ValueId value, StoredAs stored, Role role, OpId reader) {
    const Format format = stored.format;
    if (graph_.value(value).format == format) {
      return value;
    }
    const auto key = std::make_pair(value.index, format);
    if (const auto found = converted_.find(key); found != converted_.end()) {
      return found->second;
    }
    const std::optional<OpId> definition = definition_[value.index];
    const bool is_moved = definition.has_value() && groups_.root[value.index] != value;
    Op op;
    if (is_moved) {
      op = graph_.ops[definition->index];
      op.inputs[0] = in_format(*op.inputs[0], stored, role, *definition);
    } else {
      op.info = find_op("dojo.convert");
      op.inputs = {value};
      const std::optional<OpId> at = definition.has_value() ? definition : first_reader(value);
      op.module = graph_.ops[definition.has_value() ? at->index : reader.index].module;
      op.phase = graph_.ops[at->index].phase;
    }
    Value result = graph_.value(value);
    result.kind = ValueKind::Op;
    result.label.clear();
    result.format = format;
    result.is_stochastic = stored.is_stochastic && !is_moved;
    result.role = role;
    result.name =
        unused_name(fmt::format("{}.{}", result.name, format == Format::Bf16 ? "b" : "c"));
    const ValueId id = graph_.add(std::move(result));
    if (is_moved) {
      for (std::optional<ValueId>& output : op.outputs) {
        output = output == std::optional(value) ? std::optional(id) : std::nullopt;
      }
    } else {
      op.outputs = {id};
    }
    const auto position =
        definition.has_value() ? definition->index + 1 : first_reader(value)->index;
    inserted_[position].push_back(std::move(op));
    converted_.emplace(key, id);
    return id;
  }

  std::optional<OpId> first_reader(ValueId value) const {
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      const std::vector<std::optional<ValueId>>& inputs = graph_.ops[i].inputs;
      if (std::find(inputs.begin(), inputs.end(), std::optional(value)) != inputs.end()) {
        return OpId{i};
      }
    }
    return std::nullopt;
  }

  std::string unused_name(const std::string& wanted) {
    std::string name = wanted;
    for (int i = 1; names_.contains(name); ++i) {
      name = fmt::format("{}{}", wanted, i);
    }
    names_.insert(name);
    return name;
  }

  // The backward part keeps codes: where a forward value was converted for a matrix operation, its
  // element-wise readers in the backward part read the converted value, so that only that is saved.
  void read_codes_in_backward() {
    for (Op& op : graph_.ops) {
      if (op.phase != Phase::Backward || !is_elementwise(op)) {
        continue;
      }
      for (std::optional<ValueId>& input : op.inputs) {
        if (!input.has_value() || graph_.value(*input).kind != ValueKind::Op ||
            is_defined_in_backward(*input)) {
          continue;
        }
        for (const auto& [key, converted] : converted_) {
          if (key.first == input->index) {
            input = converted;
            break;
          }
        }
      }
    }
  }

  bool is_defined_in_backward(ValueId value) const {
    return value.index < definition_.size() && definition_[value.index].has_value() &&
           graph_.ops[definition_[value.index]->index].phase == Phase::Backward;
  }

  void place_inserted_ops() {
    std::vector<Op> ops;
    for (std::uint32_t i = 0; i <= graph_.ops.size(); ++i) {
      if (const auto found = inserted_.find(i); found != inserted_.end()) {
        for (Op& op : found->second) {
          ops.push_back(std::move(op));
        }
      }
      if (i < graph_.ops.size()) {
        ops.push_back(std::move(graph_.ops[i]));
      }
    }
    graph_.ops = std::move(ops);
  }

  Graph& graph_;
  const Recipe& recipe_;
  ValueGroups groups_;
  std::vector<std::optional<OpId>> definition_;
  std::vector<bool> used_;  // by override: it matched something
  std::set<std::string> first_and_last_;
  std::set<std::string> names_;
  std::map<std::pair<std::uint32_t, Format>, ValueId> converted_;
  std::map<std::uint32_t, std::vector<Op>> inserted_;  // before the op of that index
};

}  // namespace

Result<void> choose_formats(Graph& graph, const Recipe& recipe) {
  return FormatChooser(graph, recipe).run();
}

}  // namespace dojo::graph
