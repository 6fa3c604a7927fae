// Resources of one class that share bytes evenly: processors, hosts, edges.
#pragma once

#include <algorithm>

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost::internal {

// Adds the class' latency and the load of each of its `units`; nothing where the machine has none.
inline void add_shared(TransferCost& cost, machine::LinkClass link, double bytes, double units,
                       const machine::MachineModel& machine) {
  if (!machine.has(link) || units <= 0) {
    return;
  }
  const machine::LinkModel& model = machine.link(link);
  const double each = bytes / units;
  cost.latency += model.latency;
  double& load = cost.bytes[static_cast<std::size_t>(link)];
  load = std::max(load, each);
  const double cycles = each / model.rate.value();
  if (cycles > cost.busy) {
    cost.busy = cycles;
    cost.busiest = link;
  }
}

}  // namespace dojo::cost::internal
