#include "dojo/machine/logical_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "dojo/base/check.h"

namespace dojo::machine {
namespace {

// A row of sites while nodes are handed between rows.
struct Row {
  std::vector<Site> nodes;        // that the row has now
  std::vector<int> dead_columns;  // west to east
  int quota = 0;                  // nodes it needs
  int missing() const { return quota - static_cast<int>(nodes.size()); }
};

// Grids in the order of the rule; those without a node are left out.
std::vector<Shape> candidates(Shape die) {
  std::vector<Shape> grids;
  if (die.columns == 1) {
    grids = {{.rows = die.rows - 1, .columns = 1}};
  } else {
    grids = {{.rows = die.rows, .columns = die.columns - 1}};
    const Shape narrower{.rows = die.rows, .columns = die.columns - 2};
    const Shape lower{.rows = die.rows - 1, .columns = die.columns - 1};
    grids.push_back(narrower.count() >= lower.count() ? narrower : lower);
    grids.push_back(narrower.count() >= lower.count() ? lower : narrower);
  }
  std::erase_if(grids, [](Shape grid) { return grid.rows < 1 || grid.columns < 1; });
  return grids;
}

std::vector<Row> live_rows(Shape die, const std::vector<Site>& dead) {
  std::vector<Row> rows(static_cast<std::size_t>(die.rows));
  for (int r = 0; r < die.rows; ++r) {
    Row& row = rows[static_cast<std::size_t>(r)];
    for (const Site site : dead) {
      if (site.row == r) {
        row.dead_columns.push_back(site.column);
      }
    }
    std::sort(row.dead_columns.begin(), row.dead_columns.end());
    for (int c = 0; c < die.columns; ++c) {
      if (!std::binary_search(row.dead_columns.begin(), row.dead_columns.end(), c)) {
        row.nodes.push_back({.row = r, .column = c});
      }
    }
  }
  return rows;
}

// The nearest row with a node to spare; north first. Exists while enough nodes live.
std::size_t nearest_spare(const std::vector<Row>& rows, std::size_t from) {
  for (std::size_t distance = 1; distance < rows.size(); ++distance) {
    if (distance <= from && rows[from - distance].missing() < 0) {
      return from - distance;
    }
    if (from + distance < rows.size() && rows[from + distance].missing() < 0) {
      return from + distance;
    }
  }
  DOJO_CHECK(false);
}

// Takes out of `row` the node nearest to `place`; of equally near ones the most western.
Site take_nearest(Row& row, Site place) {
  const auto distance = [&](Site node) {
    return std::abs(node.row - place.row) + std::abs(node.column - place.column);
  };
  const auto nearest = std::min_element(row.nodes.begin(), row.nodes.end(),
                                        [&](Site a, Site b) { return distance(a) < distance(b); });
  const Site taken = *nearest;
  row.nodes.erase(nearest);
  return taken;
}

// Takes out of `holes` the one that the rows from the short one to the spare one can fill most
// directly: whose column has the fewest dead sites there; of equals the most western.
int take_best_hole(std::vector<int>& holes, const std::vector<Row>& rows, std::size_t short_row,
                   std::size_t spare) {
  const auto dead_on_the_way = [&](int column) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(std::min(short_row, spare));
    const auto last = rows.begin() + static_cast<std::ptrdiff_t>(std::max(short_row, spare)) + 1;
    return std::count_if(first, last, [&](const Row& row) {
      return std::binary_search(row.dead_columns.begin(), row.dead_columns.end(), column);
    });
  };
  const auto best = std::min_element(holes.begin(), holes.end(), [&](int a, int b) {
    return dead_on_the_way(a) < dead_on_the_way(b);
  });
  const int column = *best;
  holes.erase(best);
  return column;
}

// Gives row `short_row` one node near one of its holes: from the spare row on, each row hands
// the next one a node. A row on the way gets its node before it gives one, so it never runs empty.
void hand_on(std::vector<Row>& rows, std::size_t short_row, std::vector<int>& holes) {
  const std::size_t spare = nearest_spare(rows, short_row);
  const int column = take_best_hole(holes, rows, short_row, spare);
  const auto next = [&](std::size_t r) { return r > short_row ? r - 1 : r + 1; };
  for (std::size_t r = spare; r != short_row; r = next(r)) {
    const Site place{.row = static_cast<int>(next(r)), .column = column};
    rows[next(r)].nodes.push_back(take_nearest(rows[r], place));
  }
}

LogicalMap assign(Shape die, Shape grid, const std::vector<Site>& dead) {
  std::vector<Row> rows = live_rows(die, dead);
  for (Row& row : rows) {
    row.quota = grid.columns;
  }
  if (grid.rows < die.rows) {
    const auto given_up = std::min_element(
        rows.begin(), rows.end(),
        [](const Row& a, const Row& b) { return a.nodes.size() < b.nodes.size(); });
    given_up->quota = 0;
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::vector<int> holes = rows[r].dead_columns;
    while (rows[r].missing() > 0) {
      hand_on(rows, r, holes);
    }
  }
  LogicalMap map{.grid = grid, .sites = {}};
  for (Row& row : rows) {
    std::sort(row.nodes.begin(), row.nodes.end(), [](Site a, Site b) {
      return std::pair(a.column, a.row) < std::pair(b.column, b.row);
    });
    row.nodes.resize(static_cast<std::size_t>(row.quota));
    map.sites.insert(map.sites.end(), row.nodes.begin(), row.nodes.end());
  }
  return map;
}

}  // namespace

Result<LogicalMap> map_logical_grid(Shape die, const std::vector<Site>& dead) {
  if (dead.empty()) {
    LogicalMap map{.grid = die, .sites = {}};
    for (int r = 0; r < die.rows; ++r) {
      for (int c = 0; c < die.columns; ++c) {
        map.sites.push_back({.row = r, .column = c});
      }
    }
    return map;
  }
  const std::int64_t live = die.count() - static_cast<std::int64_t>(dead.size());
  const std::vector<Shape> grids = candidates(die);
  for (const Shape grid : grids) {
    if (grid.count() <= live) {
      return assign(die, grid, dead);
    }
  }
  if (grids.empty()) {
    return Error{ErrorKind::DoesNotFit,
                 fmt::format("{} of {} sites are dead: no node is left", dead.size(), die.count())};
  }
  return Error{
      ErrorKind::DoesNotFit,
      fmt::format("{} dead sites of {} leave {} nodes: expected at least {}, for a logical "
                  "grid of {}x{}",
                  dead.size(), die.count(), live, grids.back().count(), grids.back().rows,
                  grids.back().columns)};
}

}  // namespace dojo::machine
