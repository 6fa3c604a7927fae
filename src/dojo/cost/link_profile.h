// Where along its lines a transfer loads the links: what pattern_cost.h sums up into the busiest
// one, link by link, for a picture of the plane.
#pragma once

#include <vector>

#include "dojo/cost/pattern_cost.h"

namespace dojo::cost {

// Bytes over each link between neighbouring logical nodes, in the busier of its two directions.
// rows[i]: from column i to column i + 1, in each of the first `row_count` rows of the region;
// columns[i]: from row i to row i + 1, in each of the first `column_count` columns.
struct LinkProfile {
  std::vector<double> rows{};
  std::vector<double> columns{};
  int row_count = 0;
  int column_count = 0;
};

// Of one move. Across and through replicas: the busiest link's bytes on all links, since every
// replica lies on the way of others.
LinkProfile link_profile(const program::Move& move, const program::Replicas& replicas,
                         const machine::MachineModel& machine);

}  // namespace dojo::cost
