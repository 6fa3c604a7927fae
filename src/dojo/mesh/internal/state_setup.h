// The state of a mesh before its first cycle.
#pragma once

#include <type_traits>
#include <utility>

#include "dojo/mesh/internal/state.h"
#include "dojo/mesh/mesh.h"

namespace dojo::mesh::internal {

// Topology and table must outlive the state.
State first_state(const Topology& topology, const RoutingTable& routing, const RouterConfig& config,
                  const Traffic& traffic);

// Packets to several nodes are copied as the trees say, which must outlive the state.
void let_routers_copy(State& state, const CopyTrees& trees);

// Calls use(std::integral_constant<int, vcs>): from a number to the Block of so many VCs.
template <class Use, std::size_t... kIndex>
void with_vcs(int vcs, const Use& use, std::index_sequence<kIndex...> /*all*/) {
  (void)((vcs == static_cast<int>(kIndex) + 1 &&
          (use(std::integral_constant<int, static_cast<int>(kIndex) + 1>()), true)) ||
         ...);
}
template <class Use>
void with_vcs(int vcs, const Use& use) {
  with_vcs(vcs, use, std::make_index_sequence<kMaxVcs>());
}

// What the engine has allocated for it: routers, sources, links; without the traffic.
std::size_t bytes_of(const State& state);

}  // namespace dojo::mesh::internal
