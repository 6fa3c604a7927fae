#include "dojo/base/units.h"

#include <gtest/gtest.h>

#include <concepts>

namespace dojo {
namespace {

template <class A, class B>
concept Addable = requires(A a, B b) { a + b; };
template <class A, class B>
concept Comparable = requires(A a, B b) { a < b; };

static_assert(Addable<Cycles, Cycles>);
static_assert(!Addable<Cycles, Bytes>);
static_assert(!Comparable<Cycles, Picoseconds>);
static_assert(!Addable<Cycles, int>);
static_assert(!std::convertible_to<int, Cycles>);

TEST(BusyTime, RoundsAPartialBeatUp) {
  EXPECT_EQ(busy_time(Bytes(64), BytesPerCycle(64)), Cycles(1));
  EXPECT_EQ(busy_time(Bytes(65), BytesPerCycle(64)), Cycles(2));
  EXPECT_EQ(busy_time(Bytes(0), BytesPerCycle(64)), Cycles(0));
  EXPECT_EQ(busy_time(Bytes(504), BytesPerCycle(50.4)), Cycles(10));
}

TEST(Clock, TurnsCyclesIntoPicosecondsAndBackRoundingUp) {
  constexpr Clock two_gigahertz(2'000'000'000);
  EXPECT_EQ(two_gigahertz.to_picoseconds(Cycles(3)), Picoseconds(1500));
  EXPECT_EQ(two_gigahertz.to_cycles(Picoseconds(1501)), Cycles(4));
  EXPECT_EQ(Clock(3'000'000'000).to_picoseconds(Cycles(1)), Picoseconds(334));
}

TEST(Clock, HoldsAYearOfCyclesWithoutOverflow) {
  const Cycles year(std::int64_t{86400} * 100 * 2'000'000'000);
  EXPECT_EQ(Clock(2'000'000'000).to_picoseconds(year).count(),
            std::int64_t{8640000} * 1'000'000'000'000 / 1);
}

}  // namespace
}  // namespace dojo
