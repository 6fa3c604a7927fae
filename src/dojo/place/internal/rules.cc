#include "dojo/place/internal/rules.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>

#include "dojo/place/internal/leaf_layouts.h"

namespace dojo::place::internal {

using graph::BodyClass;
using graph::LoopKind;
using graph::Operand;
using graph::OpGroup;
using graph::Shape;
using graph::Stage;
using graph::TensorKind;
using program::Axis;
using program::AxisCut;
using program::AxisState;
using program::cut;
using program::kAxes;
using program::Layout;
using program::Sharing;

namespace {

// One candidate of a class rule: a loop and the grain of its blocks.
struct Wish {
  int loop = 0;
  std::int64_t quantum = 1;
  std::int64_t least_block = 1;
};

// Reads an op's stages and fills the axes of its split.
class Chooser {
 public:
  Chooser(graph::LoopNest nest, const OpView& op, const Mesh& mesh)
      : split_(std::move(nest)), op_(op), mesh_(mesh) {}

  SplitNest choose() {
    if (is_whole()) {
      return std::move(split_);
    }
    follow_batch();
    if (op_.info->group == OpGroup::Matrix) {
      if (mesh_.has_free_groups()) {
        choose_groups();
      }
      choose_matrix();
    } else if (op_.info->group == OpGroup::Pool) {
      wish(Axis::NodeY, loops({"y", "h", "n"}));
      wish(Axis::NodeX, loops({"x", "w", "c"}));
    } else if (op_.info->group == OpGroup::Indexing && op_.target.has_value()) {
      follow_output(*op_.target);
    } else if (op_.info->group == OpGroup::Indexing && follow_table()) {
      return std::move(split_);
    } else {
      if (mesh_.has_free_groups() && nest().stages.size() > 1 &&
          op_.info->group == OpGroup::Movement) {
        deal_common_loops();
      }
      follow_operand();
      spread();
    }
    return std::move(split_);
  }

 private:
  const graph::LoopNest& nest() const { return split_.nest(); }

  bool is_whole() const {
    return std::any_of(nest().stages.begin(), nest().stages.end(),
                       [](const Stage& stage) { return stage.body == BodyClass::Whole; });
  }

  // The first reading of an operand that is an affine map of loops.
  const Operand* reading(int input) const {
    for (const Stage& stage : nest().stages) {
      for (const Operand& operand : stage.operands) {
        if (operand.use == graph::OperandUse::Read && operand.tensor.kind == TensorKind::Input &&
            operand.tensor.index == input) {
          return &operand;
        }
      }
    }
    return nullptr;
  }

  bool is_scattered(int loop) const {
    return std::any_of(nest().stages.begin(), nest().stages.end(), [&](const Stage& stage) {
      return graph::kind_of(stage, loop) == LoopKind::Indexed;
    });
  }

  // The result that has the shape of an operand of which only the shape is read.
  const Operand* result_like(const OperandView& view) const {
    for (const Operand& operand : nest().stages.front().operands) {
      if (operand.use == graph::OperandUse::Write && operand.shape == view.shape) {
        return &operand;
      }
    }
    return nullptr;
  }

  // Takes over an operand's slices along one axis. False if its loops do not allow it.
  bool follow(Axis axis, const OperandView& view) {
    const AxisState& state = view.layout[axis];
    const Operand* operand = reading(view.input);
    if (operand == nullptr && axis == Axis::Micro) {
      operand = result_like(view);
    }
    if (state.sharing != Sharing::Sliced || operand == nullptr) {
      return false;
    }
    const auto found = loop_of_slice(
        split_, operand->access[static_cast<std::size_t>(state.dimension)], axis, state.block);
    // Rows that are added in the order of samples: the first micro-batch of several replicas or
    // groups has later ones already.
    const bool is_shared = view.layout[Axis::Replica].sharing == Sharing::Sliced ||
                           view.layout[Axis::Group].sharing == Sharing::Sliced;
    if (axis == Axis::Micro && is_shared && found.has_value() && is_scattered(found->loop)) {
      return false;
    }
    return found.has_value() && assign_if_places(axis, *found);
  }

  // A longer loop than the operand's dimension (concatenation), or one that outer axes do not cut
  // as they cut the dimension, may need more places than there are.
  bool assign_if_places(Axis axis, const LoopBlock& found) {
    return split_.extent_at(axis, found.loop) <= found.block * mesh_.places(axis) &&
           split_.assign(axis, found.loop, found.block);
  }

  // The loop that carries the samples of the first operand that has any. Of a leaf's own slices
  // over groups (weights) nothing is followed.
  void follow_batch() {
    for (const Axis axis : {Axis::Replica, Axis::Group, Axis::Micro}) {
      if (axis == Axis::Group && mesh_.has_free_groups()) {
        continue;  // no samples
      }
      for (const OperandView& view : op_.operands) {
        if (!view.is_elsewhere && !view.is_weight && follow(axis, view)) {
          break;
        }
      }
    }
  }

  // --- free groups ---
  // Where a weight lies over groups, its products are made there; else where the sum's points lie;
  // else matrices of a batch, or columns of the result.
  void choose_groups() {
    if (op_.makes_weight_gradient) {
      if (op_.target.has_value()) {
        follow_output(*op_.target);
      }
      wish(Axis::NodeY, loops({"m", "n"}, kMatrixQuantum));
      return;
    }
    for (const bool are_weights : {true, false}) {
      for (const OperandView& view : op_.operands) {
        if (view.is_weight == are_weights && !view.is_elsewhere &&
            follow_over_groups(view, are_weights)) {
          return;
        }
      }
    }
    const std::vector<Wish> batch = loops({"b"});
    wish(Axis::Group, batch.empty() ? loops({"n"}, kMatrixQuantum) : batch);
  }

  // What makes several tensors: loops that all of them have, over groups and rows both.
  void deal_common_loops() {
    std::vector<Wish> common;
    for (int loop = 0; loop < static_cast<int>(nest().loops.size()); ++loop) {
      if (std::all_of(nest().stages.begin(), nest().stages.end(), [&](const Stage& stage) {
            return graph::kind_of(stage, loop) == LoopKind::Parallel;
          })) {
        common.push_back({loop, 1, 1});
      }
    }
    wish(Axis::Group, common);
    wish(Axis::NodeY, common);
  }

  // Of activations only a sum's points or a batch's matrices.
  bool follow_over_groups(const OperandView& view, bool is_weight) {
    const AxisState& state = view.layout[Axis::Group];
    const Operand* const operand = reading(view.input);
    if (state.sharing != Sharing::Sliced || operand == nullptr) {
      return false;
    }
    const auto found =
        loop_of_slice(split_, operand->access[static_cast<std::size_t>(state.dimension)],
                      Axis::Group, state.block);
    if (!found.has_value()) {
      return false;
    }
    const bool is_sum = !is_parallel(found->loop);
    const bool is_batch = nest().loop_named("b") == std::optional(found->loop);
    return (is_weight || is_sum || is_batch) && (!is_sum || found->block >= kLeastReducePoints) &&
           follow(Axis::Group, view);
  }

  // The first of the wishes that keeps half of the axis busy, else the one that keeps most.
  void wish(Axis axis, const std::vector<Wish>& wishes) {
    std::optional<Wish> best;
    std::int64_t best_parts = 1;
    for (const Wish& each : wishes) {
      SplitNest trial = split_;
      const std::int64_t block = block_of(axis, each);
      if (!trial.assign(axis, each.loop, block)) {
        continue;
      }
      const std::int64_t parts = trial.on(axis)->cut.parts;
      if (parts > best_parts) {
        best = each;
        best_parts = parts;
      }
      if (parts * 2 >= mesh_.places(axis)) {
        break;
      }
    }
    if (best.has_value()) {
      split_.assign(axis, best->loop, block_of(axis, *best));
    }
  }

  // Inside the samples of a replica or group, blocks divide them, so that sums over the same loop
  // can be cut where the data lie.
  std::int64_t block_of(Axis axis, const Wish& each) const {
    const std::int64_t extent = split_.extent_at(axis, each.loop);
    const AxisCut made = cut(axis, extent, mesh_.places(axis), each.quantum);
    const bool is_inner = extent < nest().loops[static_cast<std::size_t>(each.loop)].extent;
    return std::max(is_inner ? even(made, extent).block : made.block, each.least_block);
  }

  std::vector<Wish> loops(std::initializer_list<std::string_view> names,
                          std::int64_t quantum = 1) const {
    std::vector<Wish> out;
    for (const std::string_view name : names) {
      if (const auto loop = nest().loop_named(name)) {
        out.push_back({*loop, quantum, 1});
      }
    }
    return out;
  }

  void choose_matrix() {
    const std::string_view name = op_.info->name;
    if (name == "dojo.conv_weight_grad") {
      choose_weight_gradient();
    } else if (name.find("conv") != std::string_view::npos) {
      wish(Axis::NodeY, loops({"y", "h", "n"}));
      std::vector<Wish> columns = loops({"x", "w"});
      for (const Wish& channels : loops({"o", "c"}, kMatrixQuantum)) {
        if (is_parallel(channels.loop)) {
          columns.push_back(channels);
        }
      }
      for (const Wish& groups : loops({"g", "n"})) {
        columns.push_back(groups);
      }
      wish(Axis::NodeX, columns);
    } else if (op_.makes_weight_gradient) {  // as the weight lies: its first dimension over node.x
      const bool is_turned = op_.target.has_value() &&
                             (*op_.target)[Axis::NodeY].sharing == Sharing::Sliced &&
                             (*op_.target)[Axis::NodeY].dimension == 0;
      wish(Axis::NodeX, loops({is_turned ? "n" : "m"}, kMatrixQuantum));
      wish(Axis::NodeY, loops({is_turned ? "m" : "n"}, kMatrixQuantum));
    } else {
      std::vector<Wish> rows = loops({"b"});
      const std::vector<Wish> m = loops({"m"}, kMatrixQuantum);
      rows.insert(rows.end(), m.begin(), m.end());
      wish(Axis::NodeY, rows);
      const bool is_batched = split_.on(Axis::NodeY).has_value() && !m.empty() &&
                              split_.on(Axis::NodeY)->loop != m.front().loop;
      wish(Axis::NodeX,
           is_batched ? loops({"m", "n"}, kMatrixQuantum) : loops({"n", "m"}, kMatrixQuantum));
    }
  }

  bool is_parallel(int loop) const {
    return graph::kind_of(nest().stages.front(), loop) == LoopKind::Parallel;
  }

  // Rows of the map where they lie, if a part keeps enough of the sum; else channels, so that
  // nothing is cut. Output channels over node.x, as the weight lies; for few of them, columns.
  void choose_weight_gradient() {
    const auto with_channels = [&](std::vector<Wish> wishes) {
      for (const Wish& channels : loops({"c"}, kMatrixQuantum)) {
        wishes.push_back(channels);
      }
      return wishes;
    };
    wish(Axis::NodeY, with_channels(summed({"y"})));
    std::vector<Wish> columns = loops({"o", "g"}, kMatrixQuantum);
    for (const Wish& positions : summed({"x"})) {
      columns.push_back(positions);
    }
    wish(Axis::NodeX, with_channels(columns));
  }

  // Reduce loops, in blocks that keep kLeastReducePoints of the whole sum together.
  std::vector<Wish> summed(std::initializer_list<std::string_view> names) const {
    std::vector<Wish> wishes = loops(names);
    for (Wish& each : wishes) {
      std::int64_t others = 1;
      for (const graph::StageLoop& loop : nest().stages.front().loops) {
        if (loop.kind == LoopKind::Reduce && loop.loop != each.loop) {
          others *= split_.local_extent(loop.loop);
        }
      }
      others = std::max<std::int64_t>(1, others);
      each.least_block = (kLeastReducePoints + others - 1) / others;
    }
    return wishes;
  }

  // An embedding: the table stays where it is, its rows are looked up by their owners; only the
  // dimensions that are not looked up follow it.
  bool follow_table() {
    bool is_table = false;
    for (const OperandView& view : op_.operands) {
      const Operand* const operand = reading(view.input);
      const bool is_indexed =
          operand != nullptr &&
          std::any_of(operand->access.begin(), operand->access.end(), [](const auto& access) {
            return std::holds_alternative<graph::Indexed>(access);
          });
      if (is_indexed && !is_table) {
        is_table = true;
        for (const Axis axis : {Axis::NodeY, Axis::NodeX}) {
          if (view.layout[axis].sharing == Sharing::Sliced &&
              !std::holds_alternative<graph::Indexed>(
                  operand->access[static_cast<std::size_t>(view.layout[axis].dimension)])) {
            follow(axis, view);
          }
        }
      }
    }
    return is_table && (split_.on(Axis::NodeY).has_value() || split_.on(Axis::NodeX).has_value());
  }

  // Takes over how one operand lies: the fused one if there is one, else of the largest the one
  // that is cut finest.
  void follow_operand() {
    const OperandView* leader = nullptr;
    std::int64_t leader_size = 0;
    std::int64_t leader_slice = 0;
    for (const OperandView& view : op_.operands) {
      const Operand* const operand = reading(view.input);
      if (operand == nullptr || view.is_elsewhere) {
        continue;
      }
      const std::int64_t size = graph::element_count(operand->shape);
      const std::int64_t slice = program::slice_elements(view.layout, operand->shape);
      if (view.is_fused || op_.info->group == OpGroup::Update) {  // an update: its weight
        leader = &view;
        break;
      }
      if (size > leader_size || (size == leader_size && slice < leader_slice)) {
        leader = &view;
        leader_size = size;
        leader_slice = slice;
      }
    }
    if (leader == nullptr) {
      return;
    }
    bool stays = true;  // where it lies
    for (const Axis axis : {Axis::Group, Axis::NodeY, Axis::NodeX}) {
      const bool is_followed = follow(axis, *leader);  // groups: of a weight; those of samples are
      if (axis != Axis::Group && leader->layout[axis].sharing == Sharing::Sliced) {  // already
        stays = stays && is_followed;
      }
    }
    const bool is_free = std::none_of(kAxes.begin(), kAxes.end(), [&](Axis axis) {
      return leader->layout[axis].sharing == Sharing::Flat && split_.on(axis).has_value();
    });
    if (leader->layout.has(Sharing::Flat) && is_free && is_pointwise(nest())) {
      for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
        if (leader->layout[axis].sharing == Sharing::Flat) {
          split_.assign_flat(axis, leader->layout[axis]);
        }
      }
    }
    is_settled_ =
        (leader->is_fused && stays) || op_.info->group == OpGroup::Update || split_.has_flat();
  }

  void follow_output(const Layout& layout) {
    const Stage& stage = nest().stages.back();
    for (const Operand& operand : stage.operands) {
      if (operand.use != graph::OperandUse::Write) {
        continue;
      }
      for (const Axis axis : {Axis::Group, Axis::NodeY, Axis::NodeX}) {
        if (layout[axis].sharing == Sharing::Sliced) {
          const auto found = loop_of_slice(
              split_, operand.access[static_cast<std::size_t>(layout[axis].dimension)], axis,
              layout[axis].block);
          if (found.has_value()) {
            assign_if_places(axis, *found);
          }
        }
      }
      return;
    }
  }

  // Axes that nothing was followed on: parallel loops from the front to node.y, from the back to
  // node.x, if that leaves at least a vector for every node.
  void spread() {
    if (is_settled_) {
      return;
    }
    std::int64_t results = 1;
    std::vector<Wish> wishes;
    for (const graph::StageLoop& loop : nest().stages.back().loops) {
      if (loop.kind == LoopKind::Parallel) {
        const std::int64_t extent = split_.local_extent(loop.loop);
        results *= extent;
        wishes.push_back({loop.loop, 1, 1});
      }
    }
    for (const Axis axis : {Axis::NodeY, Axis::NodeX}) {
      if (!split_.on(axis).has_value() && results >= 16 * mesh_.places(axis)) {
        std::vector<Wish> free = wishes;
        if (axis == Axis::NodeX) {
          std::reverse(free.begin(), free.end());
        }
        for (Wish& each : free) {
          const bool is_long =
              split_.local_extent(each.loop) >= kMatrixQuantum * mesh_.places(axis);
          each.quantum = is_long ? kMatrixQuantum : 1;
        }
        wish(axis, free);
      }
    }
  }

  bool is_settled_ = false;  // axes that are left stay so
  SplitNest split_;
  const OpView& op_;
  const Mesh& mesh_;
};

}  // namespace

SplitNest choose_split(graph::LoopNest nest, const OpView& op, const Mesh& mesh) {
  return Chooser(std::move(nest), op, mesh).choose();
}

SplitNest split_for_output(graph::LoopNest nest, const Layout& layout) {
  SplitNest split(std::move(nest));
  for (const Stage& stage : split.nest().stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use != graph::OperandUse::Write || operand.tensor.kind != TensorKind::Output ||
          operand.tensor.index != 0) {
        continue;
      }
      for (const Axis axis : kAxes) {
        const AxisState& state = layout[axis];
        if (state.sharing != Sharing::Sliced) {
          continue;
        }
        const auto found = loop_of_slice(
            split, operand.access[static_cast<std::size_t>(state.dimension)], axis, state.block);
        if (found.has_value()) {
          split.assign(axis, found->loop, found->block);
        }
      }
      return split;
    }
  }
  return split;
}

}  // namespace dojo::place::internal
