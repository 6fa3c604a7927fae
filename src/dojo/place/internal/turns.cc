#include "dojo/place/internal/turns.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"

namespace dojo::place::internal {

using graph::Graph;
using graph::LoopKind;
using graph::Op;
using graph::Operand;
using graph::OperandUse;
using graph::Stage;
using graph::TensorKind;
using program::Axis;
using program::AxisState;
using program::Sharing;

namespace {

constexpr std::int64_t kTile = 4;  // points that the order tile4 adds on their own

bool is_sliced(const program::Layout& layout, Axis axis) {
  return layout[axis].sharing == Sharing::Sliced;
}

// What a value has to do with samples.
enum class Carries : std::uint8_t {
  None,     // the same for all of them, or known before them
  Samples,  // those of one micro-batch at a time
  Total,    // a sum over all of them, or made from one
};

class Turns {
 public:
  Turns(const Graph& graph, LayoutPlan& plan)
      : graph_(graph),
        plan_(plan),
        uses_(graph::uses_of(graph)),
        carries_(graph.values.size(), Carries::None) {}

  void run() {
    plan_.turn.assign(graph_.ops.size(), Turn::After);
    plan_.is_kept.assign(graph_.values.size(), false);
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      if (is_sliced(plan_.held[i], Axis::Micro)) {
        carries_[i] = Carries::Samples;
      }
    }
    check_orders();
    for (std::uint32_t i = 0; i < graph_.ops.size() && plan_.in_the_way.empty(); ++i) {
      look_at(OpId{i});
    }
    if (plan_.in_the_way.empty()) {
      mark_each();
      mark_before();
    }
  }

 private:
  const Op& op(OpId id) const { return graph_.ops[id.index]; }
  const SplitNest& split(OpId id) const { return plan_.ops[id.index].split; }
  bool runs_over_samples(OpId id) const { return split(id).on(Axis::Micro).has_value(); }
  int loop_of_samples(OpId id) const { return split(id).on(Axis::Micro)->loop; }

  std::string name(OpId id) const {
    return fmt::format("{} of module {}", op(id).info->name, quoted(op(id).module));
  }

  void refuse(std::string why) {
    if (plan_.in_the_way.empty()) {
      plan_.in_the_way = std::move(why);
    }
  }

  // What holds for all sums and all results of a Graph.
  void check_orders() {
    const auto& settings = *graph_.lowering;
    if (settings.sum_order == SumOrder::Exact) {
      refuse("sums of products in the order exact are rounded once, after the last sample");
    }
    if (settings.bias.rule == BiasRule::Current) {
      refuse("bias=current takes the largest magnitude over all samples before it stores any");
    }
  }

  void look_at(OpId id) {
    bool has_samples = false;
    std::optional<ValueId> total;
    for (const auto& input : op(id).inputs) {
      if (input.has_value()) {
        has_samples = has_samples || carries_[input->index] == Carries::Samples;
        if (carries_[input->index] == Carries::Total) {
          total = *input;
        }
      }
    }
    if (has_samples && !runs_over_samples(id)) {
      keep_operands(id);
    }
    if (total.has_value() && runs_over_samples(id)) {
      refuse(fmt::format("%{}, which all samples make, feeds {}, which runs over samples",
                         graph_.value(*total).name, name(id)));
      return;
    }
    if (runs_over_samples(id)) {
      check_operands(id);
      check_stages(id);
    }
    const graph::EarlyOutput* const early = early_output_of(op(id), uses_);
    for (const int operand : early != nullptr ? early->operands : std::vector<int>{}) {
      const auto& input = op(id).inputs[static_cast<std::size_t>(operand)];
      if (input.has_value() && carries_[input->index] != Carries::None) {
        refuse(fmt::format("{} needs %{} of all samples before the first", name(id),
                           graph_.value(*input).name));
      }
    }
    for (std::size_t slot = 0; slot < op(id).outputs.size(); ++slot) {
      const auto& output = op(id).outputs[slot];
      if (!output.has_value()) {
        continue;
      }
      Carries& carries = carries_[output->index];
      if (is_sliced(plan_.held[output->index], Axis::Micro)) {
        carries = Carries::Samples;
      } else if (early != nullptr && early->output == static_cast<int>(slot)) {
        carries = Carries::None;
      } else if (runs_over_samples(id) || total.has_value() || has_samples) {
        carries = Carries::Total;
      }
    }
  }

  void keep_operands(OpId id) {
    for (const auto& input : op(id).inputs) {
      if (!input.has_value() || carries_[input->index] != Carries::Samples) {
        continue;
      }
      // Those of all micro-batches lie as one slice, where nodes share no samples of one.
      const program::Layout& layout = plan_.held[input->index];
      for (const Axis axis : {Axis::NodeY, Axis::NodeX}) {
        if (is_sliced(layout, axis) && layout[axis].dimension == layout[Axis::Micro].dimension) {
          refuse(fmt::format("{} takes all samples at once", name(id)));
        }
      }
      plan_.is_kept[plan_.root[input->index].index] = true;
    }
  }

  // All operands come in the same micro-batches.
  void check_operands(OpId id) {
    for (const Stage& stage : split(id).nest().stages) {
      for (const Operand& operand : stage.operands) {
        if (operand.use != OperandUse::Read || operand.tensor.kind != TensorKind::Input) {
          continue;
        }
        const ValueId value = *op(id).inputs[static_cast<std::size_t>(operand.tensor.index)];
        const AxisState& state = plan_.held[value.index][Axis::Micro];
        if (state.sharing != Sharing::Sliced) {
          continue;
        }
        const Need need = split(id).need(operand, Axis::Micro);
        const auto loop =
            loop_of_slice(split(id), operand.access[static_cast<std::size_t>(state.dimension)],
                          Axis::Micro, state.block);
        const bool is_same = need.is_sliced && need.dimension == state.dimension &&
                             loop.has_value() && loop->loop == loop_of_samples(id) &&
                             loop->block == split(id).on(Axis::Micro)->cut.block;
        if (!is_same) {
          refuse(fmt::format("{} takes samples of several micro-batches at once", name(id)));
        }
      }
    }
  }

  void check_stages(OpId id) {
    std::vector<graph::TensorRef> sums;
    for (const Stage& stage : split(id).nest().stages) {
      const auto kind = graph::kind_of(stage, loop_of_samples(id));
      const bool reads_sum =
          std::any_of(stage.operands.begin(), stage.operands.end(), [&](const Operand& operand) {
            return operand.use == OperandUse::Read &&
                   std::find(sums.begin(), sums.end(), operand.tensor) != sums.end();
          });
      if (kind.has_value() && reads_sum) {
        refuse(fmt::format("{} sums over all samples before it goes through them", name(id)));
      }
      if (kind == LoopKind::Reduce || kind == LoopKind::Indexed) {
        check_sum(id, stage);
        for (const Operand& operand : stage.operands) {
          if (operand.use == OperandUse::Write) {
            sums.push_back(operand.tensor);
          }
        }
      }
    }
  }

  // A sum goes on with the next micro-batch where samples are its outermost loop and come in
  // ascending order.
  void check_sum(OpId id, const Stage& stage) {
    const int samples = loop_of_samples(id);
    std::int64_t inside = 1;
    bool is_behind = false;
    for (const graph::StageLoop& loop : stage.loops) {
      const bool is_sum = loop.kind == LoopKind::Reduce || loop.kind == LoopKind::Indexed;
      if (loop.loop == samples) {
        is_behind = true;
      } else if (is_sum && !is_behind && split(id).local_extent(loop.loop) > 1) {
        refuse(fmt::format("{} sums over samples inside of another sum", name(id)));
      }
      inside *= is_sum && is_behind ? split(id).local_extent(loop.loop) : 1;
    }
    if (graph_.lowering->sum_order == SumOrder::Tile4 && stage.body == graph::BodyClass::Matrix &&
        inside % kTile != 0) {
      refuse(
          fmt::format("{} adds {} points of a micro-batch, and the order tile4 takes four at a "
                      "time",
                      name(id), inside));
    }
  }

  // What runs over samples, and what that needs and is the same for all.
  void mark_each() {
    for (std::uint32_t i = static_cast<std::uint32_t>(graph_.ops.size()); i-- > 0;) {
      Turn& turn = plan_.turn[i];
      turn = runs_over_samples(OpId{i}) ? Turn::Each : turn;
      if (turn == Turn::Each) {
        mark_makers(graph_.ops[i].inputs, Turn::Each);
      }
    }
  }

  // What an early sum needs.
  void mark_before() {
    for (std::uint32_t i = static_cast<std::uint32_t>(graph_.ops.size()); i-- > 0;) {
      const Op& one = graph_.ops[i];
      if (const graph::EarlyOutput* const early = early_output_of(one, uses_)) {
        for (const int operand : early->operands) {
          mark_maker(one.inputs[static_cast<std::size_t>(operand)], Turn::Before);
        }
      }
      if (plan_.turn[i] == Turn::Before) {
        mark_makers(one.inputs, Turn::Before);
      }
    }
  }

  void mark_makers(const std::vector<std::optional<ValueId>>& inputs, Turn turn) {
    for (const auto& input : inputs) {
      mark_maker(input, turn);
    }
  }

  void mark_maker(const std::optional<ValueId>& input, Turn turn) {
    const auto maker = input.has_value() ? uses_.definition[input->index] : std::nullopt;
    if (maker.has_value() && !runs_over_samples(*maker)) {
      plan_.turn[maker->index] = turn;
    }
  }

  const Graph& graph_;
  LayoutPlan& plan_;
  graph::Uses uses_;
  std::vector<Carries> carries_;
};

}  // namespace

const graph::EarlyOutput* early_output_of(const Op& op, const graph::Uses& uses) {
  const std::optional<graph::EarlyOutput>& early = op.info->early;
  if (!early.has_value()) {
    return nullptr;
  }
  const auto& output = op.outputs[static_cast<std::size_t>(early->output)];
  return output.has_value() && !uses.readers[output->index].empty() ? &*early : nullptr;
}

void plan_turns(const Graph& graph, const Mesh& mesh, LayoutPlan& plan) {
  if (mesh.micro_batches > 1) {
    Turns(graph, plan).run();
  }
}

}  // namespace dojo::place::internal
