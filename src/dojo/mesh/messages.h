// Messages: what the nodes of a network send to each other, as a fixed list with dependencies.
// Patterns (pattern_messages.h) and trace files (trace.h) are lists of these; a simulator runs
// them.
//
// What a node does with its messages:
// - A message is `flits` flits in packets of `packet_flits` (the last may be shorter). Packet k may
//   leave as soon as its phase has begun, cycle `start` of the phase is there, every dependency
//   lets packet k go, and the pace allows it. A packet that has begun is finished before another
//   begins.
// - A node injects at most one flit a cycle. Among its messages that may send they take turns: the
//   first at or after the message behind the last one served, in the order of the list.
// - Pace is an account per message. It is `den` when the message may first send and grows by `num`
// a
//   cycle up to 2 x den; a packet begins at `den` or more and takes `den` for each of its flits,
//   which then go one after another. So the rate is exact though a packet may wait its turn, and
//   not more than one flit is saved up. (Up to `den` alone, 7/8 would come out as 1/2.)
// - A message to several nodes is sent once and copied on the way by the routers (multicast.h); its
//   packets are of one flit. Each of the nodes gets every packet, and what waits there counts them.
// - Phases follow each other: phase p + 1 begins in the cycle after the last flit of phase p
// arrived.
//
// A dependency counts packets that arrived at the node, as a Dojo node does: packet k waits until
// first + stride x k packets of another message have arrived where it starts, then `delay` cycles
// more (arrived in cycle a: may leave in a + delay). The whole message: first = its packets,
// stride = 0. Streamed, packet by packet: first = 1, stride = 1. With fewer than one packet to wait
// for there is nothing to wait for.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dojo/base/ids.h"
#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

using MessageId = Id<struct MessageTag>;

struct Dependency {
  MessageId on{};
  std::int64_t first = 0;
  std::int64_t stride = 0;
  Cycles delay{};
  friend constexpr bool operator==(const Dependency&, const Dependency&) = default;
};

struct Message {
  RouterId source{};
  RouterId target{};
  std::int64_t flits = 0;
  std::int32_t packet_flits = 1;
  std::int32_t phase = 0;
  Cycles start{};
  FlitRate pace{};  // {1, 1}: as fast as the node can
  // Its entries of MessageTrace::more_targets: it goes to them as well as to `target`.
  std::uint32_t first_more = 0;
  std::uint32_t more = 0;
  // Its entries of MessageTrace::dependencies.
  std::uint32_t first_dependency = 0;
  std::uint32_t dependencies = 0;

  constexpr std::int64_t targets() const { return std::int64_t{1} + more; }
  constexpr std::int64_t packets() const { return (flits + packet_flits - 1) / packet_flits; }
  friend constexpr bool operator==(const Message&, const Message&) = default;
};

// Largest values a trace may hold, so that no sum overflows and no file asks for the moon.
struct TraceLimits {
  static constexpr std::int64_t kMessages = std::int64_t{1} << 24;
  static constexpr std::int64_t kDependencies = std::int64_t{1} << 26;
  static constexpr std::int64_t kTargets = std::int64_t{1} << 26;
  static constexpr std::int64_t kFlits = std::int64_t{1} << 40;   // that arrive, of all messages
  static constexpr std::int64_t kCycles = std::int64_t{1} << 40;  // start, delay
  static constexpr std::int32_t kPacketFlits = (1 << 16) - 1;     // as a source counts them
  static constexpr std::int32_t kPaceDenominator = 1 << 24;
  static constexpr std::int64_t kStride = 1 << 20;
  static constexpr std::int32_t kPhases = 1 << 24;
};

struct MessageTrace {
  std::vector<Message> messages{};
  std::vector<Dependency> dependencies{};
  std::vector<RouterId> more_targets{};

  // Appends; the message's own fields for its dependencies and further targets are set here.
  MessageId add(Message message, std::span<const Dependency> after = {},
                std::span<const RouterId> more = {});
  std::span<const Dependency> dependencies_of(MessageId id) const;
  std::span<const RouterId> more_targets_of(MessageId id) const;
  std::vector<RouterId> targets_of(MessageId id) const;
  std::int64_t flits() const;   // that arrive: at each target of a message
  std::int32_t phases() const;  // 0 if empty
  friend bool operator==(const MessageTrace&, const MessageTrace&) = default;
};

// A dependency on the whole of a message of the trace; on its packets one by one.
Dependency whole(const MessageTrace& trace, MessageId on, Cycles delay = Cycles{0});
Dependency streamed(MessageId on, Cycles delay = Cycles{0});

// Error unless ends are nodes of one plane, targets of a message differ and packets to several are
// of one flit, sizes are above zero and within TraceLimits, phases do
// not fall along the list, dependencies are on messages of the same phase that end where the
// waiting one starts, ask for packets that there are, and do not go round in a circle (printed;
// message i of the list is "mi").
Result<void> check_trace(const MessageTrace& trace, const Topology& topology);

// Messages that wait for each other, each for the next and the last for the first; empty if none.
std::vector<MessageId> dependency_circle(const MessageTrace& trace);

}  // namespace dojo::mesh
