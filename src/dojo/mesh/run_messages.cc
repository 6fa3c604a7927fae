#include "dojo/mesh/run_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "dojo/mesh/internal/copy_trees.h"
#include "dojo/mesh/internal/mesh_impl.h"
#include "dojo/mesh/internal/message_source.h"
#include "dojo/mesh/internal/state_setup.h"
#include "dojo/mesh/internal/watch.h"

namespace dojo::mesh {

namespace {

constexpr std::string_view kMagic = "dojo message run 2\n";

// So that a saved run is not resumed on another trace (FNV-1a over what the nodes do).
std::uint64_t fingerprint(const MessageTrace& trace) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](std::int64_t value) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100000001b3;
  };
  for (const Message& message : trace.messages) {
    for (const std::int64_t value :
         {std::int64_t{message.source.index}, std::int64_t{message.target.index}, message.flits,
          std::int64_t{message.packet_flits}, std::int64_t{message.phase}, message.start.count(),
          std::int64_t{message.pace.num}, std::int64_t{message.pace.den},
          std::int64_t{message.dependencies}, std::int64_t{message.more}}) {
      add(value);
    }
  }
  for (const RouterId target : trace.more_targets) {
    add(std::int64_t{target.index});
  }
  for (const Dependency& after : trace.dependencies) {
    for (const std::int64_t value :
         {std::int64_t{after.on.index}, after.first, after.stride, after.delay.count()}) {
      add(value);
    }
  }
  return hash;
}

}  // namespace

struct MessageRun::Impl {
  Impl(const Topology& network, const MessageTrace& messages, internal::CopyTrees copies,
       int eject_delay, bool starvation)
      : topology(network),
        trace(messages),
        traps_starvation(starvation),
        trees(std::move(copies)),
        source(network, messages, eject_delay, [this](MessageId id) { return route(id); }),
        arrivals(messages.messages.size(), Cycles{-1}) {}

  // What a saved run has beside the mesh's and the source's states.
  struct Progress {
    std::uint64_t packets = 0;  // of all phases up to the present one
    Cycle start = 0;            // of the present phase
    Cycle end = 0;              // last arrival of the phases that are over, or the trap's cycle
    Cycle next_check = 0;       // when the watch looks
    bool is_in_phase = false;
    internal::Watch watch;
  };

  Mesh::Impl& inside() { return *mesh->impl_; }

  std::uint64_t route(MessageId id) const {
    const Message& message = trace.messages[id.index];
    return message.more == 0 ? mesh->impl_->state.route(message.source.index, message.target.index)
                             : internal::Flit::to_copy_at(0, trees.root(id));
  }

  bool is_done() const { return !trap.empty() || (!at.is_in_phase && !source.has_phase()); }

  // From a phase's beginning to the cycle after its last arrival, in steps that do not depend on
  // where the caller stops.
  void run_until(Cycle stop) {
    while (!is_done() && mesh->now() < stop) {
      if (!at.is_in_phase) {
        begin_phase();
        continue;
      }
      const Counters counters = mesh->counters();
      if (counters.packets == at.packets) {
        inside().run_until(std::min(stop, counters.last_arrival + 1), {});
        if (mesh->now() == counters.last_arrival + 1) {
          end_phase(counters.last_arrival);
        }
        continue;
      }
      if (mesh->now() == at.next_check) {
        check();
      } else {
        inside().run_until(std::min(stop, at.next_check), at.packets);
      }
    }
  }

  void begin_phase() {
    at.start = mesh->now();
    if (is_too_long()) {
      return;
    }
    source.begin_phase(at.start);
    for (std::uint32_t router = 0; router < topology.routers(); ++router) {
      inside().state.wake[router] = source.earliest(router);
    }
    at.packets += static_cast<std::uint64_t>(source.packets_of_phase());
    at.watch = internal::Watch(*mesh, traps_starvation);
    at.watch.expect_arrivals();
    at.next_check = at.start + internal::Watch::kPeriod;
    at.is_in_phase = true;
  }

  void end_phase(Cycle last_arrival) {
    at.is_in_phase = false;
    at.end = last_arrival;
    phases.emplace_back(std::int64_t{last_arrival} - at.start);
    take_arrivals(arrivals);
  }

  void check() {
    const auto& wake = inside().state.wake;
    const Cycle next_action = *std::min_element(wake.begin(), wake.end());
    if (!is_too_long()) {
      trap = at.watch.check(*mesh, next_action != kNever && next_action > mesh->now());
    }
    at.next_check += internal::Watch::kPeriod;
    if (!trap.empty()) {
      at.end = mesh->now();
      phases.emplace_back(std::int64_t{at.end} - at.start);
    }
  }

  bool is_too_long() {
    if (mesh->now() > kNever - 2 * internal::Watch::kPeriod) {
      trap = "the run is longer than 4,294,967,295 cycles";
    }
    return !trap.empty();
  }

  void take_arrivals(std::vector<Cycles>& into) const {
    source.for_each_arrival([&](MessageId message, Cycle last) {
      into[message.index] =
          std::max(into[message.index], last == kNever ? Cycles{-1} : Cycles{last});
    });
  }

  MessagesOutcome outcome() const {
    MessagesOutcome outcome{.end = Cycles{at.end},
                            .phases = phases,
                            .arrivals = arrivals,
                            .flits = static_cast<std::int64_t>(mesh->counters().flits),
                            .traversals = static_cast<std::int64_t>(mesh->flits_moved()),
                            .trap = trap};
    if (at.is_in_phase) {
      take_arrivals(outcome.arrivals);
    }
    for (const Link& link : topology.links()) {
      outcome.link_flits.push_back(static_cast<std::int64_t>(
          mesh->flits_sent(static_cast<int>(link.from.index), index(link.out))));
    }
    return outcome;
  }

  // A saved run: kMagic, Saved, the parts below, the trap, the mesh's own state.
  struct Saved {
    std::uint64_t fingerprint = 0;
    std::uint64_t message = 0;  // where the source is
    std::uint64_t phases = 0;
    std::uint64_t trap_bytes = 0;
    Progress at;
  };

  template <class Use>
  void for_each_part(const Use& use) {
    use(std::as_writable_bytes(std::span(phases)));
    use(std::as_writable_bytes(std::span(arrivals)));
    if (at.is_in_phase) {
      source.for_each_part(use);
    }
    use(std::as_writable_bytes(std::span(trap)));
  }

  std::string save() {
    const Saved saved{.fingerprint = fingerprint(trace),
                      .message = at.is_in_phase ? source.phase_first() : source.next_message(),
                      .phases = phases.size(),
                      .trap_bytes = trap.size(),
                      .at = at};
    std::string bytes(kMagic);
    bytes.append(reinterpret_cast<const char*>(&saved), sizeof saved);
    for_each_part([&](std::span<std::byte> part) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
    });
    return bytes + mesh->save();
  }

  Result<void> resume(std::string_view bytes) {
    Saved saved;
    if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + sizeof saved) {
      return Error{ErrorKind::InvalidInput, "not a saved run of messages"};
    }
    std::memcpy(&saved, bytes.data() + kMagic.size(), sizeof saved);
    bytes.remove_prefix(kMagic.size() + sizeof saved);
    if (saved.fingerprint != fingerprint(trace) || !source.can_go_to(saved.message) ||
        saved.phases > static_cast<std::uint64_t>(trace.phases()) ||
        saved.trap_bytes > bytes.size()) {
      return Error{ErrorKind::InvalidInput, "the saved run is of another trace"};
    }
    at = saved.at;
    phases.resize(saved.phases);
    trap.resize(saved.trap_bytes);
    source.go_to(saved.message);
    if (at.is_in_phase) {
      source.begin_phase(at.start);
    }
    bool is_whole = true;
    for_each_part([&](std::span<std::byte> part) {
      is_whole = is_whole && part.size() <= bytes.size();
      if (is_whole) {
        std::ranges::copy(std::as_bytes(std::span(bytes.substr(0, part.size()))), part.begin());
        bytes.remove_prefix(part.size());
      }
    });
    return is_whole ? mesh->resume(bytes)
                    : Error{ErrorKind::InvalidInput, "the saved run is cut short"};
  }

  const Topology& topology;
  const MessageTrace& trace;
  const bool traps_starvation;
  const internal::CopyTrees trees;
  std::optional<Mesh> mesh;
  internal::MessageSource source;
  Progress at;
  std::vector<Cycles> phases;
  std::vector<Cycles> arrivals;
  std::string trap;
};

MessageRun::MessageRun(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MessageRun::~MessageRun() = default;
MessageRun::MessageRun(MessageRun&&) noexcept = default;
MessageRun& MessageRun::operator=(MessageRun&&) noexcept = default;

Result<MessageRun> MessageRun::make(const Topology& topology, const RoutingTable& routing,
                                    const RouterConfig& config, const MessageTrace& trace,
                                    const MeshOptions& options) {
  DOJO_TRY_VOID(check_trace(trace, topology));
  std::int32_t packet_flits = 1;
  for (const Message& message : trace.messages) {
    packet_flits = std::max(packet_flits, message.packet_flits);
  }
  DOJO_TRY(internal::CopyTrees trees, internal::CopyTrees::make(topology, routing, trace));
  auto impl = std::make_unique<Impl>(topology, trace, std::move(trees), config.eject_delay,
                                     options.traps_starvation);
  if (impl->source.most_per_phase() > internal::MessageSource::kMostPerPhase) {
    return Error{
        ErrorKind::DoesNotFit,
        fmt::format("{} messages in a phase, one for each target: at most {}",
                    impl->source.most_per_phase(), internal::MessageSource::kMostPerPhase)};
  }
  const Traffic silence =
      Traffic::listed(std::vector<std::vector<Packet>>(topology.routers()), packet_flits);
  DOJO_TRY(impl->mesh, Mesh::make(topology, routing, config, silence, options));
  impl->inside().state.messages = &impl->source;
  if (!impl->trees.empty()) {
    internal::let_routers_copy(impl->inside().state, impl->trees);
  }
  return MessageRun(std::move(impl));
}

void MessageRun::run_until(Cycle end) { impl_->run_until(end); }
void MessageRun::finish() { impl_->run_until(kNever); }
bool MessageRun::is_done() const { return impl_->is_done(); }
const Mesh& MessageRun::mesh() const { return *impl_->mesh; }
Cycle MessageRun::now() const { return impl_->mesh->now(); }
MessagesOutcome MessageRun::outcome() const { return impl_->outcome(); }
std::string MessageRun::save() const { return impl_->save(); }
Result<void> MessageRun::resume(std::string_view saved) { return impl_->resume(saved); }

Result<MessagesOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                     const RouterConfig& config, const MessageTrace& trace,
                                     const MeshOptions& options) {
  DOJO_TRY(MessageRun run, MessageRun::make(topology, routing, config, trace, options));
  run.finish();
  return run.outcome();
}

}  // namespace dojo::mesh
