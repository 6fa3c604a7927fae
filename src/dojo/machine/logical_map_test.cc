#include "dojo/machine/logical_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>

namespace dojo::machine {
namespace {

constexpr Shape kDie{.rows = 18, .columns = 20};

std::vector<Site> random_dead(std::mt19937& random, Shape die, int count) {
  std::set<Site> dead;
  while (static_cast<int>(dead.size()) < count) {
    const auto site = static_cast<int>(random() % static_cast<std::uint32_t>(die.count()));
    dead.insert({.row = site / die.columns, .column = site % die.columns});
  }
  return {dead.begin(), dead.end()};
}

Site at(const LogicalMap& map, int row, int column) {
  return map.sites[static_cast<std::size_t>(std::int64_t{row} * map.grid.columns + column)];
}

int hops(Site a, Site b) { return std::abs(a.row - b.row) + std::abs(a.column - b.column); }

// Every logical node on its own live site.
void expect_valid(const LogicalMap& map, Shape die, const std::vector<Site>& dead) {
  ASSERT_EQ(static_cast<std::int64_t>(map.sites.size()), map.grid.count());
  const std::set<Site> used(map.sites.begin(), map.sites.end());
  EXPECT_EQ(used.size(), map.sites.size());
  for (const Site site : used) {
    EXPECT_TRUE(site.row >= 0 && site.row < die.rows && site.column >= 0 &&
                site.column < die.columns);
    EXPECT_TRUE(std::find(dead.begin(), dead.end(), site) == dead.end());
  }
}

TEST(LogicalMap, IsTheDieItselfWithoutDeadSites) {
  const auto map = map_logical_grid(kDie, {});
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->grid, kDie);
  EXPECT_EQ(at(*map, 17, 19), (Site{.row = 17, .column = 19}));
  expect_valid(*map, kDie, {});
}

TEST(LogicalMap, SkipsADeadSiteFromWestToEast) {
  const auto map = map_logical_grid(kDie, {{.row = 2, .column = 3}});
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->grid, (Shape{.rows = 18, .columns = 19}));
  EXPECT_EQ(at(*map, 2, 2), (Site{.row = 2, .column = 2}));
  EXPECT_EQ(at(*map, 2, 3), (Site{.row = 2, .column = 4}));
  EXPECT_EQ(at(*map, 2, 18), (Site{.row = 2, .column = 19}));
  EXPECT_EQ(at(*map, 3, 18), (Site{.row = 3, .column = 18}));
}

TEST(LogicalMap, AShortRowTakesTheNodeBesideItsDeadSite) {
  // Row 5 has 18 live nodes, row 4 (nearest, north first) has one to spare.
  const auto map = map_logical_grid(kDie, {{.row = 5, .column = 3}, {.row = 5, .column = 9}});
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(at(*map, 5, 3), (Site{.row = 4, .column = 3}));
  EXPECT_EQ(at(*map, 4, 3), (Site{.row = 4, .column = 4}));
  EXPECT_EQ(at(*map, 5, 9), (Site{.row = 5, .column = 10}));
}

TEST(LogicalMap, FillsTheHoleThatTheNextRowCanFillDirectly) {
  // Both of row 1's holes are next to row 0, which gives; in column 3 row 0 is dead itself.
  const std::vector<Site> dead{{.row = 1, .column = 3},
                               {.row = 1, .column = 9},
                               {.row = 2, .column = 3},
                               {.row = 0, .column = 3}};
  const auto map = map_logical_grid(kDie, dead);
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(at(*map, 1, 3), (Site{.row = 1, .column = 4}));
  EXPECT_EQ(at(*map, 1, 8), (Site{.row = 2, .column = 9}));
  EXPECT_EQ(at(*map, 2, 8), (Site{.row = 3, .column = 9}));
  expect_valid(*map, kDie, dead);
}

TEST(LogicalMap, RowsBetweenHandOnOneNodeEach) {
  // Rows 0 and 1 have one dead site each and so nothing to spare: row 2 gives.
  const std::vector<Site> dead{
      {.row = 0, .column = 3}, {.row = 0, .column = 9}, {.row = 1, .column = 15}};
  const auto map = map_logical_grid(kDie, dead);
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(at(*map, 0, 3), (Site{.row = 1, .column = 3}));
  EXPECT_EQ(at(*map, 1, 3), (Site{.row = 2, .column = 3}));
  expect_valid(*map, kDie, dead);
}

TEST(LogicalMap, KeepsNeighboursNearOn3000RandomDiesWithSixDead) {
  std::mt19937 random(1);
  int most_along_rows = 0;
  int most_along_columns = 0;
  for (int die = 0; die < 3'000; ++die) {
    const std::vector<Site> dead = random_dead(random, kDie, 6);
    const auto map = map_logical_grid(kDie, dead);
    ASSERT_TRUE(map.has_value()) << map.error().message;
    ASSERT_EQ(map->grid, (Shape{.rows = 18, .columns = 19}));
    expect_valid(*map, kDie, dead);
    for (int r = 0; r < 18; ++r) {
      for (int c = 0; c < 19; ++c) {
        if (c + 1 < 19) {
          most_along_rows = std::max(most_along_rows, hops(at(*map, r, c), at(*map, r, c + 1)));
        }
        if (r + 1 < 18) {
          most_along_columns =
              std::max(most_along_columns, hops(at(*map, r, c), at(*map, r + 1, c)));
        }
      }
    }
  }
  EXPECT_LE(most_along_rows, 3);
  EXPECT_LE(most_along_columns, 4);
}

TEST(LogicalMap, IsTheSameForADieWith350LiveNodes) {
  std::mt19937 random(2);
  for (int count = 1; count <= 18; ++count) {
    const std::vector<Site> dead = random_dead(random, kDie, count);
    const auto map = map_logical_grid(kDie, dead);
    ASSERT_TRUE(map.has_value());
    EXPECT_EQ(map->grid, (Shape{.rows = 18, .columns = 19})) << count << " dead";
    expect_valid(*map, kDie, dead);
  }
}

TEST(LogicalMap, GivesUpAColumnThenARowBelow342LiveNodes) {
  std::mt19937 random(3);
  const auto grid_with = [&](int count) {
    const std::vector<Site> dead = random_dead(random, kDie, count);
    const auto map = map_logical_grid(kDie, dead);
    EXPECT_TRUE(map.has_value());
    expect_valid(*map, kDie, dead);
    return map->grid;
  };
  EXPECT_EQ(grid_with(18), (Shape{.rows = 18, .columns = 19}));  // 342 live
  EXPECT_EQ(grid_with(19), (Shape{.rows = 18, .columns = 18}));  // 341
  EXPECT_EQ(grid_with(36), (Shape{.rows = 18, .columns = 18}));  // 324
  EXPECT_EQ(grid_with(37), (Shape{.rows = 17, .columns = 19}));  // 323
}

TEST(LogicalMap, GivesUpTheRowWithTheFewestLiveNodes) {
  std::vector<Site> dead;
  for (int c = 0; c < 20; ++c) {
    dead.push_back({.row = 6, .column = c});
  }
  for (int r = 0; r < 17; ++r) {
    dead.push_back({.row = r < 6 ? r : r + 1, .column = 11});
  }
  const auto map = map_logical_grid(kDie, dead);
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->grid, (Shape{.rows = 17, .columns = 19}));
  expect_valid(*map, kDie, dead);
  EXPECT_EQ(at(*map, 5, 0), (Site{.row = 5, .column = 0}));
  EXPECT_EQ(at(*map, 6, 0), (Site{.row = 7, .column = 0}));
}

TEST(LogicalMap, SaysHowManyNodesItNeeds) {
  std::mt19937 random(4);
  const auto map = map_logical_grid(kDie, random_dead(random, kDie, 38));
  ASSERT_FALSE(map.has_value());
  EXPECT_EQ(map.error().message,
            "38 dead sites of 360 leave 322 nodes: expected at least 323, for a logical grid of "
            "17x19");
}

TEST(LogicalMap, WorksOnDiesOfAnyShape) {
  std::mt19937 random(5);
  for (const Shape die : {Shape{.rows = 1, .columns = 5}, Shape{.rows = 5, .columns = 1},
                          Shape{.rows = 2, .columns = 2}, Shape{.rows = 40, .columns = 3}}) {
    const std::vector<Site> dead = random_dead(random, die, 1);
    const auto map = map_logical_grid(die, dead);
    ASSERT_TRUE(map.has_value());
    expect_valid(*map, die, dead);
  }
  const auto none = map_logical_grid({.rows = 1, .columns = 1}, {{.row = 0, .column = 0}});
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().message, "1 of 1 sites are dead: no node is left");
}

}  // namespace
}  // namespace dojo::machine
