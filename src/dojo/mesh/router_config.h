// One router of the mesh: input-queued, virtual channels (VCs), credits, iSLIP allocators. The
// rules are those of docs/mesh.md. All delays are in cycles of the mesh's clock.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/machine/machine_model.h"

namespace dojo::mesh {

// Ports of a router, inputs and outputs alike. Output o of a router feeds input o ^ 1 of the
// neighbour on that side.
inline constexpr int kEast = 0;   // +x: the next column
inline constexpr int kWest = 1;   // -x
inline constexpr int kSouth = 2;  // +y: the next row
inline constexpr int kNorth = 3;  // -y
inline constexpr int kLocal = 4;  // the node itself
inline constexpr int kPorts = 5;

// Whether a head may bid for the switch in the cycle in which it bids for a VC.
enum class Speculation { Off, On };

// When an output's pointer moves past the input that it granted: iSLIP only when the input accepts,
// round robin always.
enum class Allocator { Islip, RoundRobin };
std::string_view name(Allocator allocator);  // "islip", "round-robin"
std::optional<Allocator> allocator_named(std::string_view name);

struct RouterConfig {
  int vcs = 4;    // per port; 1..kMaxVcs
  int depth = 8;  // flits per VC; 1..kMaxDepth
  Speculation speculation = Speculation::Off;
  Allocator allocator = Allocator::Islip;  // of VCs and of the switch

  // From a switch grant in cycle s until the effect is usable, in every decision of that cycle:
  int flit_delay = 3;           // the flit, at the neighbour's input
  int eject_delay = 3;          // the flit, at the node: the cycle that latency counts to
  int credit_delay = 3;         // the freed slot, at the router upstream
  int source_credit_delay = 2;  // the freed slot of input kLocal, at the node
  int eject_credit_delay = 6;   // a slot of output kLocal: until the node took the flit and said so
  int inject_delay = 2;         // from the node's injection until usable at input kLocal; may be 0

  friend bool operator==(const RouterConfig&, const RouterConfig&) = default;
};

inline constexpr int kMaxVcs = 10;    // six groups of VCs fit a 64-bit mask
inline constexpr int kMaxDepth = 15;  // slots are counted in four bits
inline constexpr int kMaxDelay = 24;

struct RouterPreset {
  std::string_view name;
  std::string_view what;
  RouterConfig config;
};

// All presets, for `--router` and the documentation.
std::span<const RouterPreset> router_presets();

// The preset of this name; Error with the nearest names.
Result<RouterConfig> router_preset(std::string_view name);

// What the machine file says of its routers; the preset d1 if it says nothing.
RouterConfig router_of(const machine::MachineModel& machine);

// Error if a number is outside its range.
Result<void> check(const RouterConfig& config);

}  // namespace dojo::mesh
