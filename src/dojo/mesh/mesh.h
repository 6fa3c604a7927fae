// The mesh, cycle by cycle: what happens in it, on the rules of docs/mesh.md. Results are the same
// bits for any number of threads, any instruction set and any order in which routers are visited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/mesh/counters.h"
#include "dojo/mesh/isa.h"
#include "dojo/mesh/router_config.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh {

struct MeshSpec {
  int rows = 0;
  int columns = 0;
  RouterConfig router;
};

struct MeshOptions {
  int threads = 1;
  std::optional<Isa> isa{};  // none: the best of this CPU
  // A flit that is 65,536 cycles in the network ends the run; else only what never moves does.
  bool traps_starvation = true;
  // Tests: the order in which a thread visits its blocks of routers is shuffled by this seed.
  std::optional<std::uint32_t> shuffle{};
};

// An input VC whose front flit has not moved in the last cycle, though it is there.
struct WaitingChannel {
  RouterId router{};
  Port input = Port::Local;
  int vc = 0;
  Port output = Port::Local;
  std::optional<int> output_vc{};  // that it owns; none: it waits for one
  Cycle cycles = 0;                // since its front flit was injected, modulo 2^17
};

class Mesh {
 public:
  // Any network; node n sends and receives at router n where that has a node. Topology and table
  // must outlive the mesh. Error: more than 65,536 routers, a router or a link's buffer out of
  // range.
  static Result<Mesh> make(const Topology& topology, const RoutingTable& routing,
                           const RouterConfig& router, const Traffic& traffic,
                           const MeshOptions& options = {});
  // A rectangle without holes, x first. Error: a side of 0, more than 65,536 routers, or a router
  // out of range. `traffic` is for as many nodes as there are routers, node y * columns + x at
  // column x of row y.
  static Result<Mesh> make(const MeshSpec& spec, const Traffic& traffic,
                           const MeshOptions& options = {});
  ~Mesh();
  Mesh(Mesh&&) noexcept;
  Mesh& operator=(Mesh&&) noexcept;

  // Simulates the cycles from now() to `end`, `end` itself not included.
  void run_until(Cycle end);
  Cycle now() const;
  int routers() const;
  int columns() const;
  const RouterConfig& router() const;

  Counters counters() const;
  // Flits granted to an output port of a router.
  std::uint64_t flits_sent(int router, int port) const;

  std::uint64_t flits_moved() const;  // of all routers and ports
  std::vector<WaitingChannel> waiting_channels() const;
  bool has_no_flits() const;
  Cycle oldest_flit() const;    // cycles since its injection, of those at the front of a VC
  Cycle longest_pause() const;  // in which nothing may move though all is well: slow, long links
  // Sites of the grid that have a node, and what all planes brought to one of them.
  std::span<const std::uint32_t> nodes() const;
  std::uint64_t flits_received(std::uint32_t node) const;

  // Every packet is measured from the start on. start_measuring() forgets those packets, on their
  // way or not, and measures the ones that come to the head of their source's queue from now on;
  // start_draining() leaves out those generated from now on, though they still come.
  void start_measuring();
  void start_draining();
  // Everything that the future depends on, as bytes; resume() goes on from there with the same
  // bits, with any number of threads. For a mesh made from the same machine and traffic: else, and
  // for bytes that are no saved state, an Error.
  std::string save() const;
  Result<void> resume(std::string_view saved);

  // Allocated for routers, sources and links, in the engine's own structures.
  std::size_t bytes() const;
  // No flit is under way and no source will ever send another.
  bool is_empty() const;

 private:
  friend class MessageRun;
  friend class MeshForTests;
  struct Impl;
  explicit Mesh(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dojo::mesh
