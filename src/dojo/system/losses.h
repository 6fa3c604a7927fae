// Where a step's time goes: the ideal (all matrix operations on all live matrix units at peak) and
// the causes of loss, which together are the step. Seconds of the machine's time.
//
// While a compute phase runs, its own time is split: from the machine's ideal for its work up to
// what its busiest node takes (NodeCost, part by part). While none runs, the time belongs to the
// transfer that runs, or to waiting.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "dojo/system/timeline.h"

namespace dojo::system {

enum class Cause : std::uint8_t {
  IdleNodes,      // dead, unused or less busy nodes than the busiest
  ShapeRounding,  // slices rounded up to the matrix unit's 8 x 8 x 4
  PanelLoop,      // tile and panel loop of a matrix product on a node
  FillDrain,      // launching a phase; waiting for the first panel
  OperandFeed,    // SRAM ports: operands, loads and stores
  VectorBound,    // the vector pipe
  Transfer,       // bytes under way that no computation covers; ingest longer than the step
  Waiting,        // nothing runs
};
inline constexpr std::size_t kCauseCount = 8;
std::string_view name(Cause cause);  // "idle_nodes", ...

struct Losses {
  double ideal_seconds = 0;
  std::array<double, kCauseCount> seconds{};  // by Cause

  double& operator[](Cause cause) { return seconds[static_cast<std::size_t>(cause)]; }
  double operator[](Cause cause) const { return seconds[static_cast<std::size_t>(cause)]; }
  Losses& operator+=(const Losses& other);
  Losses operator*(double times) const;
  double total() const;   // the step, up to rounding
  Cause largest() const;  // ties to the first
};

// Of a Program without micro-batches, or that has them written out (micro_batches.h).
Losses losses_of(const program::Program& program, const Timeline& timeline,
                 const machine::MachineModel& machine);

// Of each phase the part that the step pays for; what belongs to none (waiting, ingest beyond the
// step) is left out. `runs`: by phase, of how many runs its totals are; empty: of one.
std::vector<Losses> phase_losses(const program::Program& program, const Timeline& timeline,
                                 const machine::MachineModel& machine,
                                 const std::vector<double>& runs = {});

// The part of each phase's time that the step pays for: a compute phase's duration, a transfer's
// time while no compute phase runs and no earlier transfer is under way. Their sum, with waiting
// and ingest beyond the step, is the step.
std::vector<Picoseconds> exposed_times(const Timeline& timeline);

// By phase: the compute phase that pays for what is exposed of it: of a transfer the first that
// waits for it, else the last before it (the first phase, in a Program without any).
std::vector<std::size_t> payers(const program::Program& program);

}  // namespace dojo::system
