#include "dojo/place/internal/op_work.h"

#include <algorithm>
#include <cmath>

namespace dojo::place::internal {

using graph::BodyClass;
using graph::Operand;
using graph::Stage;
using graph::TensorKind;
using program::MatrixWork;
using program::NodeWork;

namespace {

constexpr std::int64_t kLongestPanel = 512;
constexpr std::int64_t kShortestPanel = 4;

bool is_small_float(Format format) { return is_float(format) && format != Format::F32; }

}  // namespace

NodeWork sum(NodeWork a, const NodeWork& b) {
  a.matrix.insert(a.matrix.end(), b.matrix.begin(), b.matrix.end());
  a.vector_ops += b.vector_ops;
  a.special_ops += b.special_ops;
  a.loaded += b.loaded;
  a.stored += b.stored;
  a.rounded += b.rounded;
  a.points += b.points;
  a.macs += b.macs;
  a.total_points += b.total_points;
  a.total_macs += b.total_macs;
  a.is_whole = a.is_whole || b.is_whole;
  return a;
}

std::int64_t OpWork::product(OpId id, const std::vector<int>& loops) const {
  std::int64_t points = 1;
  for (const int loop : loops) {
    points *= split(id).local_extent(loop);
  }
  return points;
}

// k of the matrix stage on the busiest node; 0 if the op has none.
std::int64_t OpWork::reduction(OpId id) const {
  for (const Stage& stage : split(id).nest().stages) {
    if (stage.body == BodyClass::Matrix) {
      return product(id, graph::matrix_roles(stage).k);
    }
  }
  return 0;
}

std::int64_t OpWork::panel_count(OpId id, std::int64_t block) const {
  return std::max<std::int64_t>(1, (reduction(id) + block - 1) / block);
}

std::optional<std::int64_t> OpWork::panel_block(OpId id, Bytes gathered, Bytes budget,
                                                Bytes buffers) const {
  const std::int64_t k = reduction(id);
  if (k == 0 || gathered <= std::min(budget, buffers)) {
    return std::nullopt;
  }
  for (std::int64_t block = kLongestPanel; block > kShortestPanel; block /= 2) {
    const double bytes = 2.0 * static_cast<double>(gathered.count()) *
                         static_cast<double>(std::min(block, k)) / static_cast<double>(k);
    if (bytes <= static_cast<double>(budget.count())) {
      return std::min(block, k);
    }
  }
  return std::min(kShortestPanel, k);
}

// Every reading of the operand has the loop in an affine map.
bool OpWork::runs_over(OpId id, int input, int loop) const {
  for (const Stage& stage : split(id).nest().stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use != graph::OperandUse::Read ||
          operand.tensor != graph::TensorRef{TensorKind::Input, input}) {
        continue;
      }
      const auto has_loop = [loop](const graph::Access& access) {
        const auto* map = std::get_if<graph::Affine>(&access);
        return map != nullptr &&
               ((map->ratio.has_value() && map->ratio->loop == loop) ||
                std::any_of(map->terms.begin(), map->terms.end(),
                            [loop](const graph::Term& term) { return term.loop == loop; }));
      };
      if (std::none_of(operand.access.begin(), operand.access.end(), has_loop)) {
        return false;
      }
    }
  }
  return true;
}

// All stages run over the loop, one value after the other; a sum goes on where it is the only
// stage.
bool OpWork::can_be_outermost(OpId id, int loop) const {
  const std::vector<Stage>& stages = split(id).nest().stages;
  return std::all_of(stages.begin(), stages.end(), [&](const Stage& stage) {
    const auto kind = graph::kind_of(stage, loop);
    const bool goes_on = kind == graph::LoopKind::Reduce && stages.size() == 1;
    const bool is_in_one_phase =
        std::none_of(stage.operands.begin(), stage.operands.end(), [&](const Operand& operand) {
          return operand.use == graph::OperandUse::Write &&
                 operand.tensor.kind == TensorKind::Scratch &&
                 is_written_in_parts(id, stage, operand);
        });
    return is_in_one_phase && (kind == graph::LoopKind::Parallel || goes_on);
  });
}

std::optional<OpWork::Pieces> OpWork::pieces(OpId id,
                                             const std::vector<std::pair<int, Bytes>>& gathered,
                                             const std::vector<int>& in_registers, Bytes budget,
                                             Bytes buffers) const {
  Bytes all{};
  for (const auto& [input, bytes] : gathered) {
    all += bytes;
  }
  if (all <= std::min(budget, buffers)) {
    return std::nullopt;
  }
  std::optional<Pieces> best;
  std::int64_t least = all.count();  // bytes that have to be there at a time
  for (int loop = 0; loop < static_cast<int>(split(id).nest().loops.size()); ++loop) {
    const bool keeps_registers = std::all_of(in_registers.begin(), in_registers.end(),
                                             [&](int input) { return runs_over(id, input, loop); });
    if (!keeps_registers || !can_be_outermost(id, loop)) {
      continue;
    }
    Pieces pieces{.loop = loop};
    std::int64_t moving = 0;
    for (const auto& [input, bytes] : gathered) {
      if (runs_over(id, input, loop)) {
        pieces.operands.push_back(input);
        moving += bytes.count();
      }
    }
    const std::int64_t whole = all.count() - moving;
    const std::int64_t room = std::max<std::int64_t>(1, budget.count() - whole);
    pieces.count = std::min(split(id).local_extent(loop), (2 * moving + room - 1) / room);
    if (pieces.count < 2) {
      continue;
    }
    const std::int64_t held = whole + 2 * ((moving + pieces.count - 1) / pieces.count);
    if (held < least) {
      least = held;
      best = std::move(pieces);
    }
  }
  return best;
}

Format OpWork::format_of(OpId id, const graph::TensorRef& tensor) const {
  const graph::Op& op = graph_.ops[id.index];
  const auto index = static_cast<std::size_t>(tensor.index);
  if (tensor.kind == TensorKind::Scratch) {
    return Format::F32;
  }
  const auto& slot = tensor.kind == TensorKind::Input ? op.inputs[index] : op.outputs[index];
  return slot.has_value() ? graph_.value(*slot).format : Format::F32;
}

bool OpWork::is_written_in_parts(OpId id, const Stage& stage, const Operand& operand) const {
  return !plan_.ops[id.index].masked.empty() ||
         split(id).written(stage, operand).has(program::Sharing::Partial);
}

NodeWork OpWork::stage_work(OpId id, const Stage& stage, std::optional<std::int64_t> panel,
                            const std::function<bool(ValueId)>& is_at_hand,
                            bool after_matrix) const {
  const graph::Op& op = graph_.ops[id.index];
  const graph::Slice slice = split(id).busiest();
  const double share = split(id).flat_share();
  const auto scaled = [share](std::int64_t count) {
    return static_cast<std::int64_t>(std::ceil(static_cast<double>(count) * share - 1e-6));
  };
  const graph::Work part = graph::work(split(id).nest(), stage, slice);
  const graph::Work total = graph::work(split(id).nest(), stage);
  NodeWork work;
  work.points = scaled(part.points);
  work.total_points = total.points;
  work.macs = part.total.macs;
  work.total_macs = total.total.macs;
  work.vector_ops = scaled(part.total.vector_ops);
  work.special_ops = scaled(part.total.special_ops);
  work.is_whole = stage.body == BodyClass::Whole;
  const bool is_done_each_time = !plan_.turn.empty() && plan_.turn[id.index] == Turn::Each &&
                                 !split(id).on(program::Axis::Micro).has_value();
  work.total_points *= is_done_each_time ? plan_.micro_batches : 1;
  if (stage.body == BodyClass::Matrix && part.total.macs > 0) {
    work.matrix.push_back(matrix_work(id, stage, part.total.macs, panel));
  }
  for (std::size_t i = 0; i < stage.operands.size(); ++i) {
    const Operand& operand = stage.operands[i];
    if (stage.body == BodyClass::Matrix && i < 2) {
      continue;  // the factors; matrix_work has them
    }
    const bool is_write = operand.use == graph::OperandUse::Write;
    const bool is_partial = is_write && is_written_in_parts(id, stage, operand);
    const Format format = is_partial ? Format::F32 : format_of(id, operand.tensor);
    const Bytes bytes(scaled(graph::bytes(stage, operand, slice, format).count()));
    if (is_partial) {
      work.stored += bytes;
      const bool goes_on = split(id).written(stage, operand)[program::Axis::Micro].sharing ==
                           program::Sharing::Partial;
      work.loaded += goes_on ? bytes : Bytes(0);  // what the micro-batches before came to
    } else if (is_write) {
      add_result(id, stage, operand, bytes, work);
    } else {
      const bool is_input = operand.tensor.kind == TensorKind::Input;
      const auto index = static_cast<std::size_t>(operand.tensor.index);
      const bool is_free = is_input && op.inputs[index].has_value() &&
                           is_at_hand(*op.inputs[index]) && !after_matrix;
      work.loaded += is_free ? Bytes(0) : bytes;
    }
  }
  return work;
}

void OpWork::add_result(OpId id, const Stage& stage, const Operand& operand, Bytes bytes,
                        NodeWork& work) const {
  if (operand.tensor.kind == TensorKind::Output) {
    const auto& slot = graph_.ops[id.index].outputs[static_cast<std::size_t>(operand.tensor.index)];
    if (!slot.has_value() || graph_.value(*slot).is_fused) {
      return;
    }
    const Format format = graph_.value(*slot).format;
    if (is_small_float(format)) {
      work.rounded += bytes;
    }
    const bool has_epilogue = is_small_float(format) || stage.per_result.vector_ops > 0;
    if (stage.body == BodyClass::Matrix && has_epilogue) {
      work.loaded += Bytes(bytes.count() / bytes_of(format) * 4);  // the FP32 tile, to be rounded
    }
  }
  work.stored += bytes;
}

MatrixWork OpWork::matrix_work(OpId id, const Stage& stage, std::int64_t macs,
                               std::optional<std::int64_t> panel) const {
  const graph::MatrixRoles roles = graph::matrix_roles(stage);
  MatrixWork work;
  work.m = product(id, roles.m);
  work.n = product(id, roles.n);
  work.batch = product(id, roles.batch);
  // Work may count fewer points than the loops have (maps with a divisor): k takes it up.
  const std::int64_t outside = std::max<std::int64_t>(1, work.m * work.n * work.batch);
  work.k = (macs + outside - 1) / outside;
  work.panel = std::min(work.k, panel.value_or(kLongestPanel));
  const Format left = format_of(id, stage.operands[0].tensor);
  const Format right = format_of(id, stage.operands[1].tensor);
  work.left_bytes = static_cast<int>(bytes_of(left));
  work.right_bytes = static_cast<int>(bytes_of(right));
  work.on_vector_pipe = bytes_of(left) > 2 || bytes_of(right) > 2;
  return work;
}

}  // namespace dojo::place::internal
