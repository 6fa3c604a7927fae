// Delivery: walks a placed Program node by node and asks, for every element that any node reads,
// whether that node made it or was sent it, by phases that the reader waits for. For tests.
//
// What is tracked is which elements a node has, not their values: an element is a function of the
// elements it is computed from and of the cuts that the lowered Graph states, so a node that has
// the elements has the value. Sums in parts are tracked as the set of parts that have come
// together.
//
// What a pattern does to a line of nodes is taken as: each ends with what any of them had. So a
// line that is too short, an operand that nobody fetched, a sum that misses a part, a phase that
// does not wait, all are found; a message that is too small for its content is not.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/plan.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

using Elements = std::vector<char>;  // by row-major element: whether it is there

// Adds what is there in `from`.
void add(Elements& to, const Elements& from);

class Delivery {
 public:
  Delivery(const graph::Graph& graph, const Plan& plan, const program::Program& program);

  // One sentence for each breach, the first `most` of them; empty: everything arrives.
  std::vector<std::string> run(std::size_t most = 10);

  std::int64_t elements_checked() const { return checked_; }

 private:
  using Node = std::size_t;
  struct Place {
    std::int64_t replica = 0;
    std::int64_t row = 0;
    std::int64_t column = 0;
  };
  // A sum in parts: by node, by element, the parts that are in it.
  using Parts = std::vector<std::vector<std::set<std::int64_t>>>;
  struct Pending {
    graph::Shape shape;
    Parts parts;
    std::vector<std::set<std::int64_t>> all;  // by element: the parts there are
  };
  // What has become of an op whose stages run in several phases.
  struct Progress {
    std::size_t stage = 0;
    std::map<int, std::vector<Elements>> scratch;  // by number, by node
  };

  Place place_of(Node node) const;
  Node node_at(const Place& place) const;
  SplitNest::Place split_place(Node node) const;
  graph::Slice slice_of(const SplitNest& split, Node node) const;
  Elements touched(const graph::Stage& stage, const graph::Operand& operand, const SplitNest& split,
                   Node node) const;
  Elements flat_share(const graph::Operand& operand, const SplitNest& split, Node node) const;
  Elements held(ValueId value, Node node) const;

  void put_leaves();
  void run_phase(std::size_t index);
  void run_transfer(std::size_t index, const program::Transfer& transfer);
  void run_compute(std::size_t index, const program::Compute& compute);
  void run_op(std::size_t index, OpId id);
  void run_stage(std::size_t index, OpId id, const graph::Stage& stage);
  void read(std::size_t index, OpId id, const graph::Stage& stage, const graph::Operand& operand);
  void write(std::size_t index, OpId id, const graph::Stage& stage, const graph::Operand& operand);
  bool is_in_parts(OpId id, const graph::Stage& stage, const graph::Operand& operand) const;
  std::int64_t part_of(const OpPlan& plan, const graph::Stage& stage, Node node) const;
  std::string tensor_name(OpId id, const graph::TensorRef& tensor) const;
  void copy_update(std::size_t index);

  std::vector<std::vector<Node>> lines(const program::Move& move) const;
  void complete(const std::string& tensor, std::size_t index);

  Elements available(ValueId value, Node node, std::size_t index);
  const std::vector<std::int64_t>& alias_map(OpId alias);
  void report(std::string what);

  const graph::Graph& graph_;
  const Plan& plan_;
  const program::Program& program_;
  graph::Uses uses_;
  std::int64_t rows_ = 1;
  std::int64_t columns_ = 1;
  std::size_t nodes_ = 1;  // of all replicas
  std::map<std::string, ValueId> named_;
  std::vector<std::vector<Elements>> own_;        // by value, by node
  std::vector<std::set<std::size_t>> made_by_;    // by value: phases that wrote it
  std::vector<std::vector<Elements>> registers_;  // by value, by node: of this phase
  std::map<std::pair<std::size_t, std::uint32_t>, std::vector<Elements>>
      landed_;                                  // by phase, value
  std::map<std::string, Pending> pending_;      // sums in parts, by tensor
  std::map<std::uint32_t, Progress> progress_;  // by op
  std::map<std::uint32_t, std::vector<std::int64_t>> alias_maps_;
  std::vector<std::vector<bool>> waits_for_;  // by phase: the phases before it, all the way
  std::vector<std::string> breaches_;
  std::size_t most_ = 10;
  std::int64_t checked_ = 0;
};

}  // namespace dojo::place::internal
