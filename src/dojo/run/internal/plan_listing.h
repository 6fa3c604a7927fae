// A plan as its user sees it: what its tasks are called and what they store.
#pragma once

#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/run/executor.h"
#include "dojo/run/internal/plan.h"

namespace dojo::run::internal {

// The ops of a task, each once: "aten.convolution+aten.relu".
std::string op_names(const graph::Graph& graph, const Task& task);

std::vector<StoredTensor> stored_tensors(const graph::Graph& graph, const Plan& plan);

}  // namespace dojo::run::internal
