// Reads: what the nodes of an op read of one operand, by its split alone: how much a node or a line
// of nodes does, and what they lack of it where it lies otherwise. Several stages may read it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/split_nest.h"

namespace dojo::place::internal {

// One reading of the operand.
struct Reading {
  const graph::Stage* stage = nullptr;
  const graph::Operand* operand = nullptr;
};

// What the worst-off node lacks of its interval, by side, and from how far it comes.
struct Shortage {
  std::array<std::int64_t, 2> low_high{};
  std::int64_t reach = 1;
};

class Reads {
 public:
  // Operand `input` of the op with this split, which is `value`.
  Reads(const SplitNest& split, int input, const graph::Value& value, const Mesh& mesh);

  bool is_empty() const { return all_.empty(); }  // only its shape is read
  const std::vector<Reading>& all() const { return all_; }
  // Along the axis; sliced only if every stage that reads it says so.
  Need need(program::Axis axis) const;

  // Bytes of the operand that the node which reads most of it does.
  Bytes footprint() const;
  // What the busiest node keeps of all that passes it: an element for every point that reads one.
  // Less than the footprint where that is a hull (views through the end of a sample, shares).
  Bytes kept() const;
  // Bytes that any node of a line reads, over these axes: more than a node's, where the nodes along
  // the line read different parts.
  struct Line {
    bool over_groups = false;
    bool along_y = false;
    bool along_x = false;
  };
  Bytes by_line(const Line& line) const;
  // Indices of the dimension that the node with most of them reads.
  std::int64_t longest(int dimension) const;
  // Bytes for each index of the dimension: what the node with the widest of the others reads.
  std::int64_t bytes_per_index(program::Axis axis, int dimension) const;

  // Along an axis on which it lies sliced.
  Shortage shortage(program::Axis axis, const program::Layout& layout) const;

 private:
  using Place = SplitNest::Place;

  std::vector<Place> telling_places() const;
  std::vector<Place> places_along(program::Axis axis) const;
  std::vector<Place> outer_places(program::Axis axis, const program::Layout& layout) const;
  bool goes_through_groups(program::Axis axis) const;
  Bytes bytes_of_slice(const graph::Slice& slice) const;
  std::int64_t longest_in(const graph::Slice& slice, int dimension) const;
  std::int64_t elements(const Reading& reading) const;

  const SplitNest& split_;
  const Mesh& mesh_;
  const graph::Value& value_;
  std::vector<Reading> all_;
  std::vector<Place> places_;  // among which is the one that reads most
};

// Whether the layout is sliced along the axis in that dimension.
bool holds(const program::Layout& layout, program::Axis axis, int dimension);

}  // namespace dojo::place::internal
