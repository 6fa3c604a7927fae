// Key: what makes ops alike, as text: equal keys, equal answers.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "dojo/graph/nest.h"
#include "dojo/program/split.h"

namespace dojo::place::internal {

// Numbers as bytes, one after the other; lists carry their length, so no two keys run together.
class Key {
 public:
  template <typename Number>
    requires(std::is_integral_v<Number> || std::is_enum_v<Number>)
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
  Key& add(const program::AxisState& state) {
    return add(state.sharing).add(state.dimension).add(state.parts).add(state.block);
  }
  Key& add(const program::Layout& layout) {
    for (const program::AxisState& state : layout.axes) {
      add(state);
    }
    return *this;
  }
  Key& add(const graph::Access& access) {
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
  Key& add(const graph::Operand& operand) {
    add(operand.tensor.kind).add(operand.tensor.index).add(operand.use).add(operand.shape);
    for (const graph::Access& access : operand.access) {
      add(access);
    }
    return *this;
  }
  Key& add(const graph::LoopNest& nest) {
    add(nest.loops.size());
    for (const graph::Loop& loop : nest.loops) {
      add(loop.extent);
    }
    for (const graph::Stage& stage : nest.stages) {
      add(stage.loops.size());
      for (const graph::StageLoop& loop : stage.loops) {
        add(loop.loop).add(loop.kind);
      }
      add(stage.operands.size());
      for (const graph::Operand& operand : stage.operands) {
        add(operand);
      }
    }
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace dojo::place::internal
