// Two transfers at once: max-min rates of library cost against flits of the mesh, each transfer
// paced at its rate. Percent of error beside docs/placement.md, "Timeline".
#include <algorithm>
#include <array>
#include <span>

#include "dojo/cost/flow.h"
#include "pattern_flits.h"

namespace dojo::mesh {
namespace {

using machine::Axis;
using machine::Pattern;

// Both traces in one phase.
MessageTrace together(const MessageTrace& a, const MessageTrace& b) {
  MessageTrace both = a;
  const auto offset = static_cast<std::uint32_t>(a.messages.size());
  for (std::uint32_t i = 0; i < b.messages.size(); ++i) {
    std::vector<Dependency> after;
    for (Dependency dependency : b.dependencies_of(MessageId{i})) {
      dependency.on.index += offset;
      after.push_back(dependency);
    }
    both.add(b.messages[i], after);
  }
  return both;
}

// Loads per cycle at full rate, from the same formula that times it.
cost::FlowLoads loads_of(const Flits& flits, const Pattern& pattern) {
  const machine::MachineModel machine = model_without_adds("d1");
  program::Transfer transfer;
  transfer.moves.push_back({.tensor = "w",
                            .region = {.first_die = {},
                                       .dies = flits.grid().dies(),
                                       .nodes_of_die = flits.grid().per_die()},
                            .pattern = pattern});
  return cost::flow_loads(transfer, {}, machine);
}

// Formula over flits, less one: both begin at zero, and the later end counts.
double error_of(const Flits& flits, const Pattern& a, const Pattern& b) {
  const std::array loads{loads_of(flits, a), loads_of(flits, b)};
  const std::vector<double> rates = cost::max_min_rates(loads, 0.9);
  const std::array costs{flits.formula(a), flits.formula(b)};
  double end = 0;  // at rates that stay, as the messages' paces do
  for (std::size_t i = 0; i < costs.size(); ++i) {
    end = std::max(end, costs[i].busy / rates[i] + static_cast<double>(costs[i].latency.count()));
  }
  const double seen = flits.run(together(flits.trace(a, rates[0]), flits.trace(b, rates[1])));
  const double error = end / seen - 1;
  fmt::print("{} with {}: formula {:.0f} cycles, flits {:.0f}, {:+.1f} %\n", machine::to_string(a),
             machine::to_string(b), end, seen, 100 * error);
  return error;
}

TEST(FlowFlits, TwoTransfersAtOnceTakeWhatMaxMinSharingSays) {
  const Flits flits({.die = {8, 8}});
  for (const std::int64_t size : {256, 1024}) {
    const Pattern rows = machine::all_gather(Axis::Rows, packets(size));
    const Pattern columns = machine::all_gather(Axis::Columns, packets(size));
    EXPECT_NEAR(error_of(flits, rows, columns), 0, 0.03);
    const Pattern more = machine::all_gather(Axis::Rows, packets(size));
    EXPECT_NEAR(error_of(flits, rows, more), 0, 0.03);
    const Pattern shift = machine::shift(Axis::Columns, 3, packets(size / 4));
    EXPECT_NEAR(error_of(flits, rows, shift), 0, 0.03);
    const Pattern multicast = machine::multicast(Axis::Columns, packets(size));
    EXPECT_NEAR(error_of(flits, rows, multicast), 0, 0.03);
  }
}

}  // namespace
}  // namespace dojo::mesh
