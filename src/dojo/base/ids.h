// Typed indices: an id of one kind does not compare or convert to an id of another.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace dojo {

template <class Tag>
struct Id {
  std::uint32_t index = 0;
  friend constexpr auto operator<=>(Id, Id) = default;
};

using NodeId = Id<struct NodeTag>;    // a node of a machine
using LinkId = Id<struct LinkTag>;    // a link of a machine
using ValueId = Id<struct ValueTag>;  // a tensor of a Graph
using OpId = Id<struct OpTag>;        // an op of a Graph
using PhaseId = Id<struct PhaseTag>;  // a phase of a Program

}  // namespace dojo

template <class Tag>
struct std::hash<dojo::Id<Tag>> {
  std::size_t operator()(dojo::Id<Tag> id) const { return id.index; }
};
