// Reductions along a line of a WSE-2 (one wavelet of 32 bits per cycle and link, two cycles between
// processor and router): the published closed forms, which were within 4 % of the machine, and a
// mesh set up like it. The last wavelet arrives in cycle T - 1.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "csv.h"
#include "pattern_flits.h"

namespace dojo::mesh {
namespace {

class Line {
 public:
  explicit Line(int nodes)
      : topology_(*Topology::rectangle({1, nodes})),
        routing_(*RoutingTable::make(topology_, RoutingKind::XFirst, config_.vcs)) {}

  // Everybody sends straight to node 0.
  std::int64_t star(std::int64_t wavelets) const {
    MessageTrace trace;
    for (std::uint32_t i = 1; i < topology_.routers(); ++i) {
      trace.add({.source = {i}, .target = {0}, .flits = wavelets});
    }
    return run(trace);
  }
  // Neighbour to neighbour; an addition takes one cycle.
  std::int64_t chain(std::int64_t wavelets) const {
    MessageTrace trace;
    std::vector<Dependency> after;
    for (auto i = static_cast<std::uint32_t>(topology_.routers() - 1); i > 0; --i) {
      after = {streamed(trace.add({.source = {i}, .target = {i - 1}, .flits = wavelets}, after),
                        Cycles{1})};
    }
    return run(trace);
  }
  // WSE-2 routers hand a wavelet on and down at once.
  std::int64_t broadcast(std::int64_t wavelets) const {
    MessageTrace trace;
    std::vector<RouterId> further;
    for (std::uint32_t i = 2; i < topology_.routers(); ++i) {
      further.push_back({i});
    }
    trace.add({.source = {0}, .target = {1}, .flits = wavelets}, {}, further);
    return run(trace);
  }

 private:
  std::int64_t run(const MessageTrace& trace) const {
    // Near nodes get ahead of far ones, whose wavelets may wait long.
    const MessagesOutcome outcome =
        run_messages(topology_, routing_, config_, trace, {.traps_starvation = false}).value();
    EXPECT_EQ(outcome.trap, "");
    return outcome.end.count() + 1;
  }

  RouterConfig config_ = *router_preset("wse2");
  Topology topology_;
  RoutingTable routing_;
};

// Values of at most so many router cycles; returns how many there were.
int compare_with_published(std::int64_t most_router_cycles) {
  int compared = 0;
  for (const CsvRow& row : read_csv("wse2_reduce_1d.csv")) {
    const int nodes = std::stoi(row.at("P"));
    const std::int64_t wavelets = std::stoll(row.at("B_wavelets"));
    const Line line(nodes);
    const auto compare = [&](const std::string& column, auto measure) {
      const std::int64_t published = std::stoll(row.at(column));
      if (published * nodes > most_router_cycles) {
        return;
      }
      ++compared;
      const std::int64_t cycles = measure();
      const double tolerance = std::max(2.0, 0.05 * static_cast<double>(published));
      EXPECT_NEAR(static_cast<double>(cycles), static_cast<double>(published), tolerance)
          << column << ", " << nodes << " nodes, " << wavelets << " wavelets";
    };
    compare("star_cycles", [&] { return line.star(wavelets); });
    compare("chain_cycles", [&] { return line.chain(wavelets); });
    compare("broadcast_cycles", [&] { return line.broadcast(wavelets); });
  }
  return compared;
}

TEST(Wse2, ReducesAndBroadcastsAsPublished) { EXPECT_EQ(compare_with_published(50'000'000), 228); }
// Two minutes, for the longest stars.
TEST(Wse2, DISABLED_ReducesAndBroadcastsAllAsPublished) {
  EXPECT_EQ(compare_with_published(std::numeric_limits<std::int64_t>::max()), 240);
}

}  // namespace
}  // namespace dojo::mesh
