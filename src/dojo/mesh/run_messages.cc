#include "dojo/mesh/run_messages.h"

#include "dojo/mesh/internal/plain_messages.h"

namespace dojo::mesh {

Result<MessagesOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                     const RouterConfig& config, const MessageTrace& trace) {
  DOJO_TRY_VOID(check(config));
  DOJO_TRY_VOID(check_trace(trace, topology));
  internal::PlainOutcome plain = internal::run_plain(topology, routing, config, trace);
  MessagesOutcome outcome{.end = Cycles{plain.end},
                          .phases = {},
                          .flits = plain.flits,
                          .link_flits = std::move(plain.link_flits),
                          .is_stuck = plain.is_stuck};
  for (const std::int64_t cycles : plain.phases) {
    outcome.phases.emplace_back(cycles);
  }
  return outcome;
}

}  // namespace dojo::mesh
