// Simulation: one training step, placed as a Program, on a machine: how long it takes, what limits
// it, and which assumed facts that rests on. Everything that a report shows.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/description.h"
#include "dojo/program/program.h"
#include "dojo/system/critical_path.h"
#include "dojo/system/energy.h"
#include "dojo/system/losses.h"
#include "dojo/system/plane.h"
#include "dojo/system/timeline.h"

namespace dojo::system {

// Compute phases of one op (or fused chain) with the exposed part of their transfers.
struct OpTime {
  std::string name{};  // module and op, as in "trunk.0 aten.convolution+aten.relu"
  std::string module{};
  std::string op{};  // "aten.convolution+aten.relu"
  graph::Phase part = graph::Phase::Forward;
  double seconds = 0;
  std::string bound_by{};  // of its longest phase
  Losses losses{};         // of its phases and of the transfers it pays for: together `seconds`
  Cause cause = Cause::IdleNodes;  // the largest of them
  double utilisation = 0;          // of the machine's matrix peak while it runs
  Flops flops{};
  double sram_bytes = 0;  // in and out of all nodes' SRAM, by their own pipes
};

// An assumed fact and what the step would take with it at the ends of its range. The Program stays
// as it is; a fact that would change the placement is listed without times.
struct FactEffect {
  machine::FactLine fact;
  std::optional<double> seconds_low{};   // step, fact at the low end of its range
  std::optional<double> seconds_high{};  // and at the high end
  // The largest change of the step, as a share of it.
  double effect(double step_seconds) const;
};

struct Simulation {
  std::string graph;
  std::string recipe;
  std::string machine;
  std::string lowered_graph_sha256;
  program::Program program;
  Sharing sharing = Sharing::Stated;  // of all times below
  Timeline timeline;
  std::array<double, kSharingCount> seconds_by_sharing{};  // the step, by Sharing
  std::vector<PhaseId> critical_path;
  std::vector<PathShare> critical_shares;  // of its time
  std::vector<Picoseconds> slack;  // by phase; empty with max-min sharing, and of a pipeline
  Losses losses;
  Bounds bounds;
  Energy energy;
  double step_seconds = 0;
  double utilisation = 0;  // matrix FLOPs / (peak of all live nodes x step)
  Flops flops{};           // of matrix products and convolutions, all replicas
  Bytes sram_peak_per_node{};
  Bytes sram_per_node{};
  cost::LinkBytes link_bytes{};  // through the busiest unit of each class, all transfers together
  std::vector<OpTime> ops;       // in order of their first phase
  // What all live nodes could do at most: the roofs over every op.
  FlopsPerSecond peak_matrix{};
  BytesPerSecond sram_rate{};  // of loads
  machine::Shape machine_dies{};
  Plane plane;
  std::vector<FactEffect> assumed;  // by effect, the largest first; then in the order of the table
};

// The Program is verified for the machine, whose facts may differ from those it was placed with.
Result<Simulation> simulate(const program::Program& program, const machine::Description& machine,
                            Sharing sharing = Sharing::Stated);

}  // namespace dojo::system
