// A line of nodes through a region and the edges it crosses; loads of ports, links and crossings.
#pragma once

#include <vector>

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost::internal {

// Where a line goes from one die to the next.
struct Crossing {
  int before = 0;   // nodes of the line on the near side
  Cycles extra{};   // latency beyond the one hop that the node-to-node distance counts
  double rate = 0;  // bytes per cycle that this one line has
  int lines = 1;    // lines that share the edge
  machine::LinkClass link = machine::LinkClass::DieEdge;
};

struct Line {
  int nodes = 1;
  std::vector<Crossing> crossings{};
  // Nodes stand this far apart; as many lines share each link.
  int spacing = 1;
  std::int64_t extra() const;  // cycles of the whole line beyond one hop per node
};
Line row_of(const machine::Region& region, const machine::MachineModel& machine, int spacing = 1);
Line column_of(const machine::Region& region, const machine::MachineModel& machine,
               int spacing = 1);

// Collects loads in packets, then finds the busiest resource.
class Loads {
 public:
  explicit Loads(const machine::MachineModel& machine) : machine_(&machine) {}
  Loads(const machine::MachineModel& machine, const Line& line)
      : machine_(&machine), flows_(line.spacing) {}
  Loads& port(double packets);
  Loads& link(double packets);
  // Adds to what ports and links did before: slots run one after the other.
  Loads& slot(double port_packets, double link_packets);
  // `total` packets of the line cross there, all directions and times; those that load it most are
  // `packets`.
  Loads& crossing(const Crossing& at, double packets, double total);
  // Packets that cross an edge without loading it worth mentioning.
  Loads& passes(machine::LinkClass link, double total);
  // All that the line moves: packets written into an SRAM (and read from one) and packets times
  // links.
  Loads& moves(double received, double hops);
  double busy() const { return busy_; }
  TransferCost with_latency(std::int64_t cycles) const;

 private:
  void add(machine::LinkClass link, double unit_bytes, double cycles);
  const machine::MachineModel* machine_;
  double flows_ = 1;  // that share links and crossings
  LinkBytes bytes_{};
  Traffic traffic_{};
  double busy_ = 0;
  machine::LinkClass busiest_ = machine::LinkClass::PortIn;
};

// Whole packets of a message.
double packets(Bytes bytes, const machine::MachineModel& machine);

}  // namespace dojo::cost::internal
