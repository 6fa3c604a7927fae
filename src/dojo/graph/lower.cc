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

void number_pool_winners_by_tap(Graph& graph) {
  constexpr std::int64_t kMostTaps = 256;  // in a byte
  const Uses uses = uses_of(graph);
  std::vector<bool> is_output(graph.values.size(), false);
  for (const Output& output : graph.outputs) {
    is_output[output.value.index] = true;
  }
  for (Op& op : graph.ops) {
    if (!is_op(op, "aten.max_pool2d_with_indices") || !op.outputs[1].has_value()) {
      continue;
    }
    const ValueId indices = *op.outputs[1];
    const std::vector<OpId>& readers = uses.readers[indices.index];
    const auto is_gradient = [&](OpId id) {
      const Op& reader = graph.ops[id.index];
      return is_op(reader, "aten.max_pool2d_with_indices_backward") &&
             reader.attributes == op.attributes;
    };
    const std::vector<std::int64_t> kernel = ints_attr(op, "kernel_size", 2);
    if (is_output[indices.index] || kernel[0] > kMostTaps || kernel[0] * kernel[1] > kMostTaps ||
        !std::all_of(readers.begin(), readers.end(), is_gradient)) {
      continue;
    }
    for (const OpId id : readers) {
      graph.ops[id.index].attributes["in_window"] = true;
    }
    op.attributes["in_window"] = true;
    graph.value(indices).format = Format::U8;
  }
}

namespace {

// Computes again, for the backward part, what one pass makes of what is there anyway: of inputs,
// or of values that the backward part keeps for another reason.
class Recomputer {
 public:
  explicit Recomputer(Graph& graph)
      : graph_(graph),
        uses_(uses_of(graph)),
        is_read_(graph.values.size(), false),
        source_(graph.values.size(), Source::Saved) {
    for (std::size_t i = 0; i < graph.values.size(); ++i) {
      names_.insert(graph.values[i].name);
    }
    for (const Op& op : graph.ops) {
      for (std::size_t i = 0; i < op.inputs.size() && op.phase == Phase::Backward; ++i) {
        const std::size_t operand = std::min(i, op.info->operands.size() - 1);
        if (op.inputs[i].has_value() && !op.info->operands[operand].is_shape_only) {
          is_read_[storage_of(graph, uses_, *op.inputs[i]).index] = true;
        }
      }
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
            input = again(*input, op, ops);
          }
        }
      }
      ops.push_back(op);
    }
    graph_.ops = std::move(ops);
  }

 private:
  // Where the backward part has a value of the forward part from.
  enum class Source : std::uint8_t { Saved, Again };

  // Whether the backward part has the value without saving anything for it alone.
  bool is_at_hand(ValueId value) const {
    const ValueId storage = storage_of(graph_, uses_, value);
    return graph_.value(storage).kind != ValueKind::Op || is_read_[storage.index] ||
           source_[value.index] == Source::Again;
  }

  // One pass over the elements, without random bits of its own.
  void note(const Op& op) {
    const bool is_one_pass = is_elementwise(op) || is_move(op) || op.info->group == OpGroup::Make;
    if (!is_one_pass || op.outputs.size() != 1 || graph_.value(*op.outputs[0]).is_stochastic) {
      return;
    }
    const ValueId output = *op.outputs[0];
    // Weights are converted once a step, for both parts.
    if (graph_.value(output).role != Role::WeightOperand &&
        std::all_of(op.inputs.begin(), op.inputs.end(), [&](const std::optional<ValueId>& input) {
          return !input.has_value() || is_at_hand(*input);
        })) {
      source_[output.index] = Source::Again;
    }
  }

  // Whether its one reader in the forward part computes it in its own pass: it is never stored.
  bool is_taken_over(ValueId value) const {
    int readers = 0;
    bool is_taken = false;
    for (const OpId id : uses_.readers[value.index]) {
      const Op& reader = graph_.ops[id.index];
      readers += reader.phase == Phase::Forward ? 1 : 0;
      is_taken = is_taken || (reader.phase == Phase::Forward &&
                              takes_over(graph_, reader, graph_.value(value)));
    }
    return readers == 1 && is_taken;
  }

  ValueId again(ValueId value, const Op& reader, std::vector<Op>& ops) {
    if (value.index >= source_.size() || source_[value.index] != Source::Again) {
      return value;
    }
    // A view of what is saved is no pass.
    const ValueId storage = storage_of(graph_, uses_, value);
    if (source_[storage.index] != Source::Again && is_read_[storage.index]) {
      return value;
    }
    // Stored, it is made for all readers; otherwise each computes it in its own pass.
    const bool is_own = is_taken_over(value) && takes_over(graph_, reader, graph_.value(value));
    if (const auto found = again_.find(value.index); found != again_.end() && !is_own) {
      return found->second;
    }
    Op op = graph_.ops[uses_.definition[value.index]->index];
    for (std::optional<ValueId>& input : op.inputs) {
      if (input.has_value()) {
        input = again(*input, op, ops);
      }
    }
    Value copy = graph_.value(value);
    copy.name = unused_name(copy.name + ".again", names_);
    if (is_float(copy.format) && copy.format != Format::F32 && !is_move(op)) {
      copy.again_of = value;
    }
    const ValueId id = graph_.add(std::move(copy));
    op.outputs = {id};
    op.phase = Phase::Backward;
    ops.push_back(std::move(op));
    if (!is_own) {
      again_.emplace(value.index, id);
    }
    return id;
  }

  Graph& graph_;
  Uses uses_;
  std::vector<bool> is_read_;  // by storage: the backward part reads its elements
  std::vector<Source> source_;
  std::set<std::string> names_;
  std::map<std::uint32_t, ValueId> again_;  // the copies that all readers share
};

}  // namespace

void recompute_in_backward(Graph& graph) { Recomputer(graph).run(); }

namespace {

// Which values are never stored: a float value that a view-like op or its one element-wise reader
// (or softmax, or conversion) takes over in the same pass. Decided from the last op backwards, so
// that a view of a fused value is fused itself.
std::vector<bool> fusable_values(const Graph& graph, const Uses& uses,
                                 const std::vector<bool>& is_kept) {
  std::vector<bool> is_fused(graph.values.size(), false);
  for (std::size_t i = graph.ops.size(); i-- > 0;) {
    const Op& op = graph.ops[i];
    if (op.phase == Phase::Update || is_softmax(op) || is_op(op, "dojo.convert") ||
        !op.outputs.front().has_value()) {
      continue;
    }
    const ValueId id = *op.outputs.front();
    const Value& value = graph.value(id);
    const std::vector<OpId>& readers = uses.readers[id.index];
    if (readers.size() != 1 || is_kept[id.index] || !is_float(value.format) ||
        value.role == Role::Statistic) {
      continue;
    }
    const Op& reader = graph.ops[readers.front().index];
    const bool reads_once =
        std::count(reader.inputs.begin(), reader.inputs.end(), op.outputs.front()) == 1;
    const ValueId result = *reader.outputs.front();
    is_fused[id.index] = reader.phase == op.phase && reads_once &&
                         (takes_over(graph, reader, value) || is_softmax(reader) ||
                          (reader.info->is_reshape && is_fused[result.index]));
  }
  return is_fused;
}

// A value and what is made again of it are alike: if one of them is stored, and so rounded, all
// are. Those that must be are marked; whether there was one that was not.
bool keep_alike(const Graph& graph, const std::vector<bool>& is_fused, std::vector<bool>& is_kept) {
  bool has_changed = false;
  const auto keep = [&](std::size_t index) {
    has_changed = has_changed || !is_kept[index];
    is_kept[index] = true;
  };
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (const std::optional<ValueId> first = graph.values[i].again_of) {
      if (!is_fused[i] || !is_fused[first->index]) {
        keep(i);
        keep(first->index);
      }
    }
  }
  return has_changed;
}

}  // namespace

void mark_fused(Graph& graph) {
  const Uses uses = uses_of(graph);
  std::vector<bool> is_kept(graph.values.size(), false);
  for (const Output& output : graph.outputs) {
    is_kept[output.value.index] = true;
  }
  for (const Update& update : graph.updates) {
    is_kept[update.value.index] = true;
  }
  std::vector<bool> is_fused = fusable_values(graph, uses, is_kept);
  while (keep_alike(graph, is_fused, is_kept)) {
    is_fused = fusable_values(graph, uses, is_kept);
  }
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (is_fused[i]) {
      Value& value = graph.values[i];
      value.is_fused = true;
      value.is_stochastic = false;
      value.format = Format::F32;
      value.role = Role::None;
      value.again_of.reset();
    }
  }
}

namespace {

// Takes the values out that nothing needs. Leaves stay even if nothing reads them: they are part of
// what the user handed over.
void keep_values(Graph& graph, const std::vector<bool>& is_live) {
  std::vector<ValueId> renumbered(graph.values.size());
  std::vector<Value> values;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (graph.values[i].kind != ValueKind::Op || is_live[i]) {
      renumbered[i] = ValueId{static_cast<std::uint32_t>(values.size())};
      values.push_back(std::move(graph.values[i]));
    }
  }
  graph.values = std::move(values);
  for (Value& value : graph.values) {
    if (value.again_of.has_value()) {
      value.again_of = renumbered[value.again_of->index];
    }
  }
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

}  // namespace

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
      if (output.has_value() && graph.value(*output).again_of.has_value()) {
        is_live[graph.value(*output).again_of->index] = true;
      }
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
  keep_values(graph, is_live);
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
  number_pool_winners_by_tap(lowered);
  assign_roles(lowered);
  DOJO_TRY_VOID(choose_formats(lowered, recipe));
  remove_dead_ops(lowered);  // what only a dead op reads is not at hand
  recompute_in_backward(lowered);
  remove_dead_ops(lowered);
  mark_fused(lowered);
  lowered.lowering =
      Lowering{recipe.name, std::string(machine), recipe.denormals, recipe.bias, recipe.sum_order};
  return lowered;
}

}  // namespace dojo::graph
