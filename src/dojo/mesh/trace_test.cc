#include "dojo/mesh/trace.h"

#include <random>

#include <gtest/gtest.h>

namespace dojo::mesh {
namespace {

Topology network() {
  return *Topology::make({.die = {3, 4},
                          .dead_cores = {{2, 2}},
                          .edge_ports = {{.site = {0, 0}, .side = machine::Side::West},
                                         {.site = {2, 3}, .side = machine::Side::South}}});
}

std::string error_of(const std::string& lines) {
  const Topology topology = network();
  const auto trace = parse_trace("dojo-trace 1\n" + lines, "t.trace", topology);
  return trace.has_value() ? "no error" : trace.error().to_string();
}

TEST(Trace, ReadsWhatTheHeaderShows) {
  const Topology topology = network();
  const auto trace = parse_trace(R"(dojo-trace 1
# comment
load    0,0w -> 0,3  flits=64
hand    0,3 -> 1,3   flits=64 pace=9/10 after=load:1:1+20   # streamed
reply   1,3 -> 0,0w  flits=9 packet=4 after=hand+100,hand:1:0

barrier
next    2,3s -> 2,3   flits=1 start=5 after=other
other   1,3 -> 2,3s  flits=7 packet=2
)",
                                 "t.trace", topology);
  ASSERT_TRUE(trace.has_value()) << trace.error().to_string();
  ASSERT_EQ(trace->messages.size(), 5U);
  EXPECT_EQ(trace->phases(), 2);
  EXPECT_EQ(trace->flits(), 64 + 64 + 9 + 1 + 7);
  const Message& hand = trace->messages[1];
  EXPECT_EQ(hand.source, topology.router_at({0, 3}));
  EXPECT_EQ(hand.target, topology.router_at({1, 3}));
  EXPECT_EQ(hand.pace, (FlitRate{9, 10}));
  EXPECT_EQ(trace->dependencies_of({1})[0], streamed({0}, Cycles{20}));
  EXPECT_EQ(trace->messages[0].source, topology.edge_port(0));
  EXPECT_EQ(trace->messages[2].packets(), 3);
  ASSERT_EQ(trace->dependencies_of({2}).size(), 2U);
  EXPECT_EQ(trace->dependencies_of({2})[0], whole(*trace, {1}, Cycles{100}));
  EXPECT_EQ(trace->dependencies_of({2})[1], (Dependency{{1}, 1, 0, Cycles{0}}));
  EXPECT_EQ(trace->messages[3].start, Cycles{5});
  EXPECT_EQ(trace->messages[3].phase, 1);
  EXPECT_EQ(trace->dependencies_of({3})[0].first, 4);  // packets of 7 flits in twos
}

TEST(Trace, IsTheSameAfterPrintingAndParsing) {
  const Topology topology = network();
  std::vector<RouterId> nodes;
  for (std::uint32_t i = 0; i < topology.routers(); ++i) {
    if (topology.has_node({i})) {
      nodes.push_back({i});
    }
  }
  std::mt19937 random(3);
  const auto upto = [&](int limit) { return std::uniform_int_distribution<int>(0, limit)(random); };
  for (int round = 0; round < 200; ++round) {
    MessageTrace trace;
    std::int32_t phase = upto(1);
    std::uint32_t first_of_phase = 0;
    for (int i = upto(12); i >= 0; --i) {
      const auto id = static_cast<std::uint32_t>(trace.messages.size());
      if (upto(4) == 0) {
        phase += 1 + upto(1);
        first_of_phase = id;
      }
      const auto any = [&] { return nodes[static_cast<std::size_t>(upto(11))]; };
      const RouterId source = first_of_phase < id ? trace.messages[first_of_phase].target : any();
      std::vector<Dependency> after;
      for (std::uint32_t on = first_of_phase; on < id; ++on) {
        if (trace.messages[on].target == source && upto(2) > 0) {
          after.push_back(upto(1) == 0 ? whole(trace, {on}, Cycles{upto(3)})
                                       : Dependency{{on}, -upto(5), upto(0), Cycles{upto(9)}});
        }
      }
      const std::int32_t den = 1 + upto(20);
      trace.add({.source = source,
                 .target = any(),
                 .flits = 1 + upto(40),
                 .packet_flits = 1 + upto(3),
                 .phase = phase,
                 .start = Cycles{upto(2)},
                 .pace = {1 + upto(den - 1), den}},
                after);
    }
    ASSERT_TRUE(check_trace(trace, topology).has_value())
        << check_trace(trace, topology).error().message;
    const std::string text = to_string(trace, topology);
    const auto again = parse_trace(text, "again", topology);
    ASSERT_TRUE(again.has_value()) << again.error().to_string() << "\n" << text;
    EXPECT_EQ(*again, trace) << text;
    EXPECT_EQ(to_string(*again, topology), text);
  }
}

TEST(Trace, ErrorsNameTheirPlace) {
  EXPECT_EQ(parse_trace("", "e", network()).error().to_string(),
            "e:1:1: an empty file, expected dojo-trace 1 in the first line");
  EXPECT_EQ(parse_trace("trace\n", "e", network()).error().to_string(),
            "e:1:1: found \"trace\", expected dojo-trace 1 in the first line");
  EXPECT_EQ(error_of("a 0,0 -> 3,0 flits=1"),
            "t.trace:2:10: node \"3,0\": outside of the network of 3x4");
  EXPECT_EQ(error_of("a 0,0 -> 0,4294967296 flits=1"),
            "t.trace:2:10: node \"0,4294967296\": outside of the network of 3x4");
  EXPECT_EQ(error_of("a 0,0 -> here flits=1"),
            "t.trace:2:10: node \"here\": expected ROW,COLUMN, ROW,COLUMN/PLANE or ROW,COLUMN and "
            "n, e, s or w");
  EXPECT_EQ(error_of("a 0,1w -> 0,0 flits=1"),
            "t.trace:2:3: node \"0,1w\": no port is on the west side");
  EXPECT_EQ(error_of("a 0,1/1 -> 0,0 flits=1"),
            "t.trace:2:3: node \"0,1/1\": outside of the network of 3x4");
  EXPECT_EQ(error_of("ok 0,0 -> 0,1 flits=1\nb 0,0 -> 2,2 flits=1"),
            "t.trace:3:1: message b: no node is alive at 2,2");
  EXPECT_EQ(error_of("a 0,0 to 0,1"), "t.trace:2:7: \"to\", expected ->");
  EXPECT_EQ(error_of("a 0,0 -> 0,1"), "t.trace:2:13: a message needs flits=");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=0"),
            "t.trace:2:20: flits \"0\", expected a whole number in 1..1099511627776");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=99999999999999999999"),
            "t.trace:2:20: flits \"99999999999999999999\", expected a whole number in "
            "1..1099511627776");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 flits=2"), "t.trace:2:22: flits is given twice");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flit=1"),
            "t.trace:2:14: \"flit=1\", expected flits=, packet=, start=, pace= or after= (nearest: "
            "flits)");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=99999 packet=65536"),
            "t.trace:2:33: packet \"65536\", expected a whole number in 1..65535");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 pace=3/2"),
            "t.trace:2:27: pace's numerator \"3\", expected a whole number in 1..2");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 pace=1"), "t.trace:2:27: pace \"1\", expected NUM/DEN");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1\na 0,0 -> 0,1 flits=1"),
            "t.trace:3:1: two messages have the name a");
  EXPECT_EQ(error_of("a! 0,0 -> 0,1 flits=1"),
            "t.trace:2:1: \"a!\" is no name; letters, digits, _ . - are");
  EXPECT_EQ(error_of("barrier 3"), "t.trace:2:9: \"3\" behind barrier");
}

TEST(Trace, ErrorsOfDependenciesNameTheirPlace) {
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 after=b"), "t.trace:2:28: no message is named b");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 after=a:1"),
            "t.trace:2:28: \"a:1\", expected NAME[:FIRST:STRIDE][+DELAY]");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 after="),
            "t.trace:2:28: \"\", expected NAME[:FIRST:STRIDE][+DELAY]");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1\nb 0,1 -> 0,2 flits=2 after=a:1:1"),
            "t.trace:3:1: message b: waits for 2 packets of a, which has 1");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1\nb 0,0 -> 0,1 flits=1 after=a"),
            "t.trace:3:1: message b: waits for a, which does not arrive at 0,0, where b starts");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1\nbarrier\nb 0,0 -> 0,1 flits=2 after=a"),
            "t.trace:4:1: message b: waits for a of phase 0, but is in phase 1");
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1 after=c\n"
                     "b 0,1 -> 0,2 flits=1 after=a\n"
                     "c 0,2 -> 0,0 flits=1 after=b+3"),
            "t.trace:2:1: circular dependency: a waits for c waits for b waits for a");
  EXPECT_EQ(error_of("a 0,1 -> 0,1 flits=1 after=a"),
            "t.trace:2:1: circular dependency: a waits for a");
}

TEST(Trace, CountsToItsLimits) {
  EXPECT_EQ(error_of("a 0,0 -> 0,1 flits=1099511627776\nb 0,0 -> 0,1 flits=1"),
            "t.trace:3:1: message b: the sum of flits up to here is 1099511627777, expected "
            "1..1099511627776");
}

TEST(NodeNames, AreReadAsTheyAreWritten) {
  const Topology pair = *Topology::make({.die = {2, 3}, .planes = Planes::Opposed});
  const Topology edges = network();
  for (const Topology* topology : {&pair, &edges}) {
    for (std::uint32_t i = 0; i < topology->routers(); ++i) {
      EXPECT_EQ(parse_node(node_name(*topology, {i}), *topology).value().index, i);
    }
  }
  EXPECT_EQ(node_name(pair, pair.router_at({1, 2}, 1)), "1,2/1");
  EXPECT_EQ(node_name(edges, edges.edge_port(1)), "2,3s");
}

TEST(CheckTrace, RefusesWhatATextCannotSay) {
  const Topology pair = *Topology::make({.die = {2, 3}, .planes = Planes::Opposed});
  MessageTrace trace;
  trace.add({.source = {0}, .target = {7}, .flits = 1});
  EXPECT_EQ(check_trace(trace, pair).error().message,
            "message m0: 0,0 plane 0 and 0,1 plane 1 are on different planes");
  trace.messages[0].target = {12};
  EXPECT_EQ(check_trace(trace, pair).error().message,
            "message m0: router 12 is none of the network's 12");
  trace.messages[0].target = {1};
  trace.messages[0].phase = 1;
  trace.add({.source = {0}, .target = {1}, .flits = 1});
  EXPECT_EQ(check_trace(trace, pair).error().message,
            "message m1: phase is 0, expected 1..16777216");
}

}  // namespace
}  // namespace dojo::mesh
