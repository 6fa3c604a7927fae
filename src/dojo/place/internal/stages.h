// Stages of a pipeline: which of them runs each op and holds each leaf, and what they send each
// other. The forward part is cut between blocks of modules, where the longest stage is shortest;
// everything else follows the data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/layout_plan.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

// A root value (layout_plan.h) that another stage reads than the one that makes or holds it.
struct Crossing {
  ValueId value;
  int from = 0;
  program::Part made = program::Part::Before;  // leaves of the step: before, of samples: forward
  int to = 0;
};

struct StagePlan {
  // Made of nothing but single numbers that do not hang on samples: every stage that needs it does
  // it for itself, and holds single leaves.
  static constexpr int kAll = -1;
  int count = 1;
  std::vector<int> of_op;
  std::vector<program::Part> part_of_op;
  std::vector<int> of_value;  // of roots: who makes it or holds it
  std::vector<Crossing> crossings{};
  std::vector<std::vector<std::int64_t>> after{};  // by stage: program::Stage::after
  std::string in_the_way{};                        // of the pipeline, as a sentence; empty: nothing

  std::vector<std::vector<bool>> is_needed;  // by stage, by op of kAll

  bool runs_on(OpId op, int stage) const {
    return of_op[op.index] == stage ||
           (of_op[op.index] == kAll && is_needed[static_cast<std::size_t>(stage)][op.index]);
  }
  bool holds(ValueId root, int stage) const {
    return of_value[root.index] == stage || of_value[root.index] == kAll;
  }
};

// The plan with each piece of the forward part, between which stages may be cut, as a stage of its
// own.
StagePlan plan_pieces(const graph::Graph& graph, const LayoutPlan& layouts);

// The contiguous cut of the pieces into stages whose longest is shortest; by piece, its stage.
std::vector<int> cut_into_stages(const std::vector<double>& seconds, int stages);

// The layouts have micro-batches; `stage_of_piece` as above.
StagePlan plan_stages(const graph::Graph& graph, const LayoutPlan& layouts, const StagePlan& pieces,
                      const std::vector<int>& stage_of_piece);

}  // namespace dojo::place::internal
