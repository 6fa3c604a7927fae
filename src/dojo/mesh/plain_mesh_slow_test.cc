// The plain twin against numbers that another implementation of the rules gave.
#include <gtest/gtest.h>

#include "dojo/mesh/golden_traffic.h"
#include "dojo/mesh/plain_rectangle.h"
#include "dojo/mesh/router_config.h"

namespace dojo::mesh {
namespace {

TEST(PlainMesh, HasTheGoldenTotals) {
  for (const GoldenRow& row : kGoldenRows) {
    const int nodes = row.side * row.side;
    PlainRectangle mesh(row.side, row.side, *router_preset(row.router),
                        golden_traffic(nodes, row.threshold, row.packet_flits));
    while (!mesh->is_empty()) {
      mesh->step();
    }
    const Counters& counters = mesh->counters();
    EXPECT_EQ(counters.packets, row.packets) << row.router;
    EXPECT_EQ(counters.latency_sum, row.latency_sum) << row.router;
    EXPECT_EQ(counters.latency_square_sum, row.latency_square_sum) << row.router;
    EXPECT_EQ(counters.latency_max, row.latency_max) << row.router;
    EXPECT_EQ(counters.flit_latency_sum, row.flit_latency_sum) << row.router;
    EXPECT_EQ(counters.last_arrival, row.last_arrival) << row.router;
  }
}

}  // namespace
}  // namespace dojo::mesh
