#include "dojo/cost/link_profile.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "dojo/machine/description.h"

namespace dojo::cost {
namespace {

using machine::Association;
using machine::Axis;
using machine::Pattern;

program::Move move_of(const Pattern& pattern, const machine::MachineModel& machine) {
  return {.tensor = "w", .region = machine::whole_die(machine, {}), .pattern = pattern};
}

// 19 columns, V / 19 each: over the link after node i come i shares from the west, 19 - i from the
// east.
TEST(LinkProfile, OfAnAllGatherIsHighestAtTheEnds) {
  const machine::MachineModel die = *machine::load_machine("d1");
  const LinkProfile profile =
      link_profile(move_of(machine::all_gather(Axis::Rows, Bytes(1900)), die), {}, die);
  ASSERT_EQ(profile.rows.size(), 18u);
  EXPECT_DOUBLE_EQ(profile.rows[0], 1800);
  EXPECT_DOUBLE_EQ(profile.rows[9], 1000);
  EXPECT_DOUBLE_EQ(profile.rows[17], 1800);
  EXPECT_EQ(profile.row_count, 18);
  EXPECT_EQ(*std::max_element(profile.columns.begin(), profile.columns.end()), 0);
}

// The busiest link of the profile is the one that the cost counts.
TEST(LinkProfile, HasTheBusiestLinkOfTheCost) {
  const machine::MachineModel die = *machine::load_machine("d1");
  const Bytes bytes(64 * 18 * 19 * 20);
  const Pattern patterns[] = {machine::multicast(Axis::Rows, bytes),
                              machine::all_gather(Axis::Rows, bytes),
                              machine::all_gather(Axis::Columns, bytes),
                              machine::reduce(Axis::Columns, Association::Chain, bytes),
                              machine::reduce_scatter(Axis::Rows, Association::Chain, bytes),
                              machine::shift(Axis::Rows, 5, bytes),
                              machine::halo({.north = bytes, .west = bytes}),
                              machine::region_move(0, 4, bytes),
                              machine::scatter_from_edge(machine::Side::West, bytes),
                              machine::scatter_from_edge(machine::Side::South, bytes)};
  for (const Pattern& pattern : patterns) {
    const program::Move move = move_of(pattern, die);
    const LinkProfile profile = link_profile(move, {}, die);
    const double most = std::max(*std::max_element(profile.rows.begin(), profile.rows.end()),
                                 *std::max_element(profile.columns.begin(), profile.columns.end()));
    const auto link = static_cast<std::size_t>(machine::LinkClass::NodeLink);
    EXPECT_DOUBLE_EQ(most, move_cost(move, {}, die).bytes[link]) << machine::to_string(pattern);
  }
}

// Of an all-to-all in slots, the middle cut carries floor(n^2 / 4) messages each way.
TEST(LinkProfile, OfAnAllToAllIsHighestInTheMiddle) {
  const machine::MachineModel die = *machine::load_machine("d1");
  const LinkProfile profile =
      link_profile(move_of(machine::all_to_all(Axis::Columns, Bytes(64)), die), {}, die);
  EXPECT_DOUBLE_EQ(*std::max_element(profile.columns.begin(), profile.columns.end()), 64 * 81);
  EXPECT_DOUBLE_EQ(profile.columns[8], 64 * 81);
}

}  // namespace
}  // namespace dojo::cost
