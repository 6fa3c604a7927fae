// Turns: which ops run once before the micro-batches of a step, which for each of them and which
// once behind, and whether a step can be cut into micro-batches at all: no sum over samples may
// feed what runs over samples, but for what labels alone decide. An op that takes all samples at
// once (rows that are added in the order of their samples, which replicas and groups share) runs
// behind them, and what it reads is kept of each.
#pragma once

#include "dojo/graph/graph.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"

namespace dojo::place::internal {

// The op's early output, if it has one that somebody reads; else nullptr.
const graph::EarlyOutput* early_output_of(const graph::Op& op, const graph::Uses& uses);

// Sets turns of ops and what stands in the way (layout_plan.h), where the mesh has micro-batches.
void plan_turns(const graph::Graph& graph, const Mesh& mesh, LayoutPlan& plan);

}  // namespace dojo::place::internal
