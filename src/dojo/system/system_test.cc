#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "dojo/cost/phase_cost.h"
#include "dojo/machine/description.h"
#include "dojo/system/critical_path.h"
#include "dojo/system/losses.h"
#include "dojo/system/timeline.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::MatrixWork;
using program::Move;
using program::NodeWork;
using program::Phase;
using program::Program;
using program::Transfer;

machine::MachineModel die() { return *machine::load_machine("d1"); }

// `macs` of a product of 64 x 64 x k on each node of the die.
Phase compute(const machine::MachineModel& machine, std::int64_t k, std::vector<PhaseId> after,
              std::int64_t vector_ops = 0) {
  Compute body;
  body.kinds = "aten.mm";
  body.work.matrix.push_back(MatrixWork{
      .m = 64, .n = 64, .k = k, .batch = 1, .panel = 64, .left_bytes = 1, .right_bytes = 1});
  body.work.vector_ops = vector_ops;
  body.work.points = body.work.macs = 64 * 64 * k;
  body.work.total_points = body.work.total_macs = 64 * 64 * k * machine.logical_nodes();
  return Phase{.region = machine::whole_machine(machine), .body = body, .after = std::move(after)};
}

Phase transfer(const machine::MachineModel& machine, std::int64_t bytes, std::vector<PhaseId> after,
               std::int64_t panels = 1) {
  Transfer body;
  body.panels = panels;
  body.moves.push_back(Move{.tensor = "w",
                            .region = machine::whole_machine(machine),
                            .pattern = machine::all_gather(machine::Axis::Rows, Bytes(bytes))});
  return Phase{.region = machine::whole_machine(machine), .body = body, .after = std::move(after)};
}

Phase pipelined(Phase phase, PhaseId feed) {
  std::get<Compute>(phase.body).pipelined = {feed};
  return phase;
}

Program program_of(std::vector<Phase> phases, const machine::MachineModel& machine) {
  Program program;
  program.name = "test";
  program.machine = machine.name;
  program.replicas.dies = machine.dies();
  program.phases = std::move(phases);
  return program;
}

// A Program of any shape: computations and transfers, each after some of those before it.
Program random_program(std::mt19937_64& random, const machine::MachineModel& machine) {
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  std::vector<Phase> phases;
  const std::int64_t count = draw(1, 12);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::vector<PhaseId> after;
    for (std::uint32_t before = 0; before < i; ++before) {
      if (draw(0, 3) == 0) {
        after.push_back(PhaseId{before});
      }
    }
    if (draw(0, 1) == 0) {
      phases.push_back(transfer(machine, draw(1, 400'000), after, draw(1, 8)));
      continue;
    }
    Phase phase = compute(machine, draw(1, 600), after, draw(0, 20'000));
    if (!after.empty() && std::holds_alternative<Transfer>(phases[after.front().index].body)) {
      phase = pipelined(std::move(phase), after.front());
    }
    phases.push_back(std::move(phase));
  }
  return program_of(std::move(phases), machine);
}

TEST(Timeline, ADependentComputationWaitsForItsTransfer) {
  const machine::MachineModel machine = die();
  const Program program =
      program_of({transfer(machine, 64'000, {}), compute(machine, 64, {PhaseId{0}})}, machine);
  const Timeline timeline = time_program(program, machine);
  EXPECT_EQ(timeline.phases[1].begin, timeline.phases[0].end);
  EXPECT_EQ(timeline.step, timeline.phases[0].work + timeline.phases[1].work);
  EXPECT_EQ(critical_path(program, timeline), (std::vector{PhaseId{0}, PhaseId{1}}));
}

TEST(Timeline, AnIndependentTransferIsCovered) {
  const machine::MachineModel machine = die();
  const Timeline timeline = time_program(
      program_of({compute(machine, 4096, {}), transfer(machine, 6'400, {})}, machine), machine);
  EXPECT_EQ(timeline.phases[1].begin, Picoseconds{});
  EXPECT_LT(timeline.phases[1].end, timeline.phases[0].end);
  EXPECT_EQ(timeline.step, timeline.phases[0].work);
}

TEST(Timeline, APipelinedComputationBeginsWithTheFirstPanelAndEndsAfterTheLast) {
  const machine::MachineModel machine = die();
  const Timeline slow_feed =
      time_program(program_of({transfer(machine, 6'400'000, {}, 10),
                               pipelined(compute(machine, 640, {PhaseId{0}}), PhaseId{0})},
                              machine),
                   machine);
  const PhaseTiming& feed = slow_feed.phases[0];
  const PhaseTiming& work = slow_feed.phases[1];
  EXPECT_EQ(work.begin, feed.begin + feed.first);
  EXPECT_EQ(work.end, feed.end + Picoseconds((work.work.count() + 9) / 10));
}

TEST(Timeline, ALaneRunsOnePhaseAtATime) {
  const machine::MachineModel machine = die();
  const Timeline timeline = time_program(
      program_of({transfer(machine, 6'400, {}), transfer(machine, 6'400, {})}, machine), machine);
  EXPECT_EQ(timeline.phases[1].begin, timeline.phases[0].end);
}

TEST(Timeline, WaitsForWhatOverlapLeavesOfReadingInputs) {
  const machine::Description card = *machine::load_description("tenstorrent-n150");
  const auto step = [&](const char* overlap) {
    const machine::MachineModel machine =
        machine::resolve(*machine::with_fact(card, "dram.overlap", overlap));
    program::Ingest ingest{
        .tensors = {"x"}, .bytes = Bytes(1 << 20), .bytes_per_replica = Bytes(1 << 20)};
    const Program program = program_of(
        {Phase{.region = machine::whole_machine(machine), .body = std::move(ingest), .after = {}},
         compute(machine, 4096, {})},
        machine);
    const Timeline timeline = time_program(program, machine);
    EXPECT_NEAR(losses_of(program, timeline, machine).total(), to_seconds(timeline.step), 1e-15);
    return std::array{timeline.step, timeline.phases[0].end, timeline.phases[1].end};
  };
  const auto [all, ingest, computed] = step("0");
  EXPECT_EQ(all, ingest + computed);
  EXPECT_EQ(step("0.5")[0], computed + Picoseconds((ingest.count() + 1) / 2));
  EXPECT_EQ(step("1")[0], std::max(ingest, computed));
}

TEST(Timeline, LiesBetweenItsBounds) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    const Program program = random_program(random, machine);
    const Picoseconds step = time_program(program, machine).step;
    const Bounds bounds = bounds_of(program, machine);
    EXPECT_GE(step, bounds.lower);
    EXPECT_LE(step, bounds.serial);
  }
}

// A fixed Program gets no slower when a rate rises or a latency falls.
TEST(Timeline, IsMonotoneInEveryRateAndLatency) {
  const machine::Description description = *machine::load_description("d1");
  const machine::MachineModel machine = machine::resolve(description);
  struct Change {
    const char* fact;
    const char* better;
  };
  for (const Change& change :
       {Change{"mesh.die.link", "128 B/cycle"}, Change{"node.clock", "3 GHz"},
        Change{"mesh.die.alpha", "4 cycles"}, Change{"mesh.die.pace", "1"},
        Change{"node.t0", "0 cycles"}, Change{"node.launch", "20 cycles"}}) {
    const auto changed = machine::with_fact(description, change.fact, change.better);
    ASSERT_TRUE(changed.has_value()) << changed.error().to_string();
    const machine::MachineModel quicker = machine::resolve(*changed);
    std::mt19937_64 random(2);
    for (int i = 0; i < 100; ++i) {
      const Program program = random_program(random, machine);
      EXPECT_LE(time_program(program, quicker).step, time_program(program, machine).step)
          << change.fact;
    }
  }
}

// Every rate of a die alone is counted in its clock's cycles: twice the clock, half the time.
TEST(Timeline, TwiceAllRatesIsHalfTheTime) {
  const machine::Description description = *machine::load_description("d1");
  const machine::MachineModel machine = machine::resolve(description);
  const machine::MachineModel doubled =
      machine::resolve(*machine::with_fact(description, "node.clock", "4 GHz"));
  std::mt19937_64 random(3);
  for (int i = 0; i < 100; ++i) {
    const Program program = random_program(random, machine);
    const std::int64_t once = time_program(program, machine).step.count();
    const std::int64_t twice = time_program(program, doubled).step.count();
    EXPECT_NEAR(static_cast<double>(twice) * 2, static_cast<double>(once), 600.0 * 24);
  }
}

// One alone takes what it takes with stated shares, up to the rounding of cycles.
TEST(SideBySide, OneTransferAtATimeIsTheLane) {
  const machine::MachineModel machine = die();
  const Program program =
      program_of({transfer(machine, 64'000, {}), compute(machine, 640, {PhaseId{0}}),
                  transfer(machine, 6'400, {PhaseId{1}}), compute(machine, 640, {PhaseId{2}})},
                 machine);
  const Timeline lane = time_program(program, machine);
  const Timeline shared = time_program(program, machine, Sharing::MaxMin);
  for (std::size_t i = 0; i < lane.phases.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(shared.phases[i].end.count()),
                static_cast<double>(lane.phases[i].end.count()), 2 * 500.0);
  }
}

// Two alike begin together, each at half the rate: both end when both together would, a latency
// sooner than one after the other.
TEST(SideBySide, TwoAlikeShareEvenly) {
  const machine::MachineModel machine = die();
  const Program program =
      program_of({transfer(machine, 64'000, {}), transfer(machine, 64'000, {})}, machine);
  const Timeline shared = time_program(program, machine, Sharing::MaxMin);
  const PhaseTiming& one = shared.phases[0];
  // V = 1000 packets over 19 nodes: L = 1000 x 20 / 19 cycles at 0.9, A = 17 x 22 + 2.
  const double busy = 2 * 1000 * 20.0 / 19 / 0.9;
  EXPECT_NEAR(static_cast<double>(one.end.count()), (busy + 376) * 500, 1);
  EXPECT_EQ(shared.phases[1].begin, Picoseconds{});
  EXPECT_EQ(shared.phases[1].end, one.end);
}

// The fourth waits until one of the first three has ended.
TEST(SideBySide, AtMostThreeAreUnderWay) {
  const machine::MachineModel machine = die();
  const Program program = program_of({transfer(machine, 640, {}), transfer(machine, 64'000, {}),
                                      transfer(machine, 64'000, {}), transfer(machine, 64'000, {})},
                                     machine);
  const Timeline shared = time_program(program, machine, Sharing::MaxMin);
  EXPECT_EQ(shared.phases[2].begin, Picoseconds{});
  EXPECT_EQ(shared.phases[3].begin, shared.phases[0].end);
}

// Bytes that a transfer still reads are not written by the next one.
TEST(SideBySide, WaitsForBytesThatAreInUse) {
  const machine::MachineModel machine = die();
  Program program =
      program_of({transfer(machine, 64'000, {}), transfer(machine, 64'000, {})}, machine);
  program.memory = {{.tensor = "a", .bytes = Bytes(64), .first = {0}, .last = {0}},
                    {.tensor = "b", .bytes = Bytes(64), .first = {1}, .last = {1}}};
  const Timeline shared = time_program(program, machine, Sharing::MaxMin);
  EXPECT_EQ(shared.phases[1].begin, shared.phases[0].end);
  program.memory[1].offset = Bytes(64);
  EXPECT_EQ(time_program(program, machine, Sharing::MaxMin).phases[1].begin, Picoseconds{});
}

TEST(SideBySide, LiesBetweenTheBoundsAndItsLossesAreTheStep) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(6);
  double least = 1;
  double most = 1;
  for (int i = 0; i < 300; ++i) {
    const Program program = random_program(random, machine);
    const Timeline timeline = time_program(program, machine, Sharing::MaxMin);
    const Bounds bounds = bounds_of(program, machine);
    EXPECT_GE(timeline.step, bounds.lower);
    EXPECT_LE(timeline.step, bounds.serial);
    const Losses losses = losses_of(program, timeline, machine);
    EXPECT_NEAR(losses.total(), to_seconds(timeline.step), 1e-9 * to_seconds(timeline.step));
    for (const double each : losses.seconds) {
      EXPECT_GE(each, -1e-15);
    }
    const double ratio =
        to_seconds(timeline.step) / to_seconds(time_program(program, machine).step);
    least = std::min(least, ratio);
    most = std::max(most, ratio);
  }
  // It is neither always quicker nor always slower than one after the other.
  EXPECT_LT(least, 0.99);
  EXPECT_GT(most, 1.01);
}

// A chain of transfer and computation beside a short transfer: only that one has room.
TEST(CriticalPath, HasNoSlackAndItsSharesAreTheStep) {
  const machine::MachineModel machine = die();
  const Program program =
      program_of({transfer(machine, 64'000, {}), compute(machine, 4096, {PhaseId{0}}),
                  transfer(machine, 640, {}), compute(machine, 64, {PhaseId{1}, PhaseId{2}})},
                 machine);
  const Timeline timeline = time_program(program, machine);
  const std::vector<PhaseId> path = critical_path(program, timeline);
  EXPECT_EQ(path, (std::vector{PhaseId{0}, PhaseId{1}, PhaseId{3}}));
  const std::vector<Picoseconds> slack = slack_of(program, timeline);
  EXPECT_EQ(slack[0], Picoseconds{});
  EXPECT_EQ(slack[1], Picoseconds{});
  EXPECT_EQ(slack[2], timeline.phases[1].end - timeline.phases[2].end);
  EXPECT_EQ(slack[3], Picoseconds{});
  const std::vector<PathShare> shares = path_shares(timeline, path);
  ASSERT_EQ(shares.size(), 2u);
  EXPECT_EQ(shares[0].bound_by, "matrix");
  EXPECT_EQ(shares[1].bound_by, timeline.phases[0].bound_by);
  EXPECT_DOUBLE_EQ(shares[0].seconds + shares[1].seconds, to_seconds(timeline.step));
}

// A computation that takes its slack longer leaves the step as it is; one more cycle does not.
TEST(Slack, IsTheRoomThatAPhaseHas) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(8);
  int checked = 0;
  for (int i = 0; i < 300; ++i) {
    Program program = random_program(random, machine);
    const Timeline before = time_program(program, machine);
    const std::vector<Picoseconds> slack = slack_of(program, before);
    for (std::size_t k = 0; k < program.phases.size(); ++k) {
      EXPECT_GE(slack[k], Picoseconds{});
      auto* compute = std::get_if<Compute>(&program.phases[k].body);
      if (compute == nullptr || !compute->pipelined.empty()) {
        continue;
      }
      const NodeWork work = compute->work;
      if (cost::node_cost(work, machine.node).matrix.total == 0) {
        continue;  // so narrow that it runs on the vector pipe itself
      }
      const std::int64_t busiest =
          (cost::node_cost(work, machine.node).body() - machine.node.launch).count();
      // As many vector operations as fill the pipe for the whole phase and its slack.
      const auto step_with_cycles = [&](std::int64_t cycles) {
        compute->work.vector_ops = cycles * machine.node.fp32_lanes();
        return time_program(program, machine).step;
      };
      const std::int64_t room = slack[k].count() / 500;
      EXPECT_EQ(step_with_cycles(busiest + room), before.step);
      EXPECT_GT(step_with_cycles(busiest + room + 2), before.step);
      compute->work = work;
      ++checked;
    }
  }
  EXPECT_GT(checked, 300);
}

TEST(CriticalPath, IsThePathOfEveryRandomProgram) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(9);
  for (int i = 0; i < 300; ++i) {
    const Program program = random_program(random, machine);
    for (const Sharing sharing : {Sharing::Stated, Sharing::MaxMin}) {
      const Timeline timeline = time_program(program, machine, sharing);
      const std::vector<PhaseId> path = critical_path(program, timeline);
      double sum = 0;
      for (const PathShare& share : path_shares(timeline, path)) {
        EXPECT_GE(share.seconds, 0);
        sum += share.seconds;
      }
      EXPECT_NEAR(sum, to_seconds(timeline.step), 1e-15);
      EXPECT_TRUE(std::is_sorted(path.begin(), path.end()));
    }
  }
}

TEST(Losses, WithTheIdealAreTheStep) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(4);
  for (int i = 0; i < 300; ++i) {
    const Program program = random_program(random, machine);
    const Timeline timeline = time_program(program, machine);
    const Losses losses = losses_of(program, timeline, machine);
    EXPECT_NEAR(losses.total(), to_seconds(timeline.step), 1e-9 * to_seconds(timeline.step));
    for (const double each : losses.seconds) {
      EXPECT_GE(each, 0);
    }
  }
}

// 64 x 64 x 4096 on each of 342 of 354 nodes: ideal on 354 nodes 64*64*4096/256 * 342/354 cycles.
TEST(Losses, OfAFullProductAreIdleNodesAndTheLoop) {
  const machine::MachineModel machine = die();
  const Program program = program_of({compute(machine, 4096, {})}, machine);
  const Losses losses = losses_of(program, time_program(program, machine), machine);
  const double cycle = 0.5e-9;
  const double busy = 64.0 * 64 * 4096 / 256;
  EXPECT_NEAR(losses.ideal_seconds, busy * 342 / 354 * cycle, 1e-15);
  EXPECT_NEAR(losses[Cause::IdleNodes], busy * 12 / 354 * cycle, 1e-15);
  EXPECT_EQ(losses[Cause::ShapeRounding], 0);
  EXPECT_EQ(losses[Cause::OperandFeed], 0);
  // 64 panels of 64: t0 = 4 each, and 2 cycles of reload after the first, for 8 x 8 tiles.
  EXPECT_NEAR(losses[Cause::PanelLoop], 64 * (64 * 4 + 63 * 2) * cycle, 1e-15);
  EXPECT_EQ(losses[Cause::Transfer], 0);
  EXPECT_EQ(losses[Cause::Waiting], 0);
}

TEST(Losses, ATransferThatNothingCoversIsNamed) {
  const machine::MachineModel machine = die();
  const Program program =
      program_of({transfer(machine, 64'000, {}), compute(machine, 64, {PhaseId{0}})}, machine);
  const Timeline timeline = time_program(program, machine);
  const Losses losses = losses_of(program, timeline, machine);
  EXPECT_NEAR(losses[Cause::Transfer], to_seconds(timeline.phases[0].work), 1e-15);
}

TEST(ExposedTimes, AreTheStepWithoutWaiting) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(5);
  for (int i = 0; i < 300; ++i) {
    const Program program = random_program(random, machine);
    const Timeline timeline = time_program(program, machine);
    Picoseconds sum{};
    for (const Picoseconds time : exposed_times(timeline)) {
      sum += time;
    }
    const double waiting = losses_of(program, timeline, machine)[Cause::Waiting];
    EXPECT_NEAR(to_seconds(sum) + waiting, to_seconds(timeline.step), 1e-12);
  }
}

}  // namespace
}  // namespace dojo::system
