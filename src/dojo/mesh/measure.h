// Measuring a mesh under steady traffic, by BookSim2's protocol (docs/mesh.md): one warm-up of
// some periods, then periods until mean latency and accepted load have settled, then a drain that
// keeps the load on until every counted packet has arrived.
#pragma once

#include <cstdint>
#include <string>

#include "dojo/mesh/mesh.h"

namespace dojo::mesh {

struct Protocol {
  Cycle period = 5000;
  int warmup_periods = 1;
  int max_periods = 10;    // those of the warm-up included
  double settled = 0.05;   // of three periods in a row, each changed by less than this
  double unstable = 2000;  // mean age of packets and flits above which the load is too much
};

struct Measurement {
  // True: the mesh cannot carry the load, and no latency means anything.
  bool saturated = false;
  double mean_packet_latency = 0;  // generation to the tail's arrival, of counted packets
  std::uint32_t max_packet_latency = 0;
  double mean_flit_latency = 0;  // injection to arrival, of all flits after the warm-up
  double mean_routers_visited = 0;
  double accepted = 0;           // flits per node and cycle in the measured periods
  double accepted_minimum = 0;   // of the node that got least
  Cycle cycles = 0;              // all of them, drain included
  std::uint64_t traversals = 0;  // flits times routers, warm-up and drain included
  LatencyHistogram histogram;
  // If something waits that will never move: what waits for what, and the run ended there.
  std::string trap;
};

Measurement measure_latency(Mesh& mesh, const Protocol& protocol);

// Offers the load for `cycles`, the first tenth of which is the warm-up, whatever becomes of it;
// what is counted of latencies is of the packets that arrived.
Measurement measure_throughput(Mesh& mesh, Cycle cycles);

}  // namespace dojo::mesh
