#include "dojo/place/internal/split_nest.h"

#include <algorithm>

#include "dojo/base/check.h"

namespace dojo::place::internal {

using graph::Access;
using graph::Affine;
using graph::LoopKind;
using graph::Operand;
using graph::Stage;
using graph::Term;
using program::Axis;
using program::AxisState;
using program::kAxes;
using program::Layout;
using program::Sharing;

namespace {

std::size_t index_of(Axis axis) { return static_cast<std::size_t>(axis); }

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The dimension whose map has the loop, if it is an affine one and the only one.
struct LoopPlace {
  int dimension = 0;
  const Affine* map = nullptr;
  std::int64_t stride = 0;
};

enum class Found : std::uint8_t { No, Once, Otherwise };

Found find_loop(const Operand& operand, int loop, LoopPlace& place) {
  int count = 0;
  for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
    const auto* map = std::get_if<Affine>(&operand.access[dim]);
    if (map == nullptr) {
      continue;
    }
    if (map->ratio.has_value() && map->ratio->loop == loop) {
      place = {static_cast<int>(dim), map, 0};
      ++count;
    }
    for (const Term& term : map->terms) {
      if (term.loop == loop) {
        place = {static_cast<int>(dim), map, term.stride};
        ++count;
      }
    }
  }
  return count == 0 ? Found::No : count == 1 ? Found::Once : Found::Otherwise;
}

}  // namespace

std::int64_t SplitNest::extent_at(Axis axis, int loop) const {
  std::int64_t extent = nest_.loops[static_cast<std::size_t>(loop)].extent;
  for (const Axis outer : kAxes) {
    if (outer == axis) {
      break;
    }
    if (on(outer).has_value() && on(outer)->loop == loop) {
      extent = std::min(extent, on(outer)->cut.block);
    }
  }
  return extent;
}

std::int64_t SplitNest::local_extent(int loop) const {
  std::int64_t extent = nest_.loops[static_cast<std::size_t>(loop)].extent;
  for (const Axis axis : kAxes) {
    if (on(axis).has_value() && on(axis)->loop == loop) {
      extent = std::min(extent, on(axis)->cut.block);
    }
  }
  return extent;
}

bool SplitNest::assign(Axis axis, int loop, std::int64_t block) {
  if (on(axis).has_value() || is_flat(axis) || block < 1) {
    return false;
  }
  bool is_reduced = false;
  for (const Stage& stage : nest_.stages) {
    const auto kind = graph::kind_of(stage, loop);
    if (kind == LoopKind::Scan || (kind == LoopKind::Indexed && axis != Axis::Micro)) {
      return false;
    }
    is_reduced = is_reduced || kind == LoopKind::Reduce;
  }
  const std::int64_t parts = ceil_div(extent_at(axis, loop), block);
  if (parts < 2) {
    return false;
  }
  for (const Axis other : kAxes) {
    if (!on(other).has_value() || on(other)->loop != loop) {
      continue;
    }
    // Rows and columns do not share a loop, nor do columns go on through groups; cuts of a sum have
    // to be of one size.
    const bool is_node_axis = other == Axis::NodeY || other == Axis::NodeX;
    const bool leaves_rows = other == Axis::Group && axis == Axis::NodeX;
    // Parts in time are no cuts: they go on with the sum, so they need not be of one size; but then
    // a node has to have all points of a part.
    const bool is_irregular = axis != Axis::Micro && on(other)->cut.block % block != 0;
    const bool is_inside = index_of(other) > index_of(axis);  // its blocks would have to nest
    if (is_node_axis || is_inside ||
        (is_reduced && (leaves_rows || other == Axis::Micro || is_irregular))) {
      return false;
    }
  }
  on_[index_of(axis)] = AxisLoop{loop, {axis, parts, block}};
  if (!are_outputs_sliced()) {
    on_[index_of(axis)].reset();
    return false;
  }
  return true;
}

void SplitNest::assign_flat(Axis axis, AxisState state) {
  DOJO_CHECK(!on(axis).has_value() && state.sharing == Sharing::Flat);
  flat_[index_of(axis)] = state;
}

bool SplitNest::has_flat() const {
  return std::any_of(flat_.begin(), flat_.end(),
                     [](const auto& state) { return state.has_value(); });
}

double SplitNest::flat_share() const {
  std::int64_t elements = 1;
  for (std::size_t loop = 0; loop < nest_.loops.size(); ++loop) {
    elements *= local_extent(static_cast<int>(loop));
  }
  std::int64_t share = elements;
  for (const auto& state : flat_) {
    share = state.has_value() ? std::min(share, state->block) : share;
  }
  return elements == 0 ? 1 : static_cast<double>(share) / static_cast<double>(elements);
}

graph::Slice SplitNest::slice(const Place& place, Axis innermost) const {
  graph::Slice slice = graph::whole_slice(nest_);
  for (const Axis axis : kAxes) {
    if (!on(axis).has_value() || axis > innermost) {
      continue;
    }
    graph::Interval& loop = slice[static_cast<std::size_t>(on(axis)->loop)];
    const std::int64_t begin = loop.begin + place[index_of(axis)] * on(axis)->cut.block;
    loop = {std::min(begin, loop.end), std::min(begin + on(axis)->cut.block, loop.end)};
  }
  return slice;
}

SplitNest::Place SplitNest::busiest_place() const {
  Place place{};
  for (const Axis axis : kAxes) {
    if (on(axis).has_value() && on(axis)->cut.parts > 2) {
      place[index_of(axis)] = 1;
    }
  }
  return place;
}

graph::Slice SplitNest::busiest() const { return slice(busiest_place()); }

// The blocks of the axis' loop as blocks of one dimension, if they are that.
std::optional<AxisState> SplitNest::state(const Operand& operand, Axis axis) const {
  LoopPlace place;
  const AxisLoop& cut = *on(axis);
  if (find_loop(operand, cut.loop, place) != Found::Once || place.map->divisor != 1 ||
      place.map->ratio.has_value() || place.stride < 1 || place.map->offset != 0) {
    return std::nullopt;
  }
  std::int64_t span = 0;  // of the terms inside of this loop's stride
  for (const Term& term : place.map->terms) {
    if (term.loop == cut.loop) {
      continue;
    }
    const std::int64_t extent = extent_at(axis, term.loop);
    if (term.stride > place.stride) {
      // Terms further out must stand still, or the block would be many intervals.
      if (extent > 1) {
        return std::nullopt;
      }
    } else {
      span += std::abs(term.stride) * (nest_.loops[static_cast<std::size_t>(term.loop)].extent - 1);
    }
  }
  if (span >= place.stride) {
    return std::nullopt;
  }
  program::AxisCut blocks = cut.cut;
  blocks.block *= place.stride;
  return program::sliced(place.dimension, blocks);
}

bool SplitNest::is_representable(const Stage& stage, const Operand& operand) const {
  const auto writers =
      std::count_if(nest_.stages.begin(), nest_.stages.end(), [&](const Stage& other) {
        return std::any_of(other.operands.begin(), other.operands.end(), [&](const Operand& one) {
          return one.use == graph::OperandUse::Write && one.tensor == operand.tensor;
        });
      });
  for (const Axis axis : kAxes) {
    if (!on(axis).has_value()) {
      continue;
    }
    const auto kind = graph::kind_of(stage, on(axis)->loop);
    // Stages that write parts of one tensor have to slice it alike.
    const bool is_elsewhere = writers > 1 && !kind.has_value();
    if (is_elsewhere || (kind == LoopKind::Parallel && !state(operand, axis).has_value())) {
      return false;
    }
  }
  return true;
}

bool SplitNest::are_outputs_sliced() const {
  for (const Stage& stage : nest_.stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use == graph::OperandUse::Write && !is_representable(stage, operand)) {
        return false;
      }
    }
  }
  return true;
}

Layout SplitNest::written(const Stage& stage, const Operand& operand) const {
  Layout layout;
  for (const Axis axis : kAxes) {
    if (is_flat(axis)) {
      layout[axis] = *flat_[index_of(axis)];
    } else if (on(axis).has_value()) {
      const auto kind = graph::kind_of(stage, on(axis)->loop);
      if (kind == LoopKind::Parallel) {
        layout[axis] = *state(operand, axis);
      } else if (kind == LoopKind::Reduce || kind == LoopKind::Indexed) {
        layout[axis].sharing = Sharing::Partial;
      }
    }
  }
  return layout;
}

Layout SplitNest::read(const Operand& operand) const {
  Layout layout;
  for (const Axis axis : kAxes) {
    if (on(axis).has_value()) {
      layout[axis] = state(operand, axis).value_or(AxisState{});
    }
  }
  return layout;
}

Need SplitNest::need(const Operand& operand, Axis axis) const {
  if (!on(axis).has_value()) {
    return {};
  }
  LoopPlace place;
  const int loop = on(axis)->loop;
  // Through an index alone the loop may read anything; where it also runs over a dimension (the
  // rows of which one element is picked), it reads its slice of that.
  if (find_loop(operand, loop, place) != Found::Once) {
    return {};
  }
  return {.is_sliced = true, .dimension = place.dimension};
}

program::Split SplitNest::split() const {
  program::Split out;
  for (std::size_t loop = 0; loop < nest_.loops.size(); ++loop) {
    program::LoopSplit entry{nest_.loops[loop].name, nest_.loops[loop].extent, {}};
    for (const Axis axis : kAxes) {
      if (on(axis).has_value() && on(axis)->loop == static_cast<int>(loop)) {
        entry.cuts.push_back(on(axis)->cut);
      }
    }
    if (!entry.cuts.empty()) {
      out.loops.push_back(std::move(entry));
    }
  }
  if (has_flat()) {
    std::int64_t elements = 1;
    for (std::size_t loop = 0; loop < nest_.loops.size(); ++loop) {
      elements *= local_extent(static_cast<int>(loop));
    }
    program::LoopSplit entry{std::string(program::kFlatLoop), elements, {}};
    for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
      if (is_flat(axis)) {
        const AxisState& state = *flat_[index_of(axis)];
        entry.cuts.push_back({axis, state.parts, state.block});
      }
    }
    out.loops.push_back(std::move(entry));
  }
  return out;
}

bool is_pointwise(const graph::LoopNest& nest) {
  for (const Stage& stage : nest.stages) {
    for (const graph::StageLoop& loop : stage.loops) {
      if (loop.kind != LoopKind::Parallel) {
        return false;
      }
    }
    for (const Operand& operand : stage.operands) {
      if (operand.access.empty() || graph::element_count(operand.shape) == 1) {
        continue;
      }
      if (operand.access.size() != nest.loops.size()) {
        return false;
      }
      for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
        const auto* map = std::get_if<Affine>(&operand.access[dim]);
        const bool is_loop = map != nullptr && map->offset == 0 && map->divisor == 1 &&
                             !map->ratio.has_value() && map->terms.size() == 1 &&
                             map->terms[0].loop == static_cast<int>(dim) &&
                             map->terms[0].stride == 1;
        const bool is_single = nest.loops[dim].extent == 1;
        if (!is_loop && !is_single) {
          return false;
        }
      }
    }
  }
  return true;
}

std::optional<LoopBlock> loop_of_slice(const SplitNest& nest, const Access& access, Axis axis,
                                       std::int64_t block) {
  const auto* map = std::get_if<Affine>(&access);
  if (map == nullptr || map->divisor != 1 || map->ratio.has_value()) {
    return std::nullopt;
  }
  std::vector<Term> terms = map->terms;
  std::sort(terms.begin(), terms.end(),
            [](const Term& a, const Term& b) { return a.stride > b.stride; });
  for (const Term& term : terms) {
    if (nest.extent_at(axis, term.loop) < 2) {
      continue;
    }
    if (term.stride < 1 || block % term.stride != 0) {
      return std::nullopt;
    }
    return LoopBlock{term.loop, block / term.stride};
  }
  return std::nullopt;
}

}  // namespace dojo::place::internal
