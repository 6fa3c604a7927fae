#include "dojo/mesh/internal/message_source.h"

#include <algorithm>
#include <bit>

#include "dojo/base/check.h"

namespace dojo::mesh::internal {

MessageSource::MessageSource(const Topology& topology, const MessageTrace& trace, int eject_delay)
    : trace_(trace), eject_delay_(eject_delay), nodes_(topology.routers()) {
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < trace.messages.size(); ++i) {
    count = i > 0 && trace.messages[i].phase == trace.messages[i - 1].phase ? count + 1 : 1;
    most_per_phase_ = std::max(most_per_phase_, count);
  }
}

void MessageSource::begin_phase(Cycle start) {
  start_ = start;
  phase_first_ = next_message_;
  const std::int32_t phase = trace_.messages[phase_first_].phase;
  packets_ = 0;
  while (next_message_ < trace_.messages.size() && trace_.messages[next_message_].phase == phase) {
    packets_ += trace_.messages[next_message_].packets();
    ++next_message_;
  }
  states_.assign(next_message_ - phase_first_, {});
  place_messages();
  place_waiters();
}

void MessageSource::place_messages() {
  for (Node& node : nodes_) {
    node = {};
  }
  for (std::uint32_t id = 0; id < states_.size(); ++id) {
    ++nodes_[message(id).source.index].count;
  }
  std::uint32_t first = 0;
  std::uint32_t words = 0;
  for (Node& node : nodes_) {
    node.first = first;
    node.first_word = words;
    first += node.count;
    words += (node.count + 63) / 64;
    node.count = 0;
  }
  order_.resize(states_.size());
  candidates_.assign(words, 0);
  for (std::uint32_t id = 0; id < states_.size(); ++id) {
    Node& node = nodes_[message(id).source.index];
    states_[id].slot = node.count;
    order_[node.first + node.count] = id;
    candidates_[node.first_word + node.count / 64] |= std::uint64_t{1} << (node.count % 64);
    ++node.count;
  }
}

void MessageSource::place_waiters() {
  const auto each = [&](const auto& use) {
    for (std::uint32_t id = 0; id < states_.size(); ++id) {
      const MessageId in_trace{static_cast<std::uint32_t>(phase_first_ + id)};
      for (const Dependency& after : trace_.dependencies_of(in_trace)) {
        use(id, states_[after.on.index - phase_first_], after);
      }
    }
  };
  each([&](std::uint32_t /*id*/, State& on, const Dependency& after) {
    ++on.waiters;
    // Packets of a message are at least a cycle apart, so older arrivals than the ring has are
    // long enough ago.
    const auto wanted = static_cast<std::uint64_t>(after.delay.count() + eject_delay_ + 1);
    const auto packets = static_cast<std::uint64_t>(trace_.messages[after.on.index].packets());
    on.ring =
        std::max(on.ring, static_cast<std::uint32_t>(std::bit_ceil(std::min(wanted, packets))));
  });
  std::uint32_t first = 0;
  std::uint32_t times = 0;
  for (State& state : states_) {
    state.first_waiter = first;
    state.first_time = times;
    first += state.waiters;
    times += state.ring;
    state.waiters = 0;
  }
  waiters_.resize(first);
  times_.assign(times, 0);
  each([&](std::uint32_t id, State& on, const Dependency& /*after*/) {
    waiters_[on.first_waiter + on.waiters++] = id;
  });
}

Cycle MessageSource::arrival_of(const State& state, std::int64_t packet) const {
  return times_[state.first_time + (static_cast<std::uint32_t>(packet) & (state.ring - 1))];
}

Cycle MessageSource::ready_at(std::uint32_t id) const {
  std::int64_t ready = start_ + message(id).start.count();
  for (const Dependency& after :
       trace_.dependencies_of({static_cast<std::uint32_t>(phase_first_ + id)})) {
    const State& on = states_[after.on.index - phase_first_];
    const std::int64_t need = after.first + after.stride * states_[id].begun;
    if (need > on.arrived) {
      return kNever;
    }
    if (need > 0 && on.arrived - need < on.ring) {
      ready = std::max(ready, arrival_of(on, need - 1) + after.delay.count());
    }
  }
  return ready < kNever ? static_cast<Cycle>(ready) : kNever - 1;
}

Cycle MessageSource::paced_at(std::uint32_t id, Cycle now) {
  State& state = states_[id];
  const FlitRate pace = message(id).pace;
  if (state.counted == kNever) {
    state.account = pace.den;
  } else {
    state.account = std::min<std::int64_t>(
        state.account + std::int64_t{now - state.counted} * pace.num, std::int64_t{2} * pace.den);
  }
  state.counted = now;
  const std::int64_t missing = std::max<std::int64_t>(0, pace.den - state.account);
  return now + static_cast<Cycle>((missing + pace.num - 1) / pace.num);
}

std::optional<MessageSource::Offer> MessageSource::offered(std::uint32_t router, Cycle now,
                                                           Cycle& wake) {
  const Node& node = nodes_[router];
  wake = kNever;
  const std::uint32_t start = node.next < node.count ? node.next : 0;
  // Round robin: the slots from `start` on, then those before it.
  for (const auto& [from, to] : {std::pair{start, node.count}, std::pair{0u, start}}) {
    for (std::uint32_t slot = from; slot < to;) {
      std::uint64_t& word = candidates_[node.first_word + slot / 64];
      const std::uint64_t left = word >> (slot % 64);
      if (left == 0) {
        slot = (slot / 64 + 1) * 64;
        continue;
      }
      slot += static_cast<std::uint32_t>(std::countr_zero(left));
      if (slot >= to) {
        break;
      }
      const std::uint32_t id = order_[node.first + slot];
      Cycle ready = ready_at(id);
      if (ready == kNever) {
        word &= ~(std::uint64_t{1} << (slot % 64));
      } else {
        ready = ready > now ? ready : paced_at(id, now);
        if (ready <= now) {
          return Offer{id, message(id).target.index, static_cast<std::uint32_t>(next_flits(id))};
        }
        wake = std::min(wake, ready);
      }
      ++slot;
    }
  }
  return std::nullopt;
}

std::int64_t MessageSource::next_flits(std::uint32_t id) const {
  const Message& of = message(id);
  return std::min<std::int64_t>(of.flits - states_[id].begun * of.packet_flits, of.packet_flits);
}

void MessageSource::began(std::uint32_t router, std::uint32_t id) {
  State& state = states_[id];
  Node& node = nodes_[router];
  state.account -= next_flits(id) * message(id).pace.den;
  node.next = state.slot + 1;
  ++state.begun;
  if (state.begun == message(id).packets()) {
    candidates_[node.first_word + state.slot / 64] &= ~(std::uint64_t{1} << (state.slot % 64));
  }
}

void MessageSource::arrived(std::uint32_t router, std::uint32_t id, Cycle arrival) {
  State& state = states_[id];
  if (state.ring > 0) {
    times_[state.first_time + (static_cast<std::uint32_t>(state.arrived) & (state.ring - 1))] =
        arrival;
  }
  ++state.arrived;
  for (std::uint32_t i = 0; i < state.waiters; ++i) {
    const std::uint32_t waiter = waiters_[state.first_waiter + i];
    const std::uint32_t slot = states_[waiter].slot;
    DOJO_DCHECK(message(waiter).source.index == router);
    if (states_[waiter].begun < message(waiter).packets()) {
      candidates_[nodes_[router].first_word + slot / 64] |= std::uint64_t{1} << (slot % 64);
    }
  }
}

}  // namespace dojo::mesh::internal
