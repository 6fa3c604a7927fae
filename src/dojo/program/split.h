// Split: which axes of a replica's nodes each loop of an op is dealt to. Layout: what of a tensor
// each node holds. Both are plain values; the rules that make them are library place's.
//
// Axes. A replica is a rectangle of whole dies; replicas stand side by side and work on different
// samples. The node rows of a replica may be dealt to groups, which work on different samples too
// but share the weights' slices. The nodes of a group are a grid of rows (node.y) and columns
// (node.x). An axis serves at most one loop of an op. Where a loop (or a dimension) is cut by
// several axes, the outer one comes first: replica, group, micro, node.y, node.x.
//
// `micro` is an axis in time: its parts are worked on one after the other by the same nodes
// (micro-batches), so that only one part of what lies sliced along it is there at a time.
//
// Part i of a cut of `extent` points into blocks is [i block, min(extent, (i + 1) block)): the last
// parts may be short or empty, nothing is padded, and all parts but the last are equal.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/units.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"

namespace dojo::program {

enum class Axis : std::uint8_t { Replica, Group, Micro, NodeY, NodeX };
inline constexpr std::array kAxes{Axis::Replica, Axis::Group, Axis::Micro, Axis::NodeY,
                                  Axis::NodeX};
std::string_view name(Axis axis);  // "replica", "group", "micro", "node.y", "node.x"
std::optional<Axis> axis_named(std::string_view name);

// One axis' share of a loop or dimension: `parts` blocks of `block` points; parts >= 1.
struct AxisCut {
  Axis axis = Axis::Replica;
  std::int64_t parts = 1;
  std::int64_t block = 1;
  friend bool operator==(const AxisCut&, const AxisCut&) = default;
};

// The smallest multiple of `quantum` that cuts `extent` points into at most `places` blocks, and
// how many blocks that makes.
AxisCut cut(Axis axis, std::int64_t extent, std::int64_t places, std::int64_t quantum);

// Points of the part at `index` on one axis.
graph::Interval part(const AxisCut& cut, std::int64_t extent, std::int64_t index);

// Share of the axis' points in time that does work: extent / (parts x block).
double efficiency(const AxisCut& cut, std::int64_t extent);

// The reserved loop name for all elements of the op's tensors in row-major order. Only ops whose
// every operand is a scalar or has the shape of the result can be split so. Its axes are node.x
// (outer), group, node.y.
inline constexpr std::string_view kFlatLoop = "flat";

struct LoopSplit {
  std::string loop{};
  std::int64_t extent = 1;
  std::vector<AxisCut> cuts{};  // outer axis first; blocks nest
  friend bool operator==(const LoopSplit&, const LoopSplit&) = default;

  // Points of the largest part: the innermost block.
  std::int64_t block() const { return cuts.empty() ? extent : cuts.back().block; }
};

struct Split {
  std::vector<LoopSplit> loops{};  // only loops that are cut, in the order of the nest
  friend bool operator==(const Split&, const Split&) = default;

  const LoopSplit* find(std::string_view loop) const;
  const AxisCut* find(Axis axis) const;
  // Parts along an axis that get work; 1 if no loop is cut there.
  std::int64_t parts(Axis axis) const;
  bool is_flat() const { return loops.size() == 1 && loops.front().loop == kFlatLoop; }
};

// The reduction cuts that a split implies, in the order of the nest. A loop cut by several axes
// makes one cut of parts x parts blocks, so its inner block must divide the outer one. Parts in
// time are no cut: the sum of one goes on in the next. The parts of
// so many replicas make a run: those in a row, where sums over replicas are nested.
std::vector<graph::ReduceCut> reduction_cuts(
    const graph::LoopNest& nest, const Split& split,
    std::optional<std::int64_t> replicas_in_run = std::nullopt);

// What the nodes along one axis hold of a tensor.
enum class Sharing : std::uint8_t {
  Replicated,  // R: the same bytes everywhere
  Sliced,      // S(dim): blocks of a dimension
  Flat,        // even shares, in row-major order, of what the sliced axes leave
  Partial,     // P: FP32 partial sums, to be combined before anything is stored
};

struct AxisState {
  Sharing sharing = Sharing::Replicated;
  int dimension = 0;       // Sliced
  std::int64_t parts = 1;  // Sliced, Flat
  std::int64_t block = 1;  // Sliced: indices; Flat: elements
  friend bool operator==(const AxisState&, const AxisState&) = default;
};
AxisState sliced(int dimension, const AxisCut& cut);
AxisState flat(std::int64_t parts, std::int64_t block);

// Of several Flat axes node.x is the outermost, then group, then node.y.
struct Layout {
  std::array<AxisState, kAxes.size()> axes{};
  friend bool operator==(const Layout&, const Layout&) = default;

  AxisState& operator[](Axis axis) { return axes[static_cast<std::size_t>(axis)]; }
  const AxisState& operator[](Axis axis) const { return axes[static_cast<std::size_t>(axis)]; }
  bool has(Sharing sharing) const;
  // Replicated where it is Partial.
  Layout without_partials() const;
};

// Extents of the largest slice that a node holds, before flat shares.
graph::Shape slice_shape(const Layout& layout, const graph::Shape& shape);
// Elements and bytes of the largest share that a node holds.
std::int64_t slice_elements(const Layout& layout, const graph::Shape& shape);
Bytes slice_bytes(const Layout& layout, const graph::Shape& shape, Format format);

// "{n[128]: replica 16x8, y[28]: node.y 14x2}"
std::string to_string(const Split& split);
// "[0: replica 16x8, 2: node.y 14x2, flat: node.x 19x64] P(node.y)"
std::string to_string(const Layout& layout);

}  // namespace dojo::program
