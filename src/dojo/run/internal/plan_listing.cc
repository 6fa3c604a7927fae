#include "dojo/run/internal/plan_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "dojo/graph/op_table.h"

namespace dojo::run::internal {

std::string op_names(const graph::Graph& graph, const Task& task) {
  std::vector<OpId> ops = task.joined;
  ops.push_back(task.op);
  std::string names;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (std::find(ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(i), ops[i]) ==
        ops.begin() + static_cast<std::ptrdiff_t>(i)) {
      names += fmt::format("{}{}", names.empty() ? "" : "+", graph.ops[ops[i].index].info->name);
    }
  }
  return names;
}

std::vector<StoredTensor> stored_tensors(const graph::Graph& graph, const Plan& plan) {
  std::vector<StoredTensor> tensors;
  for (const StoredBuffer& stored : plan.stored) {
    const Task& task = plan.tasks[stored.task];
    const graph::Op& op = graph.ops[task.op.index];
    const Buffer& buffer = plan.buffers[stored.buffer.index];
    tensors.push_back({op_names(graph, task), op.module, op.phase,
                       buffer.value.has_value() ? graph.value(*buffer.value).name : "",
                       buffer.format, buffer.elements, stored.is_saved, stored.is_piece});
  }
  return tensors;
}

}  // namespace dojo::run::internal
