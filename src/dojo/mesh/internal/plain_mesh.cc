#include "dojo/mesh/internal/plain_mesh.h"

#include <utility>

#include "dojo/base/check.h"

namespace dojo::mesh::internal {

PlainMesh::PlainMesh(int routers, const RouterConfig& config, const Traffic& traffic, Route route,
                     Neighbour neighbour)
    : config_(config),
      traffic_(traffic),
      route_(std::move(route)),
      neighbour_(std::move(neighbour)),
      routers_(static_cast<std::size_t>(routers)),
      nodes_(static_cast<std::size_t>(routers)),
      wheel_(kMaxDelay + 1),
      sent_(static_cast<std::size_t>(routers)) {
  for (Router& router : routers_) {
    router.inputs.resize(static_cast<std::size_t>(kPorts * config.vcs));
    router.outputs.resize(static_cast<std::size_t>(kPorts * config.vcs));
  }
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    nodes_[n].stream = traffic_.first_state(static_cast<std::uint32_t>(n));
    nodes_[n].used.resize(static_cast<std::size_t>(config.vcs));
    nodes_[n].vc = config.vcs - 1;  // so that the first packet starts at VC 0
  }
}

void PlainMesh::at(Cycle due, Event event) {
  DOJO_CHECK(due > now_ && due - now_ < wheel_.size());
  wheel_[due % wheel_.size()].push_back(event);
  ++events_;
}

void PlainMesh::step() {
  take_events();
  for (int node = 0; node < static_cast<int>(nodes_.size()); ++node) {
    inject(node);
  }
  for (int r = 0; r < static_cast<int>(routers_.size()); ++r) {
    Router& router = routers_[r];
    const auto vc_grants = allocate_vcs(router);
    const auto switch_grants = allocate_switch(router);
    for (const auto& [input, output] : vc_grants) {
      router.inputs[input].state = State::Active;
      router.inputs[input].output_vc = output;
      router.outputs[output].is_busy = true;
    }
    for (const SwitchGrant& grant : switch_grants) {
      if (grant.input < 0) {
        continue;
      }
      const InputVc& vc = router.inputs[grant.input];
      const bool may_move =
          !grant.is_speculative ||
          (vc.state == State::Active && router.outputs[vc.output_vc].used < config_.depth);
      if (may_move) {
        send(r, grant.input);
      }
    }
  }
  ++now_;
}

void PlainMesh::take_events() {
  std::vector<Event> due;
  due.swap(wheel_[now_ % wheel_.size()]);
  events_ -= static_cast<std::int64_t>(due.size());
  for (const Event& event : due) {
    switch (event.kind) {
      case Event::Kind::Flit:
        enter(event.place, event.vc, event.flit);
        break;
      case Event::Kind::Credit: {
        int& used = routers_[event.place].outputs[event.vc].used;
        DOJO_CHECK(used > 0);
        --used;
        break;
      }
      case Event::Kind::SourceCredit:
        DOJO_CHECK(nodes_[event.place].used[event.vc] > 0);
        --nodes_[event.place].used[event.vc];
        break;
      case Event::Kind::Eject: {
        const Flit& flit = event.flit;
        ++counters_.flits;
        counters_.flit_latency_sum += now_ - flit.injected;
        counters_.flit_generated_sum += flit.generated;
        counters_.last_arrival = now_;
        if (flit.is_tail) {
          const Cycle latency = now_ - flit.generated;
          ++counters_.packets;
          counters_.latency_sum += latency;
          counters_.latency_square_sum += std::uint64_t{latency} * latency;
          counters_.latency_max = std::max(counters_.latency_max, latency);
          counters_.histogram.add(latency);
        }
        break;
      }
    }
  }
}

void PlainMesh::enter(int router, int input, const Flit& flit) {
  InputVc& vc = routers_[router].inputs[input];
  DOJO_CHECK(vc.fifo.size() < static_cast<std::size_t>(config_.depth));
  vc.fifo.push_back(flit);
  if (vc.fifo.size() == 1 && vc.state == State::Idle) {
    make_waiting(router, vc, input);
  }
}

void PlainMesh::make_waiting(int router, InputVc& vc, int input) {
  vc.state = State::Waiting;
  vc.output = route_(router, input / config_.vcs, vc.fifo.front().destination);
}

void PlainMesh::inject(int n) {
  Node& node = nodes_[n];
  if (!node.head.has_value()) {
    node.head = traffic_.next(static_cast<std::uint32_t>(n), node.stream);
  }
  if (node.head->generated == kNever || node.head->generated > now_) {
    return;
  }
  if (node.left == 0) {
    node.left = traffic_.packet_flits();
    counters_.entered_flits += static_cast<std::uint64_t>(node.left);
    counters_.entered_generated_sum += std::uint64_t{node.head->generated} * node.left;
    ++counters_.measured_entered;
    int router = n;
    int input = kLocal;
    for (;;) {
      ++counters_.measured_routers;
      const int output = route_(router, input, static_cast<int>(node.head->destination));
      if (output == kLocal) {
        break;
      }
      router = neighbour_(router, output);
      input = output ^ 1;
    }
  }
  for (int i = 1; i <= config_.vcs && !node.has_vc; ++i) {
    const int vc = (node.vc + i) % config_.vcs;
    if (node.used[vc] < config_.depth) {
      node.vc = vc;
      node.has_vc = true;
      break;
    }
  }
  if (!node.has_vc || node.used[node.vc] == config_.depth) {
    return;
  }
  const Flit flit{.generated = node.head->generated,
                  .injected = now_,
                  .destination = static_cast<int>(node.head->destination),
                  .is_tail = node.left == 1};
  ++node.used[node.vc];
  ++counters_.injected_flits;
  const int input = first_vc_of(kLocal) + node.vc;
  if (config_.inject_delay == 0) {
    enter(n, input, flit);
  } else {
    at(now_ + config_.inject_delay, {Event::Kind::Flit, n, input, flit});
  }
  if (--node.left == 0) {
    node.head.reset();
    node.has_vc = false;
  }
}

std::vector<std::pair<int, int>> PlainMesh::allocate_vcs(Router& router) const {
  const int count = kPorts * config_.vcs;
  std::vector<int> granted(count, -1);  // by output VC: the input VC
  for (int j = 0; j < count; ++j) {
    for (int step = 0; step < count && !router.outputs[j].is_busy; ++step) {
      const int i = (router.outputs[j].grant_next + step) % count;
      if (router.inputs[i].state == State::Waiting && router.inputs[i].output == j / config_.vcs) {
        granted[j] = i;
        break;
      }
    }
  }
  std::vector<std::pair<int, int>> accepted;
  for (int i = 0; i < count; ++i) {
    for (int step = 0; step < count; ++step) {
      const int j = (router.inputs[i].accept_next + step) % count;
      if (granted[j] == i) {
        accepted.emplace_back(i, j);
        router.outputs[j].grant_next = (i + 1) % count;
        router.inputs[i].accept_next = (j + 1) % count;
        break;
      }
    }
  }
  return accepted;
}

// The VC that stands for the pair (input port, output port), if one asks.
PlainMesh::SwitchGrant PlainMesh::candidate(const Router& router, int input, int output) const {
  bool output_has_room = false;  // a VC that is free and has a slot
  for (int v = 0; v < config_.vcs; ++v) {
    const OutputVc& vc = router.outputs[first_vc_of(output) + v];
    output_has_room = output_has_room || (!vc.is_busy && vc.used < config_.depth);
  }
  const bool speculates = config_.speculation == Speculation::On && output_has_room;
  for (const bool is_speculative : {false, true}) {
    for (int step = 0; step < config_.vcs; ++step) {
      const int i = first_vc_of(input) + (router.next_vc[input] + step) % config_.vcs;
      const InputVc& vc = router.inputs[i];
      if (vc.output != output) {
        continue;
      }
      const bool is_ready = vc.state == State::Active && !vc.fifo.empty() &&
                            router.outputs[vc.output_vc].used < config_.depth;
      if (is_speculative ? speculates && vc.state == State::Waiting : is_ready) {
        return {i, is_speculative};
      }
    }
  }
  return {};
}

std::array<PlainMesh::SwitchGrant, kPorts> PlainMesh::allocate_switch(Router& router) const {
  std::array<std::array<SwitchGrant, kPorts>, kPorts> requests;  // [input][output]
  for (int p = 0; p < kPorts; ++p) {
    for (int o = 0; o < kPorts; ++o) {
      requests[p][o] = candidate(router, p, o);
    }
  }
  std::array<int, kPorts> granted;  // by output: the input port
  for (int o = 0; o < kPorts; ++o) {
    granted[o] = -1;
    for (int step = 0; step < kPorts && granted[o] < 0; ++step) {
      const int p = (router.grant_next[o] + step) % kPorts;
      if (requests[p][o].input >= 0) {
        granted[o] = p;
      }
    }
  }
  std::array<SwitchGrant, kPorts> accepted;
  for (int p = 0; p < kPorts; ++p) {
    for (int step = 0; step < kPorts; ++step) {
      const int o = (router.accept_next[p] + step) % kPorts;
      if (granted[o] == p) {
        accepted[o] = requests[p][o];
        router.grant_next[o] = (p + 1) % kPorts;
        router.accept_next[p] = (o + 1) % kPorts;
        router.next_vc[p] = (accepted[o].input % config_.vcs + 1) % config_.vcs;
        break;
      }
    }
  }
  return accepted;
}

void PlainMesh::send(int r, int input) {
  InputVc& vc = routers_[r].inputs[input];
  const int output = vc.output;
  const int output_vc = vc.output_vc;
  const Flit flit = vc.fifo.front();
  vc.fifo.pop_front();
  ++routers_[r].outputs[output_vc].used;
  DOJO_CHECK(routers_[r].outputs[output_vc].used <= config_.depth);
  ++sent_[r][output];

  const int input_port = input / config_.vcs;
  const int input_vc = input % config_.vcs;
  if (input_port == kLocal) {
    at(now_ + config_.source_credit_delay, {Event::Kind::SourceCredit, r, input_vc, {}});
  } else {
    at(now_ + config_.credit_delay, {Event::Kind::Credit,
                                     neighbour_(r, input_port),
                                     first_vc_of(input_port ^ 1) + input_vc,
                                     {}});
  }
  if (output == kLocal) {
    at(now_ + config_.eject_delay, {Event::Kind::Eject, r, 0, flit});
    at(now_ + config_.eject_credit_delay, {Event::Kind::Credit, r, output_vc, {}});
  } else {
    at(now_ + config_.flit_delay, {Event::Kind::Flit, neighbour_(r, output),
                                   first_vc_of(output ^ 1) + output_vc % config_.vcs, flit});
  }
  if (flit.is_tail) {
    routers_[r].outputs[output_vc].is_busy = false;
    vc.state = State::Idle;
    if (!vc.fifo.empty()) {
      make_waiting(r, vc, input);
    }
  }
}

bool PlainMesh::is_empty() const {
  for (const Node& node : nodes_) {
    if (!node.head.has_value() || node.head->generated != kNever) {
      return false;
    }
  }
  return counters_.entered_flits == counters_.flits && events_ == 0;
}

}  // namespace dojo::mesh::internal
