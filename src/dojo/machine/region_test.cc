#include "dojo/machine/region.h"

#include <gtest/gtest.h>

#include <random>

#include "dojo/machine/description.h"

namespace dojo::machine {
namespace {

MachineModel tile() { return *load_machine("training-tile"); }

TEST(Region, CountsNodesOverItsDies) {
  const Region region = whole_machine(tile());
  EXPECT_EQ(region.rows(), 90);
  EXPECT_EQ(region.columns(), 95);
  EXPECT_EQ(region.nodes(), 8'550);
  EXPECT_EQ(to_string(region), "@die[0..4,0..4].logical[90x95]");
  EXPECT_EQ(to_string(whole_die(tile(), {.row = 2, .column = 3})),
            "@die[2..2,3..3].logical[18x19]");
}

TEST(Region, TextReadsBackToTheSameRegion) {
  std::mt19937 random(7);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int trial = 0; trial < 500; ++trial) {
    const Region region{.first_die = {.row = pick(0, 300), .column = pick(0, 300)},
                        .dies = {.rows = pick(1, 40), .columns = pick(1, 40)},
                        .nodes_of_die = {.rows = pick(1, 100), .columns = pick(1, 100)}};
    const auto parsed = parse_region(to_string(region));
    ASSERT_TRUE(parsed.has_value()) << parsed.error().to_string();
    EXPECT_EQ(*parsed, region) << to_string(region);
  }
}

TEST(Region, RefusesTextThatIsNone) {
  for (const char* text :
       {"", "@die", "@die[0..4,0..4]", "@die[0..4,0..4].logical[90x95",
        "die[0..4,0..4].logical[1x1]", "@die[0..4,0..4].logical[90x95] ",
        "@die[0-4,0..4].logical[90x95]", "@die[0..4,0..4].logical[90x99999999999999999999]"}) {
    const auto parsed = parse_region(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().message.find("expected @die["), std::string::npos)
        << parsed.error().message;
  }
}

TEST(Region, RefusesRangesThatRunBackwardsOrStartBelowZero) {
  for (const char* text : {"@die[4..0,0..4].logical[90x95]", "@die[-1..0,0..4].logical[90x95]",
                           "@die[0..4,0..2000000000].logical[90x95]"}) {
    const auto parsed = parse_region(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().message.find("expected die ranges"), std::string::npos)
        << parsed.error().message;
  }
}

TEST(Region, RefusesNodesThatDiesCannotShareEvenly) {
  for (const char* text : {"@die[0..4,0..4].logical[91x95]", "@die[0..4,0..4].logical[90x0]",
                           "@die[0..4,0..4].logical[-90x95]"}) {
    const auto parsed = parse_region(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().message.find("a multiple of 5 die"), std::string::npos)
        << parsed.error().message;
  }
}

TEST(Region, MustStandOnTheMachine) {
  const MachineModel machine = tile();
  EXPECT_TRUE(check_region(whole_machine(machine), machine).has_value());
  Region region = whole_machine(machine);
  region.first_die.column = 1;
  ASSERT_FALSE(check_region(region, machine).has_value());
  EXPECT_EQ(check_region(region, machine).error().message,
            "region @die[0..4,1..5].logical[90x95]: machine training-tile has 5x5 dies, rows 0..4 "
            "and columns 0..4");
  region = whole_machine(machine);
  region.nodes_of_die.columns = 20;
  ASSERT_FALSE(check_region(region, machine).has_value());
  EXPECT_EQ(check_region(region, machine).error().kind, ErrorKind::DoesNotFit);
  region.nodes_of_die.columns = 0;
  EXPECT_FALSE(check_region(region, machine).has_value());
}

TEST(Region, OverlapsExactlyWhereADieIsShared) {
  const Region a = *parse_region("@die[0..1,0..1].logical[4x4]");
  EXPECT_TRUE(overlap(a, a));
  EXPECT_TRUE(overlap(a, *parse_region("@die[1..2,1..2].logical[36x38]")));
  EXPECT_FALSE(overlap(a, *parse_region("@die[2..3,0..1].logical[4x4]")));
  EXPECT_FALSE(overlap(a, *parse_region("@die[0..1,2..2].logical[4x4]")));
}

}  // namespace
}  // namespace dojo::machine
