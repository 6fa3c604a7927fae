#include "dojo/place/internal/fetches.h"

namespace dojo::place::internal {

using graph::Access;
using graph::Operand;
using graph::Stage;
using program::AxisState;
using program::kAxes;
using program::Layout;

namespace {

// Numbers as bytes, one after the other; lists carry their length, so no two keys run together.
class Key {
 public:
  template <typename Number>
  Key& add(Number number) {
    const auto wide = static_cast<std::int64_t>(number);
    text_.append(reinterpret_cast<const char*>(&wide), sizeof wide);
    return *this;
  }
  Key& add(const graph::Shape& shape) {
    add(shape.size());
    for (const std::int64_t extent : shape) {
      add(extent);
    }
    return *this;
  }
  Key& add(const AxisState& state) {
    return add(state.sharing).add(state.dimension).add(state.parts).add(state.block);
  }
  Key& add(const Layout& layout) {
    for (const AxisState& state : layout.axes) {
      add(state);
    }
    return *this;
  }
  Key& add(const Access& access) {
    add(access.index());
    if (const auto* map = std::get_if<graph::Affine>(&access)) {
      add(map->offset).add(map->divisor).add(map->terms.size());
      for (const graph::Term& term : map->terms) {
        add(term.loop).add(term.stride);
      }
      add(map->ratio.has_value());
      if (map->ratio.has_value()) {
        add(map->ratio->loop).add(map->ratio->multiplier);
        add(map->ratio->addend).add(map->ratio->divisor);
      }
    } else if (const auto* indexed = std::get_if<graph::Indexed>(&access)) {
      add(indexed->by);
    }
    return *this;
  }
  Key& add(const Operand& operand) {
    add(operand.tensor.kind).add(operand.tensor.index).add(operand.use).add(operand.shape);
    for (const Access& access : operand.access) {
      add(access);
    }
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string key_of_op(const graph::Op& op, const OpPlan& plan) {
  Key key;
  const graph::LoopNest& nest = plan.split.nest();
  key.add(nest.loops.size());
  for (const graph::Loop& loop : nest.loops) {
    key.add(loop.extent);
  }
  for (const Stage& stage : nest.stages) {
    key.add(stage.loops.size());
    for (const graph::StageLoop& loop : stage.loops) {
      key.add(loop.loop).add(loop.kind);
    }
    key.add(stage.operands.size());
    for (const Operand& operand : stage.operands) {
      key.add(operand);
    }
  }
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

Fetches::Fetches(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh)
    : graph_(graph), plan_(plan), mesh_(mesh), op_keys_(graph.ops.size()) {
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
  return key.take() + op_keys_[op.index];
}

Fetch Fetches::of(OpId op, int input) {
  const auto [found, is_new] = known_.try_emplace(key_of(op, input));
  if (is_new) {
    found->second = fetch(graph_, op, input, plan_, mesh_);
  }
  Fetch out = found->second;
  const ValueId id = *graph_.ops[op.index].inputs[static_cast<std::size_t>(input)];
  for (program::Move& move : out.moves) {
    move.tensor = graph_.value(id).name;
  }
  return out;
}

}  // namespace dojo::place::internal
