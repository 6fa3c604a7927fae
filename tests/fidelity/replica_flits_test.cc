// Nested sums over replicas against flits: dies of 4 x 5 nodes, each a replica. Equal nodes of all
// dies sum along their rows, then along their columns, all of them at once.
#include "dojo/cost/replica_cost.h"
#include "dojo/mesh/internal/pattern_builder.h"
#include "pattern_flits.h"

namespace dojo::mesh {
namespace {

using internal::NodeLine;
using internal::PatternBuilder;
using internal::share;
using machine::Association;

constexpr double kPace = 0.9;
constexpr Shape kDies{3, 4};
constexpr FlitRate kEdge{7, 8};  // of a die's row or column, flits a cycle

machine::MachineModel small_tile() {
  machine::Description tile = *machine::load_description("training-tile");
  for (const auto& [path, value] : std::vector<std::pair<std::string, std::string>>{
           {"mesh.die.dead", "[]"}, {"mesh.die.size", "4x5"}, {"tile.dies", "3x4"}}) {
    tile = *machine::with_fact(tile, path, value);
  }
  machine::MachineModel machine = machine::resolve(tile);
  machine::LinkModel& edge = *machine.links[static_cast<std::size_t>(machine::LinkClass::DieEdge)];
  edge.per_row = edge.per_column = BytesPerCycle(64.0 * kEdge.num / kEdge.den);
  return machine;
}

TopologySpec twelve_dies() {
  return {.die = {4, 5},
          .dies = kDies,
          .link_classes = {LinkClass{}, {"die edge", Cycles{200}, kEdge, std::nullopt}},
          .row_boundaries = {1, 1},
          .column_boundaries = {1, 1, 1}};
}

// The messages of an all-reduce of v packets per node: reduce-scatter along rows of dies, then
// columns, all-gather along columns, then rows. Replicas stand in a snake, so every second row runs
// west.
class NestedMessages {
 public:
  NestedMessages(const Flits& flits, const machine::MachineModel& machine, std::int64_t v)
      : grid_(flits.grid()),
        builder_({flits.topology(), flits.routing(), flits.grid()}, timing(machine)),
        v_(v) {}

  // Small ones: to the middle of each row, of that column, and back.
  MessageTrace make_through_middles() {
    const auto to_middle = [&](const NodeLine& line, std::int64_t = 0) { send_all(line, true); };
    const auto from_middle = [&](const NodeLine& line, std::int64_t = 0) { send_all(line, false); };
    each_row(to_middle);
    wait_ = builder_.add_delay();  // for what has come
    each_column(to_middle, kDies.columns / 2);
    each_column(from_middle, kDies.columns / 2);
    wait_ = builder_.forward_delay();
    each_row(from_middle);
    return builder_.finish();
  }

  MessageTrace make() {
    each_row([&](const NodeLine& line) {
      internal::reduce_scatter_line(builder_, line, Association::Chain, v_);
    });
    each_column([&](const NodeLine& line, std::int64_t size) {
      internal::reduce_scatter_line(builder_, line, Association::Chain, size);
    });
    each_column([&](const NodeLine& line, std::int64_t size) {
      internal::all_gather_line(builder_, line, blocks(size, line.size()));
    });
    each_row([&](const NodeLine& line) {
      internal::all_gather_line(builder_, line, blocks(v_, line.size()));
    });
    return builder_.finish();
  }

 private:
  static PatternTiming timing(const machine::MachineModel& machine) {
    PatternTiming timing = pattern_timing(machine);
    timing.pace = kPace;
    return timing;
  }
  static std::vector<std::int64_t> blocks(std::int64_t size, int n) {
    std::vector<std::int64_t> out;
    for (int i = 0; i < n; ++i) {
      out.push_back(share(size, n, i));
    }
    return out;
  }
  RouterId node(int die_row, int die_column, int r, int c) const {
    return *grid_.at(die_row * grid_.per_die().rows + r, die_column * grid_.per_die().columns + c);
  }
  // Rows that run west have their middle where the others have it.
  void send_all(const NodeLine& line, bool is_to_middle) {
    const int half = line.size() / 2;
    const bool is_reversed = line.nodes.front().index > line.nodes.back().index;
    const int middle = is_reversed ? line.size() - 1 - half : half;
    for (int i = 0; i < line.size(); ++i) {
      if (i != middle) {
        is_to_middle ? builder_.send(line[i], line[middle], v_)
                     : builder_.send(line[middle], line[i], v_);
      }
    }
  }
  template <class Line>
  void phase(const Line& line) {
    builder_.next_phase();
    builder_.start_at(wait_);
    const std::size_t first = builder_.size();
    for (int r = 0; r < grid_.per_die().rows; ++r) {
      for (int c = 0; c < grid_.per_die().columns; ++c) {
        line(r, c);
      }
    }
    builder_.pace_from(first);
  }
  template <class Sum>
  void each_row(const Sum& sum) {
    phase([&](int r, int c) {
      for (int row = 0; row < kDies.rows; ++row) {
        NodeLine line{.nodes = {}, .per_die = 1};
        for (int at = 0; at < kDies.columns; ++at) {
          line.nodes.push_back(node(row, row % 2 == 0 ? at : kDies.columns - 1 - at, r, c));
        }
        sum(line);
      }
    });
  }
  // `only`: one column of dies.
  template <class Sum>
  void each_column(const Sum& sum, std::optional<int> only = std::nullopt) {
    phase([&](int r, int c) {
      for (int column = only.value_or(0); column < (only ? *only + 1 : kDies.columns); ++column) {
        NodeLine line{.nodes = {}, .per_die = 1};
        for (int row = 0; row < kDies.rows; ++row) {
          line.nodes.push_back(node(row, column, r, c));
        }
        sum(line, share(v_, kDies.columns, column));
      }
    });
  }

  const NodeGrid& grid_;
  PatternBuilder builder_;
  std::int64_t v_ = 0;
  Cycles wait_{};  // at the start of a phase
};

class ReplicaFlits : public ::testing::Test {
 protected:
  cost::TransferCost formula(std::int64_t v) const {
    return cost::replica_all_reduce(
        program::Scope::Across,
        machine::all_reduce(machine::Axis::Both, Association::Nested, packets(v)),
        machine::whole_die(machine, {}),
        {.count = 12, .available = 12, .dies = {1, 1}, .batch = 12, .block = 1}, machine);
  }
  NestedMessages messages(std::int64_t v) const { return {flits, machine, v}; }

  machine::MachineModel machine = small_tile();
  Flits flits{twelve_dies()};
};

TEST_F(ReplicaFlits, LargeNestedSumsTakeTheFormulasCycles) {
  for (const std::int64_t v : {192, 384, 1536}) {
    expect_error(fmt::format("nested, {} packets", v),
                 static_cast<double>(formula(v).total(kPace).count()),
                 flits.run(messages(v).make()), 0, 5);
  }
}

TEST_F(ReplicaFlits, SmallNestedSumsTakeTheFormulasCycles) {
  for (const std::int64_t v : {2, 4, 8}) {
    // Two steps of 204 cycles along rows, one of 203 along columns, there and back.
    ASSERT_EQ(formula(v).latency.count(), 2 * (2 * 204 + 203) + 4 * 22 + 2 * 8);
    expect_error(fmt::format("through middles, {} packets", v),
                 static_cast<double>(formula(v).total(kPace).count()),
                 flits.run(messages(v).make_through_middles()), 0, 6);
  }
}

}  // namespace
}  // namespace dojo::mesh
