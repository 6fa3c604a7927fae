#include "dojo/mesh/internal/plain_messages.h"

#include <algorithm>
#include <map>
#include <optional>

namespace dojo::mesh::internal {

namespace {

// Longer than any wait of a message that can still go.
constexpr std::int64_t kStuckAfter = 100'000;

class MessageTraffic : public PlainTraffic {
 public:
  MessageTraffic(const Topology& topology, const MessageTrace& trace)
      : trace_(trace), states_(trace.messages.size()), nodes_(topology.routers()) {}

  // Messages of a phase become those that may send, with cycle 0 = `now`.
  void begin_phase(std::int32_t phase, std::int64_t now) {
    phase_start_ = now;
    for (Node& node : nodes_) {
      node = {};
    }
    waiting_ = 0;
    for (std::uint32_t m = 0; m < trace_.messages.size(); ++m) {
      if (trace_.messages[m].phase == phase) {
        nodes_[trace_.messages[m].source.index].messages.push_back(m);
        waiting_ += trace_.messages[m].packets() * trace_.messages[m].targets();
      }
    }
  }
  bool is_phase_done() const { return waiting_ == 0; }
  std::int64_t last_arrival() const { return last_arrival_; }
  std::int64_t flits() const { return flits_; }
  // Of the last packet of each message, at any of its targets; -1 if none has arrived.
  std::vector<std::int64_t> arrivals() const {
    std::vector<std::int64_t> last;
    for (const State& state : states_) {
      last.push_back(-1);
      for (const auto& [target, times] : state.arrivals) {
        last.back() = std::max(last.back(), times.back());
      }
    }
    return last;
  }

  std::optional<PlainPacket> offered(RouterId node, std::int64_t now) override {
    const Node& mine = nodes_[node.index];
    for (std::size_t step = 0; step < mine.messages.size(); ++step) {
      const std::uint32_t m = mine.messages[(mine.next + step) % mine.messages.size()];
      const Message& message = trace_.messages[m];
      if (states_[m].begun < message.packets() && may_begin(m, now) && has_pace(m, now)) {
        const std::int64_t left = message.flits - states_[m].begun * message.packet_flits;
        return PlainPacket{
            .target = message.target,
            .targets = message.more > 0 ? trace_.targets_of({m}) : std::vector<RouterId>{},
            .flits = static_cast<int>(std::min<std::int64_t>(left, message.packet_flits)),
            .id = m};
      }
    }
    return std::nullopt;
  }
  void injected(RouterId node, const PlainPacket& packet, bool is_head) override {
    if (is_head) {
      State& state = states_[packet.id];
      state.account -= std::int64_t{packet.flits} * trace_.messages[packet.id].pace.den;
      ++state.begun;
      Node& mine = nodes_[node.index];
      const auto at = std::find(mine.messages.begin(), mine.messages.end(), packet.id);
      mine.next = static_cast<std::size_t>(at - mine.messages.begin()) + 1;
    }
  }
  void arrived(const PlainPacket& packet, std::int64_t /*injected*/, bool is_tail,
               std::int64_t now) override {
    last_arrival_ = now;
    ++flits_;
    if (is_tail) {
      states_[packet.id].arrivals[packet.target].push_back(now);
      --waiting_;
    }
  }

 private:
  struct State {
    std::int64_t begun = 0;  // packets
    // Of its packets at each target, in order.
    std::map<RouterId, std::vector<std::int64_t>> arrivals{};
    std::int64_t account = 0;  // as of cycle `counted`
    std::optional<std::int64_t> counted{};
  };
  struct Node {
    std::vector<std::uint32_t> messages{};
    std::size_t next = 0;
  };

  bool may_begin(std::uint32_t m, std::int64_t now) const {
    const Message& message = trace_.messages[m];
    if (now < phase_start_ + message.start.count()) {
      return false;
    }
    for (const Dependency& after : trace_.dependencies_of({m})) {
      const std::int64_t need = after.first + after.stride * states_[m].begun;
      const auto& of_targets = states_[after.on.index].arrivals;
      const auto here = of_targets.find(message.source);
      const auto arrived =
          here == of_targets.end() ? 0 : static_cast<std::int64_t>(here->second.size());
      if (need > arrived || (need > 0 && now < here->second[static_cast<std::size_t>(need - 1)] +
                                                   after.delay.count())) {
        return false;
      }
    }
    return true;
  }
  // Brings the account up to date.
  bool has_pace(std::uint32_t m, std::int64_t now) {
    State& state = states_[m];
    const FlitRate pace = trace_.messages[m].pace;
    if (!state.counted.has_value()) {
      state.account = pace.den;
    } else {
      state.account = std::min<std::int64_t>(state.account + (now - *state.counted) * pace.num,
                                             std::int64_t{2} * pace.den);
    }
    state.counted = now;
    return state.account >= pace.den;
  }

  const MessageTrace& trace_;
  std::vector<State> states_;
  std::vector<Node> nodes_;
  std::int64_t phase_start_ = 0;
  std::int64_t waiting_ = 0;  // packets of the phase that have not arrived
  std::int64_t last_arrival_ = 0;
  std::int64_t flits_ = 0;  // arrived
};

}  // namespace

PlainOutcome run_plain(const Topology& topology, const RoutingTable& routing,
                       const RouterConfig& config, const MessageTrace& trace) {
  std::int32_t packet_flits = 1;
  for (const Message& message : trace.messages) {
    packet_flits = std::max(packet_flits, message.packet_flits);
  }
  MessageTraffic traffic(topology, trace);
  PlainNetwork network(topology, routing, config, packet_flits, traffic);
  PlainOutcome outcome;
  for (std::int32_t phase = 0; phase < trace.phases() && !outcome.is_stuck; ++phase) {
    const std::int64_t start = network.now();
    traffic.begin_phase(phase, start);
    while (!traffic.is_phase_done() && !outcome.is_stuck) {
      network.step();
      outcome.is_stuck = network.still() > kStuckAfter;
    }
    outcome.phases.push_back(traffic.last_arrival() - start);
  }
  outcome.end = traffic.last_arrival();
  outcome.flits = traffic.flits();
  outcome.arrivals = traffic.arrivals();
  for (std::uint32_t i = 0; i < topology.links().size(); ++i) {
    outcome.link_flits.push_back(network.sent({i}));
  }
  return outcome;
}

}  // namespace dojo::mesh::internal
