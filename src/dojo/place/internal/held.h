// Held: how much of what nodes hold of a tensor is of a few indices of one dimension: what messages
// to those that read these have to carry.
#pragma once

#include <cstdint>

#include "dojo/graph/graph.h"
#include "dojo/program/split.h"

namespace dojo::place::internal {

struct Held {
  const graph::Value& value;
  const program::Layout& layout;
  bool is_scrambled = false;  // flat shares are not in the row-major order of this value
};

// Of what one node holds, at most so much is of so many indices of the dimension.
Bytes most_with(const Held& held, int dimension, std::int64_t indices);

// The same of nodes next to each other along an axis, of so many indices that lie there.
Bytes held_along(const Held& held, program::Axis axis, std::int64_t indices);

}  // namespace dojo::place::internal
