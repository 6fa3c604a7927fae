// Trace files: a MessageTrace as text, for traffic that comes from elsewhere.
//
//   dojo-trace 1
//   # NAME SOURCE -> TARGET flits=N [packet=N] [start=CYCLE] [pace=NUM/DEN] [after=WAIT[,WAIT...]]
//   load    0,0w -> 0,3  flits=64
//   hand    0,3 -> 1,3   flits=64 pace=9/10 after=load:1:1+20
//   reply   1,3 -> 0,0w  flits=8 packet=4 after=hand+100
//   barrier
//   next    1,3 -> 2,3   flits=1 start=5
//
// - One line per message or barrier; # starts a comment. The first line names format and version.
// - A name is of letters, digits, _ . - and stands for the message in later and earlier lines.
// - A node is ROW,COLUMN (ROW,COLUMN/PLANE in a network of several planes) or, for the edge port on
//   a side of a router, ROW,COLUMN with n, e, s or w behind it.
// - A message to several nodes names them with + between, as in 0,0 -> 0,2+1,2; routers copy its
//   packets (messages.h), which are of one flit.
// - flits: size in flits; packet: flits of a packet (1); start: earliest cycle, counted from the
//   start of its phase (0); pace: at most NUM flits in DEN cycles (1/1).
// - WAIT is NAME[:FIRST:STRIDE][+DELAY]: packet k waits until FIRST + STRIDE x k packets of NAME
// have
//   arrived, and DELAY cycles more. NAME alone is the whole message; NAME:1:1 follows it packet by
//   packet.
// - barrier: what is below begins when all above has arrived.
#pragma once

#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/mesh/messages.h"
#include "dojo/mesh/topology.h"

namespace dojo::mesh {

// Every error has file, line and column. The trace returned passes check_trace.
Result<MessageTrace> parse_trace(std::string_view text, const std::string& file,
                                 const Topology& topology);
Result<MessageTrace> load_trace(const std::string& path, const Topology& topology);

// Messages are named m0, m1, ...; parse_trace gives the same trace back.
std::string to_string(const MessageTrace& trace, const Topology& topology);

// "3,4", "3,4/1" or "3,0w".
std::string node_name(const Topology& topology, RouterId router);
// Error: not a node name, outside of the network, no such edge port.
Result<RouterId> parse_node(std::string_view text, const Topology& topology);

}  // namespace dojo::mesh
