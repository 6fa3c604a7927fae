// What all patterns need to write their messages down.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dojo/mesh/messages.h"
#include "dojo/mesh/pattern_messages.h"

namespace dojo::mesh::internal {

// Packets of `total` that part i of n gets if packet k goes to part k mod n.
constexpr std::int64_t share(std::int64_t total, int n, int i) { return (total - i + n - 1) / n; }

// A row or column of the grid in the order in which chains run; which nodes stand on one die.
struct NodeLine {
  std::vector<RouterId> nodes{};
  int per_die = 0;
  int size() const { return static_cast<int>(nodes.size()); }
  RouterId operator[](int i) const { return nodes[static_cast<std::size_t>(i)]; }
};

class PatternBuilder {
 public:
  PatternBuilder(const PatternPlace& place, const PatternTiming& timing)
      : place_(place), timing_(timing) {}

  const NodeGrid& grid() const { return place_.grid; }
  const Topology& topology() const { return place_.topology; }
  Cycles forward_delay() const { return timing_.alpha; }
  Cycles add_delay() const { return timing_.alpha + timing_.add; }
  std::int64_t packets(Bytes bytes) const {
    return (bytes.count() + timing_.packet.count() - 1) / timing_.packet.count();
  }
  NodeLine row(int r) const;
  NodeLine column(int c) const;

  // Nothing is added if there are no packets.
  std::optional<MessageId> send(RouterId source, RouterId target, std::int64_t packets,
                                std::span<const Dependency> after = {});
  // To all of the nodes but the source itself, copied by routers; nothing if there is no other.
  std::optional<MessageId> send_to_others(RouterId source, std::span<const RouterId> nodes,
                                          std::int64_t packets,
                                          std::span<const Dependency> after = {});
  bool routers_copy() const { return timing_.multicast == Multicast::Replicate; }
  // Messages from now on wait for all before; nothing happens if the phase has none yet.
  void next_phase();
  // Messages from now on start at this cycle of the phase.
  void start_at(Cycles cycle) { start_ = cycle; }

  // Gives the messages from `first` on their paces; returns the busy cycles L of the busiest
  // resource among them. `port_share`: how many like groups use the ports at the same time.
  std::int64_t pace_from(std::size_t first, int port_share = 1);
  std::size_t size() const { return trace_.messages.size(); }
  // Cycles that L busy cycles take at the pace.
  Cycles paced(std::int64_t busy_cycles) const;

  MessageTrace finish() { return std::move(trace_); }

 private:
  PatternPlace place_;
  PatternTiming timing_;
  MessageTrace trace_{};
  std::int32_t phase_ = 0;
  Cycles start_{};
};

// Chains along one line; `blocks` are the packets that each node has or ends with.
void multicast_line(PatternBuilder& builder, const NodeLine& line, int source, std::int64_t v);
void all_gather_line(PatternBuilder& builder, const NodeLine& line,
                     std::span<const std::int64_t> blocks);
// What the sum at the line's last node waits for.
std::vector<Dependency> reduce_line(PatternBuilder& builder, const NodeLine& line,
                                    machine::Association order, std::int64_t v);
void reduce_scatter_line(PatternBuilder& builder, const NodeLine& line, machine::Association order,
                         std::int64_t v);
void all_reduce_centre(PatternBuilder& builder, machine::Axis axis, std::int64_t v);

}  // namespace dojo::mesh::internal
