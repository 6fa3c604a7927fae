#include <fmt/format.h>

#include <algorithm>

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/delivery.h"
#include "dojo/place/internal/op_work.h"

namespace dojo::place::internal {

namespace {

// Whether the operand is a sum over samples, in parts in time.
bool split_has_sum_in_time(const SplitNest& split, const graph::Stage& stage,
                           const graph::Operand& operand) {
  return split.written(stage, operand)[program::Axis::Micro].sharing == program::Sharing::Partial;
}

}  // namespace

using graph::Operand;
using graph::OperandUse;
using graph::Stage;
using graph::TensorKind;
using program::Axis;
using program::Compute;
using program::kAxes;
using program::Move;
using program::Scope;
using program::Transfer;

// --- computations ---
bool Delivery::is_in_parts(OpId id, const Stage& stage, const Operand& operand) const {
  return OpWork(graph_, plan_.layouts).is_written_in_parts(id, stage, operand);
}

// Which part of the sum the node makes; an owner's look-up is its part, the rows that it has.
std::int64_t Delivery::part_of(const OpPlan& plan, const Stage& stage, Node node) const {
  const SplitNest& split = plan.split;
  const SplitNest::Place place = split_place(node);
  std::int64_t part = 0;
  for (const Axis axis : kAxes) {
    if (axis == Axis::Micro) {
      continue;  // no part of its own: the sum goes on
    }
    const bool is_reduced = split.on(axis).has_value() &&
                            graph::kind_of(stage, split.on(axis)->loop) == graph::LoopKind::Reduce;
    const bool is_masked =
        std::find(plan.masked.begin(), plan.masked.end(), axis) != plan.masked.end();
    if (is_reduced || is_masked) {
      part = part * plan_.mesh.places(axis) + place[index_of(axis)];
    }
  }
  return part;
}

void Delivery::read(std::size_t index, OpId id, const Stage& stage, const Operand& operand) {
  const OpPlan& plan = plan_.layouts.ops[id.index];
  const graph::Op& op = graph_.ops[id.index];
  const program::Phase& phase = program_.phases[index];
  for (Node node = 0; node < nodes_; ++node) {
    const Place place = place_of(node);
    if (place.row >= phase.region.rows() || place.column >= phase.region.columns()) {
      continue;
    }
    const Elements needed = touched(stage, operand, plan.split, node);
    Elements there;
    std::string name;
    if (operand.tensor.kind == TensorKind::Input) {
      const ValueId value = *op.inputs[size_of(operand.tensor.index)];
      there = available(value, node, index);
      name = graph_.value(value).name;
    } else if (operand.tensor.kind == TensorKind::Scratch) {
      there = progress_[id.index].scratch[operand.tensor.index][node];
      name = tensor_name(id, operand.tensor);
    } else {
      continue;  // a result that the same op goes on with
    }
    for (std::size_t i = 0; i < needed.size(); ++i) {
      checked_ += needed[i];
      if (needed[i] != 0 && there[i] == 0) {
        const std::string layout =
            operand.tensor.kind == TensorKind::Input
                ? program::to_string(
                      plan_.layouts.held[op.inputs[size_of(operand.tensor.index)]->index])
                : "";
        report(
            fmt::format("phase {}: {} of module {} reads element {} of %{} {} on replica {} "
                        "node ({}, {}), which does not have it; split {}",
                        index, op.info->name, op.module, i, name, layout, place.replica, place.row,
                        place.column, program::to_string(plan.split.split())));
        return;
      }
    }
    // What is looked up is sent row by row: how many depends on data.
    const bool is_looked_up = std::any_of(
        operand.access.begin(), operand.access.end(),
        [](const graph::Access& access) { return std::holds_alternative<graph::Indexed>(access); });
    if (operand.tensor.kind == TensorKind::Input && !is_looked_up) {
      note_use(*op.inputs[size_of(operand.tensor.index)], node, index, needed);
    }
  }
}

void Delivery::write(std::size_t index, OpId id, const Stage& stage, const Operand& operand) {
  const OpPlan& plan = plan_.layouts.ops[id.index];
  const graph::Op& op = graph_.ops[id.index];
  const program::Phase& phase = program_.phases[index];
  const bool is_output = operand.tensor.kind == TensorKind::Output;
  if (is_output && !op.outputs[size_of(operand.tensor.index)].has_value()) {
    return;
  }
  const graph::EarlyOutput* const early = early_sum(id);
  const bool is_known = early != nullptr && is_output && early->output == operand.tensor.index;
  if (is_known && turn_at(index) != Turn::Before) {
    return;
  }
  const std::string name = tensor_name(id, operand.tensor);
  const bool is_parted = is_in_parts(id, stage, operand) || (is_output && !plan.masked.empty());
  if (is_parted && !pending_.contains(name)) {
    Pending& pending = pending_[name];
    pending.number = sums_++;
    pending.shape = operand.shape;
    pending.all.resize(size_of(graph::element_count(operand.shape)));
    pending.parts.assign(nodes_, pending.all);
    pending.is_ordered = plan.masked.empty() && is_sum(stage);
    pending.cuts = cuts_of(id, stage);
    pending.goes_on = split_has_sum_in_time(plan.split, stage, operand);
    pending.had.assign(nodes_, std::vector<std::int64_t>(pending.all.size(), 0));
    pending.has_to.assign(nodes_, 0);
    pending.additions.assign(nodes_, std::vector<std::uint64_t>(pending.all.size(), 0));
  }
  std::vector<Elements>* target = nullptr;
  if (!is_parted && !is_output) {
    target = &progress_[id.index].scratch[operand.tensor.index];
  } else if (!is_parted) {
    const ValueId value = *op.outputs[size_of(operand.tensor.index)];
    const bool is_stored =
        std::find(phase.writes.begin(), phase.writes.end(), name) != phase.writes.end();
    if (!is_stored && !graph_.value(value).is_fused) {
      report(fmt::format("phase {} makes %{} and does not write it", index, name));
    }
    target = is_stored ? &own_[value.index] : &registers_[value.index];
    if (is_stored) {
      made_by_[value.index].insert(index);
    }
  }
  if (target != nullptr && target->empty()) {
    target->assign(nodes_, none(operand.shape));
  }
  for (Node node = 0; node < nodes_; ++node) {
    const Place place = place_of(node);
    if (place.row >= phase.region.rows() || place.column >= phase.region.columns()) {
      continue;
    }
    const Elements made = touched(stage, operand, plan.split, node);
    if (target != nullptr) {
      add((*target)[node], made);
      continue;
    }
    Pending& pending = pending_[name];
    pending.last_writer = index;
    if (pending.goes_on) {
      go_on(index, id, stage, pending, node, made, name);
    }
    const std::int64_t part = part_of(plan, stage, node);
    for (std::size_t i = 0; i < made.size(); ++i) {
      if (made[i] != 0) {
        pending.parts[node][i].insert(part);
        pending.all[i].insert(part);
        pending.additions[node][i] = hash_of_part(part);
      }
    }
    pending.places.emplace(part, places_in_loops(plan.split, pending.cuts, node));
  }
}

void Delivery::run_stage(std::size_t index, OpId id, const Stage& stage) {
  const bool is_masked = !plan_.layouts.ops[id.index].masked.empty();
  for (const Operand& operand : stage.operands) {
    const bool is_indexed = std::any_of(
        operand.access.begin(), operand.access.end(),
        [](const graph::Access& access) { return std::holds_alternative<graph::Indexed>(access); });
    if (operand.use == OperandUse::Read && !(is_masked && is_indexed)) {
      read(index, id, stage, operand);
    }
  }
  for (const Operand& operand : stage.operands) {
    if (operand.use == OperandUse::Write) {
      write(index, id, stage, operand);
    }
  }
}

// Where a phase that is done again begins: as the one that it repeats, which does the same work.
std::size_t Delivery::first_stage_again(std::size_t index, const Progress& progress) const {
  const auto& again = std::get<Compute>(program_.phases[index].body);
  for (const auto& [phase, stage] : progress.begun) {
    const auto& before = std::get<Compute>(program_.phases[phase].body);
    if (before.ops == again.ops && before.work == again.work) {
      return stage;
    }
  }
  return 0;
}

// All stages up to one that reads a sum still in parts; the rest runs when its op comes again.
void Delivery::run_op(std::size_t index, OpId id) {
  if (plan_.layouts.ops[id.index].is_alias) {
    return;
  }
  if (const graph::EarlyOutput* const early = early_sum(id);
      early != nullptr && turn_at(index) == Turn::Before) {
    run_early(index, id, *early);
    return;
  }
  const std::vector<Stage>& stages = plan_.layouts.ops[id.index].split.nest().stages;
  Progress& progress = progress_[id.index];
  const bool is_in_each = !plan_.layouts.turn.empty() && plan_.layouts.turn[id.index] == Turn::Each;
  if (progress.stage == stages.size() && is_in_each && turn_at(index) == Turn::After) {
    for (const std::string& name : program_.phases[index].writes) {  // a sum that is rounded
      complete(name, index);
    }
    return;
  }
  if (progress.stage == stages.size()) {  // done again
    progress.stage = first_stage_again(index, progress);
    if (progress.stage == 0) {
      progress = {};
    }
  }
  progress.begun.emplace_back(index, progress.stage);
  for (; progress.stage < stages.size(); ++progress.stage) {
    const Stage& stage = stages[progress.stage];
    const bool waits =
        std::any_of(stage.operands.begin(), stage.operands.end(), [&](const Operand& operand) {
          return operand.use == OperandUse::Read && operand.tensor.kind != TensorKind::Input &&
                 pending_.contains(tensor_name(id, operand.tensor));
        });
    if (waits) {
      return;
    }
    run_stage(index, id, stage);
  }
  for (const auto& output : graph_.ops[id.index].outputs) {
    if (!output.has_value() || pending_.contains(graph_.value(*output).name) ||
        !made_by_[output->index].contains(index)) {
      continue;
    }
    for (Node node = 0; node < nodes_; ++node) {
      const Elements wanted = held(*output, node);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (wanted[i] != 0 && own_[output->index][node][i] == 0) {
          report(fmt::format("phase {}: node {} does not make element {} of %{}, which lies there",
                             index, node, i, graph_.value(*output).name));
          return;
        }
      }
    }
  }
}

void Delivery::run_compute(std::size_t index, const Compute& compute) {
  for (std::vector<Elements>& values : registers_) {
    values.clear();
  }
  if (compute.ops.empty()) {
    copy_update(index);
    return;
  }
  for (const OpId op : compute.ops) {
    run_op(index, op);
  }
  // What was only in registers and is written after all.
  for (const std::string& name : program_.phases[index].writes) {
    const auto value = named_.find(name);
    if (value != named_.end() && !registers_[value->second.index].empty()) {
      for (Node node = 0; node < nodes_; ++node) {
        add(own_[value->second.index][node], registers_[value->second.index][node]);
      }
      made_by_[value->second.index].insert(index);
    }
  }
}

void Delivery::copy_update(std::size_t index) {
  const program::Phase& phase = program_.phases[index];
  const ValueId from = named_.at(phase.reads.front());
  const ValueId to = named_.at(phase.writes.front());
  for (Node node = 0; node < nodes_; ++node) {
    const Elements wanted = held(to, node);
    const Elements there = available(from, node, index);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] != 0 && there[i] == 0) {
        report(
            fmt::format("phase {} copies element {} of %{} to a leaf on node {}, which does not "
                        "have it",
                        index, i, graph_.value(from).name, node));
        return;
      }
    }
    note_use(from, node, index, wanted);
  }
}

// --- transfers ---
// Nodes that end with what any of them had.
std::vector<std::vector<Delivery::Node>> Delivery::lines(const Move& move) const {
  std::map<std::vector<std::int64_t>, std::vector<Node>> groups;
  const bool is_row = move.pattern.axis == machine::Axis::Rows;
  const bool is_column = move.pattern.axis == machine::Axis::Columns;
  // A region of one group stands for all of them.
  const std::int64_t rows_per_group = plan_.mesh.rows_per_group();
  const bool is_of_group = move.region.rows() <= rows_per_group;
  if (move.scope == Scope::Memory) {
    return {};  // what a node has there is its own
  }
  for (Node node = 0; node < nodes_; ++node) {
    const Place at = place_of(node);
    if (move.scope == Scope::Across) {
      groups[{at.row, at.column}].push_back(node);
      continue;
    }
    const std::int64_t group = is_of_group ? at.row / rows_per_group : 0;
    const std::int64_t row = at.row - group * rows_per_group;
    if (row >= move.region.rows() || at.column >= move.region.columns()) {
      continue;
    }
    const std::int64_t replica = move.scope == Scope::Through ? 0 : at.replica;
    if (is_row) {
      groups[{replica, group, row, at.column % move.reach}].push_back(node);
    } else if (is_column) {
      groups[{replica, group, at.column, row % move.reach}].push_back(node);
    } else {
      groups[{replica, group}].push_back(node);
    }
  }
  std::vector<std::vector<Node>> out;
  for (auto& [key, nodes] : groups) {
    out.push_back(std::move(nodes));
  }
  if (move.pattern.kind != machine::PatternKind::Halo) {
    return out;
  }
  // Each node's neighbourhood, the node itself first, then by side: what several sides have comes
  // from the one that sends most.
  out.clear();
  const machine::HaloBytes& halo = move.pattern.halo;
  const std::int64_t up = halo.north.count() > 0 ? move.reach : 0;
  const std::int64_t down = halo.south.count() > 0 ? move.reach : 0;
  const std::int64_t left = halo.west.count() > 0 ? move.reach : 0;
  const std::int64_t right = halo.east.count() > 0 ? move.reach : 0;
  for (Node node = 0; node < nodes_; ++node) {
    const Place at = place_of(node);
    std::vector<Node> around{node};
    for (std::int64_t row = at.row - up; row <= at.row + down; ++row) {
      for (std::int64_t column = at.column - left; column <= at.column + right; ++column) {
        const bool is_of_line = !is_of_group || row / rows_per_group == at.row / rows_per_group;
        const bool is_there =
            row >= 0 && row < rows_ && column >= 0 && column < columns_ && is_of_line;
        if (is_there && (row != at.row || column != at.column)) {
          around.push_back(node_at({at.replica, row, column}));
        }
      }
    }
    const auto said = [&](Node from) {
      const Place place = place_of(from);
      const Bytes row = place.row < at.row   ? halo.north
                        : place.row > at.row ? halo.south
                                             : Bytes(0);
      const Bytes column = place.column < at.column   ? halo.west
                           : place.column > at.column ? halo.east
                                                      : Bytes(0);
      return std::max(row, column);
    };
    std::stable_sort(std::next(around.begin()), around.end(),
                     [&](Node a, Node b) { return said(a) > said(b); });
    out.push_back(std::move(around));
  }
  return out;
}

void Delivery::run_transfer(std::size_t index, const Transfer& transfer) {
  const program::Phase& phase = program_.phases[index];
  std::set<std::string> sums;
  for (const std::string& name : phase.reads) {
    if (pending_.contains(name)) {
      sums.insert(name);
    }
  }
  for (const Move& move : transfer.moves) {
    if (pending_.contains(move.tensor)) {
      sums.insert(move.tensor);
    }
  }
  const bool is_open = std::any_of(
      sums.begin(), sums.end(), [&](const std::string& name) { return pending_.at(name).goes_on; });
  if (is_open && !transfer.moves.empty() && transfer.moves.front().scope == Scope::Memory) {
    for (const std::string& name : sums) {  // to DRAM and back: each node its own part
      pending_.at(name).is_in_memory =
          transfer.moves.front().pattern.kind == machine::PatternKind::GatherToEdge;
      if (turn_at(index) == Turn::After) {
        end_micro_batches(index);  // what nobody has to join is there
      }
    }
    return;
  }
  for (const Move& move : transfer.moves) {
    const auto value = named_.find(move.tensor);
    if (move.scope == Scope::Onward) {
      run_onward(index, move);
    } else if (!sums.empty()) {
      join(move, lines(move), sums, index);
    } else if (value != named_.end()) {
      send(move, lines(move), value->second, index);
    } else {
      report(fmt::format("phase {} moves {}, which is no tensor", index, move.tensor));
    }
  }
  for (const std::string& name : sums) {
    complete(name, index);
  }
}

void Delivery::join(const Move& move, const std::vector<std::vector<Node>>& groups,
                    const std::set<std::string>& sums, std::size_t index) {
  Joined joined{index, &move, groups, {}};
  for (const std::string& name : sums) {
    Pending& pending = pending_.at(name);
    Joined::Sum sum{name, pending.number, std::vector<std::vector<std::uint32_t>>(groups.size())};
    for (std::size_t g = 0; g < groups.size(); ++g) {
      for (std::size_t i = 0; i < pending.all.size(); ++i) {
        std::set<std::int64_t> together;
        for (const Node node : groups[g]) {
          together.insert(pending.parts[node][i].begin(), pending.parts[node][i].end());
        }
        if (pending.is_ordered) {
          add_up(move, groups[g], pending, i, name, index);
        }
        bool is_new = false;
        for (const Node node : groups[g]) {
          is_new = is_new || pending.parts[node][i] != together;
          pending.parts[node][i] = together;
        }
        if (is_new) {
          sum.elements[g].push_back(static_cast<std::uint32_t>(i));
        }
      }
    }
    joined.sums.push_back(std::move(sum));
  }
  joined_.push_back(std::move(joined));
}

void Delivery::send(const Move& move, const std::vector<std::vector<Node>>& groups, ValueId value,
                    std::size_t index) {
  const bool is_halo = move.pattern.kind == machine::PatternKind::Halo;
  const auto [landed, is_new] = landed_.try_emplace({index, value.index}, std::vector<Elements>{});
  if (is_new) {
    for (Node node = 0; node < nodes_; ++node) {
      landed->second.push_back(available(value, node, index));
    }
  }
  const std::vector<Elements> before = landed->second;
  Sent sent{index, value, &move, groups, std::vector<std::vector<Arrival>>(nodes_)};
  for (const std::vector<Node>& group : groups) {
    for (std::size_t i = 0; i < before.front().size(); ++i) {
      const auto from =
          std::find_if(group.begin(), group.end(), [&](Node node) { return before[node][i] != 0; });
      if (from == group.end()) {
        continue;
      }
      for (const Node node : is_halo ? std::vector<Node>{group.front()} : group) {
        if (before[node][i] == 0) {
          landed->second[node][i] = 1;
          sent.arrivals[node].push_back(
              {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(*from)});
        }
      }
    }
  }
  sent_.push_back(std::move(sent));
}

// Once every element is whole somewhere, the tensor is made; each node has what is whole there.
void Delivery::complete(const std::string& tensor, std::size_t index) {
  if (!pending_.contains(tensor)) {
    report(fmt::format("phase {} finishes %{}, which is no sum in parts", index, tensor));
    return;
  }
  const Pending& pending = pending_.at(tensor);
  const auto value = named_.find(tensor);
  std::vector<Elements> whole(nodes_, none(pending.shape));
  Elements anywhere = none(pending.shape);
  for (Node node = 0; node < nodes_; ++node) {
    const Elements wanted =
        value != named_.end() ? held(value->second, node) : Elements(pending.all.size(), 1);
    for (std::size_t i = 0; i < pending.all.size(); ++i) {
      const bool is_whole = !pending.all[i].empty() && pending.parts[node][i] == pending.all[i];
      whole[node][i] = static_cast<char>(is_whole && wanted[i] != 0);
    }
    add(anywhere, whole[node]);
  }
  for (std::size_t i = 0; i < anywhere.size() && micro_batches_.count > 1; ++i) {
    if (pending.all[i].empty()) {
      anywhere[i] = 1;  // of another micro-batch
    }
  }
  if (std::find(anywhere.begin(), anywhere.end(), 0) != anywhere.end()) {
    return;  // its sum over replicas is still to come
  }
  if (!is_finished(pending, tensor, index)) {
    return;
  }
  wanted_[pending.number] = whole;
  if (pending.is_ordered) {
    check_order(tensor, pending, whole, index);
  }
  if (value != named_.end()) {
    own_[value->second.index] = whole;
    made_by_[value->second.index].insert(index);
  } else {
    for (auto& [op, progress] : progress_) {
      for (const Stage& stage : plan_.layouts.ops[op].split.nest().stages) {
        for (const Operand& operand : stage.operands) {
          if (operand.tensor.kind == TensorKind::Scratch &&
              tensor_name(OpId{op}, operand.tensor) == tensor) {
            progress.scratch[operand.tensor.index] = whole;
          }
        }
      }
    }
  }
  pending_.erase(tensor);
}

// --- all of it ---
void Delivery::put_leaves() {
  for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
    const ValueId id{i};
    const bool is_leaf = graph_.values[i].kind != graph::ValueKind::Op && is_held_here(id);
    const Crossing* const crossing = arrival(id);
    if (is_leaf || (crossing != nullptr && crossing->made != program::Part::Behind)) {
      for (Node node = 0; node < nodes_; ++node) {
        own_[i][node] = held(id, node);
      }
    }
  }
}

void Delivery::run_phase(std::size_t index) {
  const std::int64_t micro_batch = written_out_.micro_batch[index];
  if (micro_batch != micro_batch_) {
    begin_micro_batch(micro_batch);
  }
  if (turn_at(index) == Turn::After && index > 0 && turn_at(index - 1) == Turn::Each) {
    end_micro_batches();
  }
  const program::PhaseBody& body = program_.phases[index].body;
  if (const auto* compute = std::get_if<Compute>(&body)) {
    run_compute(index, *compute);
  } else if (const auto* transfer = std::get_if<Transfer>(&body)) {
    run_transfer(index, *transfer);
  }
}

std::vector<std::string> Delivery::run(std::size_t most) {
  most_ = most;
  put_leaves();
  for (std::size_t i = 0; i < program_.phases.size() && breaches_.size() < most; ++i) {
    run_phase(i);
  }
  if (!program_.phases.empty() && turn_at(program_.phases.size() - 1) == Turn::Each) {
    end_micro_batches();
  }
  for (const auto& [name, pending] : pending_) {
    report(fmt::format("the sum %{} is never complete", name));
  }
  check_sends();
  if (breaches_.empty()) {
    check_sizes();
  }
  return breaches_;
}

}  // namespace dojo::place::internal
