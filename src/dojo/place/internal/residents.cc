#include "dojo/place/internal/residents.h"

#include <algorithm>
#include <optional>

#include "dojo/graph/op_table.h"

namespace dojo::place::internal {

using graph::Graph;
using graph::Op;
using graph::ValueKind;

namespace {

// Weights of fewer bytes a node stay in SRAM: two transfers each are not worth it.
constexpr std::int64_t kLeastInMemory = 1024;

bool is_update(const Op& op) { return op.info->group == graph::OpGroup::Update; }

class Residents {
 public:
  Residents(const Graph& graph, const Mesh& mesh, LayoutPlan& plan)
      : graph_(graph), mesh_(mesh), plan_(plan), uses_(graph::uses_of(graph)) {}

  void run() {
    plan_.in_memory.assign(graph_.values.size(), false);
    for (std::uint32_t i = 0; mesh_.streams_states && i < graph_.values.size(); ++i) {
      const ValueKind kind = graph_.values[i].kind;
      plan_.in_memory[i] = (kind == ValueKind::State && is_state(ValueId{i})) ||
                           (kind == ValueKind::Weight && is_master(ValueId{i}));
      if (kind == ValueKind::Weight && plan_.in_memory[i]) {
        make_codes_first(ValueId{i});
      }
    }
  }

 private:
  const Op& op(OpId id) const { return graph_.ops[id.index]; }

  // Read by one update, which overwrites it where it lies.
  bool is_state(ValueId id) const {
    return uses_.readers[id.index].size() == 1 && updater(id).has_value();
  }

  // Read by its update and by what makes codes of it, and there are micro-batches.
  bool is_master(ValueId id) const {
    const auto& readers = uses_.readers[id.index];
    const graph::Value& value = graph_.value(id);
    const Bytes held = program::slice_bytes(plan_.held[id.index], value.shape, value.format);
    return !plan_.turn.empty() && plan_.in_the_way.empty() && held >= Bytes(kLeastInMemory) &&
           readers.size() > 1 && updater(id).has_value() &&
           std::count_if(readers.begin(), readers.end(),
                         [&](OpId reader) { return is_update(op(reader)); }) == 1 &&
           std::all_of(readers.begin(), readers.end(),
                       [&](OpId reader) { return is_update(op(reader)) || makes_codes(reader); });
  }

  bool makes_codes(OpId id) const {
    return op(id).info->name == "dojo.convert" && !plan_.ops[id.index].is_alias &&
           plan_.turn[id.index] == Turn::Each &&
           !plan_.ops[id.index].split.on(program::Axis::Micro).has_value();
  }

  std::optional<OpId> updater(ValueId id) const {
    for (const graph::Update& update : graph_.updates) {
      const auto& maker = uses_.definition[update.value.index];
      const auto& readers = uses_.readers[id.index];
      if (update.target == id && maker.has_value() && is_update(op(*maker)) &&
          std::find(readers.begin(), readers.end(), *maker) != readers.end() &&
          plan_.root[update.value.index] == update.value &&
          plan_.held[id.index] == plan_.held[update.value.index]) {
        return maker;
      }
    }
    return std::nullopt;
  }

  void make_codes_first(ValueId id) {
    for (const OpId reader : uses_.readers[id.index]) {
      if (!is_update(op(reader))) {
        plan_.turn[reader.index] = Turn::Before;
      }
    }
  }

  const Graph& graph_;
  const Mesh& mesh_;
  LayoutPlan& plan_;
  graph::Uses uses_;
};

}  // namespace

void plan_residents(const Graph& graph, const Mesh& mesh, LayoutPlan& plan) {
  Residents(graph, mesh, plan).run();
}

}  // namespace dojo::place::internal
