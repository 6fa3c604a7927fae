// What the nodes of the engine do with messages: the rules at the head of messages.h. For each
// message of the phase it is known from which cycle on its next packet may begin; that changes only
// when the message begins a packet, and when a packet arrives that it waits for. So a node is asked
// when it has something to send, and an arrival looks only at what waits for it.
//
// What a sending node touches (Outgoing, in the order of nodes) is apart from what a receiving node
// touches (Incoming, likewise, one for each target of a message); messages wait only for what
// arrives where they start, so nothing is shared between nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "dojo/mesh/internal/big_vector.h"
#include "dojo/mesh/messages.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh::internal {

class MessageSource {
 public:
  // The bits of a flit that say where the packets of a message go.
  using Route = std::function<std::uint64_t(MessageId)>;

  // check_trace must have accepted the trace, which must outlive this. `eject_delay`: how far ahead
  // of its cycle an arrival may be told.
  MessageSource(const Topology& topology, const MessageTrace& trace, int eject_delay, Route route);

  static constexpr std::uint32_t kMostPerPhase = 1u << 22;  // a flit names its message by 22 bits
  std::uint64_t most_per_phase() const { return most_per_phase_; }  // a message for each target

  // Starts the next phase; its cycle 0 is `start`. Then every node has to be woken when earliest()
  // says so.
  void begin_phase(Cycle start);
  bool has_phase() const { return next_message_ < trace_.messages.size(); }
  std::int64_t packets_of_phase() const { return packets_; }
  // Tells when the last packet of each message of the phase arrived at each of its targets; kNever:
  // none of it has.
  template <class Use>
  void for_each_arrival(const Use& use) const {
    for (std::uint32_t id = 0; id < incoming_.size(); ++id) {
      use(MessageId{incoming_[id].message}, incoming_[id].last);
    }
  }

  struct Offer {
    std::uint32_t slot = 0;  // of its node's messages
    std::uint32_t id = 0;    // what arrived(), or id_at(), wants to know
    std::uint32_t flits = 0;
    std::uint32_t targets = 1;
    std::uint64_t route = 0;
  };
  // The packet that the node would begin in this cycle.
  std::optional<Offer> offered(std::uint32_t router, Cycle now);
  // The node began the packet that it was offered.
  void began(std::uint32_t router, std::uint32_t slot);
  // When the node may begin a packet, as far as it can know; kNever: something has to arrive first.
  Cycle earliest(std::uint32_t router) const;
  // The tail of a packet is at its node in that cycle, now or soon. Returns when that lets the node
  // begin a packet, or kNever.
  Cycle arrived(std::uint32_t id, Cycle arrival);
  // Of a packet to several nodes, at the target of that number.
  std::uint32_t id_at(std::uint32_t id, std::uint32_t target) const { return ids_[id + target]; }

  // For saved states: the message that begins the present phase, or the next if there is none; what
  // changes within a phase; and to put it there again, before begin_phase().
  std::size_t phase_first() const { return phase_first_; }
  std::size_t next_message() const { return next_message_; }
  bool can_go_to(std::size_t message) const;
  void go_to(std::size_t message) { next_message_ = message; }
  template <class Use>
  void for_each_part(const Use& use) {
    const auto all = [&](auto& values) { use(std::as_writable_bytes(std::span(values))); };
    all(nodes_);
    all(next_);
    all(outgoing_);
    all(needs_);
    all(incoming_);
    all(times_);
  }

 private:
  struct Node {
    std::uint32_t first = 0;  // of next_ and outgoing_: its messages of this phase
    std::uint32_t count = 0;
    std::uint32_t turn = 0;  // the slot whose turn it is
  };
  struct Outgoing {
    std::int64_t left = 0;     // flits of packets that have not begun
    std::int64_t account = 0;  // of the pace, as of cycle `counted`
    Cycle counted = kNever;    // kNever: the pace has not been asked yet
    std::int32_t packet_flits = 1;
    FlitRate pace{};
    std::uint32_t first_need = 0;
    std::uint32_t needs = 0;
    std::uint32_t id = 0;       // of incoming_; of a message to several nodes: the first of ids_
    std::uint32_t message = 0;  // of the trace
    Cycle start = 0;            // not before
    std::uint64_t route = 0;
  };
  struct Need {
    std::int64_t packets = 0;  // that have to have arrived before the next packet begins
    std::int64_t stride = 0;
    std::int64_t delay = 0;
    std::uint32_t on = 0;
  };
  struct Incoming {
    std::int64_t arrived = 0;      // packets
    std::uint32_t first_time = 0;  // of times_: the last arrivals, a ring
    std::uint32_t ring = 0;        // entries, a power of two; 0: nothing waits for it
    std::uint32_t first_waiter = 0;
    std::uint32_t waiters = 0;  // of waiters_: places in outgoing_ that depend on it
    Cycle last = kNever;        // arrival of the last packet
    std::uint32_t message = 0;  // of the trace
  };

  void place();
  void place_needs(const std::vector<std::uint32_t>& first_ids);
  void place_waiters();
  // From when on arrivals let the next packet begin; kNever: something has to arrive first.
  Cycle let_go_at(const Outgoing& message) const;
  // The same, of everything; the pace is asked when a packet could begin for the first time.
  Cycle ready_at(const Outgoing& message) const;
  static std::int64_t flits_of_next(const Outgoing& message);

  const MessageTrace& trace_;
  Route route_;
  int eject_delay_ = 0;
  std::uint64_t most_per_phase_ = 0;
  std::size_t next_message_ = 0;  // of the trace: first of the next phase
  std::size_t phase_first_ = 0;
  std::int64_t packets_ = 0;
  std::vector<Node> nodes_;
  BigVector<Cycle> next_;  // of each outgoing message: when its next packet may begin
  BigVector<Outgoing> outgoing_;
  BigVector<Need> needs_;
  BigVector<Incoming> incoming_;
  std::vector<std::uint32_t> ids_;  // of incoming_: by message of the phase, then by target
  std::vector<std::uint32_t> waiters_;
  BigVector<Cycle> times_;
};

}  // namespace dojo::mesh::internal
