#include "dojo/place/internal/fetch.h"

#include <algorithm>
#include <array>

#include "dojo/base/check.h"
#include "dojo/cost/pattern_cost.h"
#include "dojo/cost/replica_cost.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/held.h"
#include "dojo/place/internal/reads.h"

namespace dojo::place::internal {

using machine::Association;
using machine::Pattern;
using program::Axis;
using program::AxisState;
using program::kAxes;
using program::Layout;
using program::Scope;
using program::Sharing;

namespace {

constexpr std::int64_t kPacket = 64;  // bytes, as the shipped machines have it

constexpr std::array kNodeAxes{Axis::NodeY, Axis::NodeX};

Axis other(Axis axis) { return axis == Axis::NodeY ? Axis::NodeX : Axis::NodeY; }

// node.x runs along rows of the region, node.y along columns.
machine::Axis lines_of(Axis axis) {
  return axis == Axis::NodeX ? machine::Axis::Rows : machine::Axis::Columns;
}

class Fetcher {
 public:
  Fetcher(const graph::Graph& graph, OpId op, int input, const LayoutPlan& plan, const Mesh& mesh,
          const machine::MachineModel& machine)
      : op_(graph.ops[op.index]),
        plan_(plan.ops[op.index]),
        split_(plan_.split),
        mesh_(mesh),
        machine_(machine),
        id_(*graph.ops[op.index].inputs[static_cast<std::size_t>(input)]),
        value_(graph.value(id_)),
        now_(plan.held[id_.index]),
        is_scrambled_(plan.is_scrambled[id_.index]),
        is_after_(!plan.turn.empty() && plan.turn[op.index] == Turn::After),
        reads_(split_, input, value_, mesh) {}

  Fetch run() {
    if (reads_.is_empty()) {
      return {};
    }
    for (const Axis axis : kAxes) {
      wants_[static_cast<std::size_t>(axis)] =
          is_masked(axis) ? Need{.is_sliced = true, .dimension = now_[axis].dimension}
                          : reads_.need(axis);
    }
    if (is_after_) {
      join(Axis::Micro);  // it is kept of all micro-batches
    }
    across_replicas();
    for (const Axis axis : kAxes) {  // before anything moves
      flat_shares_[static_cast<std::size_t>(axis)] = is_flat_share(axis);
    }
    gathers_groups_ = is_spread(now_[Axis::Group]) && !is_masked(Axis::Group) &&
                      !has_flat_share(Axis::Group) && !has_own_slice(Axis::Group);
    const int rows = now_[Axis::NodeY].dimension;
    if (gathers_groups_ && holds(now_, Axis::NodeY, rows) && holds(now_, Axis::Group, rows)) {
      gather_whole(rows);  // its blocks may be cut from those of groups
    }
    if (clashes()) {
      fetch_.is_fallback = true;
      gather(is_spread(now_[Axis::NodeY]), is_spread(now_[Axis::NodeX]));
    } else {
      leave_groups();
      change_axes();
      step_along_axes();
    }
    fetch_.landing = std::min({fetch_.landing, reads_.kept(), reads_.footprint()});
    return std::move(fetch_);
  }

 private:
  const Need& want(Axis axis) const { return wants_[static_cast<std::size_t>(axis)]; }

  bool is_masked(Axis axis) const {
    return std::find(plan_.masked.begin(), plan_.masked.end(), axis) != plan_.masked.end() &&
           now_[axis].sharing == Sharing::Sliced &&
           std::holds_alternative<graph::Indexed>(
               reads_.all()
                   .front()
                   .operand->access[static_cast<std::size_t>(now_[axis].dimension)]);
  }

  // The op works on the very shares that lie there: all flat axes cut alike.
  bool is_flat_share(Axis axis) const {
    if (!split_.is_flat(axis) || now_[axis].sharing != Sharing::Flat || is_scrambled_) {
      return false;
    }
    const program::Split cuts = split_.split();
    return std::all_of(kAxes.begin(), kAxes.end(), [&](Axis each) {
      switch (now_[each].sharing) {
        case Sharing::Flat:
          return split_.is_flat(each) && cuts.find(each)->block == now_[each].block;
        case Sharing::Sliced:
          return has_own_slice(each);
        default:
          return !split_.is_flat(each) && !split_.on(each).has_value();
      }
    });
  }
  bool has_flat_share(Axis axis) const { return flat_shares_[static_cast<std::size_t>(axis)]; }

  // The op's slices along a replica or group axis are those that lie there.
  bool has_own_slice(Axis axis) const {
    const AxisState& state = now_[axis];
    const Need& need = want(axis);
    return state.sharing == Sharing::Sliced && need.is_sliced &&
           need.dimension == state.dimension && is_in_place(axis);
  }

  std::int64_t span(Axis axis) const {
    return split_.on(axis).has_value() && !makes_alike(op_, plan_, axis)
               ? std::max(split_.on(axis)->cut.parts, now_[axis].parts)
               : mesh_.places(axis);
  }
  // Of one group; every group does the same at once.
  machine::Region region() const { return mesh_.lines(span(Axis::NodeY), span(Axis::NodeX)); }
  machine::Region all_groups() const { return mesh_.lines(mesh_.region.rows(), span(Axis::NodeX)); }

  void add(const Pattern& pattern, Scope scope = Scope::Inside, int reach = 1) {
    fetch_.moves.push_back({value_.name, scope, region(), pattern, reach});
  }

  Bytes read_by_line(bool along_y, bool along_x) const {
    return reads_.by_line({.over_groups = gathers_groups_, .along_y = along_y, .along_x = along_x});
  }

  Bytes slice_bytes(const Layout& layout) const {
    return program::slice_bytes(layout, value_.shape, value_.format);
  }

  // --- replicas ---
  void across_replicas() {
    const AxisState& state = now_[Axis::Replica];
    if (state.sharing != Sharing::Sliced) {
      return;
    }
    if (has_own_slice(Axis::Replica)) {
      return;
    }
    join(Axis::Replica);
    add(machine::all_gather(machine::Axis::Both, slice_bytes(now_)), Scope::Across);
    fetch_.landing = slice_bytes(now_);
    fetch_.is_gathered = true;
  }

  // What a node holds of all parts along the axis, one after the other. Where axes further in cut
  // the same dimension, or shares of all, that is a piece of each part: it is nobody's block, and
  // whoever reads that dimension gathers it.
  void join(Axis axis) {
    const AxisState joined = now_[axis];
    now_[axis] = {};
    if (joined.sharing != Sharing::Sliced) {
      return;
    }
    bool is_in_pieces = false;
    for (const Axis inner : kAxes) {
      const bool goes_on = inner > axis && (holds(now_, inner, joined.dimension) ||
                                            now_[inner].sharing == Sharing::Flat);
      now_[inner].block *= goes_on ? joined.parts : 1;
      is_in_pieces = is_in_pieces || goes_on;
    }
    if (is_in_pieces) {
      gather_whole(joined.dimension);
    }
  }

  void gather_whole(int dimension) {
    for (Need& need : wants_) {
      need.is_sliced = need.is_sliced && need.dimension != dimension;
    }
  }

  bool is_in_place(Axis axis) const {
    const std::array<std::int64_t, 2> sides = reads_.shortage(axis, now_).low_high;
    return sides[0] == 0 && sides[1] == 0;
  }

  // --- node axes ---
  // One dimension on both axes, before or after: no step of the table applies.
  bool clashes() const {
    const AxisState& y = now_[Axis::NodeY];
    const AxisState& x = now_[Axis::NodeX];
    const bool is_held_twice =
        y.sharing == Sharing::Sliced && x.sharing == Sharing::Sliced && y.dimension == x.dimension;
    const bool is_wanted_twice = want(Axis::NodeY).is_sliced && want(Axis::NodeX).is_sliced &&
                                 want(Axis::NodeY).dimension == want(Axis::NodeX).dimension;
    return is_held_twice || (is_wanted_twice && (is_spread(y) || is_spread(x)));
  }

  // Groups first, where rows or columns cannot go on without: where their blocks lie inside those
  // of groups and are wanted in other slices; where what they read differs from group to group.
  void leave_groups() {
    if (!gathers_groups_) {
      return;
    }
    const AxisState& groups = now_[Axis::Group];
    const auto wants = [&](Axis axis, int dimension) {
      return want(axis).is_sliced && want(axis).dimension == dimension;
    };
    bool is_inside = false;
    bool differs = false;
    for (const Axis axis : kNodeAxes) {
      const bool is_sliced = now_[axis].sharing == Sharing::Sliced;
      is_inside =
          is_inside || (groups.sharing == Sharing::Sliced && holds(now_, axis, groups.dimension) &&
                        (want(axis).is_sliced || wants(other(axis), groups.dimension)));
      differs = differs || (want(Axis::Group).is_sliced && is_sliced &&
                            (want(axis).is_sliced || wants(other(axis), now_[axis].dimension)));
    }
    if (differs || is_inside) {  // shares are parts of what a group has
      const auto goes_along = [&](Axis axis) {
        const bool is_of_groups =
            groups.sharing == Sharing::Sliced && holds(now_, axis, groups.dimension);
        return is_of_groups || now_[axis].sharing == Sharing::Flat;
      };
      gather(goes_along(Axis::NodeY), goes_along(Axis::NodeX), false);
    }
  }

  // Slices over groups that are not the op's own are gathered with the first thing that is.
  void gather(bool along_y, bool along_x, bool is_last = true) {
    if (!along_y && !along_x && !gathers_groups_) {
      return;
    }
    Layout after = now_;
    if (gathers_groups_) {
      after[Axis::Group] = {};
    }
    if (along_y) {
      after[Axis::NodeY] = {};
    }
    if (along_x) {
      after[Axis::NodeX] = {};
    }
    if ((is_last || fetch_.is_fallback) && (along_y || gathers_groups_) && along_x &&
        (moves_each(after) || deals(Axis::NodeX, after) || deals(Axis::NodeY, after))) {
      return;
    }
    if (gathers_groups_ && !along_y && along_x) {
      gather_groups(after);
    }
    // At the end what the nodes of the line read, halos included; before a further step, and by the
    // fallback, everything.
    const bool is_all = !is_last || fetch_.is_fallback;
    const Bytes bytes = is_all ? slice_bytes(after) : read_by_line(along_y, along_x);
    const bool keeps_y = gathers_groups_ && !along_y;
    add(machine::all_gather(!along_x  ? machine::Axis::Columns
                            : along_y ? machine::Axis::Both
                                      : machine::Axis::Rows,
                            bytes));
    if (gathers_groups_) {
      fetch_.moves.back().region = all_groups();
      fetch_.moves.back().reach = keeps_y ? static_cast<int>(mesh_.rows_per_group()) : 1;
    }
    gathers_groups_ = false;
    now_ = after;
    fetch_.landing = is_all ? bytes : std::min(bytes, reads_.footprint());
    fetch_.is_gathered = true;
  }

  // Before rows are gathered, so that each column brings its own part: each node row of a group
  // what those of the other groups have.
  void gather_groups(const Layout& after) {
    const Bytes all = with_halo(after);
    Bytes of_column(with_halo(now_).count() * now_[Axis::Group].parts);
    if (is_rearranged_ && now_.has(Sharing::Flat)) {  // no shares of what lies there now
      of_column = all;
    }
    add(machine::all_gather(machine::Axis::Columns, std::min(of_column, all)));
    fetch_.moves.back().region = all_groups();
    fetch_.moves.back().reach = static_cast<int>(mesh_.rows_per_group());
    gathers_groups_ = false;
  }

  // What a node holds of the layout, with what it was sent from its neighbours along node.y.
  Bytes with_halo(const Layout& layout) const {
    const AxisState& y = layout[Axis::NodeY];
    const std::int64_t bytes = slice_bytes(layout).count();
    if (y.sharing != Sharing::Sliced || !want(Axis::NodeY).is_sliced ||
        want(Axis::NodeY).dimension != y.dimension) {
      return Bytes(bytes);
    }
    if (layout.has(Sharing::Flat)) {  // from blocks of other sizes come other shares
      const auto [low, high] = reads_.shortage(Axis::NodeY, layout).low_high;
      return Bytes(bytes) + held_of(layout, Axis::NodeY, low) + held_of(layout, Axis::NodeY, high);
    }
    const std::int64_t longest = std::max(y.block, reads_.longest(y.dimension));
    return Bytes((bytes * longest + y.block - 1) / y.block);
  }

  // Every element goes from the node that holds it to those that read it, where that is less than
  // all of them passing by every node. Only of ops that read an element at one point each. False,
  // and nothing done, if a gather is better.
  bool moves_each(const Layout& after) {
    const graph::OpGroup group = op_.info->group;
    if (group != graph::OpGroup::Elementwise && group != graph::OpGroup::Movement &&
        group != graph::OpGroup::Update) {
      return false;
    }
    const machine::Region all = gathers_groups_ ? all_groups() : region();
    const Bytes read = std::min(reads_.kept(), reads_.footprint());
    const Bytes whole = slice_bytes(after);
    // An element that several nodes read leaves its own as often.
    const std::int64_t copies =
        std::max<std::int64_t>(1, (read.count() * all.nodes() + whole.count() - 1) / whole.count());
    const Bytes bytes = std::max(read, Bytes(slice_bytes(now_).count() * copies));
    if (bytes.count() * std::max(all.rows(), all.columns()) >= whole.count()) {
      return false;
    }
    fetch_.moves.push_back({value_.name, Scope::Inside, all,
                            machine::region_move(all.rows() - 1, all.columns() - 1, bytes), 1});
    gathers_groups_ = false;
    now_ = after;
    fetch_.landing = read;
    return true;
  }

  // Lines across `to` deal out what their nodes hold, to each line along it what that one reads of
  // the dimension that is wanted there; those lines gather theirs. Where that takes less than all
  // passing by every node. False, and nothing done, otherwise.
  bool deals(Axis to, const Layout& after) {
    const Axis from = other(to);
    const Need& need = want(to);
    const bool is_twice = want(from).is_sliced && want(from).dimension == need.dimension;
    if (!need.is_sliced || is_twice || (gathers_groups_ && to == Axis::NodeY)) {
      return false;
    }
    const machine::Region all = gathers_groups_ ? all_groups() : region();
    const std::int64_t line = to == Axis::NodeX ? all.columns() : all.rows();
    // A line reads what each of its groups does.
    const bool has_groups_in_line = gathers_groups_ && want(Axis::Group).is_sliced &&
                                    want(Axis::Group).dimension == need.dimension;
    const Bytes pair = largest_pair(now_, need.dimension,
                                    has_groups_in_line ? split_.on(Axis::Group)->cut.parts : 1);
    const Bytes gathered = read_by_line(from == Axis::NodeY, from == Axis::NodeX);
    const auto packets = [](Bytes bytes) { return (bytes.count() + kPacket - 1) / kPacket; };
    const std::int64_t slots = line * line / 4;
    if (slots * (2 + packets(pair)) + packets(gathered) >= packets(slice_bytes(after))) {
      return false;
    }
    fetch_.moves.push_back(
        {value_.name, Scope::Inside, all, machine::all_to_all(lines_of(to), pair), 1});
    fetch_.moves.push_back(
        {value_.name, Scope::Inside, all, machine::all_gather(lines_of(from), gathered), 1});
    gathers_groups_ = false;
    fetch_.is_fallback = false;
    now_ = after;
    fetch_.landing = reads_.footprint();
    fetch_.is_gathered = true;
    return true;
  }

  // Of what a node holds of the layout, at most so much is of the indices of the dimension that so
  // many nodes read.
  Bytes largest_pair(const Layout& layout, int dimension, std::int64_t readers = 1) const {
    return most_with(layout, dimension, reads_.longest(dimension) * readers);
  }

  Bytes most_with(const Layout& layout, int dimension, std::int64_t indices) const {
    return internal::most_with({value_, layout, is_scrambled_}, dimension, indices);
  }

  // A dimension that lies on one node axis and is needed on the other.
  void change_axes() {
    for (const Axis to : kNodeAxes) {
      const Axis from = other(to);
      if (!want(to).is_sliced || !holds(now_, from, want(to).dimension)) {
        continue;
      }
      if (now_[to].sharing == Sharing::Sliced && want(from).is_sliced &&
          holds(now_, to, want(from).dimension)) {  // both change places: one permutation
        const machine::Region all = region();
        add(machine::region_move(all.rows() - 1, all.columns() - 1,
                                 std::max(slice_bytes(now_), reads_.footprint())));
        now_[to] = now_[from] = {};  // sliced as wanted: nothing more to do
        fetch_.landing = reads_.footprint();
        return;
      }
      const int dimension = want(to).dimension;
      const bool is_in_the_way = is_spread(now_[to]);
      gather(to == Axis::NodeY && is_in_the_way, to == Axis::NodeX && is_in_the_way, false);
      // On each line of `from`, the node that has the block of this line sends it to all others.
      const Bytes block = with_needed(dimension);
      add(machine::multicast(lines_of(from), block, static_cast<int>(span(from) / 2)));
      now_[from] = {};
      fetch_.landing = block;  // sliced as wanted: nothing more to do along `to`
      fetch_.is_gathered = true;
      return;
    }
  }

  // Bytes of what is held now, with as much of the dimension as the busiest node reads.
  Bytes with_needed(int dimension) const {
    Layout layout = now_;
    layout[Axis::NodeY] = holds(now_, Axis::NodeY, dimension) ? AxisState{} : now_[Axis::NodeY];
    layout[Axis::NodeX] = holds(now_, Axis::NodeX, dimension) ? AxisState{} : now_[Axis::NodeX];
    return largest_pair(layout, dimension);
  }

  // Every stage reads the dimension that lies on this axis through an index.
  bool is_looked_up(Axis axis) const {
    const AxisState& state = now_[axis];
    return state.sharing == Sharing::Sliced && !split_.on(axis).has_value() &&
           std::all_of(reads_.all().begin(), reads_.all().end(), [&](const Reading& reading) {
             return std::holds_alternative<graph::Indexed>(
                 reading.operand->access[static_cast<std::size_t>(state.dimension)]);
           });
  }

  // The owners send what the indices pick, zeros elsewhere: a sum with one term, exact.
  void look_up(Axis axis) {
    add(machine::all_reduce(lines_of(axis), Association::Chain, reads_.footprint()));
    now_[axis] = {};
    fetch_.landing = reads_.footprint();
  }

  void step_along_axes() {
    for (const Axis axis : kNodeAxes) {
      if (is_looked_up(axis) && !is_masked(axis)) {
        look_up(axis);
      }
    }
    std::array<bool, 2> gathers{};
    std::array<bool, 2> halos{};
    for (std::size_t i = 0; i < kNodeAxes.size(); ++i) {
      const Axis axis = kNodeAxes[i];
      const AxisState state = now_[axis];
      if (!is_spread(state) || is_masked(axis) || has_flat_share(axis)) {
        continue;
      }
      const Need& need = want(axis);
      const bool is_sliced = state.sharing == Sharing::Sliced && need.is_sliced;
      halos[i] = is_sliced && need.dimension == state.dimension;
      gathers[i] = !halos[i] && !(is_sliced && to_other_dimension(axis, need.dimension));
    }
    send_halos(halos, gathers);
    gather(gathers[0], gathers[1]);
  }

  // Along an axis whose line is gathered after all there is none.
  void send_halos(std::array<bool, 2> halos, std::array<bool, 2>& gathers) {
    machine::HaloBytes sides;
    int reach = 1;
    for (std::size_t i = 0; i < kNodeAxes.size(); ++i) {
      const bool goes_on = gathers[1 - i] || gathers_groups_;
      if (halos[i] && !collect_halo(kNodeAxes[i], goes_on, sides, reach)) {
        halos[i] = false;
        gathers[i] = true;
        send_halos(halos, gathers);
        return;
      }
    }
    if (sides != machine::HaloBytes{}) {
      add(machine::halo(sides), Scope::Inside, reach);
      fetch_.landing += sides.north + sides.south + sides.east + sides.west;
    }
  }

  // Slots are as long as the largest pair: a block of what lies there, as much of the other
  // dimension as a node reads. False, and nothing done, where it is quicker to gather the line.
  bool to_other_dimension(Axis axis, int dimension) {
    const std::int64_t parts = span(axis);
    const Pattern pairs = machine::all_to_all(lines_of(axis), largest_pair(now_, dimension));
    if (is_gathered_sooner(axis, pairs, 1)) {
      return false;
    }
    add(pairs);
    now_[axis] = program::sliced(dimension, {axis, parts, reads_.longest(dimension)});
    is_rearranged_ = true;
    fetch_.landing = reads_.footprint();
    return true;
  }

  bool is_gathered_sooner(Axis axis, const Pattern& pattern, int reach) const {
    Layout after = now_;
    after[axis] = {};
    const Pattern gathered = machine::all_gather(lines_of(axis), slice_bytes(after));
    const double pace = machine_.network.pace;
    return cost::pattern_cost(gathered, region(), machine_).total(pace) <
           cost::pattern_cost(pattern, region(), machine_, reach).total(pace);
  }

  // False, and nothing done, where it is quicker to gather the line: of what comes from afar.
  // `goes_on`: from the node to others, by a gather.
  bool collect_halo(Axis axis, bool goes_on, machine::HaloBytes& sides, int& reach) const {
    if (!split_.on(axis).has_value()) {
      return true;
    }
    const Shortage worst = reads_.shortage(axis, now_);
    const std::int64_t line = reads_.bytes_per_index(axis, now_[axis].dimension);
    const auto side = [&](std::int64_t indices) {
      return std::max(Bytes(indices * line), goes_on ? held_of(now_, axis, indices) : Bytes(0));
    };
    const Bytes low = side(worst.low_high[0]);
    const Bytes high = side(worst.low_high[1]);
    machine::HaloBytes halo;
    (axis == Axis::NodeY ? halo.north : halo.west) = low;
    (axis == Axis::NodeY ? halo.south : halo.east) = high;
    if (low + high == Bytes(0)) {
      return true;
    }
    if (worst.reach > 1 &&
        is_gathered_sooner(axis, machine::halo(halo), static_cast<int>(worst.reach))) {
      return false;
    }
    sides.north += halo.north;
    sides.south += halo.south;
    sides.east += halo.east;
    sides.west += halo.west;
    reach = std::max(reach, static_cast<int>(worst.reach));
    return true;
  }

  Bytes held_of(const Layout& layout, Axis axis, std::int64_t indices) const {
    return held_along({value_, layout, is_scrambled_}, axis, indices);
  }

  const graph::Op& op_;
  const OpPlan& plan_;
  const SplitNest& split_;
  const Mesh& mesh_;
  const machine::MachineModel& machine_;
  ValueId id_;
  const graph::Value& value_;
  Layout now_;
  bool is_scrambled_;
  bool is_after_;  // reads all micro-batches
  Reads reads_;
  bool gathers_groups_ = false;  // still to be done
  bool is_rearranged_ = false;   // an axis has another dimension now
  std::array<Need, kAxes.size()> wants_{};
  std::array<bool, kAxes.size()> flat_shares_{};
  Fetch fetch_;
};

}  // namespace

Fetch fetch(const graph::Graph& graph, OpId op, int input, const LayoutPlan& plan, const Mesh& mesh,
            const machine::MachineModel& machine) {
  return Fetcher(graph, op, input, plan, mesh, machine).run();
}

}  // namespace dojo::place::internal
