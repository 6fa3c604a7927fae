// Graph: a whole training step (forward, backward, update) as tensors and ops in execution order.
// *Lowered*, it also says everything that affects values: the storage format of each tensor, which
// tensors are fused away, into how many parts a reduction is cut. It never says where anything
// runs. The text form and the meaning of every word are in docs/graph.md.
//
// Invariants (held by verify()): every value has exactly one definition, before its uses; shapes
// and formats of an op's outputs are those its table row computes; names are unique.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dojo/base/bias_policy.h"
#include "dojo/base/format.h"
#include "dojo/base/ids.h"
#include "dojo/base/result.h"
#include "dojo/base/sum_order.h"
#include "dojo/base/units.h"

namespace dojo::graph {

using Shape = std::vector<std::int64_t>;

// Product of the extents; 1 for a scalar.
std::int64_t element_count(const Shape& shape);

enum class Phase : std::uint8_t { Forward, Backward, Update };
std::string_view name_of(Phase phase);  // "fwd", "bwd", "upd"

// Where a value comes from. Leaves are given from outside; Weight, Buffer and State live from step
// to step and may be the target of an update.
enum class ValueKind : std::uint8_t {
  Op,      // the output of an op
  Input,   // given anew each step: frames, labels, the learning rate
  Weight,  // a trained parameter
  Buffer,  // carried by the model and not trained: running statistics, position tables
  State,   // carried by the optimiser: momentum
};

// What a tensor is for. A recipe is a table from Role to Format.
enum class Role : std::uint8_t {
  None,              // not decided (a Graph that is not lowered), or an integer or mask
  WeightOperand,     // a weight as a matrix or convolution operand
  MatrixOperand,     // an activation that is a matrix or convolution operand
  PreNorm,           // stored input of a normalisation
  Residual,          // the residual stream
  Activation,        // any other stored activation
  Statistic,         // means, variances, softmax maxima and sums
  Loss,              // the loss and what leads to it from the last layer
  GradientOperand,   // gradient that is a matrix or convolution operand
  GradientPreNorm,   // gradient of a stored input of a normalisation
  GradientResidual,  // gradient of the residual stream
  Gradient,          // any other gradient of an activation
  WeightGradient,    // gradient of a parameter
  MasterWeight,      // a weight of products, as it lives from step to step
  MasterParameter,   // any other parameter, as it lives from step to step
  FirstMoment,       // the optimiser's momentum, or mean of gradients
  SecondMoment,      // the optimiser's mean of squared gradients
};

struct RoleInfo {
  Role role;
  std::string_view name;  // as the text form and recipes write it
  std::string_view what;
};
const std::vector<RoleInfo>& roles();
std::string_view name_of(Role role);
std::optional<Role> role_named(std::string_view name);

struct Value {
  std::string name;  // without the %; unique in the Graph
  ValueKind kind = ValueKind::Op;
  Format format = Format::F32;
  Shape shape;
  std::string label;  // leaves: what the user calls it ("trunk.0.weight"); empty for op values
  Role role = Role::None;
  bool is_fused = false;       // lowered: FP32, never stored, consumed inside its group only
  bool is_stochastic = false;  // lowered: rounded stochastically when stored
  // Lowered: computed once more, by the same op from the same operands, so it has the codes of that
  // value, whose bias it takes.
  std::optional<ValueId> again_of;
};

// An attribute as the text form writes it: 3, 0.5, true, "none", [1,2], [0.5,1.0].
using Attribute = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                               std::vector<double>>;

// One cut of a reduction loop into `parts` consecutive blocks of `block` points (the last may be
// shorter): parts = ceil(extent / block), parts >= 2. The parts are added in ascending order; with
// a `run`, first those of each run of so many (the last may be shorter), then the runs.
struct ReduceCut {
  std::string loop;
  std::int64_t parts = 1;
  std::int64_t block = 1;
  std::optional<std::int64_t> run{};  // in parts: 2 <= run < parts
  friend bool operator==(const ReduceCut&, const ReduceCut&) = default;
};

struct OpInfo;  // a row of the op table (op_table.h)

struct Op {
  const OpInfo* info = nullptr;                 // never null in a verified Graph
  std::vector<std::optional<ValueId>> inputs;   // nullopt: an optional operand not given (`none`)
  std::vector<std::optional<ValueId>> outputs;  // nullopt: an output nobody reads (`_`)
  std::map<std::string, Attribute> attributes;  // only what differs from the row's default
  std::string module;                           // path of the module it came from
  Phase phase = Phase::Forward;
  std::vector<ReduceCut> k_parts;  // lowered: cut reduction loops, in the nest's order
};

struct Output {
  ValueId value;
  std::string label;
};

// At the end of the step the leaf `target` takes the contents of `value`.
struct Update {
  ValueId target;
  ValueId value;
};

enum class Denormals : std::uint8_t { Paper, Gradual };

// What `lower` wrote; absent in a Graph as captured.
struct Lowering {
  std::string recipe;
  std::string machine;
  Denormals denormals = Denormals::Paper;
  BiasPolicy bias;
  SumOrder sum_order = SumOrder::Sequential;
  friend bool operator==(const Lowering&, const Lowering&) = default;
};

struct Graph {
  std::string name;
  std::optional<Lowering> lowering;
  std::vector<Value> values;
  std::vector<Op> ops;
  std::vector<Output> outputs;
  std::vector<Update> updates;

  bool is_lowered() const { return lowering.has_value(); }
  const Value& value(ValueId id) const { return values[id.index]; }
  Value& value(ValueId id) { return values[id.index]; }
  // Appends a value; its name must be unused (verify() checks).
  ValueId add(Value value);
};

// Bytes of the value as stored.
Bytes stored_bytes(const Value& value);

// The op that defines each value (nullopt for leaves) and the ops that read it, by value index.
struct Uses {
  std::vector<std::optional<OpId>> definition;
  std::vector<std::vector<OpId>> readers;  // each op once, ascending
};
Uses uses_of(const Graph& graph);

// The value whose bytes this one's are: through views of unchanged format up to what was stored.
ValueId storage_of(const Graph& graph, const Uses& uses, ValueId id);

// The stable 32-bit id of each value, by value index: the hash of (module path or label, phase,
// role, ordinal among equals). Bias windows and random streams hang on it. Two values with one id
// are an error.
Result<std::vector<std::uint32_t>> tensor_ids(const Graph& graph);

// SHA-256 of the printed lowered Graph: metrics of a run and of a simulation carry it.
std::string graph_sha256(const Graph& graph);

}  // namespace dojo::graph
