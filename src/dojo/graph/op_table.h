// The op table: one row per op, and the only place that knows an op's operands, attributes, shapes,
// loop nest (hence FLOPs) and documentation. Names are ATen packet names; operands are the tensor
// arguments in schema order, attributes all other arguments under their schema names. Overloads
// with one meaning share a row: a missing second tensor is the attribute of the same name
// (`aten.add(%x) {other=2}`), and a list of tensors comes after the other operands. Arguments that
// say nothing about values (layout, device, pin_memory, memory_format, non_blocking, generator)
// are dropped. docs/ops.md is printed from this table.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"

namespace dojo::graph {

struct TensorType {
  Format format = Format::F32;
  Shape shape;
  friend bool operator==(const TensorType&, const TensorType&) = default;
};

enum class AttributeType : std::uint8_t {
  Int,
  Float,
  Bool,
  String,
  Dtype,  // a string that names a Format: "f32", "i64", "bool"
  Ints,   // ATen's bool[] too, as 0 and 1
  Floats,
  Scalar,           // an integer or a float; integers keep an integer result
  IntsPerDimension  // a list; one number stands for all dimensions
};

enum class Presence : std::uint8_t {
  Required,
  Defaulted,  // has a value when absent
  Optional,   // absent is ATen's None
};

struct AttributeInfo {
  std::string_view name;
  AttributeType type = AttributeType::Int;
  Presence presence = Presence::Required;
  Attribute value = std::int64_t{0};  // the default; read only if Defaulted
};

struct OperandInfo {
  std::string_view name;
  bool is_optional = false;    // may be `none`, or missing at the end
  bool is_shape_only = false;  // its values are not read; it is in no stage of the nest
};

// What a row is for: the first choice of a placement rule, a kernel family or a statistic.
enum class OpGroup : std::uint8_t {
  Matrix,         // matrix products and convolutions
  Elementwise,    // each output element from the elements at its own (broadcast) index
  Reduction,      // sums, maxima over dimensions; losses reduced to a number
  Softmax,        // softmax and its gradient
  Normalisation,  // layer, group and batch norm and their gradients
  Pool,           // pooling and resizing
  Movement,       // each output element is one input element or a constant: no arithmetic
  Indexing,       // elements chosen by an index operand
  Make,           // made from attributes alone: full, arange, random masks
  Update,         // optimisers
};
std::string_view name_of(OpGroup group);

// What a row's functions see of an op.
struct OpCall {
  const OpInfo* info = nullptr;
  std::vector<std::optional<TensorType>> inputs;
  std::vector<std::optional<TensorType>> outputs;  // empty while they are being inferred
  const std::map<std::string, Attribute>* attributes = nullptr;

  bool has_input(std::size_t index) const {
    return index < inputs.size() && inputs[index].has_value();
  }
  const TensorType& input(std::size_t index) const { return *inputs[index]; }
  const Shape& shape(std::size_t index) const { return inputs[index]->shape; }
};

// Shapes and formats of the outputs; nullopt: this output does not exist (output_mask). F32 stands
// for "a float": exactly F32 in a Graph that is not lowered, free among floats in a lowered one.
// Errors: one sentence without the op's name, which the caller adds.
using InferredTypes = std::vector<std::optional<TensorType>>;
using InferFunction = Result<InferredTypes> (*)(const OpCall&);
// Called only when infer succeeded; outputs are set.
using NestFunction = LoopNest (*)(const OpCall&);

// An output that some operands decide on their own, so that it can be known before the rest: how
// many labels count.
struct EarlyOutput {
  int output = 0;
  std::vector<int> operands{};
};

struct OpInfo {
  std::string_view name;  // "aten.convolution"
  OpGroup group = OpGroup::Elementwise;
  std::vector<OperandInfo> operands;
  bool is_variadic = false;               // the last operand repeats, zero or more times
  int outputs = 1;                        // the least number of outputs
  bool has_more_outputs = false;          // more follow from an attribute (split_with_sizes)
  std::vector<AttributeInfo> attributes;  // sorted by name
  InferFunction infer = nullptr;
  NestFunction nest = nullptr;
  std::string_view doc;            // one line: what it computes
  bool is_reshape = false;         // same elements in the same order: nothing need move
  bool is_strided_view = false;    // elements of operand 0 at regular strides (permute, slice)
  bool is_unlowered_only = false;  // must not stand in a lowered Graph
  PointCost cost = {};             // of one element, for rows of a plain element-wise nest
  std::optional<EarlyOutput> early = {};
};

// The row, or nullptr.
const OpInfo* find_op(std::string_view name);
// All rows, sorted by name.
const std::vector<OpInfo>& all_ops();
std::vector<std::string> op_names();

// docs/ops.md.
std::string ops_markdown();

// --- attributes, with the row's default; the op must have been checked, the row must have the name
// What attributes are read from: an Op or an OpCall.
struct AttributeSource {
  AttributeSource(const Op& op) : info(op.info), attributes(&op.attributes) {}           // NOLINT
  AttributeSource(const OpCall& call) : info(call.info), attributes(call.attributes) {}  // NOLINT
  const OpInfo* info;
  const std::map<std::string, Attribute>* attributes;
};
bool has_attribute(const AttributeSource& op, std::string_view name);  // given, or Defaulted
std::int64_t int_attr(const AttributeSource& op, std::string_view name);
// Float, or a Scalar of either kind.
double float_attr(const AttributeSource& op, std::string_view name);
bool bool_attr(const AttributeSource& op, std::string_view name);
const std::string& string_attr(const AttributeSource& op, std::string_view name);
std::vector<std::int64_t> ints_attr(const AttributeSource& op, std::string_view name);
// IntsPerDimension, one number repeated `dimensions` times.
std::vector<std::int64_t> ints_attr(const AttributeSource& op, std::string_view name,
                                    std::size_t dimensions);
std::vector<double> floats_attr(const AttributeSource& op, std::string_view name);
std::optional<std::int64_t> optional_int_attr(const AttributeSource& op, std::string_view name);
std::optional<double> optional_float_attr(const AttributeSource& op, std::string_view name);
std::optional<std::vector<std::int64_t>> optional_ints_attr(const AttributeSource& op,
                                                            std::string_view name);
// Whether a Scalar was given as an integer.
bool is_int_attr(const AttributeSource& op, std::string_view name);

// --- ops of a Graph ---
OpCall call_of(const Graph& graph, const Op& op);
// Checks the number of operands and the attributes against the row, then infers.
Result<InferredTypes> infer(const OpCall& call);
// The loop nest of an op of a verified Graph. Outputs nobody reads have the inferred type; stages
// that only feed such outputs stay.
LoopNest nest_of(const Graph& graph, const Op& op);

// Whether the value is what the row gives when the attribute is absent: then it is not printed.
bool is_default(const OpInfo& info, std::string_view name, const Attribute& value);

// Brings attributes to their canonical form: those equal to the default go, integers for a Float
// become floats. Errors: unknown or missing names, wrong types.
Result<void> normalise_attributes(Op& op);

}  // namespace dojo::graph
