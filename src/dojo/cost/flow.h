// Flow: how fast transfers go that run at once and share links (docs/placement.md, "Several
// transfers at once").
//
// Resources are classes of links, those along rows and those along columns apart, and the ports. A
// transfer that is alone makes `pace` cycles of progress a cycle, out of the `busy` ones that it
// needs. Several share by max-min: the rates of all rise together until a class is full; those that
// use it stay at that, the others rise on. Every transfer but the fastest has a full class: no
// rate can rise without one as low or lower falling. Where the busiest links of the transfers are
// not the same ones, they are slower here than they need be.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost {

// Along rows, then along columns. Ports belong to no direction and stand in the first half.
inline constexpr std::size_t kFlowClassCount = 2 * machine::kLinkClassCount;

// The share of each class that the transfer takes at full rate, 0..1; 1 is its busiest.
using FlowLoads = std::array<double, kFlowClassCount>;

// All moves of the transfer together. Of one that moves nothing: zeros.
FlowLoads flow_loads(const program::Transfer& transfer, const program::Replicas& replicas,
                     const machine::MachineModel& machine);

// The rate of each flow, 0..capacity: no class carries more than `capacity`.
std::vector<double> max_min_rates(std::span<const FlowLoads> flows, double capacity);

}  // namespace dojo::cost
