#include "dojo/place/internal/weights.h"

#include <algorithm>

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/views.h"

namespace dojo::place::internal {

using graph::Graph;
using graph::Op;
using graph::OpGroup;
using program::Layout;
using program::Sharing;

namespace {

constexpr int kMostOpsBetween = 6;  // of a weight and the product

class Reader {
 public:
  Reader(const Graph& graph, const LayoutPlan& plan)
      : graph_(graph), plan_(plan), uses_(graph::uses_of(graph)) {}

  std::optional<Layout> slices(ValueId id, int between = 0) const {
    for (const OpId reader : uses_.readers[id.index]) {
      if (const auto found = slices_of(id, reader, between)) {
        return found;
      }
    }
    return std::nullopt;
  }

 private:
  std::optional<Layout> slices_of(ValueId id, OpId reader, int between) const {
    const Op& op = graph_.ops[reader.index];
    if (op.info->group == OpGroup::Matrix) {
      return op.phase == graph::Phase::Forward ? slices_of_product(id, reader) : std::nullopt;
    }
    const bool is_alone = op.inputs.front() == std::optional(id) && !op.outputs.empty() &&
                          op.outputs.front().has_value();
    const bool keeps_shape = is_alone && op.info->group == OpGroup::Elementwise &&
                             graph_.value(*op.outputs.front()).shape == graph_.value(id).shape;
    if (between == kMostOpsBetween || !is_alone || (!keeps_shape && !is_view(op))) {
      return std::nullopt;
    }
    const auto found = slices(*op.outputs.front(), between + 1);
    return found.has_value() && !keeps_shape ? through_view(graph_, op, *found) : found;
  }

  std::optional<Layout> slices_of_product(ValueId id, OpId reader) const {
    const Op& op = graph_.ops[reader.index];
    const SplitNest& split = plan_.ops[reader.index].split;
    const auto at = std::find(op.inputs.begin(), op.inputs.end(), std::optional(id));
    const graph::Operand* const operand =
        reading_of(split.nest(), static_cast<int>(at - op.inputs.begin()));
    const Layout layout = operand == nullptr ? Layout{} : split.read(*operand);
    return layout.has(Sharing::Sliced) ? std::optional(layout) : std::nullopt;
  }

  const Graph& graph_;
  const LayoutPlan& plan_;
  graph::Uses uses_;
};

}  // namespace

std::vector<std::optional<Layout>> weights_as_read(const Graph& graph, const LayoutPlan& plan) {
  const Reader reader(graph, plan);
  std::vector<std::optional<Layout>> out(graph.values.size());
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    if (graph.values[i].kind == graph::ValueKind::Weight) {
      out[i] = reader.slices(ValueId{i});
    }
  }
  return out;
}

}  // namespace dojo::place::internal
