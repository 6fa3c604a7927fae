#include "dojo/mesh/measure.h"

#include <gtest/gtest.h>

#include <cmath>

namespace dojo::mesh {
namespace {

Mesh mesh_of(int side, const char* router, const SyntheticTraffic& what) {
  SyntheticTraffic traffic = what;
  traffic.rows = traffic.columns = side;
  return *Mesh::make({side, side, *router_preset(router)}, *Traffic::synthetic(traffic));
}

TEST(Measure, OneVcOfNeighborTrafficCarriesHalfAFlitAndFourFifths) {
  for (const auto& [flits, accepted] : {std::pair{1, 0.5}, std::pair{4, 0.8}}) {
    Mesh mesh = mesh_of(8, "booksim-v1",
                        {.pattern = TrafficPattern::Neighbor, .rate = 1.0, .packet_flits = flits});
    const Measurement measured = measure_throughput(mesh, 20000);
    EXPECT_NEAR(measured.accepted, accepted, 0.0005);
    EXPECT_NEAR(measured.accepted_minimum, accepted, 0.0005);
  }
}

TEST(Measure, LightLoadSeesTheZeroLoadLatency) {
  Mesh mesh = mesh_of(8, "booksim-v4", {.rate = 0.001, .seed = 3});
  const Measurement measured = measure_latency(mesh, {});
  EXPECT_FALSE(measured.saturated);
  EXPECT_NEAR(measured.mean_packet_latency, 4 * measured.mean_routers_visited + 2, 0.05);
  EXPECT_NEAR(measured.accepted, 0.001, 0.0002);
}

TEST(Measure, TooMuchLoadIsUnstable) {
  Mesh mesh = mesh_of(8, "booksim-v1", {.rate = 0.4});
  EXPECT_TRUE(measure_latency(mesh, {}).saturated);
}

TEST(LatencyHistogram, BinsAreExactThenWithinThreePercent) {
  std::uint32_t before = 0;
  for (int bin = 0; bin < LatencyHistogram::kBins; ++bin) {
    const std::uint32_t top = LatencyHistogram::top_of(bin);
    EXPECT_EQ(LatencyHistogram::bin_of(top), bin);
    EXPECT_EQ(LatencyHistogram::bin_of(top + 1), bin + 1);
    EXPECT_LE(top - before, 1 + top / 32);
    before = top;
    if (top > (1u << 30)) {
      break;
    }
  }
  LatencyHistogram histogram;
  for (std::uint32_t latency = 1; latency <= 100; ++latency) {
    histogram.add(latency);
  }
  EXPECT_EQ(histogram.percentile(0.5), 50u);
  EXPECT_EQ(histogram.percentile(1.0), 101u);  // the top of the bin 100..101
}

}  // namespace
}  // namespace dojo::mesh
