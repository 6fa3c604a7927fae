#include "dojo/mesh/internal/mesh_impl.h"

#include <fmt/format.h>

#include "dojo/mesh/internal/state_setup.h"

namespace dojo::mesh {

Result<std::unique_ptr<Mesh::Impl>> Mesh::Impl::make(const Topology& topology,
                                                     const RoutingTable& routing,
                                                     const RouterConfig& router,
                                                     const Traffic& traffic,
                                                     const MeshOptions& options) {
  if (topology.routers() > internal::kMaxRouters) {
    return Error{ErrorKind::DoesNotFit, fmt::format("a mesh of {} routers: at most {}",
                                                    topology.routers(), internal::kMaxRouters)};
  }
  DOJO_TRY_VOID(check(router));
  if (options.threads < 1) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{} threads: must be at least 1", options.threads)};
  }
  auto impl = std::make_unique<Impl>(internal::first_state(topology, routing, router, traffic),
                                     options.threads);
  constexpr int kDeepest = 65535;
  for (const internal::LongSender& link : impl->state.longs.senders) {
    if (link.reserved * router.vcs + link.shared > kDeepest) {
      return Error{ErrorKind::DoesNotFit,
                   fmt::format("a link's buffer of {} flits: at most {}",
                               link.reserved * router.vcs + link.shared, kDeepest)};
    }
  }
  impl->cycle = internal::cycle_function(options.isa.value_or(best_isa()), router.vcs);
  internal::with_vcs(router.vcs, [&](auto vcs) {
    impl->share_out(topology, options, internal::Block<vcs.value>::kLanes);
  });
  return impl;
}

}  // namespace dojo::mesh
