#include "dojo/graph/lower.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "dojo/base/text.h"
#include "dojo/graph/internal/op_classes.h"
#include "dojo/graph/lower_passes.h"

namespace dojo::graph {
namespace {

std::string unused_name(const Graph& graph, const std::string& wanted) {
  std::set<std::string_view> taken;
  for (const Value& value : graph.values) {
    taken.insert(value.name);
  }
  std::string name = wanted;
  for (int i = 1; taken.contains(name); ++i) {
    name = fmt::format("{}.{}", wanted, i);
  }
  return name;
}

}  // namespace

// A mask is a pure function of (seed, step, site, element), so the backward part draws it again
// instead of reading what the forward part drew.
void give_masks_a_site(Graph& graph) {
  std::map<std::string, std::int64_t> ordinal;
  std::vector<Op> ops;
  std::map<std::uint32_t, ValueId> redrawn;  // forward mask -> the backward part's own
  std::map<std::uint32_t, Op> masks;         // forward mask -> its op
  for (Op& op : graph.ops) {
    if (is_op(op, "dojo.mask")) {
      const std::string key = fmt::format("mask|{}|{}", op.module, ordinal[op.module]++);
      op.attributes["site"] =
          static_cast<std::int64_t>(std::stoll(sha256_hex(key).substr(0, 8), nullptr, 16));
      masks.emplace(op.outputs[0]->index, op);
    }
    if (op.phase == Phase::Backward && !is_op(op, "dojo.mask")) {
      for (std::optional<ValueId>& input : op.inputs) {
        if (!input.has_value() || !masks.contains(input->index)) {
          continue;
        }
        Op again = masks.at(input->index);
        if (again.phase != Phase::Forward) {
          continue;
        }
        if (!redrawn.contains(input->index)) {
          Value copy = graph.value(*input);
          copy.name = unused_name(graph, copy.name + ".again");
          const ValueId id = graph.add(std::move(copy));
          redrawn.emplace(input->index, id);
          again.outputs = {id};
          again.phase = Phase::Backward;
          ops.push_back(std::move(again));
        }
        input = redrawn.at(input->index);
      }
    }
    ops.push_back(std::move(op));
  }
  graph.ops = std::move(ops);
}

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
  remove_dead_ops(lowered);
  mark_fused(lowered);
  lowered.lowering = Lowering{recipe.name, std::string(machine), recipe.denormals, recipe.bias};
  return lowered;
}

}  // namespace dojo::graph
