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
// does not wait, all are found. Then, from the last transfer to the first, what arrived by it and
// is read or sent on by anybody is held against the bytes that its pattern says: a message that is
// too small for its content is found, too. Of sums the additions are followed: their order is that
// of the lowered Graph's cuts, ascending along each loop (in runs, where its cut has them), the
// innermost loop first.
//
// Micro-batches are walked one after the other, and of the samples of one nothing is left in the
// next. A part of a sum over samples has to go on with every micro-batch, in order, and all of them
// have to be in it when it is used.
//
// A pipeline is walked stage by stage: what others send a stage is taken to come, and what it sends
// has to be there on every node. As what comes is made by halves that ran before (verify_program),
// all of it then comes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/plan.h"
#include "dojo/place/internal/turns.h"
#include "dojo/program/program.h"

namespace dojo::place::internal {

using Elements = std::vector<char>;  // by row-major element: whether it is there

constexpr std::size_t size_of(std::int64_t n) { return static_cast<std::size_t>(n); }
constexpr std::size_t index_of(program::Axis axis) { return static_cast<std::size_t>(axis); }
Elements none(const graph::Shape& shape);

// Whether what the stage reduces are sums alone, so that the order of parts matters.
bool is_sum(const graph::Stage& stage);
std::uint64_t hash_of_part(std::int64_t part);

// Adds what is there in `from`.
void add(Elements& to, const Elements& from);

class Delivery {
 public:
  // `stage`: of a pipeline.
  Delivery(const graph::Graph& graph, const Plan& plan, const program::Program& program,
           const machine::MachineModel& machine, std::size_t stage = 0);

  // One sentence for each breach, the first `most` of them; empty: everything arrives.
  std::vector<std::string> run(std::size_t most = 10);

  std::int64_t elements_checked() const { return checked_; }
  std::int64_t sizes_checked() const { return sizes_checked_; }

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
    std::size_t number = 0;
    graph::Shape shape;
    Parts parts;
    std::vector<std::set<std::int64_t>> all;  // by element: the parts there are
    // Of a sum that goes on from one micro-batch to the next: by node, by element, in how many it
    // has; and by node in how many it has to.
    bool goes_on = false;
    std::vector<std::vector<std::int64_t>> had;
    std::vector<std::int64_t> has_to;
    std::size_t last_writer = 0;
    bool is_in_memory = false;  // of the interface processors
    // Of a sum in a stated order: which additions made what is there, as a hash; 0 for nothing.
    bool is_ordered = false;
    std::vector<std::vector<std::uint64_t>> additions;  // by node, by element
    // The cuts of the loops, outermost first, and of each part its place along each of them.
    std::vector<graph::ReduceCut> cuts;
    std::map<std::int64_t, std::vector<std::int64_t>> places;
  };
  // An element that a node has by a move, and from which node of its line.
  struct Arrival {
    std::uint32_t element = 0;
    std::uint32_t from = 0;
  };
  // Which of several transfers that brought the same a phase is taken to use.
  enum class Taken : std::uint8_t { Last, First, FirstOfAll };
  // What a phase needs of a value on a node.
  struct Use {
    ValueId value;
    Node node = 0;
    std::size_t phase = 0;
    Elements needed;
  };
  struct Sent {
    std::size_t phase = 0;
    ValueId value;
    const program::Move* move = nullptr;
    std::vector<std::vector<Node>> groups;
    std::vector<std::vector<Arrival>> arrivals;  // by node
  };
  // A move that joins parts of sums: by sum, the elements of each group whose parts it joins.
  struct Joined {
    std::size_t phase = 0;
    const program::Move* move = nullptr;
    std::vector<std::vector<Node>> groups;
    struct Sum {
      std::string name;
      std::size_t number = 0;  // of the Pending
      std::vector<std::vector<std::uint32_t>> elements;
    };
    std::vector<Sum> sums;
  };
  // What has become of an op whose stages run in several phases.
  struct Progress {
    std::size_t stage = 0;
    std::vector<std::pair<std::size_t, std::size_t>> begun;  // phases, each with its first stage
    std::map<int, std::vector<Elements>> scratch;            // by number, by node
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
  std::size_t first_stage_again(std::size_t index, const Progress& progress) const;
  void run_stage(std::size_t index, OpId id, const graph::Stage& stage);
  void read(std::size_t index, OpId id, const graph::Stage& stage, const graph::Operand& operand);
  void write(std::size_t index, OpId id, const graph::Stage& stage, const graph::Operand& operand);
  bool is_in_parts(OpId id, const graph::Stage& stage, const graph::Operand& operand) const;
  std::int64_t part_of(const OpPlan& plan, const graph::Stage& stage, Node node) const;
  std::vector<graph::ReduceCut> cuts_of(OpId id, const graph::Stage& stage) const;
  std::vector<std::int64_t> places_in_loops(const SplitNest& split,
                                            const std::vector<graph::ReduceCut>& cuts,
                                            Node node) const;
  std::string tensor_name(OpId id, const graph::TensorRef& tensor) const;
  void copy_update(std::size_t index);

  // --- micro-batches ---
  Turn turn_at(std::size_t index) const;
  const graph::EarlyOutput* early_sum(OpId id) const;
  void begin_micro_batch(std::int64_t micro_batch);
  void end_micro_batches(std::optional<std::size_t> index = std::nullopt);
  void run_early(std::size_t index, OpId id, const graph::EarlyOutput& sum);
  void go_on(std::size_t index, OpId id, const graph::Stage& stage, Pending& pending, Node node,
             const Elements& made, const std::string& name);
  bool is_finished(const Pending& pending, const std::string& name, std::size_t index);

  // --- stages of a pipeline ---
  bool is_held_here(ValueId root) const;
  const Crossing* arrival(ValueId root) const;
  void run_onward(std::size_t index, const program::Move& move);
  void check_sends();

  std::vector<std::vector<Node>> lines(const program::Move& move) const;
  void complete(const std::string& tensor, std::size_t index);
  void join(const program::Move& move, const std::vector<std::vector<Node>>& groups,
            const std::set<std::string>& sums, std::size_t index);
  void send(const program::Move& move, const std::vector<std::vector<Node>>& groups, ValueId value,
            std::size_t index);

  void note_use(ValueId value, Node node, std::size_t index, Elements needed);
  void use(ValueId value, Node node, std::size_t index, Elements needed);
  void add_up(const program::Move& move, const std::vector<Node>& group, Pending& pending,
              std::size_t element, const std::string& name, std::size_t index);
  void check_order(const std::string& name, const Pending& pending,
                   const std::vector<Elements>& whole, std::size_t index);
  void check_sizes();
  void check_messages();
  void check_size(const Sent& sent);
  void check_halo(const Sent& sent, Node node, const std::vector<Arrival>& used);
  void check_sum(const Joined& joined);
  void check_bytes(std::size_t phase, const program::Move& move, std::string_view what,
                   std::int64_t elements, Bytes element, Bytes said);

  Elements available(ValueId value, Node node, std::size_t index);
  // Whether the phase reads what was there before `maker` made it again.
  bool is_made_again_for_others(ValueId value, std::size_t maker, std::size_t index) const;
  const std::vector<std::int64_t>& alias_map(OpId alias);
  void report(std::string what);

  const graph::Graph& graph_;
  const Plan& plan_;
  std::size_t stage_;
  program::Program of_stage_;  // of a pipeline
  program::WrittenOut written_out_;
  const program::Program& program_;
  program::MicroBatches micro_batches_;
  machine::Shape logical_;  // nodes of a die
  // By value and way, in rows and columns of nodes: how often it went there.
  std::map<std::tuple<std::uint32_t, std::int64_t, std::int64_t>, std::int64_t> sent_onward_;
  std::int64_t micro_batch_ = 0;  // at hand
  graph::Uses uses_;
  std::int64_t rows_ = 1;
  std::int64_t columns_ = 1;
  std::size_t nodes_ = 1;  // of all replicas
  std::int64_t replicas_per_row_ = 1;
  std::map<std::string, ValueId> named_;
  std::vector<std::vector<Elements>> own_;        // by value, by node
  std::vector<std::set<std::size_t>> made_by_;    // by value: phases that wrote it
  std::vector<std::vector<Elements>> registers_;  // by value, by node: of this phase
  std::map<std::pair<std::size_t, std::uint32_t>, std::vector<Elements>>
      landed_;                                                                   // by phase, value
  std::map<std::pair<std::size_t, std::uint32_t>, std::vector<Elements>> used_;  // of what landed
  std::vector<Use> read_;                                                        // in order
  std::map<std::size_t, std::size_t> first_to_wait_;  // by phase: the first that waits for it
  Taken taken_ = Taken::Last;
  std::map<std::string, std::vector<std::string>> too_small_;  // by tensor: messages that are
  std::vector<Sent> sent_;                                     // in order
  std::vector<Joined> joined_;                                 // in order
  std::map<std::size_t, std::vector<Elements>> wanted_;        // by number of a sum, by node
  std::map<std::string, Pending> pending_;                     // sums in parts, by tensor
  std::size_t sums_ = 0;
  std::map<std::uint32_t, Progress> progress_;  // by op
  std::map<std::uint32_t, std::vector<std::int64_t>> alias_maps_;
  std::vector<std::vector<bool>> waits_for_;  // by phase: the phases before it, all the way
  std::vector<std::string> breaches_;
  std::size_t most_ = 10;
  std::int64_t checked_ = 0;
  std::int64_t sizes_checked_ = 0;
};

}  // namespace dojo::place::internal
