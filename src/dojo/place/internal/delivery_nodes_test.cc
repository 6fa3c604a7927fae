#include "dojo/place/internal/delivery.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "dojo/base/check.h"
#include "dojo/graph/op_table.h"
#include "dojo/place/internal/op_work.h"

namespace dojo::place::internal {

using graph::Interval;
using graph::Operand;
using graph::OperandUse;
using graph::Stage;
using graph::TensorKind;
using program::Axis;
using program::AxisState;
using program::Compute;
using program::kAxes;
using program::Layout;
using program::Sharing;

namespace {

// Calls visit(element) for every combination of one index from each dimension.
void each_element(const graph::Shape& shape, const std::vector<std::vector<std::int64_t>>& indices,
                  const std::function<void(std::size_t)>& visit) {
  const std::function<void(std::size_t, std::int64_t)> walk = [&](std::size_t dim,
                                                                  std::int64_t element) {
    if (dim == shape.size()) {
      visit(size_of(element));
      return;
    }
    for (const std::int64_t index : indices[dim]) {
      walk(dim + 1, element * shape[dim] + index);
    }
  };
  walk(0, 0);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

// The index at one point of the loops; nullopt: no element there.
std::optional<std::int64_t> index_at(const graph::Affine& map,
                                     const std::vector<std::int64_t>& point, std::int64_t extent) {
  std::int64_t index = map.offset;
  for (const graph::Term& term : map.terms) {
    index += term.stride * point[size_of(term.loop)];
  }
  if (map.ratio.has_value()) {
    index +=
        floor_divide(map.ratio->multiplier * point[size_of(map.ratio->loop)] + map.ratio->addend,
                     map.ratio->divisor);
  }
  if (map.divisor != 1) {
    if (index % map.divisor != 0) {
      return std::nullopt;
    }
    index /= map.divisor;
  }
  return index < 0 || index >= extent ? std::nullopt : std::optional(index);
}

// All indices of a dimension that the slice touches.
std::vector<std::int64_t> indices_of(const graph::Access& access, const graph::Slice& slice,
                                     std::int64_t extent) {
  std::vector<bool> is_there(size_of(extent), false);
  const auto* const map = std::get_if<graph::Affine>(&access);
  if (map == nullptr) {  // through an index, or whole
    is_there.assign(is_there.size(), true);
  } else {
    std::vector<int> loops;
    for (const graph::Term& term : map->terms) {
      loops.push_back(term.loop);
    }
    if (map->ratio.has_value()) {
      loops.push_back(map->ratio->loop);
    }
    std::sort(loops.begin(), loops.end());
    loops.erase(std::unique(loops.begin(), loops.end()), loops.end());
    std::vector<std::int64_t> point(slice.size(), 0);
    const std::function<void(std::size_t)> walk = [&](std::size_t i) {
      if (i == loops.size()) {
        if (const auto index = index_at(*map, point, extent)) {
          is_there[size_of(*index)] = true;
        }
        return;
      }
      const Interval& loop = slice[size_of(loops[i])];
      for (std::int64_t at = loop.begin; at < loop.end; ++at) {
        point[size_of(loops[i])] = at;
        walk(i + 1);
      }
    };
    walk(0);
  }
  std::vector<std::int64_t> indices;
  for (std::size_t i = 0; i < is_there.size(); ++i) {
    if (is_there[i]) {
      indices.push_back(static_cast<std::int64_t>(i));
    }
  }
  return indices;
}

}  // namespace

Elements none(const graph::Shape& shape) {
  return Elements(size_of(graph::element_count(shape)), 0);
}

void add(Elements& to, const Elements& from) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<char>(to[i] | from[i]);
  }
}

Delivery::Delivery(const graph::Graph& graph, const Plan& plan, const program::Program& program,
                   const machine::MachineModel& machine, std::size_t stage)
    : graph_(graph),
      plan_(plan),
      stage_(stage),
      of_stage_(program.stages.empty() ? program : program::only_stage(program, stage)),
      written_out_(program::write_out(of_stage_, of_stage_.micro.count)),
      program_(written_out_.program),
      micro_batches_(of_stage_.micro),
      logical_(machine.logical),
      uses_(graph::uses_of(graph)),
      rows_(plan.mesh.region.rows()),
      columns_(plan.mesh.region.columns()),
      nodes_(size_of(plan.mesh.replicas.count * rows_ * columns_)),
      replicas_per_row_(program::replicas_per_row(plan.mesh.replicas, machine)),
      own_(graph.values.size()),
      made_by_(graph.values.size()),
      registers_(graph.values.size()) {
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    named_.emplace(graph.values[i].name, ValueId{i});
    own_[i].assign(nodes_, none(graph.values[i].shape));
  }
  waits_for_.resize(program_.phases.size());
  for (std::size_t i = 0; i < program_.phases.size(); ++i) {
    waits_for_[i].assign(program_.phases.size(), false);
    for (const PhaseId before : program_.phases[i].after) {
      waits_for_[i][before.index] = true;
      for (std::size_t k = 0; k < before.index; ++k) {
        waits_for_[i][k] = waits_for_[i][k] || waits_for_[before.index][k];
      }
    }
  }
}

void Delivery::report(std::string what) {
  if (breaches_.size() < most_) {
    breaches_.push_back(std::move(what));
  }
}

// --- nodes and places ---
Delivery::Place Delivery::place_of(Node node) const {
  const auto at = static_cast<std::int64_t>(node);
  return {at / (rows_ * columns_), at / columns_ % rows_, at % columns_};
}

Delivery::Node Delivery::node_at(const Place& place) const {
  return size_of((place.replica * rows_ + place.row) * columns_ + place.column);
}

SplitNest::Place Delivery::split_place(Node node) const {
  const Place place = place_of(node);
  SplitNest::Place out{};
  out[index_of(Axis::Replica)] = place.replica;
  out[index_of(Axis::Group)] = place.row / plan_.mesh.rows_per_group();
  out[index_of(Axis::Micro)] = micro_batch_;
  out[index_of(Axis::NodeY)] = place.row % plan_.mesh.rows_per_group();
  out[index_of(Axis::NodeX)] = place.column;
  return out;
}

graph::Slice Delivery::slice_of(const SplitNest& split, Node node) const {
  return split.slice(split_place(node));
}

// What a node holds of a tensor that lies so.
Elements Delivery::held(ValueId value, Node node) const {
  const Layout& layout = plan_.layouts.held[value.index];
  const graph::Shape& shape = graph_.value(value).shape;
  const SplitNest::Place place = split_place(node);
  std::vector<Interval> slice;
  for (const std::int64_t extent : shape) {
    slice.push_back({0, extent});
  }
  for (const Axis axis : kAxes) {
    const AxisState& state = layout[axis];
    if (state.sharing == Sharing::Sliced) {
      Interval& range = slice[size_of(state.dimension)];
      const std::int64_t begin = range.begin + place[index_of(axis)] * state.block;
      range = {std::min(begin, range.end), std::min(begin + state.block, range.end)};
    }
  }
  std::vector<std::vector<std::int64_t>> indices;
  std::int64_t count = 1;
  for (const Interval& range : slice) {
    indices.emplace_back();
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      indices.back().push_back(i);
    }
    count *= range.length();
  }
  Interval share{0, count};
  for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
    if (layout[axis].sharing == Sharing::Flat) {
      const std::int64_t begin = share.begin + place[index_of(axis)] * layout[axis].block;
      share = {std::min(begin, share.end), std::min(begin + layout[axis].block, share.end)};
    }
  }
  Elements out = none(shape);
  std::int64_t number = 0;
  each_element(shape, indices, [&](std::size_t element) {
    out[element] = static_cast<char>(number >= share.begin && number < share.end);
    ++number;
  });
  return out;
}

// Of a pointwise nest with flat axes: the node's share of the points of its slice.
Elements Delivery::flat_share(const Operand& operand, const SplitNest& split, Node node) const {
  const graph::Slice slice = slice_of(split, node);
  const SplitNest::Place place = split_place(node);
  std::int64_t count = 1;
  for (const Interval& loop : slice) {
    count *= loop.length();
  }
  Interval share{0, count};
  const program::Split cuts = split.split();
  for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
    if (split.is_flat(axis)) {
      const std::int64_t block = cuts.find(axis)->block;
      const std::int64_t begin = share.begin + place[index_of(axis)] * block;
      share = {std::min(begin, share.end), std::min(begin + block, share.end)};
    }
  }
  Elements out = none(operand.shape);
  for (std::int64_t number = share.begin; number < share.end; ++number) {
    std::vector<std::int64_t> point(slice.size(), 0);
    std::int64_t rest = number;
    for (std::size_t loop = slice.size(); loop-- > 0;) {
      point[loop] = slice[loop].begin + rest % slice[loop].length();
      rest /= slice[loop].length();
    }
    std::int64_t element = 0;
    for (std::size_t dim = 0; dim < operand.shape.size(); ++dim) {
      const auto* const map = std::get_if<graph::Affine>(&operand.access[dim]);
      DOJO_CHECK(map != nullptr);
      element =
          element * operand.shape[dim] + index_at(*map, point, operand.shape[dim]).value_or(0);
    }
    out[size_of(element)] = 1;
  }
  return out;
}

// The elements of the operand that the node's part of the stage touches.
Elements Delivery::touched(const Stage& stage, const Operand& operand, const SplitNest& split,
                           Node node) const {
  const graph::Slice slice = slice_of(split, node);
  for (const graph::StageLoop& loop : stage.loops) {
    if (slice[size_of(loop.loop)].is_empty()) {
      return none(operand.shape);
    }
  }
  if (split.has_flat()) {
    return flat_share(operand, split, node);
  }
  std::vector<std::vector<std::int64_t>> indices;
  for (std::size_t dim = 0; dim < operand.shape.size(); ++dim) {
    indices.push_back(indices_of(operand.access[dim], slice, operand.shape[dim]));
  }
  Elements out = none(operand.shape);
  each_element(operand.shape, indices, [&](std::size_t element) { out[element] = 1; });
  return out;
}

// --- what a node has ---
// For each element of the alias the element of its operand.
const std::vector<std::int64_t>& Delivery::alias_map(OpId alias) {
  const auto [found, is_new] = alias_maps_.try_emplace(alias.index);
  if (!is_new) {
    return found->second;
  }
  const graph::LoopNest nest = graph::nest_of(graph_, graph_.ops[alias.index]);
  const Stage& stage = nest.stages.front();
  const Operand* from = nullptr;
  const Operand* to = nullptr;
  for (const Operand& operand : stage.operands) {
    (operand.use == OperandUse::Read ? from : to) = &operand;
  }
  DOJO_CHECK(from != nullptr && to != nullptr);
  std::vector<std::int64_t>& map = found->second;
  map.assign(size_of(graph::element_count(to->shape)), -1);
  const auto element = [](const Operand& operand, const std::vector<std::int64_t>& point) {
    std::int64_t at = 0;
    for (std::size_t dim = 0; dim < operand.shape.size(); ++dim) {
      const auto* const affine = std::get_if<graph::Affine>(&operand.access[dim]);
      DOJO_CHECK(affine != nullptr);
      const auto index = index_at(*affine, point, operand.shape[dim]);
      DOJO_CHECK(index.has_value());
      at = at * operand.shape[dim] + *index;
    }
    return at;
  };
  std::vector<std::int64_t> point(nest.loops.size(), 0);
  const std::function<void(std::size_t)> walk = [&](std::size_t loop) {
    if (loop == nest.loops.size()) {
      map[size_of(element(*to, point))] = element(*from, point);
      return;
    }
    for (point[loop] = 0; point[loop] < nest.loops[loop].extent; ++point[loop]) {
      walk(loop + 1);
    }
  };
  walk(0);
  return map;
}

// An op of several results may be done again for one of them; where the others lie still, the
// copies made of them are read by nobody.
bool Delivery::is_made_again_for_others(ValueId value, std::size_t maker, std::size_t index) const {
  const auto* const compute = std::get_if<Compute>(&program_.phases[maker].body);
  return compute != nullptr && compute->is_recomputed &&
         std::any_of(program_.memory.begin(), program_.memory.end(), [&](const auto& entry) {
           return entry.tensor == graph_.value(value).name && entry.first.index < maker &&
                  index <= entry.last.index;
         });
}

Elements Delivery::available(ValueId value, Node node, std::size_t index) {
  Elements out = own_[value.index][node];
  if (turn_at(index) == Turn::Each && plan_.layouts.is_kept[value.index]) {
    const Elements now = held(value, node);  // of the micro-batch at hand
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<char>(out[i] & now[i]);
    }
  }
  for (const std::size_t maker : made_by_[value.index]) {
    if (maker != index && maker < index && !waits_for_[index][maker] &&
        !is_made_again_for_others(value, maker, index)) {
      report(fmt::format("phase {} uses %{} and does not wait for phase {}, which makes it", index,
                         graph_.value(value).name, maker));
    }
  }
  if (!registers_[value.index].empty()) {
    add(out, registers_[value.index][node]);
  }
  const program::Phase& phase = program_.phases[index];
  const auto land = [&](PhaseId from) {
    const auto landed = landed_.find({from.index, value.index});
    if (landed != landed_.end()) {
      add(out, landed->second[node]);
    }
  };
  // Transfers begin with what lies there; what another one brought is for its reader.
  if (const auto* compute = std::get_if<Compute>(&phase.body)) {
    std::for_each(phase.after.begin(), phase.after.end(), land);
    std::for_each(compute->pipelined.begin(), compute->pipelined.end(), land);
  }
  const std::optional<OpId> definition = uses_.definition[value.index];
  if (definition.has_value() && plan_.layouts.ops[definition->index].is_alias) {
    const Elements from = available(*graph_.ops[definition->index].inputs.front(), node, index);
    const std::vector<std::int64_t>& map = alias_map(*definition);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<char>(out[i] | from[size_of(map[i])]);
    }
  }
  return out;
}

std::string Delivery::tensor_name(OpId id, const graph::TensorRef& tensor) const {
  const graph::Op& op = graph_.ops[id.index];
  if (tensor.kind == TensorKind::Output) {
    return graph_.value(*op.outputs[size_of(tensor.index)]).name;
  }
  const std::string name = op.outputs.front().has_value() ? graph_.value(*op.outputs.front()).name
                                                          : std::string(op.info->name);
  return fmt::format("{}.scratch{}", name, tensor.index);
}

}  // namespace dojo::place::internal
