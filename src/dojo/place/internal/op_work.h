// OpWork: what the stages of an op ask of the busiest node, from its nest and split.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "dojo/place/internal/layout_plan.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

// Both works in one phase.
program::NodeWork sum(program::NodeWork a, const program::NodeWork& b);

class OpWork {
 public:
  OpWork(const graph::Graph& graph, const LayoutPlan& plan) : graph_(graph), plan_(plan) {}

  // `is_at_hand`: whether an operand is still in registers; `after_matrix`: they are accumulators
  // of the matrix unit, which are read through the load port. `panel`: points of k per panel.
  program::NodeWork stage_work(OpId id, const graph::Stage& stage,
                               std::optional<std::int64_t> panel,
                               const std::function<bool(ValueId)>& is_at_hand,
                               bool after_matrix) const;

  // The stage leaves partial results in this operand, which are combined before they are read.
  bool is_written_in_parts(OpId id, const graph::Stage& stage, const graph::Operand& operand) const;

  // Points of k per panel of the op's matrix stage, if `gathered` bytes of operands do not fit
  // whole into the buffers: the longest panel of which two fit into the budget.
  std::optional<std::int64_t> panel_block(OpId id, Bytes gathered, Bytes budget,
                                          Bytes buffers) const;
  std::int64_t panel_count(OpId id, std::int64_t block) const;

  // Any other op takes `gathered` (operand, bytes) in pieces of one loop, if they do not fit whole
  // into the buffers: a loop that all its stages and its operands `in_registers` run over, so that
  // a piece is done before the next comes. nullopt: no loop helps.
  struct Pieces {
    int loop = 0;
    std::int64_t count = 1;
    std::vector<int> operands{};  // that come in pieces; the others come whole
  };
  std::optional<Pieces> pieces(OpId id, const std::vector<std::pair<int, Bytes>>& gathered,
                               const std::vector<int>& in_registers, Bytes budget,
                               Bytes buffers) const;

 private:
  const SplitNest& split(OpId id) const { return plan_.ops[id.index].split; }
  std::int64_t product(OpId id, const std::vector<int>& loops) const;
  bool runs_over(OpId id, int input, int loop) const;
  bool can_be_outermost(OpId id, int loop) const;
  std::int64_t reduction(OpId id) const;
  Format format_of(OpId id, const graph::TensorRef& tensor) const;
  program::MatrixWork matrix_work(OpId id, const graph::Stage& stage, std::int64_t macs,
                                  std::optional<std::int64_t> panel) const;
  void add_result(OpId id, const graph::Stage& stage, const graph::Operand& operand, Bytes bytes,
                  program::NodeWork& work) const;

  const graph::Graph& graph_;
  const LayoutPlan& plan_;
};

}  // namespace dojo::place::internal
