#include "dojo/place/internal/fetches.h"

#include "dojo/place/internal/op_key.h"

namespace dojo::place::internal {

using program::kAxes;

namespace {

std::string key_of_op(const graph::Op& op, const OpPlan& plan) {
  Key key;
  key.add(plan.split.nest());
  for (const program::Axis axis : kAxes) {
    const auto& cut = plan.split.on(axis);
    key.add(cut.has_value() ? cut->loop : -1).add(plan.split.is_flat(axis));
    key.add(cut.has_value() ? cut->cut.parts : 0).add(cut.has_value() ? cut->cut.block : 0);
  }
  const program::Split cuts = plan.split.split();
  for (const program::LoopSplit& loop : cuts.loops) {
    for (const program::AxisCut& cut : loop.cuts) {
      key.add(cut.axis).add(cut.parts).add(cut.block);
    }
  }
  key.add(plan.masked.size());
  for (const program::Axis axis : plan.masked) {
    key.add(axis);
  }
  for (std::size_t slot = 0; slot < plan.raw.size(); ++slot) {
    key.add(op.outputs[slot].has_value()).add(plan.raw[slot]);
  }
  return key.take();
}

}  // namespace

Fetches::Fetches(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
                 const machine::MachineModel& machine)
    : graph_(graph), plan_(plan), mesh_(mesh), machine_(machine), op_keys_(graph.ops.size()) {
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    op_keys_[i] = key_of_op(graph.ops[i], plan.ops[i]);
  }
}

std::string Fetches::key_of(OpId op, int input) const {
  const ValueId id = *graph_.ops[op.index].inputs[static_cast<std::size_t>(input)];
  const graph::Value& value = graph_.value(id);
  Key key;
  key.add(input).add(value.shape).add(value.format).add(plan_.held[id.index]);
  key.add(static_cast<bool>(plan_.is_scrambled[id.index]));
  key.add(!plan_.turn.empty() && plan_.turn[op.index] == Turn::After);
  return key.take() + op_keys_[op.index];
}

Fetch Fetches::of(OpId op, int input) {
  const auto [found, is_new] = known_.try_emplace(key_of(op, input));
  if (is_new) {
    found->second = fetch(graph_, op, input, plan_, mesh_, machine_);
  }
  Fetch out = found->second;
  const ValueId id = *graph_.ops[op.index].inputs[static_cast<std::size_t>(input)];
  for (program::Move& move : out.moves) {
    move.tensor = graph_.value(id).name;
  }
  return out;
}

}  // namespace dojo::place::internal
