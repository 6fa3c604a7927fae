// Pipelines, placed and timed.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "dojo/graph/lower.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/place.h"
#include "dojo/system/pipeline.h"
#include "dojo/system/simulation.h"

namespace dojo {
namespace {

struct Piped {
  machine::Description machine;
  place::PlacedStep step;
  program::Program& program() { return step.program; }
};

Piped piped(std::int64_t stages, std::int64_t turns) {
  machine::Description machine = *machine::load_description("training-tile");
  for (const auto& [fact, value] :
       {std::pair{"tile.dies", "2x2"}, std::pair{"node.sram", "8 MB"}}) {
    machine = *machine::with_fact(machine, fact, value);
  }
  const machine::MachineModel model = machine::resolve(machine);
  const graph::Graph captured =
      *graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/golden/place/without_norm.graph");
  const graph::Graph lowered = *graph::lower(captured, *graph::recipe_named("cfloat8"), model.name);
  return {machine, *place::place_as(lowered, model,
                                    {.dies = {1, 1},
                                     .stages = stages,
                                     .block = place::batch_of(lowered),
                                     .micro_batches = turns})};
}

TEST(PipelinedStep, IsItsIdealAndItsLossesBetweenItsBounds) {
  for (const std::int64_t stages : {2, 4}) {
    for (const system::Sharing sharing : {system::Sharing::Stated, system::Sharing::MaxMin}) {
      const Piped piece = piped(stages, 6);
      const system::Simulation simulation =
          *system::simulate(piece.step.program, piece.machine, sharing);
      EXPECT_NEAR(simulation.losses.total(), simulation.step_seconds, 1e-12);
      EXPECT_GE(simulation.losses[system::Cause::Waiting], 0);
      for (const double seconds : simulation.losses.seconds) {
        EXPECT_GE(seconds, -1e-15);
      }
      EXPECT_GT(simulation.losses.ideal_seconds, 0);
      EXPECT_GE(simulation.timeline.step, simulation.bounds.lower);
      EXPECT_LE(simulation.timeline.step, simulation.bounds.serial);
      // Ops take the machine's time as long as their stage works on them.
      const double of_ops =
          std::accumulate(simulation.ops.begin(), simulation.ops.end(), 0.0,
                          [](double sum, const system::OpTime& op) { return sum + op.seconds; });
      EXPECT_LE(of_ops, simulation.step_seconds);
      EXPECT_GT(of_ops, 0.2 * simulation.step_seconds);
      const double on_path = std::accumulate(
          simulation.critical_shares.begin(), simulation.critical_shares.end(), 0.0,
          [](double sum, const system::PathShare& share) { return sum + share.seconds; });
      EXPECT_NEAR(on_path, to_seconds(simulation.timeline.computed), 1e-12);
      EXPECT_EQ(simulation.flops, piped(2, 2).step.program.flops());
    }
  }
}

// What the machine would take for its matrix work does not hang on how the work is dealt out.
TEST(PipelinedStep, HasTheIdealOfTheSameStepWithoutStages) {
  const Piped stages = piped(4, 4);
  const Piped whole = piped(1, 4);
  const double of_stages =
      (*system::simulate(stages.step.program, stages.machine)).losses.ideal_seconds;
  const double of_whole =
      (*system::simulate(whole.step.program, whole.machine)).losses.ideal_seconds;
  EXPECT_NEAR(of_stages / of_whole, 1, 0.01);
}

// All rates of the machine times two: half the time, to rounding; each alone: no later.
TEST(PipelinedStep, GetsNoSlowerOnAFasterMachine) {
  const Piped piece = piped(4, 6);
  const machine::MachineModel model = machine::resolve(piece.machine);
  const Picoseconds step = system::time_program(piece.step.program, model).step;
  for (const char* const change : {"clock=4 GHz", "mesh.die.alpha=4 cycles", "node.t0=0 cycles",
                                   "tile.edge=900 GB/s", "mesh.die.pace=1"}) {
    const std::string text = change;
    const auto equals = text.find('=');
    const auto changed =
        machine::with_fact(piece.machine, text.substr(0, equals), text.substr(equals + 1));
    if (!changed.has_value()) {
      continue;
    }
    EXPECT_LE(system::time_program(piece.step.program, machine::resolve(*changed)).step, step)
        << change;
  }
}

// Of twice as many micro-batches of the same size a step takes less than twice as long: it fills
// and drains once.
TEST(PipelinedStep, FillsAndDrainsOnce) {
  const Piped piece = piped(4, 4);
  const machine::MachineModel model = machine::resolve(piece.machine);
  program::Program longer = piece.step.program;
  longer.micro.count = 8;
  const double few = to_seconds(system::time_program(piece.step.program, model).computed);
  const double many = to_seconds(system::time_program(longer, model).computed);
  EXPECT_GT(many, 1.2 * few);
  EXPECT_LT(many, 1.9 * few);
}

}  // namespace
}  // namespace dojo
