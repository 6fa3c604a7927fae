// Placement and time together: what library place lays out and library system times.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/system/simulation.h"
#include "steps.h"

namespace dojo {
namespace {

using e2e::Step;
using e2e::step_of;
using e2e::steps;
using machine::MachineModel;
using program::Program;
using system::Timeline;

TEST(PlacedStep, TakesNoLessThanItsBoundAndNoMoreThanItsSerialSum) {
  for (const Step& step : steps()) {
    const Timeline timeline = system::time_program(step.program, step.machine);
    const system::Bounds bounds = system::bounds_of(step.program, step.machine);
    EXPECT_GE(timeline.step, bounds.lower) << step.graph.name;
    EXPECT_LE(timeline.step, bounds.serial) << step.graph.name;
  }
}

TEST(PlacedStep, IsItsIdealAndItsLosses) {
  for (const Step& step : steps()) {
    const Timeline timeline = system::time_program(step.program, step.machine);
    const system::Losses losses = system::losses_of(step.program, timeline, step.machine);
    EXPECT_NEAR(losses.total(), to_seconds(timeline.step), 1e-12) << step.graph.name;
    for (const double seconds : losses.seconds) {
      EXPECT_GE(seconds, -1e-15) << step.graph.name;
    }
  }
}

bool has(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// The value of a memory entry, without what marks a copy of it.
std::string value_of(const program::MemoryEntry& entry) {
  std::string value = entry.tensor.substr(0, entry.tensor.find(':'));
  if (entry.tensor.find(":scratch") != std::string::npos) {
    std::string scratch = entry.tensor;
    std::replace(scratch.begin(), scratch.end(), ':', '.');
    return scratch;
  }
  return value;
}

// When the last phase that uses the entry's bytes has ended.
Picoseconds end_of_use(const program::MemoryEntry& entry, const Program& program,
                       const Timeline& timeline) {
  Picoseconds end{};
  for (std::uint32_t i = entry.first.index; i <= entry.last.index; ++i) {
    const program::Phase& phase = program.phases[i];
    if (has(phase.reads, value_of(entry)) || has(phase.writes, value_of(entry))) {
      end = std::max(end, timeline.phases[i].end);
    }
  }
  return end;
}

// When the phase begins that writes the entry's bytes first: a landing's transfer may stand after
// the phase beside which it runs.
Picoseconds begin_of_use(const program::MemoryEntry& entry, const Program& program,
                         const Timeline& timeline) {
  if (entry.tensor.find(":fetched") == std::string::npos) {
    return timeline.phases[entry.first.index].begin;
  }
  for (std::uint32_t i = entry.first.index; i <= entry.last.index; ++i) {
    if (std::holds_alternative<program::Transfer>(program.phases[i].body) &&
        has(program.phases[i].reads, value_of(entry))) {
      return timeline.phases[i].begin;
    }
  }
  ADD_FAILURE() << entry.tensor << " has no transfer";
  return {};
}

// No byte of SRAM is written while another phase still uses it for something else. The plan gives
// offsets by phase; here they are held against when phases really run.
TEST(PlacedStep, NeverWritesBytesThatAreStillInUse) {
  std::vector<Step> all = steps();
  MachineModel tight = *machine::load_machine("d1");
  tight.node.sram = Bytes(140'000);  // offsets are used again and again
  tight.node.code = Bytes(20'000);
  tight.node.buffers = Bytes(40'000);
  all.push_back(step_of("gpt", tight));
  int pairs = 0;
  for (const Step& step : all) {
    const Timeline timeline = system::time_program(step.program, step.machine);
    const auto& memory = step.program.memory;
    for (const program::MemoryEntry& later : memory) {
      for (const program::MemoryEntry& earlier : memory) {
        if (earlier.last < later.first && earlier.offset < later.offset + later.bytes &&
            later.offset < earlier.offset + earlier.bytes) {
          ++pairs;
          EXPECT_LE(end_of_use(earlier, step.program, timeline),
                    begin_of_use(later, step.program, timeline))
              << step.graph.name << ": " << later.tensor << " over " << earlier.tensor;
        }
      }
    }
  }
  EXPECT_GT(pairs, 1000);
}

TEST(PlacedStep, GetsNoSlowerOnAFasterMachine) {
  for (const Step& step : steps()) {
    const Picoseconds before = system::time_program(step.program, step.machine).step;
    for (int what = 0; what < 6; ++what) {
      MachineModel better = step.machine;
      if (what == 0) {
        better.network.alpha = Cycles{4};
        better.network.stage = Cycles{6};
      } else if (what == 1) {
        better.network.pace = 1;
      } else if (what == 2) {
        better.node.t0 = Cycles{0};
      } else if (what == 3) {
        better.node.launch = Cycles{20};
      } else if (what == 4) {
        better.clock = Clock(better.clock.hertz() * 3 / 2);
      } else {
        for (auto& link : better.links) {
          if (link.has_value()) {
            link->rate = link->rate * 2;
            link->per_row = link->per_row * 2;
            link->per_column = link->per_column * 2;
            link->latency = Cycles{std::max<std::int64_t>(1, link->latency.count() / 2)};
          }
        }
      }
      EXPECT_LE(system::time_program(step.program, better).step, before)
          << step.graph.name << " change " << what;
    }
  }
}

// The table of docs/placement.md: a product of 4096^3 in BF16 on one die, t0 = 4: 86.2 % of the
// live nodes' peak while it runs.
TEST(PlacedProduct, ReachesTheUtilisationOfTheTable) {
  const Step step = step_of("gemm", "d1");
  const auto simulation = system::simulate(step.program, *machine::load_description("d1"));
  ASSERT_TRUE(simulation.has_value()) << simulation.error().to_string();
  const auto product = std::find_if(simulation->ops.begin(), simulation->ops.end(),
                                    [](const system::OpTime& op) { return op.op == "aten.mm"; });
  ASSERT_NE(product, simulation->ops.end());
  EXPECT_NEAR(100 * product->utilisation, 86.2, 1.0);
  EXPECT_EQ(product->bound_by, "matrix");
  // 2 x 4096^3.
  EXPECT_EQ(simulation->flops, Flops(137'438'953'472));
}

TEST(PlacedStep, OfASmallNetworkLeavesATileMostlyIdle) {
  const Step step = step_of("cnn", "training-tile");
  const auto simulation =
      system::simulate(step.program, *machine::load_description("training-tile"));
  ASSERT_TRUE(simulation.has_value()) << simulation.error().to_string();
  EXPECT_LT(simulation->utilisation, 0.1);
  EXPECT_EQ(simulation->lowered_graph_sha256, graph::graph_sha256(step.graph));
  const double transfer = simulation->losses[system::Cause::Transfer];
  EXPECT_GT(transfer, simulation->step_seconds / 2);
}

TEST(PlacedStep, IsFasterOnManyDiesIfTheBatchFeedsThem) {
  const auto computed = [](const Step& step) {
    return system::time_program(step.program, step.machine).computed;
  };
  EXPECT_LT(computed(step_of("cnn", "training-tile")), computed(step_of("cnn", "d1")));
}

}  // namespace
}  // namespace dojo
