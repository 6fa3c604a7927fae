#include "dojo/graph/lower.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "dojo/base/text.h"
#include "dojo/graph/internal/op_classes.h"
#include "dojo/graph/lower_passes.h"

namespace dojo::graph {
namespace {

// `wanted`, or with a number behind it if that is taken; the result is taken from now on.
std::string unused_name(const std::string& wanted, std::set<std::string>& taken) {
  std::string name = wanted;
  for (int i = 1; taken.contains(name); ++i) {
    name = fmt::format("{}.{}", wanted, i);
  }
  taken.insert(name);
  return name;
}

}  // namespace

void give_masks_a_site(Graph& graph) {
  std::map<std::string, std::int64_t> ordinal;
  for (Op& op : graph.ops) {
    if (is_op(op, "dojo.mask")) {
      const std::string key = fmt::format("mask|{}|{}", op.module, ordinal[op.module]++);
      op.attributes["site"] = std::int64_t{std::stoll(sha256_hex(key).substr(0, 8), nullptr, 16)};
    }
  }
}

namespace {

// Computes again, for the backward part, what the forward part made of inputs alone.
class Recomputer {
 public:
  explicit Recomputer(Graph& graph) : graph_(graph), definition_(uses_of(graph).definition) {
    is_cheap_.resize(graph.values.size(), false);
    for (std::size_t i = 0; i < graph.values.size(); ++i) {
      const ValueKind kind = graph.values[i].kind;
      is_cheap_[i] = kind == ValueKind::Input || kind == ValueKind::Buffer;
      names_.insert(graph.values[i].name);
    }
  }

  void run() {
    std::vector<Op> ops;
    for (Op& op : graph_.ops) {
      if (op.phase == Phase::Forward) {
        note(op);
      } else if (op.phase == Phase::Backward) {
        for (std::optional<ValueId>& input : op.inputs) {
          if (input.has_value()) {
            input = again(*input, ops);
          }
        }
      }
      ops.push_back(op);
    }
    graph_.ops = std::move(ops);
  }

 private:
  // One pass over the elements, from cheap operands, and neither a bias nor random bits of its own,
  // which a second tensor would not share.
  void note(const Op& op) {
    const bool is_one_pass = is_elementwise(op) || is_move(op) || op.info->group == OpGroup::Make;
    if (!is_one_pass || op.outputs.size() != 1 || has_bias(graph_.value(*op.outputs[0]).format) ||
        graph_.value(*op.outputs[0]).is_stochastic) {
      return;
    }
    is_cheap_[op.outputs[0]->index] =
        std::all_of(op.inputs.begin(), op.inputs.end(), [&](const std::optional<ValueId>& input) {
          return !input.has_value() || is_cheap_[input->index];
        });
  }

  ValueId again(ValueId value, std::vector<Op>& ops) {
    const bool is_forward = value.index < definition_.size() &&
                            definition_[value.index].has_value() &&
                            graph_.ops[definition_[value.index]->index].phase == Phase::Forward;
    if (!is_forward || !is_cheap_[value.index]) {
      return value;
    }
    if (const auto found = again_.find(value.index); found != again_.end()) {
      return found->second;
    }
    Op op = graph_.ops[definition_[value.index]->index];
    for (std::optional<ValueId>& input : op.inputs) {
      if (input.has_value()) {
        input = again(*input, ops);
      }
    }
    Value copy = graph_.value(value);
    copy.name = unused_name(copy.name + ".again", names_);
    const ValueId id = graph_.add(std::move(copy));
    op.outputs = {id};
    op.phase = Phase::Backward;
    ops.push_back(std::move(op));
    again_.emplace(value.index, id);
    return id;
  }

  Graph& graph_;
  std::vector<std::optional<OpId>> definition_;
  std::vector<bool> is_cheap_;
  std::set<std::string> names_;
  std::map<std::uint32_t, ValueId> again_;
};

}  // namespace

void recompute_in_backward(Graph& graph) { Recomputer(graph).run(); }

// A float value that a view-like op or its one element-wise reader (or softmax, or conversion)
// takes over in the same pass is never stored. Decided from the last op backwards, so that a view
// of a fused value is fused itself.
void mark_fused(Graph& graph) {
  const Uses uses = uses_of(graph);
  std::vector<bool> is_kept(graph.values.size(), false);
  for (const Output& output : graph.outputs) {
    is_kept[output.value.index] = true;
  }
  for (const Update& update : graph.updates) {
    is_kept[update.value.index] = true;
  }
  for (std::size_t i = graph.ops.size(); i-- > 0;) {
    const Op& op = graph.ops[i];
    if (op.phase == Phase::Update || is_softmax(op)) {
      continue;
    }
    for (std::size_t slot = 0; slot < op.outputs.size(); ++slot) {
      if (!op.outputs[slot].has_value() || slot > 0) {
        continue;
      }
      Value& value = graph.value(*op.outputs[slot]);
      const std::vector<OpId>& readers = uses.readers[op.outputs[slot]->index];
      if (readers.size() != 1 || is_kept[op.outputs[slot]->index] || !is_float(value.format) ||
          value.role == Role::Statistic) {
        continue;
      }
      const Op& reader = graph.ops[readers.front().index];
      const bool reads_once =
          std::count(reader.inputs.begin(), reader.inputs.end(), op.outputs[slot]) == 1;
      const Value& result = graph.value(*reader.outputs.front());
      const bool takes_over =
          (is_elementwise(reader) && element_count(result.shape) == element_count(value.shape)) ||
          is_softmax(reader) || (reader.info->is_reshape && result.is_fused);
      if (reader.phase == op.phase && reads_once && takes_over && !is_op(op, "dojo.convert")) {
        value.is_fused = true;
        value.is_stochastic = false;
        value.format = Format::F32;
        value.role = Role::None;
      }
    }
  }
}

void remove_dead_ops(Graph& graph) {
  std::vector<bool> is_live(graph.values.size(), false);
  for (const Output& output : graph.outputs) {
    is_live[output.value.index] = true;
  }
  for (const Update& update : graph.updates) {
    is_live[update.value.index] = true;
  }
  std::vector<Op> kept;
  for (auto op = graph.ops.rbegin(); op != graph.ops.rend(); ++op) {
    bool is_needed = false;
    for (std::optional<ValueId>& output : op->outputs) {
      if (output.has_value() && !is_live[output->index]) {
        output.reset();
      }
      is_needed = is_needed || output.has_value();
    }
    if (!is_needed) {
      continue;
    }
    for (const std::optional<ValueId>& input : op->inputs) {
      if (input.has_value()) {
        is_live[input->index] = true;
      }
    }
    kept.push_back(std::move(*op));
  }
  std::reverse(kept.begin(), kept.end());
  graph.ops = std::move(kept);

  // Leaves stay even if nothing reads them: they are part of what the user handed over.
  std::vector<ValueId> renumbered(graph.values.size());
  std::vector<Value> values;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (graph.values[i].kind != ValueKind::Op || is_live[i]) {
      renumbered[i] = ValueId{static_cast<std::uint32_t>(values.size())};
      values.push_back(std::move(graph.values[i]));
    }
  }
  graph.values = std::move(values);
  for (Op& op : graph.ops) {
    for (auto* slots : {&op.inputs, &op.outputs}) {
      for (std::optional<ValueId>& slot : *slots) {
        slot = slot.has_value() ? std::optional(renumbered[slot->index]) : std::nullopt;
      }
    }
  }
  for (Output& output : graph.outputs) {
    output.value = renumbered[output.value.index];
  }
  for (Update& update : graph.updates) {
    update = {renumbered[update.target.index], renumbered[update.value.index]};
  }
}

Result<Graph> lower(const Graph& graph, const Recipe& recipe, std::string_view machine) {
  if (graph.is_lowered()) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("graph {} is lowered already, with recipe {} for machine {}",
                             quoted(graph.name), quoted(graph.lowering->recipe),
                             quoted(graph.lowering->machine))};
  }
  Graph lowered = graph;
  remove_dead_ops(lowered);
  give_masks_a_site(lowered);
  assign_roles(lowered);
  DOJO_TRY_VOID(choose_formats(lowered, recipe));
  recompute_in_backward(lowered);
  remove_dead_ops(lowered);
  mark_fused(lowered);
  lowered.lowering =
      Lowering{recipe.name, std::string(machine), recipe.denormals, recipe.bias, recipe.sum_order};
  return lowered;
}

}  // namespace dojo::graph
