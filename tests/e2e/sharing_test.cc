// How the time of a fixed Program follows the machine's rates, with transfers one after the other
// (stated) and side by side (max-min).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "dojo/system/timeline.h"
#include "steps.h"

namespace dojo {
namespace {

using e2e::Step;
using system::Sharing;

// A rate twice, or a latency halved: "2.016 TB/s" becomes "4.032 TB/s".
std::string times(const std::string& value, double factor) {
  const auto space = value.find(' ');
  return fmt::format("{}{}", std::stod(value.substr(0, space)) * factor, value.substr(space));
}

bool is_rate(const machine::FactLine& fact) {
  return fact.affects == machine::Affects::Time &&
         (fact.value.ends_with("B/s") || fact.value.ends_with("B/cycle") ||
          fact.value.ends_with("Hz"));
}

machine::MachineModel with(const machine::Description& description, const std::string& path,
                           const std::string& value) {
  const auto changed = machine::with_fact(description, path, value);
  EXPECT_TRUE(changed.has_value()) << path << " = " << value << ": " << changed.error().to_string();
  return machine::resolve(*changed);
}

Picoseconds time(const Step& step, const machine::MachineModel& machine, Sharing sharing) {
  return system::time_program(step.program, machine, sharing).step;
}

// Clock and rates twice, latencies in seconds halved: cycles stay what they were. The share of one
// panel is rounded up to a picosecond, hence one for each phase.
TEST(Rates, AllTimesFAreTheTimeOverF) {
  for (const Step& step : e2e::steps()) {
    machine::Description description = *machine::load_description(step.machine.name);
    for (const machine::FactLine& fact : machine::list_facts(description)) {
      const bool is_per_second = fact.value.ends_with("B/s") || fact.value.ends_with("Hz");
      const bool is_latency = fact.path.ends_with("latency");
      if (fact.affects == machine::Affects::Time && (is_per_second || is_latency)) {
        const auto changed =
            machine::with_fact(description, fact.path, times(fact.value, is_latency ? 0.5 : 2));
        ASSERT_TRUE(changed.has_value()) << changed.error().to_string();
        description = *changed;
      }
    }
    const machine::MachineModel twice = machine::resolve(description);
    for (const Sharing sharing : {Sharing::Stated, Sharing::MaxMin}) {
      const std::int64_t before = time(step, step.machine, sharing).count();
      const std::int64_t after = time(step, twice, sharing).count();
      EXPECT_NEAR(static_cast<double>(2 * after), static_cast<double>(before),
                  2.0 * static_cast<double>(step.program.phases.size()))
          << step.graph.name << " " << system::name(sharing);
    }
  }
}

TEST(Rates, WithStatedSharesNoneThatRisesMakesAFixedProgramSlower) {
  for (const Step& step : e2e::steps()) {
    const machine::Description description = *machine::load_description(step.machine.name);
    const Picoseconds before = time(step, step.machine, Sharing::Stated);
    int rates = 0;
    for (const machine::FactLine& fact : machine::list_facts(description)) {
      if (!is_rate(fact)) {
        continue;
      }
      ++rates;
      for (const double factor : {1.1, 2.0, 8.0}) {
        const auto quicker = with(description, fact.path, times(fact.value, factor));
        EXPECT_LE(time(step, quicker, Sharing::Stated), before)
            << step.graph.name << " on " << step.machine.name << ", " << fact.path;
      }
    }
    EXPECT_GE(rates, 10);
  }
}

// Max-min sharing can be slower on a quicker machine (Graham), but on these by no more than 1 %;
// the worst case is printed.
TEST(Rates, WithMaxMinSharesOneThatRisesCostsAtMostOnePercent) {
  double worst = 0;
  std::string where = "none";
  for (const Step& step : e2e::steps()) {
    const machine::Description description = *machine::load_description(step.machine.name);
    const double before = to_seconds(time(step, step.machine, Sharing::MaxMin));
    for (const machine::FactLine& fact : machine::list_facts(description)) {
      if (!is_rate(fact)) {
        continue;
      }
      for (const double factor : {1.1, 2.0, 8.0}) {
        const auto quicker = with(description, fact.path, times(fact.value, factor));
        const double cost = to_seconds(time(step, quicker, Sharing::MaxMin)) / before - 1;
        if (cost > worst) {
          worst = cost;
          where = fmt::format("{} on {}, {} x {}", step.graph.name, step.machine.name, fact.path,
                              factor);
        }
      }
    }
  }
  fmt::print("worst: {:.3f} % slower ({})\n", 100 * worst, where);
  EXPECT_LE(worst, 0.01);
}

// Side by side is never slower than the lane on these, and no quicker than the bound.
TEST(Sharing, SideBySideLiesBetweenTheBoundAndTheSerialSum) {
  for (const Step& step : e2e::steps()) {
    const system::Bounds bounds = system::bounds_of(step.program, step.machine);
    const double stated = to_seconds(time(step, step.machine, Sharing::Stated));
    const Picoseconds shared = time(step, step.machine, Sharing::MaxMin);
    fmt::print("{:<10} on {:<14}: stated {:9.3f} us, max-min {:9.3f} us, {:+.1f} %\n",
               step.graph.name, step.machine.name, 1e6 * stated, 1e6 * to_seconds(shared),
               100 * (to_seconds(shared) / stated - 1));
    EXPECT_LE(shared, bounds.serial);
    EXPECT_LE(to_seconds(shared), 1.01 * stated);
  }
}

}  // namespace
}  // namespace dojo
