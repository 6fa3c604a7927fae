#include "dojo/place/internal/fetch.h"

#include <algorithm>

#include "dojo/cost/replica_cost.h"

namespace dojo::place::internal {

using machine::Association;
using machine::Pattern;
using program::Axis;
using program::Layout;
using program::Move;
using program::Scope;
using program::Sharing;

namespace {

class Combiner {
 public:
  Combiner(const Combine& what, const SplitNest& split, const Mesh& mesh,
           const machine::MachineModel& machine)
      : what_(what), split_(split), mesh_(mesh), machine_(machine), now_(what.raw) {}

  std::vector<Move> run() {
    // Innermost cut loop first: loops of the nest from the back.
    const auto loops = static_cast<int>(split_.nest().loops.size());
    for (int loop = loops - 1; loop >= 0; --loop) {
      sum(loop);
    }
    if (is_partial(Axis::NodeX)) {  // masked look-ups
      along(machine::Axis::Rows, {Axis::NodeX});
    }
    if (is_partial(Axis::NodeY) || is_partial(Axis::Group)) {
      along(machine::Axis::Columns, {Axis::Group, Axis::NodeY});
    }
    return std::move(moves_);
  }

 private:
  bool is_partial(Axis axis) const { return now_[axis].sharing == Sharing::Partial; }
  bool is_summed(Axis axis, int loop) const {
    return is_partial(axis) && split_.on(axis).has_value() && split_.on(axis)->loop == loop;
  }

  // Even shares are cut outer axes first, sums joined inner loops first: a share along an inner
  // axis is one of each share along an outer one whose sum is still to come.
  Bytes bytes() const {
    Layout layout = now_.without_partials();
    std::int64_t parts = 1;
    for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
      if (is_partial(axis) && what_.stored[axis].sharing == Sharing::Flat) {
        parts *= what_.stored[axis].parts;
      } else if (layout[axis].sharing == Sharing::Flat) {
        layout[axis].block *= parts;
      }
    }
    return program::slice_bytes(layout, what_.shape, what_.format);
  }

  // What ends alike on all nodes goes to all of them, also to those that have no part of the sum.
  std::int64_t span(Axis axis) const {
    if (split_.on(axis).has_value() && is_spread(what_.stored[axis])) {
      return std::max(split_.on(axis)->cut.parts, what_.stored[axis].parts);
    }
    return mesh_.places(axis);
  }

  void add(const Pattern& pattern, Scope scope) {
    moves_.push_back(
        {what_.tensor, scope, mesh_.lines(span(Axis::NodeY), span(Axis::NodeX)), pattern, 1});
  }

  // Of a sum over replicas: as the loop's cut says.
  Association over_replicas() const {
    const bool has_runs = split_.on(Axis::Replica).has_value() &&
                          mesh_.replicas_in_run.has_value() &&
                          split_.on(Axis::Replica)->cut.parts > *mesh_.replicas_in_run;
    return has_runs ? Association::Nested : Association::Chain;
  }

  // All parts of one cut loop, in one chain where it lies on several axes.
  void sum(int loop) {
    if (is_summed(Axis::NodeX, loop)) {
      along(machine::Axis::Rows, {Axis::NodeX}, is_summed(Axis::Replica, loop));
    } else if (is_summed(Axis::NodeY, loop) && is_summed(Axis::Group, loop)) {
      along(machine::Axis::Columns, {Axis::Group, Axis::NodeY}, is_summed(Axis::Replica, loop));
    } else if (is_summed(Axis::NodeY, loop)) {
      along(machine::Axis::Columns, {Axis::NodeY}, is_summed(Axis::Replica, loop));
    } else if (is_summed(Axis::Group, loop)) {
      along(machine::Axis::Columns, {Axis::Group}, is_summed(Axis::Replica, loop));
    } else if (is_summed(Axis::Replica, loop)) {
      across();
    }
  }

  // Along lines of node.y or node.x, of groups, or of both; through all replicas if the loop goes
  // on there.
  void along(machine::Axis lines, const std::vector<Axis>& axes, bool goes_through = false) {
    const bool ends_in_shares = std::any_of(axes.begin(), axes.end(), [&](Axis axis) {
      return is_partial(axis) && is_spread(what_.stored[axis]);
    });
    const Bytes size = bytes();
    if (goes_through) {
      add(machine::all_reduce(lines, over_replicas(), size), Scope::Through);
      now_[Axis::Replica] = {};
    } else if (ends_in_shares) {
      add(machine::reduce_scatter(lines, Association::Chain, size), Scope::Inside);
    } else {
      add(machine::all_reduce(lines, Association::Chain, size), Scope::Inside);
    }
    const bool has_groups =
        std::find(axes.begin(), axes.end(), Axis::Group) != axes.end() && is_partial(Axis::Group);
    const bool has_rows =
        std::find(axes.begin(), axes.end(), Axis::NodeY) != axes.end() && is_partial(Axis::NodeY);
    if (has_groups) {
      moves_.back().region = mesh_.lines(mesh_.region.rows(), span(Axis::NodeX));
      moves_.back().reach = has_rows ? 1 : static_cast<int>(mesh_.rows_per_group());
    }
    for (const Axis axis : axes) {
      now_[axis] = is_partial(axis) ? what_.stored[axis] : now_[axis];
    }
  }

  bool is_alike() const {
    return !is_spread(now_[Axis::NodeY]) && !is_spread(now_[Axis::NodeX]) &&
           !is_spread(now_[Axis::Group]) && !is_partial(Axis::NodeY) && !is_partial(Axis::NodeX) &&
           !is_partial(Axis::Group);
  }

  std::int64_t cycles(const std::vector<Move>& moves) const {
    cost::TransferCost sum;
    for (const Move& move : moves) {
      sum += cost::move_cost(move, mesh_.replicas, machine_);
    }
    return sum.total(machine_.network.pace).count();
  }

  // What all nodes of a replica hold alike need not cross by every node: the quickest of every node
  // for itself; each node a share, then all shares gathered; one node for all, then to all. After
  // a sum inside the replica that last step is the sum's own way back from its middle.
  void across() {
    const Bytes all = bytes();
    add(machine::all_reduce(machine::Axis::Both, over_replicas(), all), Scope::Across);
    if (is_alike() && mesh_.nodes() > 1) {
      const Move whole = moves_.back();
      const bool follows_sum = moves_.size() > 1;
      Move share = whole;
      share.region = mesh_.region;
      const std::int64_t element = bytes_of(what_.format);
      const std::int64_t elements = all.count() / element;
      share.pattern.bytes = Bytes((elements + mesh_.nodes() - 1) / mesh_.nodes() * element);
      Move gather = share;
      gather.scope = Scope::Inside;
      gather.pattern = machine::all_gather(machine::Axis::Both, all);
      Move single = whole;
      single.region = mesh_.lines(1, 1);
      Move back = gather;
      back.pattern = machine::multicast(
          machine::Axis::Both, all,
          mesh_.region.rows() / 2 * mesh_.region.columns() + mesh_.region.columns() / 2);
      std::vector<Move> best{whole};
      const std::vector<Move> by_one =
          follows_sum ? std::vector<Move>{single} : std::vector<Move>{single, back};
      for (const std::vector<Move>& other : {std::vector<Move>{share, gather}, by_one}) {
        best = cycles(other) < cycles(best) ? other : best;
      }
      moves_.pop_back();
      moves_.insert(moves_.end(), best.begin(), best.end());
    }
    now_[Axis::Replica] = {};
  }

  const Combine& what_;
  const SplitNest& split_;
  const Mesh& mesh_;
  const machine::MachineModel& machine_;
  Layout now_;
  std::vector<Move> moves_;
};

}  // namespace

std::vector<Move> combine(const Combine& what, const SplitNest& split, const Mesh& mesh,
                          const machine::MachineModel& machine) {
  return Combiner(what, split, mesh, machine).run();
}

}  // namespace dojo::place::internal
