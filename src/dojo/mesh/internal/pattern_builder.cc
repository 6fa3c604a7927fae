#include "dojo/mesh/internal/pattern_builder.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "dojo/mesh/traffic_load.h"

namespace dojo::mesh::internal {

namespace {

// Near enough for runs of 10^6 cycles, and an account of it fits 32 bits.
constexpr std::int32_t kPaceDenominator = 1 << 20;

FlitRate pace_of(double rate) {
  const double steps = std::round(std::min(rate, 1.0) * kPaceDenominator);
  const auto num = std::max(1, static_cast<std::int32_t>(steps));
  const std::int32_t divisor = std::gcd(num, kPaceDenominator);
  return {.num = num / divisor, .den = kPaceDenominator / divisor};
}

}  // namespace

NodeLine PatternBuilder::row(int r) const {
  NodeLine line{.nodes = {}, .per_die = grid().per_die().columns};
  for (int c = 0; c < grid().columns(); ++c) {
    line.nodes.push_back(*grid().at(r, c));
  }
  return line;
}

NodeLine PatternBuilder::column(int c) const {
  NodeLine line{.nodes = {}, .per_die = grid().per_die().rows};
  for (int r = 0; r < grid().rows(); ++r) {
    line.nodes.push_back(*grid().at(r, c));
  }
  return line;
}

std::optional<MessageId> PatternBuilder::send(RouterId source, RouterId target,
                                              std::int64_t packets,
                                              std::span<const Dependency> after) {
  if (packets == 0) {
    return std::nullopt;
  }
  return trace_.add(
      {.source = source, .target = target, .flits = packets, .phase = phase_, .start = start_},
      after);
}

std::optional<MessageId> PatternBuilder::send_to_others(RouterId source,
                                                        std::span<const RouterId> nodes,
                                                        std::int64_t packets,
                                                        std::span<const Dependency> after) {
  std::vector<RouterId> targets;
  std::copy_if(nodes.begin(), nodes.end(), std::back_inserter(targets),
               [&](RouterId node) { return node != source; });
  if (packets == 0 || targets.empty()) {
    return std::nullopt;
  }
  return trace_.add({.source = source,
                     .target = targets.front(),
                     .flits = packets,
                     .phase = phase_,
                     .start = start_},
                    after, std::span(targets).subspan(1));
}

void PatternBuilder::next_phase() {
  if (!trace_.messages.empty() && trace_.messages.back().phase == phase_) {
    ++phase_;
  }
  start_ = Cycles{0};
}

std::int64_t PatternBuilder::pace_from(std::size_t first, int port_share) {
  const std::span<Message> group = std::span(trace_.messages).subspan(first);
  const TrafficLoad load = load_of(trace_, place_.topology, place_.routing, first);
  const std::int64_t busy =
      std::max(load.busy_cycles(place_.topology), load.busy_cycles_of_ports() * port_share);
  if (timing_.pace.has_value() && busy > 0) {
    for (Message& message : group) {
      message.pace =
          pace_of(*timing_.pace * static_cast<double>(message.flits) / static_cast<double>(busy));
    }
  }
  return busy;
}

Cycles PatternBuilder::paced(std::int64_t busy_cycles) const {
  return Cycles{static_cast<std::int64_t>(
      std::ceil(static_cast<double>(busy_cycles) / timing_.pace.value_or(1.0) - 1e-9))};
}

void multicast_line(PatternBuilder& builder, const NodeLine& line, int source, std::int64_t v) {
  if (builder.routers_copy()) {
    builder.send_to_others(line[source], line.nodes, v);
    return;
  }
  for (const int step : {1, -1}) {
    std::optional<MessageId> before;
    for (int i = source; i + step >= 0 && i + step < line.size(); i += step) {
      std::vector<Dependency> after;
      if (before.has_value()) {
        after.push_back(streamed(*before, builder.forward_delay()));
      }
      before = builder.send(line[i], line[i + step], v, after);
    }
  }
}

// A node first sends its own block, then what comes from behind.
void all_gather_line(PatternBuilder& builder, const NodeLine& line,
                     std::span<const std::int64_t> blocks) {
  const int n = line.size();
  if (builder.routers_copy()) {
    for (int i = 0; i < n; ++i) {
      builder.send_to_others(line[i], line.nodes, blocks[static_cast<std::size_t>(i)]);
    }
    return;
  }
  for (const int step : {1, -1}) {
    std::optional<MessageId> before;
    std::int64_t sent = 0;
    for (int i = step > 0 ? 0 : n - 1; i + step >= 0 && i + step < n; i += step) {
      const std::int64_t own = blocks[static_cast<std::size_t>(i)];
      sent += own;
      std::vector<Dependency> after;
      if (before.has_value()) {
        after.push_back(
            {.on = *before, .first = 1 - own, .stride = 1, .delay = builder.forward_delay()});
      }
      before = builder.send(line[i], line[i + step], sent, after);
    }
  }
}

std::vector<Dependency> reduce_line(PatternBuilder& builder, const NodeLine& line,
                                    machine::Association order, std::int64_t v) {
  if (v == 0) {
    return {};
  }
  const int n = line.size();
  const int per_part = order == machine::Association::Nested ? line.per_die : n;
  std::vector<Dependency> total;  // of the parts before
  for (int begin = 0; begin < n; begin += per_part) {
    const int last = std::min(begin + per_part, n) - 1;
    std::vector<Dependency> sum;  // of this part
    for (int i = begin; i < last; ++i) {
      sum = {streamed(*builder.send(line[i], line[i + 1], v, sum), builder.add_delay())};
    }
    if (begin > 0) {
      sum.push_back(
          streamed(*builder.send(line[begin - 1], line[last], v, total), builder.add_delay()));
    }
    total = std::move(sum);
  }
  return total;
}

void reduce_scatter_line(PatternBuilder& builder, const NodeLine& line, machine::Association order,
                         std::int64_t v) {
  const int n = line.size();
  if (n < 2) {
    return;
  }
  const std::vector<Dependency> sum = reduce_line(builder, line, order, v);
  for (int owner = 0; owner + 1 < n; ++owner) {
    std::vector<Dependency> after = sum;
    for (Dependency& each : after) {  // packet q of this owner is packet q n + owner of the sum
      each.first = owner + 1;
      each.stride = n;
    }
    builder.send(line[n - 1], line[owner], share(v, n, owner), after);
  }
}

namespace {

// Sums that run to a middle and back; what has arrived at a node, by its place in the lists below.
class CentreTree {
 public:
  CentreTree(PatternBuilder& builder, std::int64_t v)
      : builder_(builder), v_(v), arrived_(builder.topology().routers()) {}

  void to_middle(const std::vector<RouterId>& line) {
    const std::size_t middle = line.size() / 2;
    for (std::size_t i = 0; i < middle; ++i) {
      add(line[i], line[i + 1]);
    }
    for (std::size_t i = line.size() - 1; i > middle; --i) {
      add(line[i], line[i - 1]);
    }
  }
  void from_middle(const std::vector<RouterId>& line) {
    const std::size_t middle = line.size() / 2;
    if (builder_.routers_copy()) {
      hand_to_all(line[middle], line);
      return;
    }
    for (std::size_t i = middle; i > 0; --i) {
      hand_on(line[i], line[i - 1]);
    }
    for (std::size_t i = middle; i + 1 < line.size(); ++i) {
      hand_on(line[i], line[i + 1]);
    }
  }

 private:
  void add(RouterId from, RouterId to) {
    const auto sent = builder_.send(from, to, v_, arrived_[from.index]);
    arrived_[to.index].push_back(streamed(*sent, builder_.add_delay()));
  }
  void hand_on(RouterId from, RouterId to) {
    const auto sent = builder_.send(from, to, v_, arrived_[from.index]);
    arrived_[to.index] = {streamed(*sent, builder_.forward_delay())};
  }

  void hand_to_all(RouterId from, const std::vector<RouterId>& line) {
    const auto sent = builder_.send_to_others(from, line, v_, arrived_[from.index]);
    for (const RouterId to : line) {
      if (to != from) {
        arrived_[to.index] = {streamed(*sent, builder_.forward_delay())};
      }
    }
  }

  PatternBuilder& builder_;
  std::int64_t v_;
  std::vector<std::vector<Dependency>> arrived_;
};

}  // namespace

void all_reduce_centre(PatternBuilder& builder, machine::Axis axis, std::int64_t v) {
  if (v == 0) {
    return;
  }
  // Lines of nodes (by row or column) and of dies' middles; a pattern along one axis is as many
  // trees as there are lines, each without the other dimension.
  const NodeGrid& grid = builder.grid();
  const Shape per_die = grid.per_die();
  const bool rows = axis != machine::Axis::Columns;
  const bool columns = axis != machine::Axis::Rows;
  std::vector<std::vector<RouterId>> stages[4];  // node rows, node columns, die rows, die columns
  const auto line = [&](int row, int column, int row_step, int column_step, int count) {
    std::vector<RouterId> nodes;
    for (int i = 0; i < count; ++i) {
      nodes.push_back(*grid.at(row + i * row_step, column + i * column_step));
    }
    return nodes;
  };
  const int middle_row = per_die.rows / 2;
  const int middle_column = per_die.columns / 2;
  for (int row = 0; rows && row < grid.rows(); ++row) {
    for (int die = 0; die < grid.dies().columns; ++die) {
      stages[0].push_back(line(row, die * per_die.columns, 0, 1, per_die.columns));
    }
    if (!columns || row % per_die.rows == middle_row) {
      stages[2].push_back(line(row, middle_column, 0, per_die.columns, grid.dies().columns));
    }
  }
  for (int column = 0; columns && column < grid.columns(); ++column) {
    const bool is_middle = !rows || column % per_die.columns == middle_column;
    for (int die = 0; is_middle && die < grid.dies().rows; ++die) {
      stages[1].push_back(line(die * per_die.rows, column, 1, 0, per_die.rows));
    }
    const int middle_die_column = (grid.dies().columns / 2) * per_die.columns + middle_column;
    if (!rows || column == middle_die_column) {
      stages[3].push_back(line(middle_row, column, per_die.rows, 0, grid.dies().rows));
    }
  }
  CentreTree tree(builder, v);
  for (const auto& stage : stages) {
    for (const std::vector<RouterId>& nodes : stage) {
      tree.to_middle(nodes);
    }
  }
  std::reverse(std::begin(stages), std::end(stages));
  for (const auto& stage : stages) {
    for (const std::vector<RouterId>& nodes : stage) {
      tree.from_middle(nodes);
    }
  }
}

}  // namespace dojo::mesh::internal
