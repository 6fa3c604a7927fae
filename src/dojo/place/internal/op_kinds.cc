#include "dojo/place/internal/op_kinds.h"

#include <string>
#include <unordered_map>

#include "dojo/graph/op_table.h"
#include "dojo/place/internal/op_key.h"

namespace dojo::place::internal {

std::vector<int> kinds_of(const graph::Graph& graph) {
  std::vector<int> kinds;
  std::unordered_map<std::string, int> known;
  for (const graph::Op& op : graph.ops) {
    Key key;
    for (const auto* slots : {&op.inputs, &op.outputs}) {
      key.add(slots->size());
      for (const auto& slot : *slots) {
        key.add(slot.has_value());
        if (slot.has_value()) {
          const graph::Value& value = graph.value(*slot);
          key.add(value.format).add(value.is_fused).add(value.kind).add(value.role);
        }
      }
    }
    key.add(graph::nest_of(graph, op));
    const auto [found, is_new] =
        known.try_emplace(std::string(op.info->name) + key.take(), static_cast<int>(known.size()));
    kinds.push_back(found->second);
  }
  return kinds;
}

}  // namespace dojo::place::internal
