#include "dojo/mesh/run_messages.h"

#include <gtest/gtest.h>

#include <random>

#include "dojo/mesh/internal/plain_messages.h"
#include "dojo/mesh/random_meshes.h"

namespace dojo::mesh {
namespace {

// Random messages with local dependencies, phases, paces and packets of several sizes.
MessageTrace random_trace(const Topology& topology, std::mt19937& random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  std::vector<RouterId> nodes;
  for (std::uint32_t router = 0; router < topology.routers(); ++router) {
    if (topology.has_node({router})) {
      nodes.push_back({router});
    }
  }
  const auto any = [&] {
    return nodes[static_cast<std::size_t>(pick(0, static_cast<int>(nodes.size()) - 1))];
  };
  MessageTrace trace;
  for (int phase = 0; phase < 2; ++phase) {
    const std::size_t first = trace.messages.size();
    for (int i = pick(1, 40); i > 0; --i) {
      const int den = pick(1, 10);
      Message message{.source = any(),
                      .target = any(),
                      .flits = pick(1, 60),
                      .packet_flits = pick(1, 4),
                      .phase = phase,
                      .start = Cycles{pick(0, 3) == 0 ? pick(0, 200) : 0},
                      .pace = {.num = pick(1, den), .den = den}};
      std::vector<Dependency> after;
      for (std::size_t on = first; on < trace.messages.size() && after.size() < 3; ++on) {
        if (trace.messages[on].target == message.source && pick(0, 1) == 0) {
          const std::int64_t packets = trace.messages[on].packets();
          const bool streamed = packets >= message.packets() && pick(0, 1) == 0;
          after.push_back({.on = {static_cast<std::uint32_t>(on)},
                           .first = streamed ? 1 : pick(0, static_cast<int>(packets)),
                           .stride = streamed ? 1 : 0,
                           .delay = Cycles{pick(0, 40)}});
        }
      }
      trace.add(message, after);
    }
  }
  return trace;
}

TEST(RunMessages, EqualsThePlainTwinOnRandomNetworksAndTraces) {
  std::mt19937 random(42);
  int networks = 0;
  for (int i = 0; i < 25 && !HasFailure(); ++i) {
    const RandomCase c = random_case(random);
    const auto topology = Topology::make(random_network(random, c));
    const auto kind = static_cast<RoutingKind>(random() % 6);
    if (!topology.has_value() || topology->node_count() == 0) {
      continue;
    }
    const auto routing = RoutingTable::make(*topology, kind, c.spec.router.vcs);
    const MessageTrace trace = random_trace(*topology, random);
    if (!routing.has_value() || !check_trace(trace, *topology).has_value()) {
      continue;
    }
    ++networks;
    SCOPED_TRACE(::testing::Message() << describe(c) << ", " << name(kind) << ", draw " << i);
    const internal::PlainOutcome expected =
        internal::run_plain(*topology, *routing, c.spec.router, trace);
    for (const int threads : {1, 2, 3}) {
      const auto outcome =
          run_messages(*topology, *routing, c.spec.router, trace, {.threads = threads});
      ASSERT_TRUE(outcome.has_value());
      EXPECT_EQ(outcome->trap, "");
      EXPECT_EQ(outcome->end.count(), expected.end) << threads << " threads";
      EXPECT_EQ(outcome->flits, expected.flits);
      ASSERT_EQ(outcome->phases.size(), expected.phases.size());
      for (std::size_t phase = 0; phase < expected.phases.size(); ++phase) {
        EXPECT_EQ(outcome->phases[phase].count(), expected.phases[phase]);
      }
      EXPECT_EQ(outcome->link_flits, expected.link_flits);
      for (std::size_t each = 0; each < expected.arrivals.size(); ++each) {
        EXPECT_EQ(outcome->arrivals[each].count(), expected.arrivals[each]) << "message " << each;
      }
    }
  }
  EXPECT_GT(networks, 5);
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
  const MessageTrace trace = random_trace(topology, random);
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
