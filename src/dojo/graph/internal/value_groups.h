// Value groups: a value and everything that only moves its elements share one storage format.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "dojo/graph/graph.h"

namespace dojo::graph {

// One operand of one op.
struct Read {
  OpId op;
  std::size_t slot;
};

struct ValueGroups {
  std::vector<ValueId> root;             // by value index; a root is its own root
  std::vector<std::vector<Read>> reads;  // by root index: all reads of the group that are no moves
};

ValueGroups value_groups(const Graph& graph);

}  // namespace dojo::graph
