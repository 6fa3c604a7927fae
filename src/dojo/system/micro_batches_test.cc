// Micro-batches in time: counted as if every one were written out.
#include "dojo/system/micro_batches.h"

#include <gtest/gtest.h>

#include <random>

#include "dojo/machine/description.h"
#include "dojo/system/energy.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Phase;
using program::Program;
using program::Transfer;

machine::MachineModel die() { return *machine::load_machine("d1"); }

// Phases of any kind, each after some before it and after some of the micro-batch before; of these
// `count` run phases [first, end).
Program random_program(std::mt19937_64& random, const machine::MachineModel& machine,
                       std::int64_t count) {
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  Program program;
  program.name = "test";
  program.machine = machine.name;
  program.replicas.dies = machine.dies();
  const auto size = static_cast<std::uint32_t>(draw(4, 14));
  const auto first = static_cast<std::uint32_t>(draw(0, 2));
  program.micro = {.count = count, .first = {first}, .end = {size - 1}};
  for (std::uint32_t i = 0; i < size; ++i) {
    Phase phase{.region = machine::whole_machine(machine)};
    for (std::uint32_t before = 0; before < i; ++before) {
      if (draw(0, 3) == 0) {
        phase.after.push_back({before});
      }
    }
    for (std::uint32_t other = first; other < size - 1 && program.runs(i) > 1; ++other) {
      if (draw(0, 4) == 0) {
        phase.previous.push_back({other});
      }
    }
    if (draw(0, 1) == 0) {
      Transfer body{.panels = draw(1, 4)};
      body.moves.push_back(
          {.tensor = "w",
           .region = machine::whole_machine(machine),
           .pattern = machine::all_gather(machine::Axis::Rows, Bytes(draw(1, 400'000)))});
      phase.body = body;
    } else {
      Compute body{.kinds = "aten.mm"};
      const std::int64_t k = draw(1, 600);
      body.work.matrix.push_back(
          {.m = 64, .n = 64, .k = k, .batch = 1, .panel = 64, .left_bytes = 1, .right_bytes = 1});
      body.work.points = body.work.macs = 64 * 64 * k;
      body.work.total_points = body.work.total_macs =
          64 * 64 * k * machine.logical_nodes() * program.runs(i);
      if (!phase.after.empty() &&
          std::holds_alternative<Transfer>(program.phases[phase.after.front().index].body)) {
        const PhaseId feed = phase.after.front();
        if (program.runs(feed.index) == program.runs(i)) {
          body.pipelined = {feed};
        }
      }
      phase.body = body;
    }
    program.phases.push_back(std::move(phase));
  }
  return program;
}

TEST(MicroBatches, TakeAsLongAsIfAllWereWrittenOut) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    const std::int64_t count = 2 + trial % 17;
    const Program program = random_program(random, machine, count);
    const auto verified = program::verify_program(program, machine);
    ASSERT_TRUE(verified.has_value()) << verified.error().to_string();
    const program::WrittenOut all = program::write_out(program, count);
    EXPECT_TRUE(program::verify_program(all.program, machine).has_value());
    const Timeline folded = time_program(program, machine);
    const Timeline walked = time_program(all.program, machine);
    ASSERT_EQ(folded.step, walked.step) << "trial " << trial;
    for (std::size_t i = 0; i < all.of.size(); ++i) {  // the last run of each
      if (all.micro_batch[i] == count - 1 || program.runs(all.of[i].index) == 1) {
        const PhaseTiming& timing = folded.phases[all.of[i].index];
        EXPECT_EQ(timing.begin, walked.phases[i].begin);
        EXPECT_EQ(timing.end, walked.phases[i].end);
      }
    }
  }
}

TEST(MicroBatches, SharingTheNetworkTheyTakeAlmostAsLongAsIfAllWereWrittenOut) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(5);
  for (int trial = 0; trial < 40; ++trial) {
    const std::int64_t count = 2 + trial % 5;
    const Program program = random_program(random, machine, count);
    const Picoseconds folded = time_program(program, machine, Sharing::MaxMin).step;
    const program::WrittenOut all = program::write_out(program, count);
    const Picoseconds walked = time_program(all.program, machine, Sharing::MaxMin).step;
    if (count <= 3) {
      EXPECT_EQ(folded, walked);
    }
    EXPECT_NEAR(to_seconds(folded), to_seconds(walked), 0.1 * to_seconds(walked));
  }
}

TEST(MicroBatches, LossesAreTheStep) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(7);
  for (int trial = 0; trial < 60; ++trial) {
    const Program program = random_program(random, machine, 2 + trial % 9);
    const Picoseconds step = time_program(program, machine).step;
    const ShownStep shown = shown_step(program, machine, Sharing::Stated);
    EXPECT_NEAR(losses_of(shown, step, machine).total(), to_seconds(step), 0.02 * to_seconds(step));
    const Bounds bounds = bounds_of(program, machine);
    EXPECT_LE(bounds.lower, step);
    EXPECT_GE(bounds.serial, step);
  }
}

// What happens in all micro-batches happens, whoever counts.
TEST(MicroBatches, EventsAreThoseOfAllOfThem) {
  const machine::MachineModel machine = die();
  std::mt19937_64 random(9);
  const Program program = random_program(random, machine, 5);
  const program::WrittenOut all = program::write_out(program, 5);
  Program every = all.program;
  for (std::size_t i = 0; i < every.phases.size(); ++i) {
    if (auto* const compute = std::get_if<Compute>(&every.phases[i].body)) {
      compute->work.total_points /= program.runs(all.of[i].index);
      compute->work.total_macs /= program.runs(all.of[i].index);
    }
  }
  const Events folded = events_of(program, machine);
  const Events walked = events_of(every, machine);
  EXPECT_NEAR(folded.matrix_macs, walked.matrix_macs, 1e-9 * walked.matrix_macs);
  EXPECT_NEAR(folded.sram_bytes, walked.sram_bytes, 1e-9 * walked.sram_bytes);
  EXPECT_NEAR(folded.hop_bytes, walked.hop_bytes, 1e-9 * walked.hop_bytes);
  EXPECT_EQ(program.flops(), every.flops());
}

}  // namespace
}  // namespace dojo::system
