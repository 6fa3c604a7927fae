#include "dojo/cost/flow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "dojo/machine/description.h"

namespace dojo::cost {
namespace {

using machine::Axis;
using machine::LinkClass;

constexpr auto kLink = static_cast<std::size_t>(LinkClass::NodeLink);
constexpr auto kPort = static_cast<std::size_t>(LinkClass::PortIn);
constexpr std::size_t kColumnLink = machine::kLinkClassCount + kLink;

FlowLoads loads_of(const machine::Pattern& pattern, const machine::MachineModel& machine) {
  program::Transfer transfer;
  transfer.moves.push_back(
      {.tensor = "w", .region = machine::whole_die(machine, {}), .pattern = pattern});
  return flow_loads(transfer, {}, machine);
}

FlowLoads on(std::initializer_list<std::pair<std::size_t, double>> entries) {
  FlowLoads loads{};
  for (const auto& [index, load] : entries) {
    loads[index] = load;
  }
  return loads;
}

TEST(Flow, OfAnAllGatherIsItsPortAndItsLinks) {
  const machine::MachineModel die = *machine::load_machine("d1");
  const FlowLoads rows = loads_of(machine::all_gather(Axis::Rows, Bytes(64 * 1900)), die);
  EXPECT_DOUBLE_EQ(rows[kPort], 1);          // V (n + 1) / n
  EXPECT_DOUBLE_EQ(rows[kLink], 18.0 / 20);  // V (n - 1) / n, n = 19
  EXPECT_DOUBLE_EQ(rows[kColumnLink], 0);
  const FlowLoads columns = loads_of(machine::all_gather(Axis::Columns, Bytes(64 * 1900)), die);
  EXPECT_DOUBLE_EQ(columns[kLink], 0);
  EXPECT_DOUBLE_EQ(columns[kColumnLink], 17.0 / 19);
  // Both share the ports alone, half each.
  EXPECT_EQ(max_min_rates(std::array{rows, columns}, 0.9), (std::vector{0.45, 0.45}));
}

TEST(Flow, AloneGoesAtTheFullPace) {
  EXPECT_EQ(max_min_rates(std::vector<FlowLoads>{on({{kPort, 1}, {kLink, 0.3}})}, 0.9),
            std::vector{0.9});
  EXPECT_EQ(max_min_rates(std::vector<FlowLoads>(1), 0.9), std::vector{0.9});
  EXPECT_TRUE(max_min_rates({}, 0.9).empty());
}

// Two share the links, a third has the port with one of them: the links fill at 0.5, then the third
// takes what is left of the port.
TEST(Flow, FillsClassByClass) {
  const std::vector<double> rates = max_min_rates(
      std::array{on({{kLink, 1}, {kPort, 0.5}}), on({{kLink, 1}}), on({{kPort, 1}})}, 1.0);
  EXPECT_DOUBLE_EQ(rates[0], 0.5);
  EXPECT_DOUBLE_EQ(rates[1], 0.5);
  EXPECT_DOUBLE_EQ(rates[2], 0.75);
}

TEST(Flow, IsMaxMinFairOnRandomLoads) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> draw(0, 1);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<FlowLoads> flows(1 + static_cast<std::size_t>(trial % 6));
    for (FlowLoads& flow : flows) {
      for (std::size_t c = 0; c < 6; ++c) {
        flow[c] = draw(random) < 0.5 ? draw(random) : 0;
      }
    }
    const std::vector<double> rates = max_min_rates(flows, 0.9);
    FlowLoads used{};
    for (std::size_t i = 0; i < flows.size(); ++i) {
      for (std::size_t c = 0; c < kFlowClassCount; ++c) {
        used[c] += rates[i] * flows[i][c];
      }
    }
    for (std::size_t i = 0; i < flows.size(); ++i) {
      // Nothing is over its capacity; each flow is at full pace or has a full class on which no
      // other is faster.
      bool has_bottleneck = rates[i] >= 0.9 - 1e-9;
      for (std::size_t c = 0; c < kFlowClassCount; ++c) {
        EXPECT_LE(used[c], 0.9 + 1e-9);
        double fastest = 0;
        for (std::size_t j = 0; j < flows.size(); ++j) {
          fastest = std::max(fastest, flows[j][c] > 0 ? rates[j] : 0);
        }
        has_bottleneck = has_bottleneck ||
                         (flows[i][c] > 0 && used[c] >= 0.9 - 1e-9 && rates[i] >= fastest - 1e-9);
      }
      EXPECT_TRUE(has_bottleneck) << trial << " " << i;
    }
  }
}

// A transfer by itself takes no longer when any one class of links gets quicker, or its latency
// shorter.
TEST(LoneTransfer, IsMonotoneInItsRatesAndLatencies) {
  const machine::MachineModel tile = *machine::load_machine("training-tile");
  const machine::Region region = machine::whole_machine(tile);
  using machine::Association;
  for (const std::int64_t bytes : {64, 4'096, 300'000}) {
    const Bytes size(bytes);
    const machine::Pattern patterns[] = {
        machine::multicast(Axis::Rows, size),
        machine::multicast(Axis::Both, size, 4000),
        machine::all_gather(Axis::Both, size),
        machine::reduce(Axis::Columns, Association::Chain, size),
        machine::reduce_scatter(Axis::Rows, Association::Chain, size),
        machine::all_reduce(Axis::Both, Association::Chain, size),
        machine::all_reduce(Axis::Both, Association::Centre, size),
        machine::halo({.north = size, .west = size}),
        machine::shift(Axis::Rows, 7, size),
        machine::all_to_all(Axis::Columns, size),
        machine::all_to_all(Axis::Both, Bytes(1 + bytes / 100)),
        machine::region_move(3, -20, size),
        machine::gather_to_edge(machine::Side::West, size),
    };
    for (const machine::Pattern& pattern : patterns) {
      const Cycles before = pattern_cost(pattern, region, tile).total(0.9);
      for (std::size_t i = 0; i < machine::kLinkClassCount; ++i) {
        machine::MachineModel quicker = tile;
        if (!quicker.links[i].has_value()) {
          continue;
        }
        machine::LinkModel& link = *quicker.links[i];
        for (const double factor : {1.5, 4.0}) {
          link.rate = link.rate * factor;
          link.per_row = link.per_row * factor;
          link.per_column = link.per_column * factor;
          EXPECT_LE(pattern_cost(pattern, region, quicker).total(0.9), before)
              << machine::to_string(pattern) << " " << name(static_cast<LinkClass>(i));
        }
        link.latency = Cycles{std::max<std::int64_t>(1, link.latency.count() / 2)};
        EXPECT_LE(pattern_cost(pattern, region, quicker).total(0.9), before);
      }
    }
  }
}

}  // namespace
}  // namespace dojo::cost
