// The logical grid of a die with dead sites: which rectangle of working nodes the die offers for
// placement, and on which site each logical node stands. One rule for every picture of dead sites,
// so that columns line up across dies:
//
// 1. Without dead sites the grid is the die. Else it has one column less; if too few nodes live
//    for that, two columns less, or one row and one column less, whichever is larger and fits.
// 2. Each row takes its live nodes from west to east, skipping dead ones.
// 3. A row that is short takes the node of its dead site's column from the nearest row that has
//    one to spare (north first if both are as near); the rows between hand on one node each. Of
//    several dead sites it fills the one whose column has the fewest dead sites on that way.
// 4. If a row is given up, it is the one with the fewest live nodes; it only has nodes to spare.
#pragma once

#include <vector>

#include "dojo/base/result.h"
#include "dojo/machine/machine_model.h"

namespace dojo::machine {

struct LogicalMap {
  Shape grid{};
  std::vector<Site> sites{};  // of logical node (r, c): [r * grid.columns + c]
};

// `dead` must be sites of the die, each once. Error (DoesNotFit) if too few nodes live.
Result<LogicalMap> map_logical_grid(Shape die, const std::vector<Site>& dead);

}  // namespace dojo::machine
