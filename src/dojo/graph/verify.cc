#include "dojo/graph/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "dojo/base/text.h"
#include "dojo/graph/internal/op_classes.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"

namespace dojo::graph {
namespace {

bool is_name_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.';
}

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph) {}

  std::optional<Problem> find() {
    check_head();
    for (std::uint32_t i = 0; i < graph_.values.size() && !problem_; ++i) {
      check_value(ValueId{i});
    }
    if (!problem_) {
      find_definitions();
    }
    for (std::uint32_t i = 0; i < graph_.ops.size() && !problem_; ++i) {
      check_op(OpId{i});
    }
    if (!problem_) {
      check_all_defined();
    }
    if (!problem_) {
      check_ends();
    }
    if (!problem_ && graph_.is_lowered()) {
      check_fused();
    }
    if (!problem_) {
      if (const auto ids = tensor_ids(graph_); !ids) {
        problem_ = Problem{ids.error(), std::nullopt, std::nullopt};
      }
    }
    return problem_;
  }

 private:
  template <class... Args>
  void fail_value(ValueId id, fmt::format_string<Args...> text, Args&&... args) {
    problem_ = Problem{
        Error{ErrorKind::InvalidInput, fmt::format("%{}: {}", graph_.value(id).name,
                                                   fmt::format(text, std::forward<Args>(args)...))},
        std::nullopt, id};
  }
  void fail_op(OpId id, const std::string& message, ErrorKind kind = ErrorKind::InvalidInput) {
    const Op& op = graph_.ops[id.index];
    const std::string_view name = op.info == nullptr ? "an op" : op.info->name;
    std::string result;
    for (const std::optional<ValueId>& output : op.outputs) {
      if (output.has_value() && output->index < graph_.values.size()) {
        result = fmt::format("%{} = ", graph_.value(*output).name);
        break;
      }
    }
    problem_ = Problem{Error{kind, fmt::format("{}{} in module {}: {}", result, name,
                                               quoted(op.module.substr(0, 200)), message)},
                       id, std::nullopt};
  }

  // What print_graph writes, parse_graph must read.
  static bool is_long(const std::string& text) { return text.size() > TextLimits::kNameLength; }

  void check_head() {
    if (is_long(graph_.name)) {
      fail("the Graph's name is longer than {} characters", TextLimits::kNameLength);
    } else if (graph_.is_lowered()) {
      check_bias_policy(graph_.lowering->bias);
    }
  }

  void check_bias_policy(const BiasPolicy& bias) {
    const auto check = [&](std::string_view what, int value, int least, int most) {
      if (value < least || value > most) {
        fail("{}={} is outside of {}..{}", what, value, least, most);
      }
    };
    check("bias_window", bias.window, 1, BiasPolicy::kMaxWindow);
    check("bias_margin", bias.margin, 0, kMaxBias);
    check("bias_grid", bias.grid, 1, kMaxBias);
    for (const FormatInfo& row : kFormats) {
      check(fmt::format("bias_{}", row.name), bias.fixed_bias(row.format), 0, kMaxBias);
    }
  }

  void check_value(ValueId id) {
    const Value& value = graph_.value(id);
    if (value.name.empty() || value.name.size() > TextLimits::kNameLength ||
        !std::all_of(value.name.begin(), value.name.end(), is_name_character)) {
      fail_value(id, "a name has letters, digits, _ and . only");
      return;
    }
    if (!names_.insert(value.name).second) {
      fail_value(id, "two values have this name");
      return;
    }
    check_shape(id, value);
    if (value.kind == ValueKind::Op) {
      check_words(id, value);
    } else if (value.role != Role::None || value.is_fused || value.is_stochastic ||
               value.again_of.has_value()) {
      fail_value(id, "a leaf has no role and is neither fused, stochastic nor again_of another");
    } else if (value.label.empty() || is_long(value.label)) {
      fail_value(id, "a leaf needs a label of at most {} characters", TextLimits::kNameLength);
    }
  }

  void check_shape(ValueId id, const Value& value) {
    if (value.shape.size() > kMaxRank) {
      fail_value(id, "{} dimensions, at most {} are allowed", value.shape.size(), kMaxRank);
      return;
    }
    for (const std::int64_t extent : value.shape) {
      if (extent < 1 || extent > kMaxExtent) {
        fail_value(id, "extent {} is outside of 1 to 2^40", extent);
        return;
      }
    }
    if (element_count(value.shape) > kMaxElements) {
      fail_value(id, "more than 2^48 elements");
    }
  }

  void check_words(ValueId id, const Value& value) {
    if (problem_) {
      return;
    }
    if (!value.label.empty()) {
      fail_value(id, "only leaves have labels");
    } else if (!graph_.is_lowered() && (value.is_fused || value.is_stochastic)) {
      fail_value(id, "fused and stochastic belong to lowered Graphs");
    } else if (!graph_.is_lowered() && is_float(value.format) && value.format != Format::F32) {
      fail_value(id, "is {}, but floats are f32 until the Graph is lowered",
                 info(value.format).name);
    } else if (value.is_fused && value.format != Format::F32) {
      fail_value(id, "is fused, so it must be f32, not {}", info(value.format).name);
    } else if (value.is_stochastic && (!is_float(value.format) || value.format == Format::F32)) {
      fail_value(id, "{} is never rounded stochastically", info(value.format).name);
    } else if (value.again_of.has_value()) {
      check_again(id, value);
    }
  }

  // That the op and its operands are the same is what lower() promises; that the codes can be the
  // same is checked.
  void check_again(ValueId id, const Value& value) {
    if (!graph_.is_lowered() || value.is_fused || value.is_stochastic) {
      fail_value(id, "again_of belongs to stored values of lowered Graphs, rounded to nearest");
    } else if (value.again_of->index >= id.index) {
      fail_value(id, "is again_of a value that does not come before it");
    } else if (const Value& first = graph_.value(*value.again_of);
               first.kind != ValueKind::Op || first.format != value.format ||
               first.shape != value.shape || first.is_fused || first.is_stochastic ||
               first.again_of.has_value()) {
      fail_value(id, "is again_of %{}, which is not a stored op value of this type, made once",
                 first.name);
    }
  }

  // Also that ids are in range, so that all later checks may look values up.
  void find_definitions() {
    definition_.resize(graph_.values.size());
    for (std::uint32_t i = 0; i < graph_.ops.size() && !problem_; ++i) {
      const Op& op = graph_.ops[i];
      if (op.info == nullptr) {
        fail_op(OpId{i}, "has no row of the op table");
        return;
      }
      for (const auto* slots : {&op.inputs, &op.outputs}) {
        for (const std::optional<ValueId>& slot : *slots) {
          if (slot.has_value() && slot->index >= graph_.values.size()) {
            fail_op(OpId{i}, fmt::format("names value number {}, but there are {}", slot->index,
                                         graph_.values.size()));
            return;
          }
        }
      }
      for (const std::optional<ValueId>& output : op.outputs) {
        if (!output.has_value()) {
          continue;
        }
        if (graph_.value(*output).kind != ValueKind::Op) {
          fail_op(OpId{i}, fmt::format("defines %{}, which is a leaf", graph_.value(*output).name));
        } else if (definition_[output->index].has_value()) {
          fail_op(OpId{i}, fmt::format("%{} is defined twice", graph_.value(*output).name));
        }
        definition_[output->index] = OpId{i};
      }
    }
  }

  void check_all_defined() {
    for (std::uint32_t i = 0; i < graph_.values.size() && !problem_; ++i) {
      if (graph_.values[i].kind == ValueKind::Op && !definition_[i].has_value()) {
        fail_value(ValueId{i}, "no op defines it");
      }
    }
  }

  void check_op(OpId id) {
    const Op& op = graph_.ops[id.index];
    for (const std::optional<ValueId>& input : op.inputs) {
      if (!input.has_value() || graph_.value(*input).kind != ValueKind::Op) {
        continue;
      }
      const std::optional<OpId> definition = definition_[input->index];
      if (!definition.has_value() || !(*definition < id)) {
        fail_op(id, fmt::format("reads %{} before its definition", graph_.value(*input).name));
        return;
      }
    }
    if (graph_.is_lowered() && op.info->is_unlowered_only) {
      fail_op(id, "must not stand in a lowered Graph");
      return;
    }
    if (is_long(op.module)) {
      fail_op(id, "the module's path is too long");
      return;
    }
    check_types(id, op);
    if (!problem_ && !op.k_parts.empty()) {
      check_cuts(id, op);
    }
  }

  void check_types(OpId id, const Op& op) {
    const Result<InferredTypes> inferred = infer(call_of(graph_, op));
    if (!inferred) {
      fail_op(id, inferred.error().message, inferred.error().kind);
      return;
    }
    if (op.outputs.size() != inferred->size()) {
      fail_op(id, fmt::format("has {} targets, computes {} outputs (write _ for one that nobody "
                              "reads)",
                              op.outputs.size(), inferred->size()));
      return;
    }
    bool has_output = false;
    for (std::size_t i = 0; i < op.outputs.size() && !problem_; ++i) {
      if (op.outputs[i].has_value()) {
        has_output = true;
        check_type(id, graph_.value(*op.outputs[i]), i, (*inferred)[i]);
      }
    }
    if (!problem_ && !has_output) {
      fail_op(id, "has no output that anybody could read");
    }
  }

  void check_type(OpId id, const Value& value, std::size_t index,
                  const std::optional<TensorType>& inferred) {
    if (!inferred.has_value()) {
      fail_op(id, fmt::format("output {} (%{}) does not exist with these attributes: write _",
                              index + 1, value.name));
      return;
    }
    const bool is_free = graph_.is_lowered() && inferred->format == Format::F32;
    const bool fits_format = is_free ? is_float(value.format) : value.format == inferred->format;
    if (value.shape != inferred->shape || !fits_format) {
      fail_op(id, fmt::format("%{} is {}, expected {}", value.name,
                              print_type(value.format, value.shape),
                              print_type(inferred->format, inferred->shape)));
      return;
    }
    const Op& op = graph_.ops[id.index];
    if (is_move(op) && !value.is_fused && value.format != graph_.value(*op.inputs[0]).format) {
      fail_op(id, fmt::format("only moves elements, so %{} must be fused or keep the format {}: "
                              "dojo.convert changes formats",
                              value.name, info(graph_.value(*op.inputs[0]).format).name));
    }
  }

  void check_cuts(OpId id, const Op& op) {
    if (!graph_.is_lowered()) {
      fail_op(id, "k_parts belong to lowered Graphs");
      return;
    }
    const LoopNest nest = nest_of(graph_, op);
    std::vector<int> candidates = reduce_loops(nest);
    std::size_t next = 0;
    for (const ReduceCut& cut : op.k_parts) {
      while (next < candidates.size() && nest.loops[candidates[next]].name != cut.loop) {
        ++next;
      }
      if (next == candidates.size()) {
        std::vector<std::string> names;
        for (const int loop : candidates) {
          names.push_back(nest.loops[loop].name);
        }
        fail_op(id,
                fmt::format("k_parts cut {}, expected reduce loops of the nest in its order: {}",
                            quoted(cut.loop), fmt::join(names, ", ")));
        return;
      }
      const std::int64_t extent = nest.loops[candidates[next++]].extent;
      const bool is_right = cut.parts >= 2 && cut.block >= 1 && cut.block <= extent &&
                            cut.parts == (extent - 1) / cut.block + 1;
      if (!is_right) {
        fail_op(id, fmt::format("k_parts cut {} ({} points) into {} parts of {}: parts must be "
                                "extent / block rounded up, and at least 2",
                                cut.loop, extent, cut.parts, cut.block));
        return;
      }
      if (cut.run.has_value() && (*cut.run < 2 || *cut.run >= cut.parts)) {
        fail_op(id, fmt::format("k_parts add {} by runs of {}: expected 2 to {}, fewer than its "
                                "{} parts",
                                cut.loop, *cut.run, cut.parts - 1, cut.parts));
        return;
      }
    }
  }

  void check_ends() {
    std::unordered_set<std::string_view> labels;
    for (const Output& output : graph_.outputs) {
      if (output.value.index >= graph_.values.size()) {
        fail("output {} names value number {}, but there are {}", quoted(output.label),
             output.value.index, graph_.values.size());
        return;
      }
      if (!labels.insert(output.label).second) {
        fail("two outputs are called {}", quoted(output.label));
        return;
      }
    }
    std::unordered_set<std::uint32_t> targets;
    for (const Update& update : graph_.updates) {
      if (update.target.index >= graph_.values.size() ||
          update.value.index >= graph_.values.size()) {
        fail("an update names a value number beyond {}", graph_.values.size());
        return;
      }
      check_update(update, targets.insert(update.target.index).second);
      if (problem_) {
        return;
      }
    }
  }

  void check_update(const Update& update, bool is_first) {
    const Value& target = graph_.value(update.target);
    const Value& value = graph_.value(update.value);
    if (target.kind == ValueKind::Op || target.kind == ValueKind::Input) {
      fail_value(update.target, "only weights, buffers and states are updated");
    } else if (!is_first) {
      fail_value(update.target, "is updated twice");
    } else if (target.format != value.format || target.shape != value.shape) {
      fail_value(update.target, "is {}, but %{} is {}", print_type(target.format, target.shape),
                 value.name, print_type(value.format, value.shape));
    }
  }

  void check_fused() {
    std::vector<bool> is_kept(graph_.values.size(), false);
    for (const Output& output : graph_.outputs) {
      is_kept[output.value.index] = true;
    }
    for (const Update& update : graph_.updates) {
      is_kept[update.value.index] = true;
    }
    const Uses uses = uses_of(graph_);
    for (std::uint32_t i = 0; i < graph_.values.size() && !problem_; ++i) {
      if (graph_.values[i].is_fused) {
        check_fused(ValueId{i}, uses, is_kept[i]);
      }
    }
  }

  void check_fused(ValueId id, const Uses& uses, bool is_kept) {
    const std::vector<OpId>& readers = uses.readers[id.index];
    if (is_kept) {
      fail_value(id, "is fused, but an output or update keeps it");
    } else if (readers.size() != 1) {
      fail_value(id, "is fused, so exactly one op must read it, not {}", readers.size());
    } else if (graph_.ops[readers[0].index].phase !=
               graph_.ops[uses.definition[id.index]->index].phase) {
      fail_value(id, "is fused, so its reader must be in the phase of its definition");
    }
  }

  template <class... Args>
  void fail(fmt::format_string<Args...> text, Args&&... args) {
    problem_ =
        Problem{Error{ErrorKind::InvalidInput, fmt::format(text, std::forward<Args>(args)...)},
                std::nullopt, std::nullopt};
  }

  const Graph& graph_;
  std::unordered_set<std::string_view> names_;
  std::vector<std::optional<OpId>> definition_;
  std::optional<Problem> problem_;
};

}  // namespace

std::optional<Problem> find_problem(const Graph& graph) { return Verifier(graph).find(); }

Result<void> verify(const Graph& graph) {
  if (std::optional<Problem> problem = find_problem(graph)) {
    return std::move(problem->error);
  }
  return {};
}

}  // namespace dojo::graph
