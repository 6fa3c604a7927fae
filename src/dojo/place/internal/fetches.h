// Fetches: fetch() of every operand of a Graph, worked out once for operands that are alike: equal
// ops with equal splits, whose operand has the same shape and lies the same way. Deep networks
// repeat their layers, so the cost grows with the layers that differ.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "dojo/place/internal/fetch.h"

namespace dojo::place::internal {

class Fetches {
 public:
  // All three have to outlive it.
  Fetches(const graph::Graph& graph, const LayoutPlan& plan, const Mesh& mesh,
          const machine::MachineModel& machine);

  Fetch of(OpId op, int input);

  // Different ones that were worked out.
  std::size_t distinct() const { return known_.size(); }

 private:
  std::string key_of(OpId op, int input) const;

  const graph::Graph& graph_;
  const LayoutPlan& plan_;
  const Mesh& mesh_;
  const machine::MachineModel& machine_;
  std::vector<std::string> op_keys_;  // by op: its nest and split
  std::unordered_map<std::string, Fetch> known_;
};

}  // namespace dojo::place::internal
