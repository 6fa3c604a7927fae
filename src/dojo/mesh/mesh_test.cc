#include "dojo/mesh/mesh.h"

#include <gtest/gtest.h>

#include "dojo/machine/description.h"
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

TEST(Mesh, EqualsThePlainTwinOnRandomRectangles) { compare_random_rectangles(20261126, 20); }

TEST(Mesh, EqualsThePlainTwinOnRandomNetworks) {
  EXPECT_GT(compare_random_networks(20261126, 16), 5);
}

TEST(Mesh, OpposedToriUnderSteadyTrafficEqualThePlainTwin) {
  const Topology topology = *Topology::make({.die = {4, 5}, .planes = Planes::Opposed});
  const RouterConfig router = *router_preset("wormhole");
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, router.vcs);
  for (const TrafficPattern pattern : {TrafficPattern::Uniform, TrafficPattern::Hotspot}) {
    const Traffic traffic = *Traffic::synthetic(
        {.pattern = pattern, .rows = 4, .columns = 5, .rate = 0.8, .packet_flits = 3, .planes = 2});
    expect_equal_to_plain_twin(topology, routing, router, traffic, 500, 3);
  }
}

// Latency of one packet in an empty mesh: per router visited, plus a constant, plus P - 1.
TEST(Mesh, ZeroLoadLatencyIsTheFormulaForEveryPair) {
  struct Formula {
    const char* router;
    int per_router, constant;
  };
  constexpr int kRows = 3;
  constexpr int kColumns = 4;
  for (const Formula& formula : {Formula{"booksim-v4", 4, 2}, Formula{"booksim-v1", 4, 2},
                                 Formula{"booksim-v8s", 3, 2}, Formula{"d1", 1, 0}}) {
    for (int from = 0; from < kRows * kColumns; ++from) {
      for (int to = 0; to < kRows * kColumns; ++to) {
        for (const int flits : {1, 3}) {
          std::vector<std::vector<Packet>> packets(kRows * kColumns);
          packets[from].push_back({7, static_cast<std::uint32_t>(to)});
          Mesh mesh = *Mesh::make({kRows, kColumns, *router_preset(formula.router)},
                                  Traffic::listed(std::move(packets), flits));
          mesh.run_until(100);
          const int routers = std::abs(to % kColumns - from % kColumns) +
                              std::abs(to / kColumns - from / kColumns) + 1;
          ASSERT_TRUE(mesh.is_empty());
          EXPECT_EQ(mesh.counters().latency_sum,
                    formula.per_router * routers + formula.constant + flits - 1)
              << formula.router << " " << from << " to " << to;
        }
      }
    }
  }
}

TEST(Mesh, AResumedRunGoesOnWithTheSameBits) {
  const MeshSpec spec{6, 7, *router_preset("d1")};
  const Traffic traffic = *Traffic::synthetic(
      {.pattern = TrafficPattern::Bursty, .rows = 6, .columns = 7, .rate = 0.4, .packet_flits = 3});
  Mesh straight = *Mesh::make(spec, traffic, {.threads = 2});
  straight.run_until(300);
  const std::string saved = straight.save();
  straight.run_until(900);
  for (const Isa isa : isas_here()) {
    Mesh resumed = *Mesh::make(spec, traffic, {.isa = isa});
    ASSERT_TRUE(resumed.resume(saved).has_value());
    EXPECT_EQ(resumed.now(), 300u);
    resumed.run_until(900);
    EXPECT_EQ(resumed.counters(), straight.counters());
    for (int router = 0; router < resumed.routers(); ++router) {
      EXPECT_EQ(resumed.flits_sent(router, kSouth), straight.flits_sent(router, kSouth));
    }
  }
  Mesh other = *Mesh::make({7, 6, spec.router}, traffic);
  EXPECT_FALSE(other.resume(saved).has_value());
  EXPECT_FALSE(other.resume("nonsense").has_value());
}

TEST(Mesh, TakesLessThanFourKilobytesOfARouter) {
  const RouterConfig router = *router_preset("d1");
  const auto bytes_of = [&](const Topology& topology) {
    const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, router.vcs);
    return Mesh::make(topology, routing, router, Traffic::listed({}, 1))->bytes() /
           topology.routers();
  };
  EXPECT_LT(bytes_of(*Topology::rectangle({18, 20})), 1600u);
  // With the buffers of its links between dies, which hold 200 cycles of flits.
  EXPECT_LT(bytes_of(*topology_of(*machine::load_machine("training-tile"))), 4096u);
}

TEST(RouterConfig, IsWhatTheMachineSays) {
  const machine::Description d1 = *machine::load_description("d1");
  EXPECT_EQ(router_of(resolve(d1)), *router_preset("d1"));
  machine::Description changed = *with_fact(d1, "mesh.router.allocator", "round-robin");
  changed = *with_fact(changed, "mesh.router.speculation", "off");
  changed = *with_fact(changed, "mesh.router.depth", "4");
  changed = *with_fact(changed, "mesh.router.credit", "2");
  const RouterConfig router = router_of(resolve(changed));
  EXPECT_EQ(router.allocator, Allocator::RoundRobin);
  EXPECT_EQ(router.speculation, Speculation::Off);
  EXPECT_EQ(router.depth, 4);
  EXPECT_EQ(router.credit_delay, 2);
  EXPECT_EQ(router.eject_credit_delay, 3);
}

TEST(Mesh, BadSizesAreErrors) {
  const Traffic traffic = Traffic::listed({}, 1);
  EXPECT_FALSE(Mesh::make({0, 5, {}}, traffic).has_value());
  EXPECT_FALSE(Mesh::make({5, -1, {}}, traffic).has_value());
  EXPECT_FALSE(Mesh::make({300, 300, {}}, traffic).has_value());
  EXPECT_FALSE(Mesh::make({2, 2, {.vcs = 11}}, traffic).has_value());
  EXPECT_FALSE(Mesh::make({2, 2, {}}, traffic, {.threads = 0}).has_value());
}

}  // namespace
}  // namespace dojo::mesh
