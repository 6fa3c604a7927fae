// What the nodes of the engine do with messages: the rules at the head of messages.h. A node looks
// only at its candidates: messages that an arrival, or the begin of the phase, may have let go.
// Everything of a message is touched by the node that sends it, but for its arrivals, which are its
// target's; messages wait only for what arrives where they start, so nothing is shared.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/mesh/messages.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh::internal {

class MessageSource {
 public:
  // check_trace must have accepted the trace, which must outlive this. `eject_delay`: how far ahead
  // of its cycle an arrival may be told.
  MessageSource(const Topology& topology, const MessageTrace& trace, int eject_delay);

  static constexpr std::uint32_t kMostPerPhase = 1u << 22;  // a flit names its message by 22 bits
  std::uint32_t most_per_phase() const { return most_per_phase_; }

  // Starts the next phase; its cycle 0 is `start`. Then every node with messages has to be woken.
  void begin_phase(Cycle start);
  bool has_phase() const { return next_message_ < trace_.messages.size(); }
  std::int64_t packets_of_phase() const { return packets_; }
  bool has_messages(std::uint32_t router) const { return nodes_[router].count > 0; }

  struct Offer {
    std::uint32_t message = 0;  // counted within the phase
    std::uint32_t target = 0;
    std::uint32_t flits = 0;
  };
  // The packet that the node would begin in this cycle; if none, `wake` is when to ask again.
  std::optional<Offer> offered(std::uint32_t router, Cycle now, Cycle& wake);
  // The node began the packet that it was offered.
  void began(std::uint32_t router, std::uint32_t message);
  // The tail of a packet is at its node in that cycle, now or soon.
  void arrived(std::uint32_t router, std::uint32_t message, Cycle arrival);

 private:
  struct State {
    std::int64_t begun = 0;    // packets
    std::int64_t arrived = 0;  // packets
    std::int64_t account = 0;  // as of cycle `counted`; kNever: the pace has not been asked yet
    Cycle counted = kNever;
    std::uint32_t slot = 0;        // of its node's messages
    std::uint32_t first_time = 0;  // of times_: the last arrivals, a ring
    std::uint32_t ring = 0;        // entries, a power of two; 0: nothing waits for it
    std::uint32_t first_waiter = 0;
    std::uint32_t waiters = 0;  // messages that depend on it
  };
  struct Node {
    std::uint32_t first = 0;  // of order_: its messages of this phase
    std::uint32_t count = 0;
    std::uint32_t next = 0;        // whose turn it is
    std::uint32_t first_word = 0;  // of candidates_
  };

  const Message& message(std::uint32_t id) const { return trace_.messages[phase_first_ + id]; }
  std::int64_t next_flits(std::uint32_t id) const;  // of the next packet
  void place_messages();
  void place_waiters();
  // The cycle from which the message's next packet may begin; kNever: something has to arrive
  // first.
  Cycle ready_at(std::uint32_t id) const;
  Cycle arrival_of(const State& state, std::int64_t packet) const;
  // The cycle from which the pace lets a packet begin.
  Cycle paced_at(std::uint32_t id, Cycle now);

  const MessageTrace& trace_;
  int eject_delay_ = 0;
  std::uint32_t most_per_phase_ = 0;
  std::size_t next_message_ = 0;  // of the trace: first of the next phase
  std::size_t phase_first_ = 0;
  Cycle start_ = 0;
  std::int64_t packets_ = 0;
  std::vector<Node> nodes_;
  std::vector<State> states_;
  std::vector<std::uint32_t> order_;  // messages by node, in the order of the list
  std::vector<std::uint64_t> candidates_;
  std::vector<Cycle> times_;
  std::vector<std::uint32_t> waiters_;
};

}  // namespace dojo::mesh::internal
