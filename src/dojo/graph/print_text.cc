#include <fmt/format.h>

#include <cmath>

#include "dojo/base/text.h"
#include "dojo/graph/internal/head.h"
#include "dojo/graph/internal/words.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"

namespace dojo::graph {
namespace {

// A FLOAT has a point, an exponent, inf or nan, so that it reads back as one.
std::string print_float(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  std::string text = shortest(value);
  if (text.find_first_of(".en") == std::string::npos) {
    text += ".0";
  }
  return text;
}

std::string print_list(const std::vector<std::int64_t>& numbers) {
  return fmt::format("[{}]", fmt::join(numbers, ","));
}

struct AttributePrinter {
  std::string operator()(std::int64_t value) const { return fmt::format("{}", value); }
  std::string operator()(double value) const { return print_float(value); }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const std::string& value) const { return quoted(value); }
  std::string operator()(const std::vector<std::int64_t>& value) const { return print_list(value); }
  std::string operator()(const std::vector<double>& value) const {
    std::vector<std::string> numbers;
    for (const double each : value) {
      numbers.push_back(print_float(each));
    }
    return fmt::format("[{}]", fmt::join(numbers, ","));
  }
};

// " {name=value, ...}", or nothing if all are the row's defaults.
std::string print_attributes(const Op& op) {
  std::vector<std::string> out;
  for (const auto& [name, value] : op.attributes) {
    if (!is_default(*op.info, name, value)) {
      out.push_back(fmt::format("{}={}", name, std::visit(AttributePrinter{}, value)));
    }
  }
  return out.empty() ? "" : fmt::format(" {{{}}}", fmt::join(out, ", "));
}

std::string print_head(const Graph& graph) {
  std::string out = fmt::format("graph {}", quoted(graph.name));
  if (graph.lowering.has_value()) {
    const Lowering& lowering = *graph.lowering;
    out += fmt::format(" recipe {} machine {} {{{}}}", quoted(lowering.recipe),
                       quoted(lowering.machine), print_head_attributes(lowering));
  }
  return out;
}

// Leaves follow Op in ValueKind.
std::string_view leaf_word(ValueKind kind) {
  return kLeafWords[static_cast<std::size_t>(kind) - 1];
}

std::string print_targets(const Graph& graph, const std::vector<std::optional<ValueId>>& ids,
                          std::string_view absent) {
  std::vector<std::string> names;
  for (const std::optional<ValueId>& id : ids) {
    names.push_back(id.has_value() ? fmt::format("%{}", graph.value(*id).name)
                                   : std::string(absent));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string print_words(const Graph& graph, const Value& value) {
  std::string out = print_type(value.format, value.shape);
  if (value.role != Role::None) {
    out += fmt::format(" {}", name_of(value.role));
  }
  if (value.is_fused) {
    out += " fused";
  }
  if (value.is_stochastic) {
    out += " stochastic";
  }
  if (value.again_of.has_value()) {
    out += fmt::format(" again_of %{}", graph.value(*value.again_of).name);
  }
  return out;
}

}  // namespace

std::string print_type(Format format, const Shape& shape) {
  return fmt::format("{}{}", info(format).name, print_list(shape));
}

std::string print_cut(const ReduceCut& cut) {
  const std::string runs = cut.run.has_value() ? fmt::format(" by {}", *cut.run) : "";
  return fmt::format("{}:{}x{}{}", cut.loop, cut.parts, cut.block, runs);
}

std::string print_op(const Graph& graph, const Op& op) {
  std::vector<std::string> types;
  for (const std::optional<ValueId>& output : op.outputs) {
    if (output.has_value()) {
      types.push_back(print_words(graph, graph.value(*output)));
    }
  }
  std::string out = fmt::format("{} = {}({})", print_targets(graph, op.outputs, "_"), op.info->name,
                                print_targets(graph, op.inputs, "none"));
  out += print_attributes(op);
  out += fmt::format(" : {} @{} {}", fmt::join(types, ", "), quoted(op.module), name_of(op.phase));
  if (!op.k_parts.empty()) {
    std::vector<std::string> cuts;
    for (const ReduceCut& cut : op.k_parts) {
      cuts.push_back(print_cut(cut));
    }
    out += fmt::format(" k_parts={{{}}}", fmt::join(cuts, ", "));
  }
  return out;
}

std::string print_graph(const Graph& graph) {
  std::string out = print_head(graph) + " {\n";
  for (const Value& value : graph.values) {
    if (value.kind != ValueKind::Op) {
      out += fmt::format("  %{} = {} {} {}\n", value.name, leaf_word(value.kind),
                         print_type(value.format, value.shape), quoted(value.label));
    }
  }
  for (const Op& op : graph.ops) {
    out += fmt::format("  {}\n", print_op(graph, op));
  }
  for (const Update& update : graph.updates) {
    out += fmt::format("  update %{} = %{}\n", graph.value(update.target).name,
                       graph.value(update.value).name);
  }
  for (const Output& output : graph.outputs) {
    out += fmt::format("  output %{} {}\n", graph.value(output.value).name, quoted(output.label));
  }
  return out + "}\n";
}

}  // namespace dojo::graph
