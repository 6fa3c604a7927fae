#include "dojo/program/split.h"

#include <fmt/format.h>

#include <algorithm>

#include "dojo/base/check.h"

namespace dojo::program {
namespace {

constexpr std::array<std::string_view, kAxes.size()> kAxisNames{"replica", "group", "micro",
                                                                "node.y", "node.x"};

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

std::string_view name(Axis axis) { return kAxisNames[static_cast<std::size_t>(axis)]; }

std::optional<Axis> axis_named(std::string_view name) {
  const auto* const found = std::find(kAxisNames.begin(), kAxisNames.end(), name);
  if (found == kAxisNames.end()) {
    return std::nullopt;
  }
  return static_cast<Axis>(found - kAxisNames.begin());
}

AxisCut cut(Axis axis, std::int64_t extent, std::int64_t places, std::int64_t quantum) {
  DOJO_CHECK(places >= 1 && quantum >= 1);
  const std::int64_t block =
      quantum * std::max<std::int64_t>(1, ceil_div(extent, quantum * places));
  return {axis, std::max<std::int64_t>(1, ceil_div(extent, block)), block};
}

graph::Interval part(const AxisCut& cut, std::int64_t extent, std::int64_t index) {
  return {std::min(extent, index * cut.block), std::min(extent, (index + 1) * cut.block)};
}

double efficiency(const AxisCut& cut, std::int64_t extent) {
  return static_cast<double>(extent) / static_cast<double>(cut.parts * cut.block);
}

const LoopSplit* Split::find(std::string_view loop) const {
  const auto found = std::find_if(loops.begin(), loops.end(),
                                  [&](const LoopSplit& entry) { return entry.loop == loop; });
  return found == loops.end() ? nullptr : &*found;
}

const AxisCut* Split::find(Axis axis) const {
  for (const LoopSplit& entry : loops) {
    for (const AxisCut& axis_cut : entry.cuts) {
      if (axis_cut.axis == axis) {
        return &axis_cut;
      }
    }
  }
  return nullptr;
}

std::int64_t Split::parts(Axis axis) const {
  const AxisCut* const found = find(axis);
  return found == nullptr ? 1 : found->parts;
}

std::vector<graph::ReduceCut> reduction_cuts(const graph::LoopNest& nest, const Split& split,
                                             std::optional<std::int64_t> replicas_in_run) {
  std::vector<graph::ReduceCut> cuts;
  for (const int loop : graph::reduce_loops(nest)) {
    const LoopSplit* const found = split.find(nest.loops[static_cast<std::size_t>(loop)].name);
    if (found == nullptr) {
      continue;
    }
    LoopSplit entry = *found;
    std::erase_if(entry.cuts, [](const AxisCut& cut) { return cut.axis == Axis::Micro; });
    for (std::size_t i = 1; i < entry.cuts.size(); ++i) {
      DOJO_CHECK(entry.cuts[i - 1].block % entry.cuts[i].block == 0);
    }
    const std::int64_t parts = ceil_div(entry.extent, entry.block());
    if (parts >= 2) {
      cuts.push_back({entry.loop, parts, entry.block()});
      const AxisCut& outer = entry.cuts.front();
      const std::int64_t run = replicas_in_run.value_or(parts) * (outer.block / entry.block());
      if (outer.axis == Axis::Replica && run < parts) {
        cuts.back().run = run;
      }
    }
  }
  return cuts;
}

AxisState sliced(int dimension, const AxisCut& cut) {
  return {Sharing::Sliced, dimension, cut.parts, cut.block};
}

AxisState flat(std::int64_t parts, std::int64_t block) {
  return {.sharing = Sharing::Flat, .parts = parts, .block = block};
}

bool Layout::has(Sharing sharing) const {
  return std::any_of(axes.begin(), axes.end(),
                     [&](const AxisState& state) { return state.sharing == sharing; });
}

Layout Layout::without_partials() const {
  Layout out = *this;
  for (AxisState& state : out.axes) {
    state = state.sharing == Sharing::Partial ? AxisState{} : state;
  }
  return out;
}

graph::Shape slice_shape(const Layout& layout, const graph::Shape& shape) {
  graph::Shape slice = shape;
  for (const AxisState& state : layout.axes) {
    if (state.sharing == Sharing::Sliced) {
      std::int64_t& extent = slice[static_cast<std::size_t>(state.dimension)];
      extent = std::min(extent, state.block);
    }
  }
  return slice;
}

std::int64_t slice_elements(const Layout& layout, const graph::Shape& shape) {
  std::int64_t elements = graph::element_count(slice_shape(layout, shape));
  for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
    if (layout[axis].sharing == Sharing::Flat) {
      elements = std::min(elements, layout[axis].block);
    }
  }
  return elements;
}

Bytes slice_bytes(const Layout& layout, const graph::Shape& shape, Format format) {
  return Bytes(slice_elements(layout, shape) * bytes_of(format));
}

std::string to_string(const Split& split) {
  std::vector<std::string> entries;
  for (const LoopSplit& entry : split.loops) {
    std::string text = fmt::format("{}[{}]:", entry.loop, entry.extent);
    for (const AxisCut& axis_cut : entry.cuts) {
      text += fmt::format(" {} {}x{}", name(axis_cut.axis), axis_cut.parts, axis_cut.block);
    }
    entries.push_back(std::move(text));
  }
  return fmt::format("{{{}}}", fmt::join(entries, ", "));
}

std::string to_string(const Layout& layout) {
  std::vector<std::string> slices;
  std::string partial;
  for (const Axis axis : kAxes) {
    const AxisState& state = layout[axis];
    if (state.sharing == Sharing::Sliced) {
      slices.push_back(
          fmt::format("{}: {} {}x{}", state.dimension, name(axis), state.parts, state.block));
    } else if (state.sharing == Sharing::Flat) {
      slices.push_back(fmt::format("flat: {} {}x{}", name(axis), state.parts, state.block));
    } else if (state.sharing == Sharing::Partial) {
      partial += fmt::format("{}{}", partial.empty() ? "" : ", ", name(axis));
    }
  }
  return fmt::format("[{}]{}", fmt::join(slices, ", "),
                     partial.empty() ? "" : fmt::format(" P({})", partial));
}

}  // namespace dojo::program
