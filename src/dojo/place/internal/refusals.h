// What is said where a step does not fit, or cannot be cut so.
#pragma once

#include <cstdint>
#include <string>

#include "dojo/base/result.h"
#include "dojo/place/internal/plan.h"

namespace dojo::place::internal {

std::string kilobytes(std::int64_t bytes);  // rounded up: "590 KB"

// What the plan needs, what there is and what of it is largest; `states`: bytes of weights and
// states on a node; `nearest`: what else there is to say, beginning with its own comma.
Error does_not_fit(const graph::Graph& graph, const machine::MachineModel& machine,
                   const Plan& plan, Bytes states, const std::string& nearest);

// Into stages, or without any into micro-batches.
Error cannot_be_cut(const graph::Graph& graph, std::int64_t stages, const std::string& in_the_way);

}  // namespace dojo::place::internal
