// Time of one phase on its busiest node, in cycles (docs/placement.md, "A node"):
//   body = max(matrix, vector, load, store) + launch
//   matrix = ceil(m/8) ceil(n/8) x [sum over k panels of max(4, ceil(kb/4) max(1, 32(eA+eB)/128))
//            + 2 per panel after the first + t0 per panel]
// No formula is measured: a node's times are bounds from below until kernels are.
#pragma once

#include "dojo/base/units.h"
#include "dojo/machine/machine_model.h"
#include "dojo/program/program.h"

namespace dojo::cost {

enum class NodePart : std::uint8_t { Matrix, Vector, Load, Store };
std::string_view name(NodePart part);  // "matrix", "vector", "load", "store"

// The matrix unit's cycles, and how they come about.
struct MatrixCycles {
  double ideal = 0;     // macs / 256
  double shape = 0;     // + ragged edges of 8 x 8 x 4
  double operands = 0;  // + waiting for operands wider than the load port
  double total = 0;     // + panels: t0, partials reloaded, panels shorter than a store
};
MatrixCycles matrix_cycles(const program::MatrixWork& work, const machine::NodeModel& node);

struct NodeCost {
  MatrixCycles matrix{};
  double vector = 0;
  double load = 0;
  double store = 0;
  NodePart bound = NodePart::Matrix;  // the largest; ties to the first
  Cycles launch{};
  // What it does meanwhile.
  double matrix_macs = 0;
  double vector_lanes = 0;  // FP32 operations of one lane
  double loaded = 0;        // bytes from SRAM, the matrix unit's operands included
  double stored = 0;        // bytes to SRAM

  double busiest() const;  // of the four
  Cycles body() const;     // rounded up, launch included
};

// `network_share`: how much of its port the network uses meanwhile, 0..1 (bank conflicts).
NodeCost node_cost(const program::NodeWork& work, const machine::NodeModel& node,
                   double network_share = 0);

}  // namespace dojo::cost
