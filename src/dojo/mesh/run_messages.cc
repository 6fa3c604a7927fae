#include "dojo/mesh/run_messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "dojo/mesh/internal/mesh_impl.h"
#include "dojo/mesh/internal/message_source.h"
#include "dojo/mesh/internal/watch.h"

namespace dojo::mesh {

class MessageRun {
 public:
  MessageRun(const Topology& topology, Mesh& mesh, internal::MessageSource& source)
      : topology_(topology), mesh_(mesh), impl_(*mesh.impl_), source_(source) {
    impl_.state.messages = &source;
  }

  MessagesOutcome run() {
    MessagesOutcome outcome;
    Cycle start = 0;
    while (source_.has_phase() && outcome.trap.empty()) {
      source_.begin_phase(start);
      wake_nodes(start);
      packets_ += static_cast<std::uint64_t>(source_.packets_of_phase());
      run_phase(outcome);
      const Counters counters = mesh_.counters();
      const Cycle end = outcome.trap.empty() ? counters.last_arrival : mesh_.now();
      outcome.end = Cycles{end};
      outcome.flits = static_cast<std::int64_t>(counters.flits);
      outcome.phases.emplace_back(std::int64_t{end} - start);
      start = end + 1;
      impl_.run_until(start, {});
    }
    count_flits(outcome);
    return outcome;
  }

 private:
  void wake_nodes(Cycle start) {
    for (std::uint32_t router = 0; router < topology_.routers(); ++router) {
      if (source_.has_messages(router)) {
        impl_.state.wake[router] = start;
      }
    }
  }

  void run_phase(MessagesOutcome& outcome) {
    internal::Watch watch(mesh_);
    watch.expect_arrivals();
    while (mesh_.counters().packets < packets_ && outcome.trap.empty()) {
      if (mesh_.now() > kNever - 2 * internal::Watch::kPeriod) {
        outcome.trap = "the run is longer than 4,294,967,295 cycles";
        return;
      }
      const Cycle next = next_action();
      impl_.run_until(mesh_.now() + internal::Watch::kPeriod, packets_);
      if (mesh_.counters().packets < packets_) {
        outcome.trap = watch.check(mesh_, next != kNever && next > mesh_.now());
      }
    }
  }

  // The earliest cycle in which a node does something of its own accord.
  Cycle next_action() const {
    return *std::min_element(impl_.state.wake.begin(), impl_.state.wake.end());
  }

  void count_flits(MessagesOutcome& outcome) const {
    for (const Link& link : topology_.links()) {
      outcome.link_flits.push_back(static_cast<std::int64_t>(
          mesh_.flits_sent(static_cast<int>(link.from.index), index(link.out))));
    }
    outcome.traversals = static_cast<std::int64_t>(mesh_.flits_moved());
  }

  const Topology& topology_;
  Mesh& mesh_;
  Mesh::Impl& impl_;
  internal::MessageSource& source_;
  std::uint64_t packets_ = 0;  // of all phases up to this
};

Result<MessagesOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                     const RouterConfig& config, const MessageTrace& trace,
                                     const MeshOptions& options) {
  DOJO_TRY_VOID(check_trace(trace, topology));
  std::int32_t packet_flits = 1;
  for (const Message& message : trace.messages) {
    packet_flits = std::max(packet_flits, message.packet_flits);
  }
  internal::MessageSource source(topology, trace, config.eject_delay);
  if (source.most_per_phase() > internal::MessageSource::kMostPerPhase) {
    return Error{ErrorKind::DoesNotFit,
                 fmt::format("{} messages in a phase: at most {}", source.most_per_phase(),
                             internal::MessageSource::kMostPerPhase)};
  }
  const Traffic silence =
      Traffic::listed(std::vector<std::vector<Packet>>(topology.routers()), packet_flits);
  DOJO_TRY(Mesh mesh, Mesh::make(topology, routing, config, silence, options));
  return MessageRun(topology, mesh, source).run();
}

}  // namespace dojo::mesh
