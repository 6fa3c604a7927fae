#include "dojo/mesh/internal/plain_network.h"

#include <algorithm>
#include <map>
#include <utility>

#include "dojo/base/check.h"

namespace dojo::mesh::internal {

namespace {

constexpr int kLocalPort = static_cast<int>(Port::Local);

}  // namespace

PlainNetwork::PlainNetwork(const Topology& topology, const RoutingTable& routing,
                           const RouterConfig& config, int packet_flits, PlainTraffic& traffic)
    : topology_(topology),
      routing_(routing),
      config_(config),
      traffic_(traffic),
      routers_(topology.routers()),
      nodes_(topology.routers()),
      sent_(topology.links().size(), 0),
      ejected_(topology.routers(), 0) {
  std::int64_t longest = 1;
  for (const LinkClass& link : topology.link_classes()) {
    longest = std::max(longest, link.latency.count());
  }
  wheel_.resize(static_cast<std::size_t>(longest) + kMaxDelay + 1);
  for (std::uint32_t i = 0; i < topology.routers(); ++i) {
    set_up({i}, packet_flits);
  }
}

void PlainNetwork::set_up(RouterId id, int packet_flits) {
  Router& router = routers_[id.index];
  const auto vcs = static_cast<std::size_t>(config_.vcs);
  router.inputs.resize(kPortCount * vcs);
  router.outputs.resize(kPortCount * vcs);
  nodes_[id.index].used.resize(vcs);
  nodes_[id.index].vc = config_.vcs - 1;  // so that the first packet starts at VC 0
  for (OutputPort& port : router.ports) {
    port.reserved = config_.depth;
  }
  // What a link's loop takes beyond twice its latency: a head that does not speculate waits a
  // cycle.
  const Cycles stages{config_.flit_delay + config_.credit_delay - 2 +
                      (config_.speculation == Speculation::On ? 0 : 1)};
  for (const Port out : kSidePorts) {
    OutputPort& port = router.ports[static_cast<std::size_t>(out)];
    port.link = topology_.link_from(id, out);
    if (!port.link.has_value()) {
      continue;
    }
    const auto link_class = static_cast<std::size_t>(topology_.link(*port.link).link_class);
    const LinkClass& link = topology_.link_classes()[link_class];
    port.rate = link.rate;
    port.account = link.rate.den + link.rate.num - 1;
    port.delay = static_cast<int>(link.latency.count()) - 1;
    if (link.slots.has_value() || port.delay > 0 || link.rate != FlitRate{}) {
      const int slots = link.slots.value_or(full_rate_slots(link, stages));
      port.reserved = packet_flits;
      port.shared = std::max(0, slots - packet_flits * config_.vcs);
    }
  }
}

void PlainNetwork::at(std::int64_t due, const Event& event) {
  DOJO_CHECK(due > now_ && due - now_ < static_cast<std::int64_t>(wheel_.size()));
  wheel_[static_cast<std::size_t>(due) % wheel_.size()].push_back(event);
}

void PlainNetwork::step() {
  take_events();
  for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
    if (topology_.has_node({i})) {
      inject({i});
    }
  }
  for (std::uint32_t i = 0; i < routers_.size(); ++i) {
    Router& router = routers_[i];
    if (router.flits > 0) {
      choose_outputs(router);
      // Both on the state as it is now.
      const auto vcs = allocate_vcs(router);
      const auto grants = allocate_switch(router);
      apply({i}, vcs, grants);
    }
    for (OutputPort& port : router.ports) {
      port.account =
          std::min<std::int64_t>(port.account + port.rate.num, port.rate.den + port.rate.num - 1);
    }
  }
  ++now_;
}

void PlainNetwork::take_events() {
  std::vector<Event> due;
  due.swap(wheel_[static_cast<std::size_t>(now_) % wheel_.size()]);
  for (const Event& event : due) {
    switch (event.kind) {
      case Event::Kind::Flit:
        enter({event.router}, event.vc, event.flit);
        break;
      case Event::Kind::Credit:
        give_slot(routers_[event.router], event.vc);
        break;
      case Event::Kind::SourceCredit:
        --nodes_[event.router].used[static_cast<std::size_t>(event.vc)];
        break;
      case Event::Kind::Eject:
        --inside_;
        traffic_.arrived(event.flit.packet, event.flit.injected, event.flit.is_tail, now_);
        break;
    }
  }
}

void PlainNetwork::enter(RouterId id, int input, const Flit& flit) {
  Router& router = routers_[id.index];
  InputVc& vc = router.inputs[static_cast<std::size_t>(input)];
  ++router.flits;
  vc.fifo.push_back(flit);
  if (vc.fifo.size() == 1 && vc.state == State::Idle) {
    make_waiting(id, input);
  }
}

void PlainNetwork::make_waiting(RouterId id, int input) {
  InputVc& vc = routers_[id.index].inputs[static_cast<std::size_t>(input)];
  const Flit& head = vc.fifo.front();
  DOJO_CHECK(head.is_head);
  if (!head.packet.targets.empty()) {
    make_copying(id, input);
    return;
  }
  vc.state = State::Waiting;
  vc.choices =
      routing_.choices(id, static_cast<Port>(port_of_vc(input)), head.vc_class, head.packet.target);
  DOJO_CHECK(!vc.choices.ports.empty());
  vc.output = index(preferred(vc.choices.ports, static_cast<Port>(port_of_vc(input))));
}

// The targets of the packet, divided by the way that each of them takes.
void PlainNetwork::make_copying(RouterId id, int input) {
  InputVc& vc = routers_[id.index].inputs[static_cast<std::size_t>(input)];
  const Flit& head = vc.fifo.front();
  DOJO_CHECK(head.is_tail);
  std::map<std::pair<int, int>, std::vector<RouterId>> parts;  // by class and output
  for (const RouterId target : head.packet.targets) {
    const Hop hop = routing_.next(id, static_cast<Port>(port_of_vc(input)), head.vc_class, target);
    parts[{hop.vc_class, index(hop.out)}].push_back(target);
  }
  vc.state = State::Copying;
  for (auto& [way, targets] : parts) {
    vc.copies.push_back({.output = way.second, .vc_class = way.first, .targets = targets});
  }
}

// The VC for the node's next flit: a head takes the first with room behind the last one used, the
// rest of a packet stays in it.
std::optional<int> PlainNetwork::source_vc(const Node& node, bool is_head) const {
  for (int step = is_head ? 1 : 0; step <= (is_head ? config_.vcs : 0); ++step) {
    const int vc = (node.vc + step) % config_.vcs;
    if (node.used[static_cast<std::size_t>(vc)] < config_.depth) {
      return vc;
    }
  }
  return std::nullopt;
}

void PlainNetwork::inject(RouterId id) {
  Node& node = nodes_[id.index];
  const bool is_head = !node.packet.has_value();
  const std::optional<PlainPacket> packet = is_head ? traffic_.offered(id, now_) : node.packet;
  if (!packet.has_value()) {
    return;
  }
  const std::optional<int> vc = source_vc(node, is_head);
  if (!vc.has_value()) {
    return;
  }
  node.vc = *vc;
  node.left = is_head ? packet->flits : node.left;
  ++node.used[static_cast<std::size_t>(*vc)];
  inside_ += std::max<std::int64_t>(1, static_cast<std::int64_t>(packet->targets.size()));
  last_move_ = now_;
  traffic_.injected(id, *packet, is_head);
  const Flit flit{.packet = *packet,
                  .vc_class = 0,
                  .injected = now_,
                  .is_head = is_head,
                  .is_tail = node.left == 1};
  const int input = kLocalPort * config_.vcs + *vc;
  if (config_.inject_delay == 0) {
    enter(id, input, flit);
  } else {
    at(now_ + config_.inject_delay,
       {.kind = Event::Kind::Flit, .router = id.index, .vc = input, .flit = flit});
  }
  node.packet = --node.left > 0 ? packet : std::nullopt;
}

bool PlainNetwork::has_room(const Router& router, int output_vc) const {
  const OutputPort& port = router.ports[static_cast<std::size_t>(port_of_vc(output_vc))];
  return router.outputs[static_cast<std::size_t>(output_vc)].used < port.reserved ||
         port.shared_used < port.shared;
}

void PlainNetwork::take_slot(Router& router, int output_vc) const {
  OutputPort& port = router.ports[static_cast<std::size_t>(port_of_vc(output_vc))];
  if (++router.outputs[static_cast<std::size_t>(output_vc)].used > port.reserved) {
    ++port.shared_used;
    DOJO_CHECK(port.shared_used <= port.shared);
  }
}

void PlainNetwork::give_slot(Router& router, int output_vc) const {
  OutputPort& port = router.ports[static_cast<std::size_t>(port_of_vc(output_vc))];
  OutputVc& vc = router.outputs[static_cast<std::size_t>(output_vc)];
  DOJO_CHECK(vc.used > 0);
  if (vc.used-- > port.reserved) {
    --port.shared_used;
  }
}

bool PlainNetwork::is_in_class(int output_vc, int vc_class) const {
  const VcRange range = routing_.vcs(vc_class);
  const int in_port = output_vc % config_.vcs;
  return port_of_vc(output_vc) == kLocalPort ||
         (in_port >= range.first && in_port < range.first + range.count);
}

// It waits for an output VC, and may take this one.
bool PlainNetwork::asks_for(const InputVc& vc, int output_vc) const {
  const int output = port_of_vc(output_vc);
  if (vc.state == State::Copying) {
    const Copy* const copy = copy_to(vc, output);
    return copy != nullptr && !copy->output_vc.has_value() &&
           is_in_class(output_vc, copy->vc_class);
  }
  return vc.state == State::Waiting && vc.output == output &&
         is_in_class(output_vc, vc.choices.vc_class);
}

bool PlainNetwork::has_free_vc_with_room(const Router& router, const InputVc& vc,
                                         int output) const {
  for (int j = output * config_.vcs; j < (output + 1) * config_.vcs; ++j) {
    if (asks_for(vc, j) && !router.outputs[static_cast<std::size_t>(j)].is_busy &&
        has_room(router, j)) {
      return true;
    }
  }
  return false;
}

// It owns a VC of the output, and that has room.
bool PlainNetwork::may_send(const Router& router, const InputVc& vc, int output) const {
  if (vc.state == State::Copying) {
    const Copy* const copy = copy_to(vc, output);
    return copy != nullptr && copy->output_vc.has_value() && has_room(router, *copy->output_vc);
  }
  return vc.state == State::Active && vc.output == output && has_room(router, vc.output_vc);
}

void PlainNetwork::choose_outputs(Router& router) const {
  for (std::size_t i = 0; i < router.inputs.size(); ++i) {
    InputVc& vc = router.inputs[i];
    if (vc.state != State::Waiting) {
      continue;
    }
    const auto free_slots = [&](Port out) {
      const OutputPort& port = router.ports[static_cast<std::size_t>(out)];
      const VcRange range = routing_.vcs(vc.choices.vc_class);
      int slots = 0;
      for (int v = range.first; v < range.first + range.count; ++v) {
        const int j = index(out) * config_.vcs + v;
        const OutputVc& output = router.outputs[static_cast<std::size_t>(j)];
        slots += output.is_busy ? 0 : std::max(0, port.reserved - output.used);
      }
      return slots + port.shared - port.shared_used;
    };
    const Port in = static_cast<Port>(port_of_vc(static_cast<int>(i)));
    Port best = preferred(vc.choices.ports, in);
    for (const Port out : kSidePorts) {
      if (vc.choices.ports.has(out) && free_slots(out) > free_slots(best)) {
        best = out;
      }
    }
    vc.output = index(best);
  }
}

// One iteration of iSLIP; pairs are (input VC, output VC).
std::vector<std::pair<int, int>> PlainNetwork::allocate_vcs(Router& router) const {
  const int count = kPortCount * config_.vcs;
  std::vector<std::optional<int>> granted(static_cast<std::size_t>(count));  // by output VC
  for (int j = 0; j < count; ++j) {
    const OutputVc& output = router.outputs[static_cast<std::size_t>(j)];
    for (int step = 0; step < count && !output.is_busy; ++step) {
      const int i = (output.grant_next + step) % count;
      const InputVc& vc = router.inputs[static_cast<std::size_t>(i)];
      if (asks_for(vc, j)) {
        granted[static_cast<std::size_t>(j)] = i;
        break;
      }
    }
  }
  if (config_.allocator == Allocator::RoundRobin) {
    for (std::size_t j = 0; j < granted.size(); ++j) {
      router.outputs[j].grant_next =
          granted[j].has_value() ? (*granted[j] + 1) % count : router.outputs[j].grant_next;
    }
  }
  std::vector<std::pair<int, int>> accepted;
  for (int i = 0; i < count; ++i) {
    InputVc& vc = router.inputs[static_cast<std::size_t>(i)];
    int next = vc.accept_next;
    std::array<bool, kPortCount> has_accepted{};  // one VC of each output
    for (int step = 0; step < count; ++step) {
      const int j = (vc.accept_next + step) % count;
      bool& has_one = has_accepted[static_cast<std::size_t>(port_of_vc(j))];
      if (granted[static_cast<std::size_t>(j)] == i && !has_one) {
        has_one = true;
        accepted.emplace_back(i, j);
        router.outputs[static_cast<std::size_t>(j)].grant_next = (i + 1) % count;
        // Copies leave the pointer where it is.
        next = vc.state == State::Copying ? next : (j + 1) % count;
      }
    }
    vc.accept_next = next;
  }
  return accepted;
}

// The VC that stands for a pair of ports, if one asks: those that own an output VC before others.
std::optional<PlainNetwork::Request> PlainNetwork::candidate(const Router& router, int input,
                                                             int output) const {
  const OutputPort& port = router.ports[static_cast<std::size_t>(output)];
  if (port.account < port.rate.den && port.link.has_value()) {
    return std::nullopt;
  }
  for (const bool is_speculative : {false, true}) {
    for (int step = 0; step < config_.vcs; ++step) {
      const int i = input * config_.vcs +
                    (router.next_vc[static_cast<std::size_t>(input)] + step) % config_.vcs;
      const InputVc& vc = router.inputs[static_cast<std::size_t>(i)];
      const bool asks = is_speculative ? config_.speculation == Speculation::On &&
                                             has_free_vc_with_room(router, vc, output)
                                       : !vc.fifo.empty() && may_send(router, vc, output);
      if (asks) {
        return Request{.input = i, .is_speculative = is_speculative};
      }
    }
  }
  return std::nullopt;
}

PlainNetwork::SwitchGrants PlainNetwork::allocate_switch(Router& router) const {
  std::array<SwitchGrants, kPortCount> requests{};  // [input][output]
  for (int p = 0; p < kPortCount; ++p) {
    for (int o = 0; o < kPortCount; ++o) {
      requests[static_cast<std::size_t>(p)][static_cast<std::size_t>(o)] = candidate(router, p, o);
    }
  }
  std::array<std::optional<int>, kPortCount> granted{};  // by output: the input port
  for (std::size_t o = 0; o < kPortCount; ++o) {
    for (int step = 0; step < kPortCount && !granted[o].has_value(); ++step) {
      const int p = (router.grant_next[o] + step) % kPortCount;
      if (requests[static_cast<std::size_t>(p)][o].has_value()) {
        granted[o] = p;
      }
    }
  }
  if (config_.allocator == Allocator::RoundRobin) {
    for (std::size_t o = 0; o < kPortCount; ++o) {
      router.grant_next[o] =
          granted[o].has_value() ? (*granted[o] + 1) % kPortCount : router.grant_next[o];
    }
  }
  SwitchGrants accepted{};
  for (int p = 0; p < kPortCount; ++p) {
    const auto input = static_cast<std::size_t>(p);
    for (int step = 0; step < kPortCount; ++step) {
      const auto o = static_cast<std::size_t>((router.accept_next[input] + step) % kPortCount);
      if (granted[o] == p) {
        accepted[o] = requests[input][o];
        router.grant_next[o] = (p + 1) % kPortCount;
        router.accept_next[input] = (static_cast<int>(o) + 1) % kPortCount;
        router.next_vc[input] = (accepted[o]->input % config_.vcs + 1) % config_.vcs;
        // A flit that is copied leaves by all outputs at once that granted it.
        const int winner = accepted[o]->input;
        const bool is_copied =
            router.inputs[static_cast<std::size_t>(winner)].state == State::Copying;
        for (std::size_t other = 0; is_copied && other < kPortCount; ++other) {
          if (granted[other] == p && requests[input][other]->input == winner) {
            accepted[other] = requests[input][other];
            router.grant_next[other] = (p + 1) % kPortCount;
          }
        }
        break;
      }
    }
  }
  return accepted;
}

void PlainNetwork::apply(RouterId id, const std::vector<std::pair<int, int>>& vcs,
                         const SwitchGrants& grants) {
  Router& router = routers_[id.index];
  for (const auto& [input, output] : vcs) {
    InputVc& vc = router.inputs[static_cast<std::size_t>(input)];
    router.outputs[static_cast<std::size_t>(output)].is_busy = true;
    if (vc.state == State::Copying) {
      copy_to(vc, port_of_vc(output))->output_vc = output;
    } else {
      vc.state = State::Active;
      vc.output_vc = output;
    }
  }
  std::vector<std::pair<int, int>> leaving;  // input VC, output
  for (int output = 0; output < kPortCount; ++output) {
    const std::optional<Request>& grant = grants[static_cast<std::size_t>(output)];
    // A speculative winner moves only if it got a VC in this cycle, and one with room.
    if (grant.has_value() &&
        (!grant->is_speculative ||
         may_send(router, router.inputs[static_cast<std::size_t>(grant->input)], output))) {
      leaving.emplace_back(grant->input, output);
    }
  }
  for (const auto& [input, output] : leaving) {
    send(id, input, output);
  }
}

void PlainNetwork::send(RouterId id, int input, int output) {
  Router& router = routers_[id.index];
  InputVc& vc = router.inputs[static_cast<std::size_t>(input)];
  Flit flit = vc.fifo.front();
  int output_vc = vc.output_vc;
  bool is_last = true;
  if (vc.state == State::Copying) {
    const Copy copy = *copy_to(vc, output);
    output_vc = *copy.output_vc;
    flit.packet.targets = copy.targets;
    flit.packet.target = id;  // if it is at its node
    flit.vc_class = copy.vc_class;
    std::erase_if(vc.copies, [&](const Copy& each) { return each.output_vc == output_vc; });
    is_last = vc.copies.empty();
  } else {
    flit.vc_class = vc.choices.vc_class;
  }
  pass_on(id, output_vc, flit);
  if (is_last) {
    vc.fifo.pop_front();
    --router.flits;
    give_back(id, input);
  }
  if (flit.is_tail) {
    router.outputs[static_cast<std::size_t>(output_vc)].is_busy = false;
    if (is_last) {
      vc.state = State::Idle;
      if (!vc.fifo.empty()) {
        make_waiting(id, input);
      }
    }
  }
}

// The slot of a flit that has left.
void PlainNetwork::give_back(RouterId id, int input) {
  const auto in_port = static_cast<Port>(port_of_vc(input));
  if (in_port == Port::Local) {
    at(now_ + config_.source_credit_delay,
       {.kind = Event::Kind::SourceCredit, .router = id.index, .vc = input % config_.vcs});
    return;
  }
  const RouterId upstream = topology_.link(*topology_.link_into(id, in_port)).from;
  const int delay =
      routers_[upstream.index].ports[static_cast<std::size_t>(opposite(in_port))].delay;
  at(now_ + config_.credit_delay + delay,
     {.kind = Event::Kind::Credit,
      .router = upstream.index,
      .vc = index(opposite(in_port)) * config_.vcs + input % config_.vcs});
}

void PlainNetwork::pass_on(RouterId id, int output_vc, const Flit& flit) {
  Router& router = routers_[id.index];
  const int output = port_of_vc(output_vc);
  OutputPort& port = router.ports[static_cast<std::size_t>(output)];
  last_move_ = now_;
  take_slot(router, output_vc);
  if (output == kLocalPort) {
    ++ejected_[id.index];
    at(now_ + config_.eject_delay,
       {.kind = Event::Kind::Eject, .router = id.index, .vc = 0, .flit = flit});
    at(now_ + config_.eject_credit_delay,
       {.kind = Event::Kind::Credit, .router = id.index, .vc = output_vc});
    return;
  }
  port.account -= port.rate.den;
  ++sent_[port.link->index];
  at(now_ + config_.flit_delay + port.delay,
     {.kind = Event::Kind::Flit,
      .router = topology_.link(*port.link).to.index,
      .vc = index(opposite(static_cast<Port>(output))) * config_.vcs + output_vc % config_.vcs,
      .flit = flit});
}

}  // namespace dojo::mesh::internal
