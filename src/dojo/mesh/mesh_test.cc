#include "dojo/mesh/mesh.h"

#include <gtest/gtest.h>

#include "dojo/mesh/golden_traffic.h"
#include "dojo/mesh/random_meshes.h"

namespace dojo::mesh {
namespace {

TEST(Mesh, HasTheGoldenTotals) {
  for (const Isa isa : isas_here()) {
    for (const GoldenRow& row : kGoldenRows) {
      const Traffic traffic = golden_traffic(row.side * row.side, row.threshold, row.packet_flits);
      Mesh mesh =
          *Mesh::make({row.side, row.side, *router_preset(row.router)}, traffic, {.isa = isa});
      while (!mesh.is_empty()) {
        ASSERT_LT(mesh.now(), 10000u) << row.router;
        mesh.run_until(mesh.now() + 100);
      }
      const Counters counters = mesh.counters();
      EXPECT_EQ(counters.packets, row.packets) << row.router;
      EXPECT_EQ(counters.latency_sum, row.latency_sum) << row.router;
      EXPECT_EQ(counters.latency_square_sum, row.latency_square_sum) << row.router;
      EXPECT_EQ(counters.latency_max, row.latency_max) << row.router;
      EXPECT_EQ(counters.flit_latency_sum, row.flit_latency_sum) << row.router;
      EXPECT_EQ(counters.last_arrival, row.last_arrival) << row.router;
    }
  }
}

TEST(Mesh, EqualsThePlainTwinOnRandomMachines) { expect_equal_to_plain_twin(20261126, 40); }

}  // namespace
}  // namespace dojo::mesh
