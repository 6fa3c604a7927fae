#include "dojo/place/internal/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/blocks.h"
#include "dojo/place/internal/turns.h"

namespace dojo::place::internal {

using graph::Graph;
using graph::Op;
using graph::ValueKind;
using program::Axis;
using program::Part;

namespace {

constexpr int kAll = StagePlan::kAll;

// Which piece of the forward part every op belongs to.
class Pieces {
 public:
  Pieces(const Graph& graph, const LayoutPlan& layouts)
      : graph_(graph),
        layouts_(layouts),
        maker_(graph.values.size()),
        readers_(graph.values.size()) {
    const std::size_t ops = graph.ops.size();
    plan_.of_op.assign(ops, kAll);
    plan_.part_of_op.assign(ops, Part::Behind);
    plan_.of_value.assign(graph.values.size(), kAll);
    is_settled_.assign(ops, false);
    for (std::uint32_t i = 0; i < ops; ++i) {
      if (layouts.ops[i].is_alias) {
        continue;
      }
      for (const auto& output : graph.ops[i].outputs) {
        if (output.has_value()) {
          maker_[output->index] = OpId{i};
        }
      }
      for (const ValueId root : roots_read(OpId{i})) {
        readers_[root.index].push_back(OpId{i});
      }
      plan_.part_of_op[i] = part_of(OpId{i});
    }
  }

  StagePlan plan() {
    mark_everywhere();
    settle_forward();
    settle_backward();
    settle_feeders();
    settle_leaves(false);
    settle_behind();
    settle_leaves(true);
    for (std::size_t i = 0; i < maker_.size(); ++i) {
      if (maker_[i].has_value()) {
        plan_.of_value[i] = plan_.of_op[maker_[i]->index];
      }
    }
    return std::move(plan_);
  }

  std::vector<ValueId> roots_read(OpId id) const {
    std::vector<ValueId> roots;
    for (const auto& input : graph_.ops[id.index].inputs) {
      if (input.has_value()) {
        roots.push_back(layouts_.root[input->index]);
      }
    }
    return roots;
  }

 private:
  const Op& op(OpId id) const { return graph_.ops[id.index]; }
  bool is_alias(OpId id) const { return layouts_.ops[id.index].is_alias; }
  bool runs_over_samples(OpId id) const {
    return layouts_.ops[id.index].split.on(Axis::Micro).has_value();
  }

  Part part_of(OpId id) const {
    switch (layouts_.turn[id.index]) {
      case Turn::Before:
        return Part::Before;
      case Turn::After:
        return Part::Behind;
      case Turn::Each:
        break;
    }
    return op(id).phase == graph::Phase::Forward ? Part::Forward : Part::Backward;
  }

  void settle(OpId id, int piece) {
    plan_.of_op[id.index] = piece;
    is_settled_[id.index] = true;
  }
  std::optional<int> piece_of(OpId id) const {
    const int piece = plan_.of_op[id.index];
    return is_settled_[id.index] && piece != kAll ? std::optional(piece) : std::nullopt;
  }
  // Of the op that makes the root; nullopt: a leaf, known everywhere, or not settled yet.
  std::optional<int> piece_of_maker(ValueId root) const {
    const auto& maker = maker_[root.index];
    return maker.has_value() ? piece_of(*maker) : std::nullopt;
  }

  // What hangs on single leaves alone, or on none.
  void mark_everywhere() {
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      const auto is_known = [&](const std::optional<ValueId>& value) {
        if (!value.has_value()) {
          return true;
        }
        const ValueId root = layouts_.root[value->index];
        const auto& maker = maker_[root.index];
        return maker.has_value() ? is_settled_[maker->index] && plan_.of_op[maker->index] == kAll
                                 : graph::element_count(graph_.value(root).shape) == 1;
      };
      const auto& inputs = op(OpId{i}).inputs;
      if (!is_alias(OpId{i}) && !runs_over_samples(OpId{i}) &&
          std::all_of(inputs.begin(), inputs.end(), is_known)) {
        settle(OpId{i}, kAll);
      }
    }
  }

  // A new piece wherever the block of modules changes; what is in none stands by its module.
  void settle_forward() {
    std::string block;
    int piece = -1;
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      const OpId id{i};
      if (is_alias(id) || plan_.part_of_op[i] != Part::Forward || !runs_over_samples(id)) {
        continue;
      }
      const std::string of_op = block_of(op(id).module);
      if (const std::string& name = of_op.empty() ? op(id).module : of_op;
          piece < 0 || name != block) {
        block = name;
        ++piece;
      }
      settle(id, piece);
      const auto [found, is_new] = piece_of_module_.try_emplace(op(id).module, piece);
      if (!is_new && found->second != piece) {
        found->second = std::nullopt;  // a module that is used twice
      }
    }
    plan_.count = std::max(1, piece + 1);
  }

  // Where its module ran forward, else where what it reads of the forward part was made; never
  // behind what the backward part gives it.
  void settle_backward() {
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      const OpId id{i};
      if (is_alias(id) || plan_.part_of_op[i] != Part::Backward || !runs_over_samples(id)) {
        continue;
      }
      int bound = plan_.count - 1;
      std::optional<int> saved;
      for (const ValueId root : roots_read(id)) {
        const std::optional<int> made = piece_of_maker(root);
        if (!made.has_value()) {
          continue;
        }
        if (plan_.part_of_op[maker_[root.index]->index] == Part::Backward) {
          bound = std::min(bound, *made);
        } else {
          saved = std::max(saved.value_or(0), *made);
        }
      }
      const auto known = piece_of_module_.find(op(id).module);
      const std::optional<int> own = known != piece_of_module_.end() ? known->second : std::nullopt;
      settle(id, std::min(bound, own.value_or(saved.value_or(bound))));
    }
  }

  // What is the same for all samples is made where it is first read, or in the backward part where
  // it is last read in the Graph's order of stages.
  void settle_feeders() {
    for (std::uint32_t i = static_cast<std::uint32_t>(graph_.ops.size()); i-- > 0;) {
      const OpId id{i};
      if (is_alias(id) || is_settled_[i] || plan_.part_of_op[i] == Part::Behind) {
        continue;
      }
      std::optional<int> lowest;
      std::optional<int> highest;
      for (const auto& output : op(id).outputs) {
        for (const OpId reader :
             output.has_value() ? readers_[output->index] : std::vector<OpId>{}) {
          if (const auto piece = piece_of(reader);
              piece.has_value() && plan_.part_of_op[reader.index] != Part::Behind) {
            lowest = std::min(lowest.value_or(*piece), *piece);
            highest = std::max(highest.value_or(*piece), *piece);
          }
        }
      }
      const bool is_backward = plan_.part_of_op[i] == Part::Backward;
      settle(id, (is_backward ? highest : lowest).value_or(0));
    }
  }

  // Single numbers everywhere; what is read, where it is read first. States that only updates read
  // come with their weights.
  void settle_leaves(bool is_last) {
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      const graph::Value& leaf = graph_.values[i];
      if (leaf.kind == ValueKind::Op || plan_.of_value[i] != kAll ||
          graph::element_count(leaf.shape) == 1) {
        continue;
      }
      std::optional<int> first;
      for (const OpId reader : readers_[i]) {
        const auto piece = piece_of(reader);
        const bool counts = is_last || plan_.part_of_op[reader.index] != Part::Behind;
        if (piece.has_value() && counts) {
          first = std::min(first.value_or(*piece), *piece);
        }
      }
      if (first.has_value() || is_last) {
        plan_.of_value[i] = first.value_or(0);
      }
    }
  }

  // Updates where their weight lies, what leads to them where its first operand is made.
  void settle_behind() {
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      const OpId id{i};
      if (is_alias(id) || is_settled_[i]) {
        continue;
      }
      std::optional<int> leaf;
      std::optional<int> made;
      for (const ValueId root : roots_read(id)) {
        const bool is_leaf = !maker_[root.index].has_value();
        const int held = is_leaf ? plan_.of_value[root.index] : kAll;
        if (held != kAll) {
          leaf = std::min(leaf.value_or(held), held);
        }
        if (const auto piece = piece_of_maker(root)) {
          made = std::min(made.value_or(*piece), *piece);
        }
      }
      settle(id, leaf.value_or(made.value_or(0)));
    }
  }

  const Graph& graph_;
  const LayoutPlan& layouts_;
  std::vector<std::optional<OpId>> maker_;  // by value: the op that computes it, if any
  std::vector<std::vector<OpId>> readers_;  // by root
  std::vector<bool> is_settled_;            // by op
  std::map<std::string, std::optional<int>> piece_of_module_;
  StagePlan plan_;
};

// What stages send each other, once it is known which does what.
class Crossings {
 public:
  Crossings(const Graph& graph, const LayoutPlan& layouts, StagePlan& plan)
      : graph_(graph), layouts_(layouts), plan_(plan), uses_of_(graph::uses_of(graph)) {}

  void find() {
    note_needs();
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      if (layouts_.ops[i].is_alias || plan_.of_op[i] == kAll) {
        continue;
      }
      for (const auto& input : graph_.ops[i].inputs) {
        if (input.has_value()) {
          look_at(OpId{i}, layouts_.root[input->index]);
        }
      }
      check_early(OpId{i});
    }
    std::vector<std::set<std::int64_t>> after(static_cast<std::size_t>(plan_.count));
    for (const auto& [key, made] : made_) {
      const auto& [value, to] = key;
      plan_.crossings.push_back(
          {.value = ValueId{value}, .from = plan_.of_value[value], .made = made, .to = to});
      if (made == Part::Behind) {
        after[static_cast<std::size_t>(to)].insert(plan_.of_value[value]);
      }
    }
    for (const std::set<std::int64_t>& others : after) {
      plan_.after.emplace_back(others.begin(), others.end());
    }
    if (program::wait_in_a_circle(plan_.after)) {
      refuse("behind the micro-batches stages wait for each other's results");
    }
  }

 private:
  std::string name(OpId id) const {
    const Op& op = graph_.ops[id.index];
    return fmt::format("{} of module {}", op.info->name, quoted(op.module));
  }

  void refuse(std::string why) {
    if (plan_.in_the_way.empty()) {
      plan_.in_the_way = std::move(why);
    }
  }

  bool is_data(ValueId id) const {
    const graph::Value& value = graph_.value(id);
    return value.kind == ValueKind::Input && !value.shape.empty();
  }

  // When it is there: a sum over samples behind the micro-batches, but one that is known early.
  Part made_in(ValueId root) const {
    const auto& maker = uses_of_.definition[root.index];
    if (!maker.has_value()) {
      return is_data(root) ? Part::Forward : Part::Before;
    }
    const Op& op = graph_.ops[maker->index];
    const graph::EarlyOutput* const early = early_output_of(op, uses_of_);
    if (early != nullptr && op.outputs[static_cast<std::size_t>(early->output)] == root) {
      return Part::Before;
    }
    const bool is_sum = layouts_.ops[maker->index].split.on(Axis::Micro).has_value() &&
                        layouts_.held[root.index][Axis::Micro].sharing != program::Sharing::Sliced;
    return is_sum ? Part::Behind : plan_.part_of_op[maker->index];
  }

  void look_at(OpId id, ValueId root) {
    const int to = plan_.of_op[id.index];
    const int from = plan_.of_value[root.index];
    const Part read = plan_.part_of_op[id.index];
    const Part made = made_in(root);
    if (from == to || from == kAll) {
      return;
    }
    const bool is_forward = made == Part::Forward && read == Part::Forward && from < to;
    const bool is_back = made == Part::Backward && read == Part::Backward && from > to;
    const bool is_in_order = made == read
                                 ? is_forward || is_back || made == Part::Behind
                                 : made < read && (read != Part::Behind || made == Part::Before);
    if (!is_in_order) {
      refuse(fmt::format("{} needs %{} of stage {} before that one has it, or of all micro-batches",
                         name(id), graph_.value(root).name, from));
    }
    made_[{root.index, to}] = made;
  }

  // By stage, what it does for itself: what its own ops read, results and updates of the step.
  void note_needs() {
    std::vector<bool> is_result(graph_.values.size(), false);
    for (const graph::Update& update : graph_.updates) {
      is_result[layouts_.root[update.value.index].index] = true;
    }
    for (const graph::Output& output : graph_.outputs) {
      is_result[layouts_.root[output.value.index].index] = true;
    }
    const std::size_t ops = graph_.ops.size();
    plan_.is_needed.assign(static_cast<std::size_t>(plan_.count), std::vector<bool>(ops, false));
    for (int stage = 0; stage < plan_.count; ++stage) {
      std::vector<bool>& is_needed = plan_.is_needed[static_cast<std::size_t>(stage)];
      std::vector<bool> is_read = is_result;
      for (std::size_t i = ops; i-- > 0;) {
        const auto& outputs = graph_.ops[i].outputs;
        is_needed[i] = plan_.of_op[i] == kAll && !layouts_.ops[i].is_alias &&
                       std::any_of(outputs.begin(), outputs.end(), [&](const auto& output) {
                         return output.has_value() && is_read[output->index];
                       });
        if (layouts_.ops[i].is_alias || (plan_.of_op[i] != stage && !is_needed[i])) {
          continue;
        }
        for (const auto& input : graph_.ops[i].inputs) {
          if (input.has_value()) {
            is_read[layouts_.root[input->index].index] = true;
          }
        }
      }
    }
  }

  // What is known before the micro-batches is made of what the stage itself holds.
  void check_early(OpId id) {
    const graph::EarlyOutput* const early = early_output_of(graph_.ops[id.index], uses_of_);
    for (const int operand : early != nullptr ? early->operands : std::vector<int>{}) {
      const auto& input = graph_.ops[id.index].inputs[static_cast<std::size_t>(operand)];
      if (input.has_value() && !plan_.holds(layouts_.root[input->index], plan_.of_op[id.index])) {
        refuse(fmt::format("{} needs %{} of another stage before the first micro-batch", name(id),
                           graph_.value(*input).name));
      }
    }
  }

  const Graph& graph_;
  const LayoutPlan& layouts_;
  StagePlan& plan_;
  graph::Uses uses_of_;
  std::map<std::pair<std::uint32_t, int>, Part> made_;  // by root and reading stage
};

}  // namespace

StagePlan plan_pieces(const Graph& graph, const LayoutPlan& layouts) {
  return Pieces(graph, layouts).plan();
}

std::vector<int> cut_into_stages(const std::vector<double>& seconds, int stages) {
  const std::size_t n = seconds.size();
  std::vector<double> sum(n + 1, 0);
  for (std::size_t i = 0; i < n; ++i) {
    sum[i + 1] = sum[i] + seconds[i];
  }
  // longest[k][i]: of the first i pieces in k stages; from[k][i]: where the last of them begins.
  const auto k_max = static_cast<std::size_t>(stages);
  std::vector<std::vector<double>> longest(
      k_max + 1, std::vector<double>(n + 1, std::numeric_limits<double>::infinity()));
  std::vector<std::vector<std::size_t>> from(k_max + 1, std::vector<std::size_t>(n + 1, 0));
  longest[0][0] = 0;
  for (std::size_t k = 1; k <= k_max; ++k) {
    for (std::size_t i = k; i <= n; ++i) {
      for (std::size_t j = i; j-- > k - 1;) {
        const double last = sum[i] - sum[j];
        if (last > longest[k][i]) {
          break;  // only longer from here on
        }
        const double here = std::max(longest[k - 1][j], last);
        if (here < longest[k][i]) {
          longest[k][i] = here;
          from[k][i] = j;
        }
      }
    }
  }
  std::vector<int> stage_of(n, 0);
  std::size_t end = n;
  for (std::size_t k = k_max; k > 0; --k) {
    for (std::size_t i = from[k][end]; i < end; ++i) {
      stage_of[i] = static_cast<int>(k) - 1;
    }
    end = from[k][end];
  }
  return stage_of;
}

StagePlan plan_stages(const Graph& graph, const LayoutPlan& layouts, const StagePlan& pieces,
                      const std::vector<int>& stage_of_piece) {
  StagePlan plan = pieces;
  plan.count = stage_of_piece.back() + 1;
  for (auto* const list : {&plan.of_op, &plan.of_value}) {
    for (int& one : *list) {
      one = one == kAll ? kAll : stage_of_piece[static_cast<std::size_t>(one)];
    }
  }
  Crossings(graph, layouts, plan).find();
  return plan;
}

}  // namespace dojo::place::internal
