#include "dojo/place/internal/layout_plan.h"

#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/leaf_layouts.h"
#include "dojo/place/internal/op_kinds.h"
#include "dojo/place/internal/residents.h"
#include "dojo/place/internal/room.h"
#include "dojo/place/internal/turns.h"
#include "dojo/place/internal/views.h"
#include "dojo/place/internal/weights.h"

namespace dojo::place::internal {

using graph::Graph;
using graph::LoopNest;
using graph::Op;
using graph::Operand;
using graph::OpGroup;
using graph::Stage;
using graph::TensorKind;
using graph::Value;
using graph::ValueKind;
using program::Axis;
using program::AxisState;
using program::kAxes;
using program::Layout;
using program::Sharing;

const Operand* reading_of(const LoopNest& nest, int index) {
  for (const Stage& stage : nest.stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use == graph::OperandUse::Read && operand.tensor.kind == TensorKind::Input &&
          operand.tensor.index == index) {
        return &operand;
      }
    }
  }
  return nullptr;
}

std::optional<Writing> writing_of(const LoopNest& nest, int index) {
  for (const Stage& stage : nest.stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use == graph::OperandUse::Write && operand.tensor.kind == TensorKind::Output &&
          operand.tensor.index == index) {
        return Writing{&stage, &operand};
      }
    }
  }
  return std::nullopt;
}

namespace {

class Planner {
 public:
  // `as_read`: by value, how weights are wanted; empty: as their shape says.
  Planner(const Graph& graph, const Mesh& mesh, std::vector<std::optional<Layout>> as_read)
      : graph_(graph), mesh_(mesh), uses_(graph::uses_of(graph)), as_read_(std::move(as_read)) {
    plan_.ops.resize(graph.ops.size());
    plan_.held.resize(graph.values.size());
    plan_.is_scrambled.resize(graph.values.size(), false);
    waits_.resize(graph.values.size(), false);
    if (!mesh.deals.empty()) {
      kinds_ = kinds_of(graph);
    }
    mark_weights();
    mark_early();
    for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
      plan_.root.push_back(ValueId{i});
    }
  }

  LayoutPlan plan() {
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      if (graph_.values[i].kind != ValueKind::Op) {
        plan_.held[i] = leaf_layout(ValueId{i});
      }
    }
    for (std::uint32_t i = 0; i < graph_.ops.size(); ++i) {
      if (!waits(graph_.ops[i])) {
        plan_op(OpId{i});
      }
    }
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      if (waits_[i]) {  // nobody reads it
        settle(ValueId{i}, Layout{});
      }
    }
    settle_buffers();
    return std::move(plan_);
  }

 private:
  // --- leaves ---
  bool is_only_looked_up(ValueId id) const {
    bool has_lookup = false;
    for (const OpId reader : uses_.readers[id.index]) {
      const Op& op = graph_.ops[reader.index];
      if (op.info->group == OpGroup::Update) {
        continue;
      }
      if (op.info->group == OpGroup::Indexing) {
        has_lookup = true;
      } else if (op.info->group == OpGroup::Elementwise || is_view(op)) {
        if (op.outputs.front().has_value()) {
          if (!is_only_looked_up(*op.outputs.front())) {
            return false;
          }
          has_lookup = true;
        }
      } else {
        return false;
      }
    }
    return has_lookup;
  }

  Layout leaf_layout(ValueId id) const {
    const Value& value = graph_.value(id);
    const bool is_small = graph::stored_bytes(value) <= Bytes(kReplicatedBufferBytes);
    const bool has_samples = !value.shape.empty() && value.shape.front() == mesh_.replicas.batch;
    // An input without samples that is too large to lie everywhere lies as a weight does.
    if (value.kind == ValueKind::Input && (has_samples || is_small)) {
      return input_layout(value.shape, value.format, mesh_, is_early_[id.index]);
    }
    if (value.shape.empty() || (value.kind == ValueKind::Buffer && is_small)) {
      return {};
    }
    // A state lies as its weight does; both have the same shape, but only the weight has readers.
    const ValueId weight = weight_of(id);
    if (!as_read_.empty() && as_read_[weight.index].has_value()) {
      if (const auto layout =
              weight_layout_as_read(*as_read_[weight.index], value.shape, value.format, mesh_)) {
        return *layout;
      }
    }
    return weight_layout(value.shape, value.format, mesh_, is_only_looked_up(weight));
  }

  // A buffer that one op reads and changes (running statistics) lies as that op writes it.
  void settle_buffers() {
    for (const graph::Update& update : graph_.updates) {
      const auto& readers = uses_.readers[update.target.index];
      const auto& definition = uses_.definition[update.value.index];
      const bool has_one_owner =
          definition.has_value() &&
          std::all_of(readers.begin(), readers.end(), [&](OpId id) { return id == *definition; });
      if (graph_.value(update.target).kind == ValueKind::Buffer && has_one_owner) {
        plan_.held[update.target.index] = plan_.held[update.value.index];
      }
    }
  }

  // The weight itself; of a state the one that the same update op changes.
  ValueId weight_of(ValueId id) const {
    if (graph_.value(id).kind == ValueKind::State) {
      for (const OpId reader : uses_.readers[id.index]) {
        const Op& op = graph_.ops[reader.index];
        if (op.info->group == OpGroup::Update && op.inputs.front().has_value()) {
          return *op.inputs.front();
        }
      }
    }
    return id;
  }

  // --- ops that wait for their reader ---
  // Made from nothing (masks, constants), or a view of such: whoever reads it says how it lies.
  bool waits(const Op& op) {
    const bool has_inputs = std::any_of(op.inputs.begin(), op.inputs.end(),
                                        [](const auto& input) { return input.has_value(); });
    const bool is_waiting_view =
        is_view(op) && op.inputs.front().has_value() && waits_[op.inputs.front()->index];
    if (has_inputs && !is_waiting_view) {
      return false;
    }
    for (const auto& output : op.outputs) {
      if (output.has_value()) {
        waits_[output->index] = true;
      }
    }
    return true;
  }

  void settle(ValueId id, const Layout& wanted) {
    if (!waits_[id.index]) {
      return;
    }
    const OpId definition = *uses_.definition[id.index];
    const Op& op = graph_.ops[definition.index];
    OpPlan& plan = plan_.ops[definition.index];
    LoopNest nest = graph::nest_of(graph_, op);
    const bool has_size = std::any_of(wanted.axes.begin(), wanted.axes.end(), [](const auto& axis) {
      return axis.sharing == Sharing::Sliced;
    });
    plan.split = has_size ? split_for_output(std::move(nest), wanted)
                          : choose_split(std::move(nest),
                                         {.info = op.info, .operands = {}, .target = {}}, mesh_);
    if (is_view(op)) {
      const Operand* const operand = reading_of(plan.split.nest(), 0);
      settle(*op.inputs.front(), operand == nullptr ? Layout{} : plan.split.read(*operand));
      waits_[id.index] = false;
      plan_view(definition);
      return;
    }
    for (const auto& output : op.outputs) {
      if (output.has_value()) {
        waits_[output->index] = false;
      }
    }
    finish(definition);
  }

  // --- targets ---
  // How a gradient must lie in the end: as the weight that its update op changes.
  std::optional<Layout> target_of(ValueId id, int depth = 0) const {
    for (const OpId reader : uses_.readers[id.index]) {
      const Op& op = graph_.ops[reader.index];
      const Value& value = graph_.value(id);
      if (op.info->group == OpGroup::Update && op.inputs.front().has_value() &&
          graph_.value(*op.inputs.front()).shape == value.shape) {
        return plan_.held[op.inputs.front()->index];
      }
      if (depth > 8 || op.outputs.empty() || !op.outputs.front().has_value()) {
        continue;
      }
      const bool keeps_shape = op.info->group == OpGroup::Elementwise &&
                               graph_.value(*op.outputs.front()).shape == value.shape;
      if (!keeps_shape && !is_view(op)) {
        continue;
      }
      const auto target = target_of(*op.outputs.front(), depth + 1);
      if (!target.has_value() || keeps_shape) {
        if (target.has_value()) {
          return target;
        }
        continue;
      }
      if (auto back = through_view(graph_, op, *target)) {
        return back;
      }
    }
    return std::nullopt;
  }

  // --- ops ---
  // Flat shares of a permuted alias are nobody's slices: whoever reads them gathers.
  Layout seen(ValueId id) const {
    Layout layout = plan_.held[id.index];
    if (plan_.is_scrambled[id.index]) {
      for (AxisState& state : layout.axes) {
        state = state.sharing == Sharing::Flat ? AxisState{} : state;
      }
    }
    return layout;
  }

  bool plan_view(OpId id) {
    const Op& op = graph_.ops[id.index];
    OpPlan& plan = plan_.ops[id.index];
    const ValueId from = *op.inputs.front();
    const auto kept = keep_in_place(graph::nest_of(graph_, op), plan_.held[from.index]);
    const auto outputs = std::count_if(op.outputs.begin(), op.outputs.end(),
                                       [](const auto& output) { return output.has_value(); });
    const auto writing = kept.has_value() ? writing_of(kept->nest(), 0) : std::nullopt;
    if (!writing.has_value() || outputs != 1 || !op.outputs.front().has_value()) {
      return false;
    }
    plan.split = *kept;
    plan.is_alias = true;
    Layout layout = kept->written(*writing->stage, *writing->operand);
    const Layout& given = plan_.held[from.index];
    for (const Axis axis : kAxes) {
      if (given[axis].sharing == Sharing::Flat) {
        layout[axis] = given[axis];
      }
    }
    const ValueId to = *op.outputs.front();
    plan.raw = plan.stored = {layout};
    plan_.held[to.index] = layout;
    plan_.root[to.index] = plan_.root[from.index];
    plan_.is_scrambled[to.index] =
        plan_.is_scrambled[from.index] || (layout.has(Sharing::Flat) && !op.info->is_reshape);
    return true;
  }

  void plan_op(OpId id) {
    const Op& op = graph_.ops[id.index];
    if (is_view(op) && op.inputs.front().has_value() && plan_view(id)) {
      return;
    }
    OpView view{.info = op.info, .operands = {}, .target = {}};
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i].has_value()) {
        view.operands.push_back({.input = static_cast<int>(i),
                                 .layout = seen(*op.inputs[i], op),
                                 .shape = graph_.value(*op.inputs[i]).shape,
                                 .is_fused = graph_.value(*op.inputs[i]).is_fused,
                                 .is_elsewhere = waits_[op.inputs[i]->index],
                                 .is_weight = is_weight_[op.inputs[i]->index]});
      }
    }
    if (!op.outputs.empty() && op.outputs.front().has_value() &&
        op.info->group != OpGroup::Update) {
      view.target = target_of(*op.outputs.front());
      view.makes_weight_gradient =
          view.target.has_value() ||
          graph_.value(*op.outputs.front()).role == graph::Role::WeightGradient;
    }
    OpPlan& plan = plan_.ops[id.index];
    plan.split = choose_split(graph::nest_of(graph_, op), view, mesh_);
    find_masked(op, plan);
    if (const auto other = dealt_split(id)) {
      plan.split = *other;
    } else if (plan.masked.empty()) {
      plan.split = with_room(std::move(plan.split), graph_, op, mesh_);
    }
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i].has_value() && waits_[op.inputs[i]->index]) {
        const Operand* const operand = reading_of(plan.split.nest(), static_cast<int>(i));
        settle(*op.inputs[i], operand == nullptr ? Layout{} : plan.split.read(*operand));
      }
    }
    finish(id);
  }

  // What a search wants instead of the rules' split.
  std::optional<SplitNest> dealt_split(OpId id) const {
    const OpPlan& plan = plan_.ops[id.index];
    if (kinds_.empty() || !may_be_dealt(graph_.ops[id.index], plan)) {
      return std::nullopt;
    }
    const auto found =
        std::lower_bound(mesh_.deals.begin(), mesh_.deals.end(), kinds_[id.index],
                         [](const Deal& deal, int kind) { return deal.kind < kind; });
    if (found == mesh_.deals.end() || found->kind != kinds_[id.index]) {
      return std::nullopt;
    }
    return dealt(plan.split, *found, mesh_);
  }

  // What sums that are known before the first micro-batch are made from: all samples of it are
  // there at once.
  void mark_early() {
    is_early_.resize(graph_.values.size(), false);
    for (std::size_t i = graph_.ops.size(); i-- > 0 && mesh_.micro_batches > 1;) {
      const Op& op = graph_.ops[i];
      const graph::EarlyOutput* const early = early_output_of(op, uses_);
      const bool feeds_one = std::any_of(
          op.outputs.begin(), op.outputs.end(),
          [&](const auto& output) { return output.has_value() && is_early_[output->index]; });
      for (std::size_t input = 0; input < op.inputs.size(); ++input) {
        const bool is_used =
            feeds_one ||
            (early != nullptr && std::find(early->operands.begin(), early->operands.end(),
                                           static_cast<int>(input)) != early->operands.end());
        if (is_used && op.inputs[input].has_value()) {
          is_early_[op.inputs[input]->index] = true;
        }
      }
    }
  }

  // The leaf as another op than those sees it: a micro-batch at a time.
  Layout seen(ValueId id, const Op& reader) const {
    Layout layout = seen(id);
    const Value& value = graph_.value(id);
    const bool feeds_early = std::any_of(
        reader.outputs.begin(), reader.outputs.end(),
        [&](const auto& output) { return output.has_value() && is_early_[output->index]; });
    if (is_early_[id.index] && !feeds_early && value.kind == ValueKind::Input) {
      layout[Axis::Micro] = input_layout(value.shape, value.format, mesh_)[Axis::Micro];
    }
    return layout;
  }

  // Weights, states and what is made of them alone.
  void mark_weights() {
    is_weight_.resize(graph_.values.size(), false);
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      const ValueKind kind = graph_.values[i].kind;
      is_weight_[i] =
          kind == ValueKind::Weight || kind == ValueKind::State || kind == ValueKind::Buffer;
    }
    for (const Op& op : graph_.ops) {
      bool has_any = false;
      bool has_others = false;
      for (const auto& input : op.inputs) {
        const bool is_scalar =
            input.has_value() && graph::element_count(graph_.value(*input).shape) == 1;
        if (input.has_value() && !is_scalar) {
          (is_weight_[input->index] ? has_any : has_others) = true;
        }
      }
      for (const auto& output : op.outputs) {
        if (output.has_value()) {
          is_weight_[output->index] = has_any && !has_others;
        }
      }
    }
  }

  // An indexed dimension that is sliced where the split does nothing else: the owners look up.
  void find_masked(const Op& op, OpPlan& plan) const {
    for (const Stage& stage : plan.split.nest().stages) {
      for (const Operand& operand : stage.operands) {
        if (operand.use != graph::OperandUse::Read || operand.tensor.kind != TensorKind::Input ||
            op.info->group != OpGroup::Indexing) {
          continue;
        }
        const ValueId value = *op.inputs[static_cast<std::size_t>(operand.tensor.index)];
        for (const Axis axis : {Axis::Group, Axis::NodeY, Axis::NodeX}) {
          const AxisState& state = plan_.held[value.index][axis];
          if (state.sharing == Sharing::Sliced && !plan.split.on(axis).has_value() &&
              std::holds_alternative<graph::Indexed>(
                  operand.access[static_cast<std::size_t>(state.dimension)])) {
            plan.masked.push_back(axis);
          }
        }
      }
    }
  }

  // The layout of each output once partial results are combined.
  void finish(OpId id) {
    const Op& op = graph_.ops[id.index];
    OpPlan& plan = plan_.ops[id.index];
    plan.raw.assign(op.outputs.size(), {});
    plan.stored.assign(op.outputs.size(), {});
    for (std::size_t slot = 0; slot < op.outputs.size(); ++slot) {
      const auto writing = writing_of(plan.split.nest(), static_cast<int>(slot));
      if (!op.outputs[slot].has_value() || !writing.has_value()) {
        continue;
      }
      Layout raw = plan.split.written(*writing->stage, *writing->operand);
      for (const Axis axis : plan.masked) {
        raw[axis].sharing = Sharing::Partial;
      }
      plan.raw[slot] = raw;
      const ValueId value = *op.outputs[slot];
      plan.stored[slot] = plan.masked.empty() ? combined(raw, value) : scattered(raw, value);
      plan_.held[value.index] = plan.stored[slot];
    }
  }

  // Gradients of weights end in slices: as the weight lies where that is a dimension still whole,
  // else in even shares. Everything else ends alike on all nodes.
  Layout combined(const Layout& raw, ValueId value) const {
    Layout out = raw;
    const auto target = raw.has(Sharing::Partial) ? target_of(value) : std::nullopt;
    for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
      if (raw[axis].sharing == Sharing::Partial) {
        out[axis] = {};
      }
    }
    for (const Axis axis : {Axis::NodeX, Axis::NodeY}) {
      const Axis other = axis == Axis::NodeX ? Axis::NodeY : Axis::NodeX;
      if (!target.has_value() || raw[axis].sharing == Sharing::Sliced) {
        continue;
      }
      const AxisState& wanted = (*target)[axis];
      const auto is_on = [&](Axis where) {
        return out[where].sharing == Sharing::Sliced && out[where].dimension == wanted.dimension;
      };
      // Blocks inside those of groups are such only where the groups have theirs.
      const AxisState& of_groups = (*target)[Axis::Group];
      const bool is_inside =
          of_groups.sharing == Sharing::Sliced && of_groups.dimension == wanted.dimension;
      const bool is_alike = is_inside ? out[Axis::Group] == of_groups : !is_on(Axis::Group);
      if (wanted.sharing == Sharing::Sliced && !is_on(other) && is_alike) {
        out[axis] = wanted;
      }
    }
    share_rest(raw, target, value, out);
    for (const Axis axis : {Axis::Replica, Axis::Micro}) {
      if (raw[axis].sharing == Sharing::Partial) {
        out[axis] = {};
      }
    }
    return out;
  }

  void share_rest(const Layout& raw, const std::optional<Layout>& target, ValueId value,
                  Layout& out) const {
    std::int64_t elements =
        graph::element_count(program::slice_shape(out, graph_.value(value).shape));
    for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
      const bool is_open = target.has_value() && raw[axis].sharing != Sharing::Sliced &&
                           out[axis].sharing == Sharing::Replicated;
      if (!is_open) {
        continue;
      }
      // The shares of the weight, where the same elements are left to share out.
      const AxisState& wanted = (*target)[axis];
      if (wanted.sharing == Sharing::Flat &&
          wanted.parts == (elements + wanted.block - 1) / wanted.block) {
        out[axis] = wanted;
        elements = wanted.block;
        continue;
      }
      const program::AxisCut share = program::cut(axis, elements, mesh_.places(axis), 16);
      if (share.parts > 1) {
        out[axis] = program::flat(share.parts, share.block);
        elements = share.block;
      }
    }
  }

  // Looked-up rows: groups end with their samples, nodes with a share of the largest dimension
  // left.
  Layout scattered(Layout raw, ValueId value) const {
    const graph::Shape& shape = graph_.value(value).shape;
    for (const Axis axis : kAxes) {
      if (raw[axis].sharing == Sharing::Partial) {
        raw[axis] = {};
        raw[axis] =
            axis == Axis::Group ? samples_of_groups(raw, shape) : largest_left(axis, raw, shape);
      }
    }
    return raw;
  }

  AxisState samples_of_groups(const Layout& raw, const graph::Shape& shape) const {
    for (const Axis axis : {Axis::NodeY, Axis::NodeX}) {
      if (raw[axis].sharing == Sharing::Sliced && raw[axis].dimension == 0) {
        return {};  // which is dealt out already
      }
    }
    const std::int64_t local = program::slice_shape(raw, shape).front();
    const std::int64_t samples = std::max<std::int64_t>(1, mesh_.replicas.block);
    const std::int64_t block =
        std::max<std::int64_t>(1, (local * mesh_.samples_per_group + samples - 1) / samples);
    const std::int64_t parts = (local + block - 1) / block;
    return parts > 1 ? program::sliced(0, {Axis::Group, parts, block}) : AxisState{};
  }

  AxisState largest_left(Axis axis, const Layout& raw, const graph::Shape& shape) const {
    const graph::Shape local = program::slice_shape(raw, shape);
    std::optional<std::size_t> best;
    for (std::size_t dim = 0; dim < shape.size(); ++dim) {
      const auto is_on = [&](Axis other) {
        return raw[other].sharing == Sharing::Sliced &&
               raw[other].dimension == static_cast<int>(dim);
      };
      const bool is_taken = is_on(Axis::NodeY) || is_on(Axis::NodeX);
      if (!is_taken && (!best.has_value() || local[dim] > local[*best])) {
        best = dim;
      }
    }
    if (!best.has_value()) {
      return {};
    }
    const program::AxisCut blocks = program::cut(axis, local[*best], mesh_.places(axis), 1);
    return blocks.parts > 1 ? program::sliced(static_cast<int>(*best), blocks) : AxisState{};
  }

  const Graph& graph_;
  const Mesh& mesh_;
  graph::Uses uses_;
  std::vector<std::optional<Layout>> as_read_;
  LayoutPlan plan_;
  std::vector<bool> waits_;
  std::vector<bool> is_weight_;
  std::vector<bool> is_early_;  // by value
  std::vector<int> kinds_;      // by op; empty where all splits are the rules'
};

}  // namespace

bool may_be_dealt(const Op& op, const OpPlan& plan) {
  return op.info->group != OpGroup::Update && op.info->group != OpGroup::Indexing &&
         !plan.is_alias && plan.masked.empty() && !plan.split.has_flat();
}

bool makes_alike(const Op& op, const OpPlan& plan, Axis axis) {
  for (std::size_t slot = 0; slot < plan.raw.size(); ++slot) {
    if (op.outputs[slot].has_value() && plan.raw[slot][axis].sharing == Sharing::Replicated) {
      return true;
    }
  }
  return false;
}

LayoutPlan plan_layouts(const Graph& graph, const Mesh& mesh) {
  LayoutPlan plan = Planner(graph, mesh, {}).plan();
  if (mesh.has_free_groups()) {  // once more, with weights where they are read
    plan = Planner(graph, mesh, weights_as_read(graph, plan)).plan();
  }
  plan.replicas_in_run = mesh.replicas_in_run;
  plan.micro_batches = mesh.micro_batches;
  plan_turns(graph, mesh, plan);
  plan_residents(graph, mesh, plan);
  return plan;
}

}  // namespace dojo::place::internal
