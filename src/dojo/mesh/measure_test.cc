#include "dojo/mesh/measure.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "dojo/mesh/internal/mesh_impl.h"
#include "dojo/mesh/internal/state_setup.h"
#include "dojo/mesh/run_messages.h"

namespace dojo::mesh {

// Takes all free slots of all routers away, and the credits that are on their way.
class MeshForTests {
 public:
  static void lose_credits(Mesh& mesh) {
    internal::State& state = mesh.impl_->state;
    internal::with_vcs(state.config.vcs, [&](auto vcs) {
      for (std::uint32_t i = 0; i < state.blocks; ++i) {
        state.blocks_of<vcs.value>()[i].slots = {};
      }
    });
    std::fill(state.credits.begin(), state.credits.end(), std::uint8_t{0});
  }
};

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

TEST(Trap, ADeadlockNamesWhatWaitsForWhat) {
  Mesh mesh = mesh_of(2, "booksim-v1", {.rate = 0.5});
  mesh.run_until(100);
  MeshForTests::lose_credits(mesh);
  const Measurement measured = measure_latency(mesh, {.unstable = 1e9});
  EXPECT_NE(measured.trap.find("nothing moves"), std::string::npos) << measured.trap;
  EXPECT_NE(measured.trap.find("(no slot, or no rate)"), std::string::npos) << measured.trap;
  EXPECT_LT(measured.cycles, 100'000u);
}

// The second flit waits 100,000 cycles for the link's rate.
TEST(Trap, AStarvedFlitIsNamed) {
  TopologySpec spec{.die = {.rows = 1, .columns = 1}, .dies = {.rows = 1, .columns = 2}};
  spec.link_classes.push_back({.name = "slow", .rate = {.num = 1, .den = 100'000}});
  spec.column_boundaries = {1};
  const Topology topology = *Topology::make(spec);
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, 3);
  MessageTrace trace;
  trace.add({.source = {0}, .target = {1}, .flits = 2});
  const MessagesOutcome outcome = *run_messages(topology, routing, *router_preset("d1"), trace);
  EXPECT_EQ(outcome.flits, 1);
  EXPECT_NE(outcome.trap.find("starved"), std::string::npos) << outcome.trap;
  EXPECT_NE(outcome.trap.find("router 0,0 input local"), std::string::npos) << outcome.trap;
  EXPECT_NE(outcome.trap.find("output east"), std::string::npos) << outcome.trap;
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
