#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "dojo/mesh/random_meshes.h"
#include "dojo/mesh/random_messages.h"

namespace dojo::mesh {
namespace {

TEST(Mesh, EqualsThePlainTwinOnManyRandomRectangles) { compare_random_rectangles(1, 300); }

TEST(Mesh, EqualsThePlainTwinOnManyRandomNetworks) {
  EXPECT_GT(compare_random_networks(1, 600), 200);
}

TEST(RunMessages, EqualsThePlainTwinOnManyRandomTraces) {
  EXPECT_GT(compare_random_messages(1, 120), 30);
}

TEST(Multicast, HasSoManyPlacesAtMost) {
  const Topology topology = *Topology::rectangle({16, 16});
  const RoutingTable routing = *RoutingTable::make(topology, RoutingKind::XFirst, 3);
  std::vector<RouterId> nodes = nodes_of(topology);
  MessageTrace trace;
  // Messages to the same nodes in another order share no place: 4,096 times 256.
  for (int i = 0; i < 16; ++i) {
    const MessageTrace more = to_all(nodes, nodes, 1);
    for (const Message& message : more.messages) {
      trace.add(message, {}, std::span(nodes).subspan(1));
    }
    std::rotate(nodes.begin(), nodes.begin() + 1, nodes.end());
  }
  trace.add({.source = nodes[0], .target = nodes[0], .flits = 1}, {}, std::span(nodes).subspan(1));
  EXPECT_EQ(MessageRun::make(topology, routing, *router_preset("d1"), trace).error().message,
            "messages to several nodes: their packets pass more than 1048576 places");
  trace.messages.pop_back();
  EXPECT_TRUE(MessageRun::make(topology, routing, *router_preset("d1"), trace).has_value());
}

}  // namespace
}  // namespace dojo::mesh
