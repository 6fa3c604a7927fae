// SplitNest: a loop nest with some loops dealt to axes, and the general rule of what that implies
// for every operand, written once for all ops (docs/placement.md, "What a split implies"):
//
//   read, loop in one dimension, footprints disjoint    sliced: nothing moves
//   read, loop in one dimension, footprints overlap     sliced, and a halo
//   read, loop absent (or the axis unused)              replicated: gathered
//   read, through an index                              replicated, or masked look-up by the owner
//   write, loop parallel                                sliced
//   write, loop reduced                                 partial, to be combined
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "dojo/graph/nest.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/program/split.h"

namespace dojo::place::internal {

struct AxisLoop {
  int loop = 0;
  program::AxisCut cut{};
};

// What an operand needs along an axis.
struct Need {
  bool is_sliced = false;
  int dimension = 0;  // of the operand, if sliced
};

class SplitNest {
 public:
  SplitNest() = default;
  explicit SplitNest(graph::LoopNest nest) : nest_(std::move(nest)) {}

  const graph::LoopNest& nest() const { return nest_; }

  // Deals blocks of `block` points of the loop to the axis. False, and nothing done, if that is not
  // possible: the axis or loop is taken, the loop is scanned or (but in time) indexed, one part has
  // all, a cut of a reduction would not be regular or lie inside its parts in time, or an output
  // would not be slices of its dimensions.
  // Assign outer axes first.
  bool assign(program::Axis axis, int loop, std::int64_t block);
  const std::optional<AxisLoop>& on(program::Axis axis) const {
    return on_[static_cast<std::size_t>(axis)];
  }
  // Points of the loop that one place of the axes outside `axis` has.
  std::int64_t extent_at(program::Axis axis, int loop) const;
  // Points of the busiest place.
  std::int64_t local_extent(int loop) const;

  // Even row-major shares on axes whose operands are Flat; only for pointwise nests.
  void assign_flat(program::Axis axis, program::AxisState state);
  bool is_flat(program::Axis axis) const {
    return flat_[static_cast<std::size_t>(axis)].has_value();
  }
  bool has_flat() const;
  // The share of the slice that is left by flat axes: block / elements.
  double flat_share() const;

  using Place = std::array<std::int64_t, program::kAxes.size()>;
  // Of one place; or of all places inside of one of the axis `innermost`.
  graph::Slice slice(const Place& place, program::Axis innermost = program::Axis::NodeX) const;
  // A place in the middle: full blocks, halos on both sides.
  graph::Slice busiest() const;
  Place busiest_place() const;

  // How the output or scratch tensor lies when the stage is done; partial axes not yet combined.
  program::Layout written(const graph::Stage& stage, const graph::Operand& operand) const;
  // The slices of a read operand that go with the split, where the slices do not overlap;
  // Replicated elsewhere.
  program::Layout read(const graph::Operand& operand) const;
  // What a read operand needs along the axis.
  Need need(const graph::Operand& operand, program::Axis axis) const;

  program::Split split() const;

 private:
  bool is_representable(const graph::Stage& stage, const graph::Operand& operand) const;
  bool are_outputs_sliced() const;
  std::optional<program::AxisState> state(const graph::Operand& operand, program::Axis axis) const;

  graph::LoopNest nest_;
  std::array<std::optional<AxisLoop>, program::kAxes.size()> on_{};
  std::array<std::optional<program::AxisState>, program::kAxes.size()> flat_{};
};

// Every operand is a scalar or runs over all loops in order, one per dimension: such a nest can be
// split in row-major shares.
bool is_pointwise(const graph::LoopNest& nest);

// The loop of a dimension that a slice of `block` indices follows, and its block: the outermost
// term whose loop has more than one point left. nullopt: no block of a loop gives just these
// indices.
struct LoopBlock {
  int loop = 0;
  std::int64_t block = 1;
};
std::optional<LoopBlock> loop_of_slice(const SplitNest& nest, const graph::Access& access,
                                       program::Axis axis, std::int64_t block);

}  // namespace dojo::place::internal
