// LayoutPlan: the split of every op and how every tensor lies, in one walk over the Graph. It
// depends on the Graph, the mesh and the rules alone, so that cuts of reductions can be read off it
// before anything else is planned.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/place/internal/rules.h"
#include "dojo/place/internal/split_nest.h"

namespace dojo::place::internal {

struct OpPlan {
  SplitNest split;
  // The output is operand 0 in another shape: nothing moves, nothing is stored.
  bool is_alias = false;
  // Axes along which each owner looks up its rows of an indexed operand; the partial results have
  // one term that is not zero, so their sum is exact in any order.
  std::vector<program::Axis> masked;
  std::vector<program::Layout> raw;     // by output slot, partial axes not combined
  std::vector<program::Layout> stored;  // by output slot, as it lies at the end
};

// When an op runs, where a step has micro-batches.
enum class Turn : std::uint8_t {
  Before,  // once, before the first
  Each,    // for each of them
  After,   // once, behind the last; all ops of a step without micro-batches
};

struct LayoutPlan {
  std::vector<OpPlan> ops;
  std::vector<program::Layout> held;  // by value
  std::vector<ValueId> root;          // by value: whose bytes an alias reads
  // By value: Flat shares that are not in the row-major order of this value (a permuted alias).
  std::vector<bool> is_scrambled;
  std::optional<std::int64_t> replicas_in_run;  // of the mesh
  std::int64_t micro_batches = 1;               // of the mesh
  std::vector<Turn> turn;                       // by op; empty without micro-batches
  // By value: of all micro-batches, for an op that takes all samples at once behind them.
  std::vector<bool> is_kept;
  std::string in_the_way;  // of micro-batches, as a sentence; empty: nothing
  // By value: leaves that lie in the DRAM of the interface processors and come when they are needed
  // (residents.h).
  std::vector<bool> in_memory;
};

LayoutPlan plan_layouts(const graph::Graph& graph, const Mesh& mesh);

// Whether a search may split the op otherwise than the rules: not a view that moves nothing, an
// update, which is split as its weight lies, a look-up, as its table, or what works on even shares.
bool may_be_dealt(const graph::Op& op, const OpPlan& plan);

// Whether the op makes a result that is the same on all nodes of the axis: then they all make it.
bool makes_alike(const graph::Op& op, const OpPlan& plan, program::Axis axis);

// The operand of the nest's stages that reads input `index` first, or nullptr.
const graph::Operand* reading_of(const graph::LoopNest& nest, int index);
// The operand that writes output `index`, with its stage.
struct Writing {
  const graph::Stage* stage = nullptr;
  const graph::Operand* operand = nullptr;
};
std::optional<Writing> writing_of(const graph::LoopNest& nest, int index);

}  // namespace dojo::place::internal
