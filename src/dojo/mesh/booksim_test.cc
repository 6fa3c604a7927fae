#include "dojo/mesh/booksim_rows.h"

namespace dojo::mesh {
namespace {

TEST(Booksim, RowsBelowAndAboveSaturation) {
  int below = 0, above = 0, unstable = 0, throughput = 0;
  for (const BooksimRow& row : booksim_rows()) {
    throughput += row.mode == "throughput" ? 1 : 0;
    unstable += row.unstable ? 1 : 0;
    if (row.mode == "latency" && !row.unstable) {
      (row.is_saturated() ? above : below) += 1;
    }
  }
  EXPECT_EQ(below, 88);
  EXPECT_EQ(above, 5);
  EXPECT_EQ(unstable, 5);
  EXPECT_EQ(throughput, 12);
}

// One row of each router and packet length; booksim_slow_test has them all.
TEST(Booksim, MeansOfEightSeedsAreTheRows) {
  int rows = 0;
  for (const BooksimRow& row : booksim_rows()) {
    const bool is_chosen = row.side == 8 && row.traffic == "uniform" && row.mode == "latency" &&
                           row.cycles < 21000 &&
                           ((row.router == "V4" && row.packet_flits == 8 && row.offered == 0.3) ||
                            (row.router == "V1" && row.packet_flits == 4 && row.offered == 0.2) ||
                            (row.router == "V8S" && row.packet_flits == 1 && row.offered == 0.3));
    if (is_chosen) {
      expect_row(row);
      ++rows;
    }
  }
  EXPECT_EQ(rows, 3);
}

}  // namespace
}  // namespace dojo::mesh
