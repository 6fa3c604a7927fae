#include "dojo/cost/node_cost.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace dojo::cost {
namespace {

constexpr std::array<std::string_view, 4> kPartNames{"matrix", "vector", "load", "store"};

double ceil_div(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = (a + b - 1) / b;
  return static_cast<double>(quotient);
}

double macs_of(const program::MatrixWork& work) {
  return static_cast<double>(work.m) * static_cast<double>(work.n) * static_cast<double>(work.k) *
         static_cast<double>(work.batch);
}

// One FP32 multiply-add per lane and cycle.
double vector_pipe_cycles(const program::MatrixWork& work, const machine::NodeModel& node) {
  return macs_of(work) / node.fp32_lanes();
}

// Cycles of loading, per unit of bytes: conflicts with the network's port slow the banks down.
double load_cycles(double bytes, const machine::NodeModel& node, double network_share) {
  return bytes / node.vector_load.value() * (1 + node.kappa * network_share);
}

// A tile of the product reads both its operands once for every step of k.
double operand_bytes(const program::MatrixWork& work, const machine::NodeModel& node) {
  const double tiles = ceil_div(work.m, node.matrix_m) * ceil_div(work.n, node.matrix_n) *
                       static_cast<double>(work.batch);
  return tiles * static_cast<double>(work.k) *
         (node.matrix_m * work.left_bytes + node.matrix_n * work.right_bytes);
}

}  // namespace

std::string_view name(NodePart part) { return kPartNames[static_cast<std::size_t>(part)]; }

MatrixCycles matrix_cycles(const program::MatrixWork& work, const machine::NodeModel& node) {
  if (work.m <= 0 || work.n <= 0 || work.k <= 0 || work.batch <= 0) {
    return {};
  }
  const double tiles = ceil_div(work.m, node.matrix_m) * ceil_div(work.n, node.matrix_n) *
                       static_cast<double>(work.batch);
  const double operands_per_cycle = static_cast<double>(
      node.matrix_k * (node.matrix_m * work.left_bytes + node.matrix_n * work.right_bytes));
  const double feed = std::max(1.0, operands_per_cycle / node.vector_load.value());
  const double partial_bytes = 4.0 * node.matrix_m * node.matrix_n;  // FP32 tile
  const double store = partial_bytes / node.vector_store.value();
  const double reload = partial_bytes / node.vector_load.value();
  const double t0 = static_cast<double>(node.t0.count());

  const std::int64_t panel = std::clamp<std::int64_t>(work.panel, 1, work.k);
  const std::int64_t full = work.k / panel;
  const std::int64_t rest = work.k % panel;
  const double panels = static_cast<double>(full + (rest > 0 ? 1 : 0));
  const auto steps = [&](std::int64_t kb) { return ceil_div(kb, node.matrix_k); };
  const auto panel_cycles = [&](std::int64_t kb) { return std::max(store, steps(kb) * feed); };

  MatrixCycles cycles;
  cycles.ideal = macs_of(work) / static_cast<double>(node.macs_per_cycle());
  const double all_steps = static_cast<double>(full) * steps(panel) + (rest > 0 ? steps(rest) : 0);
  cycles.shape = tiles * all_steps;
  cycles.operands = tiles * all_steps * feed;
  cycles.total =
      tiles * (static_cast<double>(full) * panel_cycles(panel) +
               (rest > 0 ? panel_cycles(rest) : 0) + reload * (panels - 1) + t0 * panels);
  return cycles;
}

double NodeCost::busiest() const { return std::max({matrix.total, vector, load, store}); }

Cycles NodeCost::body() const {
  const double cycles = busiest();
  return Cycles{static_cast<std::int64_t>(std::ceil(cycles - 1e-9 * (1 + cycles)))} + launch;
}

NodeCost node_cost(const program::NodeWork& work, const machine::NodeModel& node,
                   double network_share) {
  NodeCost cost;
  cost.launch = node.launch;
  cost.loaded = static_cast<double>(work.loaded.count());
  cost.stored = static_cast<double>(work.stored.count());
  for (const program::MatrixWork& product : work.matrix) {
    const MatrixCycles matrix = matrix_cycles(product, node);
    const double on_pipe = vector_pipe_cycles(product, node);
    // Narrow products (depthwise: one column) leave most of the unit idle; the pipe may be quicker.
    if (product.on_vector_pipe || on_pipe < matrix.total) {
      cost.vector += on_pipe;
      // One FP32 operand per lane, the other is kept or broadcast.
      cost.loaded += macs_of(product) * 4;
    } else {
      cost.matrix_macs += macs_of(product);
      cost.matrix.ideal += matrix.ideal;
      cost.matrix.shape += matrix.shape;
      cost.matrix.operands += matrix.operands;
      cost.matrix.total += matrix.total;
      cost.loaded += operand_bytes(product, node);
    }
  }
  const double lanes = node.fp32_lanes();
  cost.vector +=
      static_cast<double>(work.vector_ops) / lanes +
      static_cast<double>(work.special_ops) * static_cast<double>(node.sfu.count()) / lanes +
      static_cast<double>(work.rounded.count()) / static_cast<double>(node.vector_width.count());
  cost.vector_lanes = cost.vector * lanes;
  cost.load = load_cycles(cost.loaded, node, network_share);
  cost.store = cost.stored / node.vector_store.value();
  const std::array<double, 4> parts{cost.matrix.total, cost.vector, cost.load, cost.store};
  cost.bound = static_cast<NodePart>(std::max_element(parts.begin(), parts.end()) - parts.begin());
  return cost;
}

}  // namespace dojo::cost
