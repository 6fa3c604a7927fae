// The machine's transfer patterns as messages: who sends what to whom, in which order, and how
// fast. Library cost has a formula T = A + L / pace for each; these are the packets that it speaks
// of.
//
// - Multicast, all-gather, reductions: chains of neighbours along a line, store and forward, packet
//   by packet. A packet goes on `alpha` cycles after it arrived, `add` more where it is added to.
//   With Multicast::Replicate, whatever several nodes need is one message to all of them, copied by
//   the routers on its way: a multicast, each node's block of an all-gather along its line, and
//   what a middle of `centre` hands back along its line.
// - Reduce-scatter: the chain carries all of V east (south), packet k for owner k mod n; results go
//   from the last node straight back to their owners.
// - All-reduce: reduce-scatter rows, then columns, all-gather columns, then rows, a phase each.
// Order
//   `centre` is one phase: rows from both ends to their middle, the middle column to its middle,
//   over the dies' middles to the middle die, and all the way back.
// - All-to-all along a line: slot d sends to both nodes at distance d, slots begin one after the
//   other by time. On a region, half of the data goes rows first, the other half columns first.
// - Gather and scatter: to and from the edge port of the node's row (column) if the topology has
//   ports on that side; else the line's end node stands for the edge, and keeps its own bytes.
// - Blocks of unequal size differ by a packet. One packet is one flit.
//
// Pace: a message gets the share of a port that it needs to take as long as the busiest resource of
// its phase (its slot), times `pace`; so all of a phase's messages end together, at L / pace.
#pragma once

#include <cstdint>
#include <optional>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/machine/machine_model.h"
#include "dojo/machine/pattern.h"
#include "dojo/mesh/messages.h"
#include "dojo/mesh/node_grid.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

enum class Multicast : std::uint8_t {
  Forward,    // nodes hand it on to their neighbours
  Replicate,  // routers copy it
};

struct PatternTiming {
  Cycles alpha{20};                  // from arrival to sending on
  Cycles add{0};                     // more, where a partial is added
  std::optional<double> pace = 0.9;  // of the fair share, in (0, 1]; none: as fast as it goes
  Bytes packet{64};
  Multicast multicast = Multicast::Forward;
};
PatternTiming pattern_timing(const machine::MachineModel& machine);

// What the patterns run on. The table's paths decide loads and so paces.
struct PatternPlace {
  const Topology& topology;
  const RoutingTable& routing;
  const NodeGrid& grid;
};

// Error: fields that are not the pattern's (check_pattern), a source beyond the line, an edge
// without a port in some row, a move that leaves the machine, an order that the kind has no
// messages for. A pattern of one node, or of no bytes, has no messages.
Result<MessageTrace> pattern_messages(const machine::Pattern& pattern, const PatternPlace& place,
                                      const PatternTiming& timing);

}  // namespace dojo::mesh
