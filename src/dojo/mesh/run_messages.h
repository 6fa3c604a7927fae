// Messages on a network, from the first flit to the last.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/mesh/mesh.h"
#include "dojo/mesh/messages.h"
#include "dojo/mesh/router_config.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

struct MessagesOutcome {
  Cycles end{};                            // in which the last flit arrived
  std::vector<Cycles> phases{};            // from each phase's start to its last arrival
  std::vector<Cycles> arrivals{};          // of each message's last packet; -1: of none yet
  std::int64_t flits = 0;                  // that arrived, at each target of their message
  std::vector<std::int64_t> link_flits{};  // by LinkId
  std::int64_t traversals = 0;             // flits times routers
  // If something waits that will never move (deadlock, livelock, starvation): what waits for what.
  // Then `end` is when it was seen.
  std::string trap{};
  friend bool operator==(const MessagesOutcome&, const MessagesOutcome&) = default;
};

// A run that can be stopped, saved and resumed at any cycle; how it is cut changes nothing.
class MessageRun {
 public:
  // Topology, table and trace must outlive it. Error: what check_trace refuses, a router out of
  // range, more than 4,194,304 messages in a phase (a message for each of its targets), or packets
  // to several nodes that pass more than 1,048,576 places.
  static Result<MessageRun> make(const Topology& topology, const RoutingTable& routing,
                                 const RouterConfig& config, const MessageTrace& trace,
                                 const MeshOptions& options = {});
  ~MessageRun();
  MessageRun(MessageRun&&) noexcept;
  MessageRun& operator=(MessageRun&&) noexcept;

  // Simulates the cycles up to `end`, `end` itself not included, or until it is done.
  void run_until(Cycle end);
  void finish();
  // Every message has arrived, or the run ended in a trap.
  bool is_done() const;
  Cycle now() const;
  const Mesh& mesh() const;
  // As far as it has come; `end` is that of the last phase that ended, or of a trap.
  MessagesOutcome outcome() const;

  // Everything that the future depends on, as bytes; resume() goes on from there with the same
  // bits, with any number of threads. For a run of the same network and trace: else, and for bytes
  // that are no saved run, an Error.
  std::string save() const;
  Result<void> resume(std::string_view saved);

 private:
  struct Impl;
  explicit MessageRun(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// From beginning to end. Errors: as MessageRun::make.
Result<MessagesOutcome> run_messages(const Topology& topology, const RoutingTable& routing,
                                     const RouterConfig& config, const MessageTrace& trace,
                                     const MeshOptions& options = {});

}  // namespace dojo::mesh
