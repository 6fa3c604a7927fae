// The plain network: any topology, any routing, one router and one VC after the other, as
// docs/mesh.md says it. Slow and obvious: it is what tests hold faster simulators to.
//
// Rules beyond those of the router (RouterConfig):
// - A link of latency l delivers flits and credits l - 1 cycles later than RouterConfig says.
// - A link with a rate below one has an account, num more a cycle, at most den + num - 1; a grant
// to
//   that output needs and takes den. VC allocation does not look at it.
// - A link of latency 1 and full rate feeds `depth` slots per VC. Any other feeds a pool that keeps
// it
//   busy (LinkClass::slots if given): one packet's slots are reserved for each VC, all share the
//   rest.
// - A packet asks for the output VCs of its next class; at the local output for all.
// - A packet to several nodes: the rules of copying of docs/mesh.md.
// - Of several allowed outputs a head that waits takes, anew in every cycle, the one with the most
//   free slots in free VCs of its class; among equals straight on, then the lowest port.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "dojo/mesh/router_config.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh::internal {

struct PlainPacket {
  RouterId target{};                // unless there are several
  std::vector<RouterId> targets{};  // several: a packet of one flit, which routers copy
  int flits = 1;
  std::uint32_t id = 0;  // the traffic's own
};

// Where packets come from and go to.
class PlainTraffic {
 public:
  virtual ~PlainTraffic() = default;
  // The packet that the node would begin in this cycle.
  virtual std::optional<PlainPacket> offered(RouterId node, std::int64_t now) = 0;
  virtual void injected(RouterId node, const PlainPacket& packet, bool is_head) = 0;
  // A flit of it, which was injected in that cycle.
  virtual void arrived(const PlainPacket& packet, std::int64_t injected, bool is_tail,
                       std::int64_t now) = 0;
};

class PlainNetwork {
 public:
  // `packet_flits`: of the longest packet, for the slots reserved in pools.
  PlainNetwork(const Topology& topology, const RoutingTable& routing, const RouterConfig& config,
               int packet_flits, PlainTraffic& traffic);

  void step();
  std::int64_t now() const { return now_; }
  std::int64_t flits_inside() const { return inside_; }
  // Cycles since a flit last moved.
  std::int64_t still() const { return now_ - last_move_; }
  // Flits granted to a link, and to the local output of a router.
  std::int64_t sent(LinkId link) const { return sent_[link.index]; }
  std::int64_t ejected(RouterId router) const { return ejected_[router.index]; }

 private:
  struct Flit {
    PlainPacket packet{};
    int vc_class = 0;  // in which it comes
    std::int64_t injected = 0;
    bool is_head = false;
    bool is_tail = false;
  };
  enum class State : std::uint8_t { Idle, Waiting, Active, Copying };
  struct Copy {
    int output = 0;
    int vc_class = 0;
    std::vector<RouterId> targets{};
    std::optional<int> output_vc{};  // that it owns
  };
  struct InputVc {
    std::deque<Flit> fifo{};
    State state = State::Idle;
    Choices choices{};           // Waiting, Active
    int output = 0;              // port; Waiting, Active
    int output_vc = 0;           // index of the output VC; Active
    int accept_next = 0;         // iSLIP's accept pointer
    std::vector<Copy> copies{};  // Copying: that have not left, by class
  };
  struct OutputVc {
    bool is_busy = false;
    int used = 0;
    int grant_next = 0;
  };
  struct OutputPort {
    std::optional<LinkId> link{};
    FlitRate rate{};
    std::int64_t account = 0;
    int delay = 0;     // of flits and credits, beyond RouterConfig
    int reserved = 0;  // slots of each VC alone
    int shared = 0;    // slots that any VC may use
    int shared_used = 0;
  };
  struct Router {
    std::vector<InputVc> inputs{};    // port x vcs + vc
    std::vector<OutputVc> outputs{};  // likewise
    std::array<OutputPort, kPortCount> ports{};
    std::array<int, kPortCount> next_vc{};
    std::array<int, kPortCount> grant_next{};   // by output
    std::array<int, kPortCount> accept_next{};  // by input
    int flits = 0;                              // in its FIFOs
  };
  struct Node {
    std::optional<PlainPacket> packet{};  // under way
    int left = 0;
    std::vector<int> used{};
    int vc = 0;
  };
  struct Event {
    enum class Kind : std::uint8_t { Flit, Credit, SourceCredit, Eject } kind = Kind::Flit;
    std::uint32_t router = 0;
    int vc = 0;  // index of the input or output VC
    Flit flit{};
  };
  struct Request {
    int input = 0;  // index of the input VC
    bool is_speculative = false;
  };
  using SwitchGrants = std::array<std::optional<Request>, kPortCount>;  // by output

  void set_up(RouterId id, int packet_flits);
  void at(std::int64_t due, const Event& event);
  void take_events();
  void inject(RouterId id);
  std::optional<int> source_vc(const Node& node, bool is_head) const;
  void enter(RouterId id, int input, const Flit& flit);
  void make_waiting(RouterId id, int input);
  void make_copying(RouterId id, int input);
  void choose_outputs(Router& router) const;
  std::vector<std::pair<int, int>> allocate_vcs(Router& router) const;
  SwitchGrants allocate_switch(Router& router) const;
  std::optional<Request> candidate(const Router& router, int input, int output) const;
  void apply(RouterId id, const std::vector<std::pair<int, int>>& vcs, const SwitchGrants& grants);
  void send(RouterId id, int input, int output);
  void give_back(RouterId id, int input);
  void pass_on(RouterId id, int output_vc, const Flit& flit);
  void take_slot(Router& router, int output_vc) const;
  void give_slot(Router& router, int output_vc) const;
  bool has_room(const Router& router, int output_vc) const;
  bool is_in_class(int output_vc, int vc_class) const;
  bool asks_for(const InputVc& vc, int output_vc) const;
  bool has_free_vc_with_room(const Router& router, const InputVc& vc, int output) const;
  bool may_send(const Router& router, const InputVc& vc, int output) const;
  // The copy that may leave by an output; those of a class wait for all of the classes before.
  template <class Vc>
  static auto* copy_to(Vc& vc, int output) {
    const auto found = std::find_if(vc.copies.begin(), vc.copies.end(), [&](const Copy& copy) {
      return copy.output == output && copy.vc_class == vc.copies.front().vc_class;
    });
    return found == vc.copies.end() ? nullptr : &*found;
  }
  int port_of_vc(int vc) const { return vc / config_.vcs; }

  const Topology& topology_;
  const RoutingTable& routing_;
  RouterConfig config_;
  PlainTraffic& traffic_;
  std::int64_t now_ = 0;
  std::int64_t last_move_ = 0;
  std::int64_t inside_ = 0;
  std::vector<Router> routers_{};
  std::vector<Node> nodes_{};
  std::vector<std::vector<Event>> wheel_{};
  std::vector<std::int64_t> sent_{};     // by LinkId
  std::vector<std::int64_t> ejected_{};  // by RouterId
};

}  // namespace dojo::mesh::internal
