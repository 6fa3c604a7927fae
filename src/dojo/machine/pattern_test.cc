#include "dojo/machine/pattern.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace dojo::machine {
namespace {

// One of each kind with its text.
const std::vector<std::pair<Pattern, std::string>>& examples() {
  static const std::vector<std::pair<Pattern, std::string>> kExamples{
      {multicast(Axis::Rows, Bytes{4096}), "multicast rows bytes=4096"},
      {multicast(Axis::Columns, Bytes{1}, 7), "multicast columns source=7 bytes=1"},
      {all_gather(Axis::Rows, Bytes{188416}), "all_gather rows bytes=188416"},
      {reduce(Axis::Columns, Association::Chain, Bytes{64}), "reduce columns order=chain bytes=64"},
      {reduce_scatter(Axis::Both, Association::Nested, Bytes{640}),
       "reduce_scatter both order=nested bytes=640"},
      {all_reduce(Axis::Both, Association::Centre, Bytes{4}),
       "all_reduce both order=centre bytes=4"},
      {halo({.north = Bytes{3584}, .east = Bytes{0}, .south = Bytes{3584}, .west = Bytes{2}}),
       "halo north=3584 east=0 south=3584 west=2"},
      {shift(Axis::Rows, -3, Bytes{64}), "shift rows distance=-3 bytes=64"},
      {all_to_all(Axis::Columns, Bytes{128}), "all_to_all columns bytes=128"},
      {gather_to_edge(Side::East, Bytes{930000}), "gather_to_edge east bytes=930000"},
      {scatter_from_edge(Side::North, Bytes{0}), "scatter_from_edge north bytes=0"},
      {region_move(5, -19, Bytes{12}), "region_move rows=5 columns=-19 bytes=12"},
  };
  return kExamples;
}

TEST(Pattern, EveryKindHasAnExample) {
  std::vector<bool> seen(kPatternKindCount, false);
  for (const auto& [pattern, text] : examples()) {
    seen[static_cast<std::size_t>(pattern.kind)] = true;
  }
  EXPECT_EQ(seen, std::vector<bool>(kPatternKindCount, true));
}

TEST(Pattern, PrintsAndReadsBack) {
  for (const auto& [pattern, text] : examples()) {
    EXPECT_EQ(to_string(pattern), text);
    const auto parsed = parse_pattern(text);
    ASSERT_TRUE(parsed.has_value()) << parsed.error().to_string();
    EXPECT_EQ(*parsed, pattern) << text;
  }
}

TEST(Pattern, NamesReadBackToTheirValues) {
  for (std::size_t i = 0; i < kPatternKindCount; ++i) {
    const auto kind = static_cast<PatternKind>(i);
    EXPECT_EQ(pattern_kind_named(name(kind)), kind);
  }
  for (const Axis axis : {Axis::Rows, Axis::Columns, Axis::Both}) {
    EXPECT_EQ(axis_named(name(axis)), axis);
  }
  for (const Association order :
       {Association::None, Association::Chain, Association::Nested, Association::Centre}) {
    EXPECT_EQ(association_named(name(order)), order);
  }
  for (const Side side : kSides) {
    EXPECT_EQ(side_named(name(side)), side);
  }
  EXPECT_FALSE(axis_named("row").has_value());
}

std::string error_of(std::string_view text) {
  const auto parsed = parse_pattern(text);
  return parsed.has_value() ? "no error" : parsed.error().message;
}

TEST(Pattern, SaysWhatItExpectedInstead) {
  EXPECT_EQ(error_of("all_gathr rows bytes=1"),
            "pattern \"all_gathr rows bytes=1\": unknown pattern \"all_gathr\" (nearest: "
            "all_gather)");
  EXPECT_EQ(error_of("all_gather bytes=1"),
            "pattern \"all_gather bytes=1\": expected rows, columns or both after all_gather");
  EXPECT_EQ(error_of("gather_to_edge up bytes=1"),
            "pattern \"gather_to_edge up bytes=1\": expected north, east, south or west after "
            "gather_to_edge");
  EXPECT_EQ(error_of("all_gather rows"), "pattern \"all_gather rows\": missing bytes=");
  EXPECT_EQ(error_of("all_gather rows byte=1"),
            "pattern \"all_gather rows byte=1\": at \"byte\": expected KEY=VALUE, keys of "
            "all_gather: bytes");
  EXPECT_EQ(error_of("all_gather rows bytes=x"),
            "pattern \"all_gather rows bytes=x\": bytes: expected an integer that fits");
  EXPECT_EQ(error_of("all_gather rows bytes=1 bytes=1"),
            "pattern \"all_gather rows bytes=1 bytes=1\": bytes is given twice");
  EXPECT_EQ(error_of("reduce rows order=any bytes=1"),
            "pattern \"reduce rows order=any bytes=1\": unknown order \"any\", expected chain, "
            "nested or centre");
  EXPECT_EQ(error_of("reduce rows bytes=1"),
            "pattern reduce: it adds partials, so it needs order=chain, nested or centre");
  EXPECT_EQ(error_of("shift rows distance=0 bytes=1"),
            "pattern shift: expected a distance other than 0 along rows or columns");
  EXPECT_EQ(error_of("shift both distance=1 bytes=1"),
            "pattern shift: expected a distance other than 0 along rows or columns");
  EXPECT_EQ(error_of("shift rows distance=99999999999 bytes=1"),
            "pattern \"shift rows distance=99999999999 bytes=1\": distance: expected an integer "
            "that fits");
  EXPECT_EQ(error_of("all_gather rows bytes=-1"), "pattern all_gather: sizes must not be negative");
  EXPECT_EQ(error_of("multicast rows source=-1 bytes=1"),
            "pattern multicast: source is an index in the line, so not negative");
}

TEST(Pattern, RefusesAFieldThatItsKindDoesNotHave) {
  Pattern pattern = all_gather(Axis::Rows, Bytes{1});
  pattern.distance = 2;
  EXPECT_FALSE(check_pattern(pattern).has_value());
  pattern = halo({});
  pattern.bytes = Bytes{1};
  EXPECT_FALSE(check_pattern(pattern).has_value());
  pattern = all_to_all(Axis::Both, Bytes{1});
  pattern.order = Association::Chain;
  EXPECT_FALSE(check_pattern(pattern).has_value());
}

}  // namespace
}  // namespace dojo::machine
