#include "dojo/graph/op_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {

std::string_view name_of(OpGroup group) {
  switch (group) {
    case OpGroup::Matrix:
      return "matrix";
    case OpGroup::Elementwise:
      return "elementwise";
    case OpGroup::Reduction:
      return "reduction";
    case OpGroup::Softmax:
      return "softmax";
    case OpGroup::Normalisation:
      return "normalisation";
    case OpGroup::Pool:
      return "pool";
    case OpGroup::Movement:
      return "movement";
    case OpGroup::Indexing:
      return "indexing";
    case OpGroup::Make:
      return "make";
    case OpGroup::Update:
      return "update";
  }
  return "";
}

namespace {

std::vector<OpInfo> make_rows() {
  std::vector<OpInfo> rows;
  add_matrix_rows(rows);
  add_elementwise_rows(rows);
  add_movement_rows(rows);
  add_reduction_rows(rows);
  add_softmax_rows(rows);
  add_norm_rows(rows);
  add_pool_rows(rows);
  add_resize_rows(rows);
  add_indexing_rows(rows);
  add_loss_rows(rows);
  add_make_rows(rows);
  add_update_rows(rows);
  const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  std::sort(rows.begin(), rows.end(), by_name);
  for (OpInfo& row : rows) {
    std::sort(row.attributes.begin(), row.attributes.end(), by_name);
  }
  return rows;
}

}  // namespace

const std::vector<OpInfo>& all_ops() {
  static const std::vector<OpInfo> rows = make_rows();
  return rows;
}

const OpInfo* find_op(std::string_view name) {
  static const std::unordered_map<std::string_view, const OpInfo*> index = [] {
    std::unordered_map<std::string_view, const OpInfo*> out;
    for (const OpInfo& row : all_ops()) {
      DOJO_CHECK(out.emplace(row.name, &row).second);  // two rows with one name
    }
    return out;
  }();
  const auto found = index.find(name);
  return found == index.end() ? nullptr : found->second;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpInfo& row : all_ops()) {
    names.emplace_back(row.name);
  }
  return names;
}

// --- attributes ---
namespace {

const AttributeInfo* find_attribute(const OpInfo& info, std::string_view name) {
  for (const AttributeInfo& row : info.attributes) {
    if (row.name == name) {
      return &row;
    }
  }
  return nullptr;
}

const Attribute* given(const AttributeSource& op, std::string_view name) {
  for (const auto& [key, value] : *op.attributes) {  // maps are small, and keys no string_view
    if (key == name) {
      return &value;
    }
  }
  return nullptr;
}

// The value given, or the default.
const Attribute& attribute(const AttributeSource& op, std::string_view name) {
  if (const Attribute* value = given(op, name)) {
    return *value;
  }
  const AttributeInfo* row = find_attribute(*op.info, name);
  DOJO_CHECK(row != nullptr && row->presence == Presence::Defaulted);
  return row->value;
}

double as_float(const Attribute& attribute) {
  if (const auto* integer = std::get_if<std::int64_t>(&attribute)) {
    return static_cast<double>(*integer);
  }
  return std::get<double>(attribute);
}

}  // namespace

bool has_attribute(const AttributeSource& op, std::string_view name) {
  if (given(op, name) != nullptr) {
    return true;
  }
  const AttributeInfo* row = find_attribute(*op.info, name);
  return row != nullptr && row->presence == Presence::Defaulted;
}

std::int64_t int_attr(const AttributeSource& op, std::string_view name) {
  return std::get<std::int64_t>(attribute(op, name));
}

double float_attr(const AttributeSource& op, std::string_view name) {
  return as_float(attribute(op, name));
}

bool bool_attr(const AttributeSource& op, std::string_view name) {
  return std::get<bool>(attribute(op, name));
}

const std::string& string_attr(const AttributeSource& op, std::string_view name) {
  return std::get<std::string>(attribute(op, name));
}

std::vector<std::int64_t> ints_attr(const AttributeSource& op, std::string_view name) {
  return std::get<std::vector<std::int64_t>>(attribute(op, name));
}

std::vector<std::int64_t> ints_attr(const AttributeSource& op, std::string_view name,
                                    std::size_t dimensions) {
  std::vector<std::int64_t> out = ints_attr(op, name);
  if (out.size() == 1) {
    out.resize(dimensions, out.front());
  }
  return out;
}

std::vector<double> floats_attr(const AttributeSource& op, std::string_view name) {
  return std::get<std::vector<double>>(attribute(op, name));
}

std::optional<std::int64_t> optional_int_attr(const AttributeSource& op, std::string_view name) {
  return has_attribute(op, name) ? std::optional(int_attr(op, name)) : std::nullopt;
}

std::optional<double> optional_float_attr(const AttributeSource& op, std::string_view name) {
  return has_attribute(op, name) ? std::optional(float_attr(op, name)) : std::nullopt;
}

std::optional<std::vector<std::int64_t>> optional_ints_attr(const AttributeSource& op,
                                                            std::string_view name) {
  return has_attribute(op, name) ? std::optional(ints_attr(op, name)) : std::nullopt;
}

bool is_int_attr(const AttributeSource& op, std::string_view name) {
  return std::holds_alternative<std::int64_t>(attribute(op, name));
}

namespace {

std::string_view describe(AttributeType type) {
  switch (type) {
    case AttributeType::Int:
      return "an integer";
    case AttributeType::Float:
      return "a number";
    case AttributeType::Bool:
      return "true or false";
    case AttributeType::String:
      return "a string";
    case AttributeType::Dtype:
      return "a string that names a format";
    case AttributeType::Ints:
    case AttributeType::IntsPerDimension:
      return "a list of integers";
    case AttributeType::Floats:
      return "a list of numbers";
    case AttributeType::Scalar:
      return "a number";
  }
  return "";
}

// Numbers where ATen takes either, an integer for a list of one, integers for floats.
void coerce(Attribute& value, AttributeType type) {
  const auto* integer = std::get_if<std::int64_t>(&value);
  const auto* integers = std::get_if<std::vector<std::int64_t>>(&value);
  if (type == AttributeType::Float && integer != nullptr) {
    value = static_cast<double>(*integer);
  } else if ((type == AttributeType::Ints || type == AttributeType::IntsPerDimension) &&
             integer != nullptr) {
    value = std::vector<std::int64_t>{*integer};
  } else if (type == AttributeType::Floats && integers != nullptr) {
    value = std::vector<double>(integers->begin(), integers->end());
  }
}

bool is_of_type(const Attribute& value, AttributeType type) {
  switch (type) {
    case AttributeType::Int:
      return std::holds_alternative<std::int64_t>(value);
    case AttributeType::Float:
      return std::holds_alternative<double>(value);
    case AttributeType::Bool:
      return std::holds_alternative<bool>(value);
    case AttributeType::String:
      return std::holds_alternative<std::string>(value);
    case AttributeType::Dtype: {
      const auto* name = std::get_if<std::string>(&value);
      return name != nullptr && format_named(*name).has_value();
    }
    case AttributeType::Ints:
    case AttributeType::IntsPerDimension:
      return std::holds_alternative<std::vector<std::int64_t>>(value);
    case AttributeType::Floats:
      return std::holds_alternative<std::vector<double>>(value);
    case AttributeType::Scalar:
      return std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value);
  }
  return false;
}

bool is_default(const Attribute& value, const AttributeInfo& row) {
  if (row.presence != Presence::Defaulted) {
    return false;
  }
  if (row.type == AttributeType::Scalar) {
    return as_float(value) == as_float(row.value);
  }
  const auto* list = std::get_if<std::vector<std::int64_t>>(&value);
  const auto* standard = std::get_if<std::vector<std::int64_t>>(&row.value);
  if (row.type == AttributeType::IntsPerDimension && standard->size() == 1 && !list->empty()) {
    return std::all_of(list->begin(), list->end(),
                       [standard](std::int64_t each) { return each == standard->front(); });
  }
  return value == row.value;
}

Result<const AttributeInfo*> row_of(const OpInfo& info, const std::string& name) {
  if (const AttributeInfo* row = find_attribute(info, name)) {
    return row;
  }
  std::vector<std::string> names;
  for (const AttributeInfo& each : info.attributes) {
    names.emplace_back(each.name);
  }
  return invalid("unknown attribute {}; it takes {}", quoted(name),
                 names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
}

Result<void> check_attributes(const OpInfo& info,
                              const std::map<std::string, Attribute>& attributes) {
  for (const auto& [name, value] : attributes) {
    DOJO_TRY(const AttributeInfo* row, row_of(info, name));
    if (!is_of_type(value, row->type)) {
      return invalid("attribute {} must be {}", name, describe(row->type));
    }
  }
  for (const AttributeInfo& row : info.attributes) {
    if (row.presence == Presence::Required && !attributes.contains(std::string(row.name))) {
      return invalid("attribute {} is missing: it must be {}", row.name, describe(row.type));
    }
  }
  return {};
}

Result<void> check_operands(const OpCall& call) {
  const OpInfo& row = *call.info;
  const std::size_t named = row.operands.size() - (row.is_variadic ? 1 : 0);
  if (!row.is_variadic && call.inputs.size() > named) {
    return invalid("has {} operands, takes at most {}", call.inputs.size(), named);
  }
  const std::size_t count = std::max(named, call.inputs.size());
  for (std::size_t i = 0; i < count; ++i) {
    const OperandInfo& operand = row.operands[std::min(i, row.operands.size() - 1)];
    if (!operand.is_optional && !call.has_input(i)) {
      return invalid("operand {} ({}) is missing", i + 1, operand.name);
    }
  }
  return {};
}

}  // namespace

bool is_default(const OpInfo& info, std::string_view name, const Attribute& value) {
  const AttributeInfo* row = find_attribute(info, name);
  return row != nullptr && is_of_type(value, row->type) && is_default(value, *row);
}

Result<void> normalise_attributes(Op& op) {
  for (auto each = op.attributes.begin(); each != op.attributes.end();) {
    DOJO_TRY(const AttributeInfo* row, row_of(*op.info, each->first));
    coerce(each->second, row->type);
    if (!is_of_type(each->second, row->type)) {
      return invalid("attribute {} must be {}", each->first, describe(row->type));
    }
    each = is_default(each->second, *row) ? op.attributes.erase(each) : std::next(each);
  }
  return check_attributes(*op.info, op.attributes);
}

// --- ops of a Graph ---
OpCall call_of(const Graph& graph, const Op& op) {
  const auto types_of = [&graph](const std::vector<std::optional<ValueId>>& ids) {
    std::vector<std::optional<TensorType>> types;
    for (const std::optional<ValueId>& id : ids) {
      types.push_back(id.has_value() ? std::optional(TensorType{graph.value(*id).format,
                                                                graph.value(*id).shape})
                                     : std::nullopt);
    }
    return types;
  };
  return {op.info, types_of(op.inputs), types_of(op.outputs), &op.attributes};
}

Result<InferredTypes> infer(const OpCall& call) {
  DOJO_TRY_VOID(check_operands(call));
  DOJO_TRY_VOID(check_attributes(*call.info, *call.attributes));
  return call.info->infer(call);
}

LoopNest nest_of(const Graph& graph, const Op& op) {
  OpCall call = call_of(graph, op);
  Result<InferredTypes> inferred = infer(call);
  DOJO_CHECK(inferred.has_value());  // verify() has seen it
  for (std::size_t i = 0; i < inferred->size(); ++i) {
    if (i < call.outputs.size() && call.outputs[i].has_value()) {
      (*inferred)[i] = call.outputs[i];
    }
  }
  call.outputs = *std::move(inferred);
  return op.info->nest(call);
}

// --- documentation ---
namespace {

std::string show_attribute(const AttributeInfo& row) {
  if (row.presence == Presence::Required) {
    return std::string(row.name);
  }
  if (row.presence == Presence::Optional) {
    return fmt::format("[{}]", row.name);
  }
  const Attribute& value = row.value;
  std::string text;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    text = fmt::format("{}", *integer);
  } else if (const auto* number = std::get_if<double>(&value)) {
    text = shortest(*number);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    text = *flag ? "true" : "false";
  } else if (const auto* string = std::get_if<std::string>(&value)) {
    text = quoted(*string);
  } else if (const auto* list = std::get_if<std::vector<std::int64_t>>(&value)) {
    text = fmt::format("[{}]", fmt::join(*list, ","));
  }
  return fmt::format("{}={}", row.name, text);
}

std::string show_operands(const OpInfo& row) {
  std::vector<std::string> out;
  for (const OperandInfo& operand : row.operands) {
    out.push_back(operand.is_optional ? fmt::format("[{}]", operand.name)
                                      : std::string(operand.name));
  }
  return fmt::format("{}{}", fmt::join(out, ", "), row.is_variadic ? "..." : "");
}

}  // namespace

std::string ops_markdown() {
  std::string out =
      "# The ops of a Graph\n\n"
      "Printed by `dojo graph ops --markdown` from the op table (src/dojo/graph/op_table.h); do "
      "not edit.\n"
      "Names are ATen packet names. Operands are the tensor arguments in schema order, a list of "
      "tensors last (`...`); attributes are\n"
      "all other arguments under their schema names. In brackets: may be absent. `name=value`: the "
      "default. `[1]` for a list with one\n"
      "number per dimension: that number for each. bool[] is written as 0 and 1, a dtype as the "
      "name of a format. An optional operand\n"
      "that has an attribute of the same name takes one or the other.\n";
  for (int g = 0; g <= static_cast<int>(OpGroup::Update); ++g) {
    const auto group = static_cast<OpGroup>(g);
    out += fmt::format(
        "\n## {}\n| op | operands | attributes | computes |\n| --- | --- | --- | "
        "--- |\n",
        name_of(group));
    for (const OpInfo& row : all_ops()) {
      if (row.group == group) {
        std::vector<std::string> attributes;
        for (const AttributeInfo& each : row.attributes) {
          attributes.push_back(show_attribute(each));
        }
        out += fmt::format("| `{}` | {} | {} | {} |\n", row.name, show_operands(row),
                           fmt::join(attributes, ", "), row.doc);
      }
    }
  }
  return out;
}

}  // namespace dojo::graph
