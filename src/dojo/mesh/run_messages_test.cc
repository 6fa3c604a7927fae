#include "dojo/mesh/run_messages.h"

#include <gtest/gtest.h>

#include <random>

#include "dojo/mesh/random_messages.h"

namespace dojo::mesh {
namespace {

TEST(RunMessages, EqualsThePlainTwinOnRandomNetworksAndTraces) {
  EXPECT_GT(compare_random_messages(42, 24), 5);
}

// Stopped anywhere, in a phase or between two, and resumed with other threads and instructions.
TEST(MessageRun, AResumedRunGoesOnWithTheSameBits) {
  std::mt19937 random(7);
  const Topology topology = *Topology::make(
      {.die = {2, 3},
       .dies = {1, 2},
       .link_classes = {LinkClass{}, {"die edge", Cycles{30}, {7, 8}, std::nullopt}},
       .column_boundaries = {1},
       .edge_ports = {{.site = {1, 0}, .link_class = 1}}});
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, 3);
  const RouterConfig router = *router_preset("d1");
  const MessageTrace trace = random_trace(topology, random, 3);
  ASSERT_TRUE(check_trace(trace, topology).has_value());
  const auto run = [&](const MeshOptions& options) {
    return *MessageRun::make(topology, routing, router, trace, options);
  };
  MessageRun straight = run({.threads = 2});
  straight.finish();
  const MessagesOutcome expected = straight.outcome();
  ASSERT_EQ(expected.phases.size(), 2u);
  const Cycle between = static_cast<Cycle>(expected.phases[0].count()) + 1;
  const auto end = static_cast<Cycle>(expected.end.count());
  for (const Cycle cut : {Cycle{0}, Cycle{1}, between / 2, between - 1, between, between + 3, end,
                          end + 1, end + 5}) {
    MessageRun first = run({.threads = 2});
    first.run_until(cut);
    const std::string saved = first.save();
    for (const Isa isa : isas_here()) {
      MessageRun second = run({.threads = 3, .isa = isa});
      ASSERT_TRUE(second.resume(saved).has_value());
      EXPECT_EQ(second.now(), first.now());
      EXPECT_EQ(second.outcome(), first.outcome());
      second.finish();
      EXPECT_TRUE(second.is_done());
      EXPECT_EQ(second.outcome(), expected) << "cut at " << cut;
    }
    EXPECT_FALSE(run({}).resume(saved.substr(0, saved.size() - 1)).has_value());
  }
  MessageTrace other = trace;
  other.messages[0].flits += 1;
  EXPECT_FALSE(MessageRun::make(topology, routing, router, other)->resume(straight.save()));
  EXPECT_FALSE(run({}).resume("nonsense").has_value());
}

// More bits for the way than a flit has: then the router's formula says where to go.
TEST(RunMessages, CrossAGridTooLongForAFlitsWay) {
  const Topology topology = *Topology::rectangle({1025, 33});
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, 3);
  MessageTrace trace;
  trace.add({.source = {0}, .target = topology.router_at({1024, 32}), .flits = 1});
  const auto outcome = run_messages(topology, routing, *router_preset("d1"), trace);
  EXPECT_EQ(outcome->end.count(), 1024 + 32 + 1);
}

}  // namespace
}  // namespace dojo::mesh
