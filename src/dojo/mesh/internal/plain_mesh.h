// The plain twin of the mesh: docs/mesh.md's rules, written down as they stand there, one router
// and one VC after the other. It is what tests hold the engine to; nothing else uses it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "dojo/mesh/counters.h"
#include "dojo/mesh/router_config.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh::internal {

class PlainMesh {
 public:
  // The output port for a packet that is at `router`, came in by `input`, and goes to
  // `destination`.
  using Route = std::function<int(int router, int input, int destination)>;
  // The router that an output port leads to; only asked for kEast..kNorth that a route takes.
  using Neighbour = std::function<int(int router, int output)>;

  PlainMesh(int routers, const RouterConfig& config, const Traffic& traffic, Route route,
            Neighbour neighbour);

  void step();
  Cycle now() const { return now_; }
  const Counters& counters() const { return counters_; }
  bool is_empty() const;  // no flit anywhere, and no packet still to come
  // Flits that left router r by output o.
  std::uint64_t sent(int router, int output) const { return sent_[router][output]; }

 private:
  struct Flit {
    Cycle generated = 0;
    Cycle injected = 0;
    int destination = 0;
    bool is_tail = false;
  };
  enum class State { Idle, Waiting, Active };
  struct InputVc {
    std::deque<Flit> fifo;
    State state = State::Idle;
    int output = 0;       // port; Waiting, Active
    int output_vc = 0;    // index of the output VC; Active
    int accept_next = 0;  // iSLIP's accept pointer
  };
  struct OutputVc {
    bool is_busy = false;
    int used = 0;
    int grant_next = 0;
  };
  struct Router {
    std::vector<InputVc> inputs;    // port * vcs + vc
    std::vector<OutputVc> outputs;  // likewise
    std::array<int, kPorts> next_vc{};
    std::array<int, kPorts> grant_next{};   // per output
    std::array<int, kPorts> accept_next{};  // per input
  };
  struct Node {
    StreamState stream;
    std::optional<Packet> head;  // of the queue; may lie in the future
    int left = 0;                // flits of it not yet injected; 0: it has not entered
    std::vector<int> used;
    int vc = 0;
    bool has_vc = false;
  };
  struct Event {
    enum class Kind { Flit, Credit, SourceCredit, Eject } kind;
    int place;  // router or node
    int vc;     // index of the input or output VC
    Flit flit;
  };
  struct SwitchGrant {
    int input = -1;  // index of the input VC
    bool is_speculative = false;
  };

  void at(Cycle due, Event event);
  void take_events();
  void inject(int node);
  void enter(int router, int input, const Flit& flit);
  void make_waiting(int router, InputVc& vc, int input);
  // Both decide on the state as it is; pairs are (input VC, output VC), grants by output port.
  std::vector<std::pair<int, int>> allocate_vcs(Router& router) const;
  std::array<SwitchGrant, kPorts> allocate_switch(Router& router) const;
  SwitchGrant candidate(const Router& router, int input, int output) const;
  void send(int r, int input);
  int first_vc_of(int output) const { return output * config_.vcs; }

  RouterConfig config_;
  Traffic traffic_;
  Route route_;
  Neighbour neighbour_;
  Cycle now_ = 0;
  std::vector<Router> routers_;
  std::vector<Node> nodes_;
  std::vector<std::vector<Event>> wheel_;
  std::int64_t events_ = 0;
  std::vector<std::array<std::uint64_t, kPorts>> sent_;
  Counters counters_;
};

}  // namespace dojo::mesh::internal
