#include "dojo/cost/flow.h"

#include <algorithm>

namespace dojo::cost {
namespace {

using machine::LinkClass;

bool has_direction(LinkClass link) {
  return link == LinkClass::NodeLink || link == LinkClass::DieEdge || link == LinkClass::TileEdge ||
         link == LinkClass::TrayEdge;
}

// Cycles of every class for one move, at full rate.
void add_move(FlowLoads& cycles, const program::Move& move, const TransferCost& cost,
              const machine::MachineModel& machine) {
  const bool on_rows = move.pattern.axis != machine::Axis::Columns;
  const bool on_columns = move.pattern.axis != machine::Axis::Rows;
  for (std::size_t i = 0; i < machine::kLinkClassCount; ++i) {
    const auto link = static_cast<LinkClass>(i);
    if (cost.bytes[i] <= 0) {
      continue;
    }
    const double busy = cost.bytes[i] / machine.link(link).rate.value();
    if (on_rows || !has_direction(link)) {
      cycles[i] += busy;
    }
    if (on_columns && has_direction(link)) {
      cycles[machine::kLinkClassCount + i] += busy;
    }
  }
}

}  // namespace

FlowLoads flow_loads(const program::Transfer& transfer, const program::Replicas& replicas,
                     const machine::MachineModel& machine) {
  FlowLoads loads{};
  double busy = 0;
  for (const program::Move& move : transfer.moves) {
    const TransferCost cost = move_cost(move, replicas, machine);
    add_move(loads, move, cost, machine);
    busy += cost.busy;
  }
  for (double& load : loads) {
    // Slots leave gaps, so that no class need be busy all the time; never more than that.
    load = busy > 0 ? std::min(1.0, load / busy) : 0;
  }
  return loads;
}

std::vector<double> max_min_rates(std::span<const FlowLoads> flows, double capacity) {
  std::vector<double> rates(flows.size(), 0);
  std::vector<bool> is_frozen(flows.size(), false);
  FlowLoads used{};
  double level = 0;  // of all that still rise
  std::size_t rising = flows.size();
  while (rising > 0) {
    double next = capacity;  // a flow alone goes no faster
    for (std::size_t c = 0; c < kFlowClassCount; ++c) {
      double slope = 0;
      for (std::size_t i = 0; i < flows.size(); ++i) {
        slope += is_frozen[i] ? 0 : flows[i][c];
      }
      if (slope > 0) {
        next = std::min(next, level + std::max(0.0, capacity - used[c]) / slope);
      }
    }
    const double step = next - level;
    for (std::size_t i = 0; i < flows.size(); ++i) {
      if (!is_frozen[i]) {
        rates[i] = next;
        for (std::size_t c = 0; c < kFlowClassCount; ++c) {
          used[c] += flows[i][c] * step;
        }
      }
    }
    level = next;
    for (std::size_t i = 0; i < flows.size(); ++i) {
      bool is_full = level >= capacity;
      for (std::size_t c = 0; c < kFlowClassCount; ++c) {
        is_full = is_full || (flows[i][c] > 0 && used[c] >= capacity * (1 - 1e-12));
      }
      if (!is_frozen[i] && is_full) {
        is_frozen[i] = true;
        --rising;
      }
    }
  }
  return rates;
}

}  // namespace dojo::cost
