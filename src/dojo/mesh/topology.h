// Topology: which routers a network has and which links join them. It is plain data that the
// simulator, the routing and the patterns share; nothing in it changes while a network runs.
//
// - A router stands on a site (row, column) of a grid, row 0 north, column 0 west, and has five
//   ports. An output feeds the opposite input of the router on that side: East feeds West.
// - Router ids: row x columns + column, plane after plane, then the edge ports in the order given.
// - Planes are networks of their own on the same sites. There is one, or two if the network is a
//   pair of opposed unidirectional ones: plane 0 goes east and south, plane 1 west and north.
// - Holes are of three kinds. A dead core leaves its router: it forwards, but nothing starts or
//   ends there. A dead router is gone with its links. A dead link is gone in both directions.
// - An edge port is a router of its own with one link (to the router at the edge) and a local port:
//   what an interface processor sends and receives passes there. It is gone with that router.
// - All live routers reach each other; what the holes cut off is an error, unless no node is there.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/ids.h"
#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/machine/machine_model.h"

namespace dojo::mesh {

using machine::Shape;
using machine::Site;

using RouterId = Id<struct RouterTag>;

// Of inputs and outputs alike; an output leads to that side.
enum class Port : std::uint8_t { East, West, South, North, Local };
inline constexpr std::array kSidePorts{Port::East, Port::West, Port::South, Port::North};
inline constexpr int kPortCount = 5;
constexpr int index(Port port) { return static_cast<int>(port); }
// Only of side ports: the input that an output feeds.
constexpr Port opposite(Port port) { return static_cast<Port>(index(port) ^ 1); }
std::string_view name(Port port);  // "east", ..., "local"
Port port_of(machine::Side side);

// Exact: `num` flits per `den` cycles, 0 < num <= den.
struct FlitRate {
  std::int32_t num = 1;
  std::int32_t den = 1;
  friend constexpr bool operator==(FlitRate, FlitRate) = default;
};

// What the links of one kind have in common.
struct LinkClass {
  std::string name = "node link";
  // From the grant of a flit to its use by the neighbour, and of a credit back, on top of what the
  // router's own stages take.
  Cycles latency{1};
  FlitRate rate{};
  // Flit slots of the buffer that the link feeds; none: the router's own depth on a link of full
  // rate and latency 1, else full_rate_slots. Assumed either way: no depth is published.
  std::optional<int> slots{};
  friend bool operator==(const LinkClass&, const LinkClass&) = default;
};

// Slots that keep a link busy: rate x cycles until a slot comes back, rounded up. `stages` is what
// routers add to the two latencies (5 for a head in the four-stage router of the BookSim presets).
int full_rate_slots(const LinkClass& link, Cycles stages);

// A rate in bytes per cycle as flits per cycle; Error unless above 0, at most 1 and a ratio of
// integers below 2^20 to 12 digits.
Result<FlitRate> flit_rate(BytesPerCycle rate, Bytes flit);

struct Link {
  RouterId from{};
  RouterId to{};
  Port out = Port::East;  // of `from`; it feeds opposite(out) of `to`
  int link_class = 0;     // index into Topology::link_classes()
  friend constexpr bool operator==(const Link&, const Link&) = default;
};

enum class Wrap : std::uint8_t { None, Torus };
enum class Planes : std::uint8_t { One, Opposed };

// Between the router at `site` and the outside, which is on `side` of it.
struct EdgePort {
  Site site{};
  machine::Side side = machine::Side::West;
  int link_class = 0;
  int processor = 0;  // which interface processor it belongs to
  friend constexpr bool operator==(const EdgePort&, const EdgePort&) = default;
};

struct DeadLink {
  Site site{};
  machine::Side side = machine::Side::East;
};

// Sites are those of the whole grid (dies.rows x die.rows rows).
struct TopologySpec {
  Shape die{};  // routers of one die; of the whole grid if there is one die
  Shape dies{};
  Wrap wrap = Wrap::None;
  Planes planes = Planes::One;  // Opposed is a torus
  Bytes flit{64};
  std::vector<LinkClass> link_classes{LinkClass{}};  // [0] joins routers of one die
  // Class of the links from die row (column) i to i + 1; empty if there is one die.
  std::vector<int> row_boundaries{};
  std::vector<int> column_boundaries{};
  int wrap_class = 0;
  std::vector<Site> dead_cores{};
  std::vector<Site> dead_routers{};
  std::vector<DeadLink> dead_links{};
  std::vector<EdgePort> edge_ports{};
};

class Topology {
 public:
  // Error: a side of 0 or a grid above kMaximumRouters, a class out of range, a hole or a port that
  // is not where it can be, or holes that cut off a part that has nodes (the part is named).
  static Result<Topology> make(TopologySpec spec);
  // rows x columns routers, links of one cycle and full rate, no holes.
  static Result<Topology> rectangle(Shape grid);

  static constexpr std::int64_t kMaximumRouters = std::int64_t{1} << 21;

  const TopologySpec& spec() const { return spec_; }
  Shape grid() const { return grid_; }
  int planes() const { return spec_.planes == Planes::Opposed ? 2 : 1; }
  std::size_t routers() const { return live_.size(); }
  std::span<const LinkClass> link_classes() const { return spec_.link_classes; }
  std::span<const Link> links() const { return links_; }
  const Link& link(LinkId id) const { return links_[id.index]; }
  // The link that leaves by a side port; none at the rim, at holes and for Local.
  std::optional<LinkId> link_from(RouterId router, Port out) const;
  std::optional<LinkId> link_into(RouterId router, Port in) const;

  RouterId router_at(Site site, int plane = 0) const;
  RouterId edge_port(std::size_t port) const;  // of spec().edge_ports[port]
  // The entry of spec().edge_ports that a router stands for; none for a router of the grid.
  std::optional<std::size_t> edge_port_of(RouterId router) const;
  // Of an edge port: the site of the router at the edge.
  Site site_of(RouterId router) const;
  int plane_of(RouterId router) const;
  Site die_of(RouterId router) const;

  bool is_live(RouterId router) const { return live_[router.index]; }
  // Messages may start and end here.
  bool has_node(RouterId router) const { return nodes_[router.index]; }
  std::size_t node_count() const;  // routers that have a node
  // Some router or link of the grid is gone; dead cores do not count.
  bool has_gaps() const { return has_gaps_; }

  // "3,4", "3,4 plane 1" or "west port of 3,0".
  std::string describe(RouterId router) const;

 private:
  explicit Topology(TopologySpec spec);
  void add_links(const std::vector<bool>& dead_links);
  void add_link(RouterId from, Port out, RouterId to, int link_class);
  int class_between(Site site, Port out) const;
  Result<void> check_connected();

  TopologySpec spec_;
  Shape grid_{};
  std::vector<bool> live_{};
  std::vector<bool> nodes_{};
  bool has_gaps_ = false;
  std::vector<Link> links_{};
  std::vector<std::optional<LinkId>> out_{};  // [router x 4 + side port]
  std::vector<std::optional<LinkId>> in_{};
};

enum class DeadSites : std::uint8_t { RoutersForward, RoutersDead };

// The network of a whole machine: its dies, dead sites (on every die alike), die, tile and tray
// edges as link classes, and one edge port per row (column) where an interface processor is
// attached. A flit is what a node link moves in a cycle.
Result<Topology> topology_of(const machine::MachineModel& machine,
                             DeadSites dead_sites = DeadSites::RoutersForward);
// What topology_of starts from, for callers that change something.
Result<TopologySpec> topology_spec(const machine::MachineModel& machine,
                                   DeadSites dead_sites = DeadSites::RoutersForward);

}  // namespace dojo::mesh
