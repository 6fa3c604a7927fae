#include "dojo/mesh/internal/message_source.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "dojo/base/check.h"

namespace dojo::mesh::internal {

namespace {

// Places of the phase's messages in the order of their nodes, and in the list's order at each.
template <class NodeOf>
std::vector<std::uint32_t> places_by_node(std::size_t routers, std::uint32_t count,
                                          const NodeOf& node_of,
                                          std::vector<std::uint32_t>& first_of_node) {
  first_of_node.assign(routers + 1, 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    ++first_of_node[node_of(i) + 1];
  }
  for (std::size_t router = 0; router < routers; ++router) {
    first_of_node[router + 1] += first_of_node[router];
  }
  std::vector<std::uint32_t> next(first_of_node);
  std::vector<std::uint32_t> places(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    places[i] = next[node_of(i)]++;
  }
  return places;
}

Cycle cycle_of(std::int64_t time) { return time < kNever ? static_cast<Cycle>(time) : kNever - 1; }

}  // namespace

MessageSource::MessageSource(const Topology& topology, const MessageTrace& trace, int eject_delay,
                             Route route)
    : trace_(trace),
      route_(std::move(route)),
      eject_delay_(eject_delay),
      nodes_(topology.routers()) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < trace.messages.size(); ++i) {
    const Message& message = trace.messages[i];
    const bool is_first = i == 0 || message.phase != trace.messages[i - 1].phase;
    count = (is_first ? 0 : count) + static_cast<std::uint64_t>(message.targets());
    most_per_phase_ = std::max(most_per_phase_, count);
  }
}

bool MessageSource::can_go_to(std::size_t message) const {
  const std::vector<Message>& all = trace_.messages;
  return message == 0 || message == all.size() ||
         (message < all.size() && all[message].phase != all[message - 1].phase);
}

void MessageSource::begin_phase(Cycle start) {
  phase_first_ = next_message_;
  packets_ = 0;
  const std::int32_t phase = trace_.messages[phase_first_].phase;
  while (next_message_ < trace_.messages.size() && trace_.messages[next_message_].phase == phase) {
    const Message& message = trace_.messages[next_message_];
    packets_ += message.packets() * message.targets();
    ++next_message_;
  }
  place();
  for (std::size_t i = 0; i < outgoing_.size(); ++i) {
    Outgoing& out = outgoing_[i];
    out.start = cycle_of(start + trace_.messages[out.message].start.count());
    next_[i] = ready_at(out);
  }
}

void MessageSource::place() {
  const auto count = static_cast<std::uint32_t>(next_message_ - phase_first_);
  const auto message = [&](std::uint32_t i) -> const Message& {
    return trace_.messages[phase_first_ + i];
  };
  std::vector<RouterId> targets;
  std::vector<std::uint32_t> first_ids;  // of each message: its first target
  for (std::uint32_t i = 0; i < count; ++i) {
    first_ids.push_back(static_cast<std::uint32_t>(targets.size()));
    const MessageId id{static_cast<std::uint32_t>(phase_first_) + i};
    targets.push_back(message(i).target);
    const std::span<const RouterId> more = trace_.more_targets_of(id);
    targets.insert(targets.end(), more.begin(), more.end());
  }
  const auto arriving = static_cast<std::uint32_t>(targets.size());
  std::vector<std::uint32_t> first_of_node;
  ids_ = places_by_node(
      nodes_.size(), arriving, [&](std::uint32_t i) { return targets[i].index; }, first_of_node);
  const std::vector<std::uint32_t> places = places_by_node(
      nodes_.size(), count, [&](std::uint32_t i) { return message(i).source.index; },
      first_of_node);
  for (std::size_t router = 0; router < nodes_.size(); ++router) {
    nodes_[router] = {.first = first_of_node[router],
                      .count = first_of_node[router + 1] - first_of_node[router]};
  }
  next_.assign(count, kNever);
  outgoing_.assign(count, {});
  incoming_.assign(arriving, {});
  for (std::uint32_t i = 0; i < count; ++i) {
    const Message& of = message(i);
    const MessageId id{static_cast<std::uint32_t>(phase_first_) + i};
    for (std::uint32_t target = 0; target <= of.more; ++target) {
      incoming_[ids_[first_ids[i] + target]].message = id.index;
    }
    outgoing_[places[i]] = {.left = of.flits,
                            .packet_flits = of.packet_flits,
                            .pace = of.pace,
                            .id = of.more == 0 ? ids_[first_ids[i]] : first_ids[i],
                            .message = id.index,
                            .route = route_(id)};
  }
  place_needs(first_ids);
  place_waiters();
}

// What each message waits for, and the rings that this takes; `first_ids`: of each message of the
// phase, its first of ids_.
void MessageSource::place_needs(const std::vector<std::uint32_t>& first_ids) {
  needs_.clear();
  for (Outgoing& out : outgoing_) {
    const RouterId here = trace_.messages[out.message].source;
    out.first_need = static_cast<std::uint32_t>(needs_.size());
    for (const Dependency& after : trace_.dependencies_of({out.message})) {
      const Message& before = trace_.messages[after.on.index];
      const std::span<const RouterId> more = trace_.more_targets_of(after.on);
      const auto target = before.target == here
                              ? 0
                              : 1 + (std::find(more.begin(), more.end(), here) - more.begin());
      const std::uint32_t id =
          ids_[first_ids[after.on.index - phase_first_] + static_cast<std::uint32_t>(target)];
      Incoming& on = incoming_[id];
      ++on.waiters;
      // Packets of a message are at least a cycle apart, so older arrivals than the ring has are
      // long enough ago.
      const auto wanted = static_cast<std::uint64_t>(after.delay.count() + eject_delay_ + 1);
      const auto packets = static_cast<std::uint64_t>(before.packets());
      on.ring =
          std::max(on.ring, static_cast<std::uint32_t>(std::bit_ceil(std::min(wanted, packets))));
      needs_.push_back(
          {.packets = after.first, .stride = after.stride, .delay = after.delay.count(), .on = id});
    }
    out.needs = static_cast<std::uint32_t>(needs_.size()) - out.first_need;
  }
}

void MessageSource::place_waiters() {
  std::uint32_t first = 0;
  std::uint32_t times = 0;
  for (Incoming& in : incoming_) {
    in.first_waiter = first;
    in.first_time = times;
    first += in.waiters;
    times += in.ring;
    in.waiters = 0;
  }
  waiters_.resize(first);
  times_.assign(times, 0);
  for (std::uint32_t place = 0; place < outgoing_.size(); ++place) {
    const Outgoing& out = outgoing_[place];
    for (std::uint32_t need = out.first_need; need < out.first_need + out.needs; ++need) {
      Incoming& on = incoming_[needs_[need].on];
      waiters_[on.first_waiter + on.waiters++] = place;
    }
  }
}

Cycle MessageSource::let_go_at(const Outgoing& message) const {
  std::int64_t ready = message.start;
  for (std::uint32_t i = 0; i < message.needs; ++i) {
    const Need& need = needs_[message.first_need + i];
    const Incoming& on = incoming_[need.on];
    if (need.packets > on.arrived) {
      return kNever;
    }
    if (need.packets > 0 && on.arrived - need.packets < on.ring) {
      const auto place = static_cast<std::uint32_t>(need.packets - 1) & (on.ring - 1);
      ready = std::max(ready, times_[on.first_time + place] + need.delay);
    }
  }
  return cycle_of(ready);
}

Cycle MessageSource::ready_at(const Outgoing& message) const {
  if (message.left == 0) {
    return kNever;
  }
  const Cycle let_go = let_go_at(message);
  if (let_go == kNever || message.counted == kNever) {
    return let_go;
  }
  const std::int64_t missing = std::max<std::int64_t>(0, message.pace.den - message.account);
  return std::max(let_go,
                  cycle_of(message.counted + (missing + message.pace.num - 1) / message.pace.num));
}

std::int64_t MessageSource::flits_of_next(const Outgoing& message) {
  return std::min<std::int64_t>(message.left, message.packet_flits);
}

std::optional<MessageSource::Offer> MessageSource::offered(std::uint32_t router, Cycle now) {
  Node& node = nodes_[router];
  const Cycle* const next = next_.data() + node.first;
  const auto may_begin = [&](Cycle from) { return from <= now; };
  const std::uint32_t turn = node.turn < node.count ? node.turn : 0;
  // Round robin: the slots from the turn on, then those before it.
  const Cycle* found = std::find_if(next + turn, next + node.count, may_begin);
  if (found == next + node.count) {
    found = std::find_if(next, next + turn, may_begin);
    if (found == next + turn) {
      return std::nullopt;
    }
  }
  const auto slot = static_cast<std::uint32_t>(found - next);
  Outgoing& out = outgoing_[node.first + slot];
  // Brings the account up to date; it is full of one flit when it is first asked.
  out.account = out.counted == kNever
                    ? out.pace.den
                    : std::min(out.account + std::int64_t{now - out.counted} * out.pace.num,
                               std::int64_t{2} * out.pace.den);
  out.counted = now;
  return Offer{.slot = slot,
               .id = out.id,
               .flits = static_cast<std::uint32_t>(flits_of_next(out)),
               .targets = 1 + trace_.messages[out.message].more,
               .route = out.route};
}

void MessageSource::began(std::uint32_t router, std::uint32_t slot) {
  Node& node = nodes_[router];
  Outgoing& out = outgoing_[node.first + slot];
  const std::int64_t flits = flits_of_next(out);
  node.turn = slot + 1;
  out.left -= flits;
  out.account -= flits * out.pace.den;
  for (std::uint32_t i = 0; i < out.needs; ++i) {
    Need& need = needs_[out.first_need + i];
    need.packets += need.stride;
  }
  next_[node.first + slot] = ready_at(out);
}

Cycle MessageSource::earliest(std::uint32_t router) const {
  const Node& node = nodes_[router];
  Cycle least = kNever;
  for (std::uint32_t i = 0; i < node.count; ++i) {
    least = std::min(least, next_[node.first + i]);
  }
  return least;
}

Cycle MessageSource::arrived(std::uint32_t id, Cycle arrival) {
  Incoming& in = incoming_[id];
  in.last = arrival;
  if (in.ring > 0) {
    times_[in.first_time + (static_cast<std::uint32_t>(in.arrived) & (in.ring - 1))] = arrival;
  }
  ++in.arrived;
  Cycle least = kNever;
  for (std::uint32_t i = 0; i < in.waiters; ++i) {
    const std::uint32_t place = waiters_[in.first_waiter + i];
    if (next_[place] == kNever) {
      next_[place] = ready_at(outgoing_[place]);
      least = std::min(least, next_[place]);
    }
  }
  return least;
}

}  // namespace dojo::mesh::internal
