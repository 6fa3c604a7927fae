// Bindings of graph: the Graph, its text form, recipes.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "dojo/base/text.h"
#include "dojo/bindings/bindings.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/statistics.h"
#include "dojo/graph/text.h"

namespace dojo::bindings {
namespace {

using graph::Graph;

// What the optimiser keeps the contents of this leaf multiplied by.
double scale_of(const Graph& graph, ValueId leaf) {
  for (const graph::Op& op : graph.ops) {
    if (graph::has_attribute(op, "v_scale") && op.inputs[3] == leaf) {
      return graph::float_attr(op, "v_scale");
    }
  }
  return 1;
}

nb::list leaves(const Graph& graph) {
  nb::list list;
  for (std::uint32_t i = 0; i < graph.values.size(); ++i) {
    const graph::Value& value = graph.values[i];
    if (value.kind == graph::ValueKind::Op) {
      continue;
    }
    nb::dict leaf;
    constexpr const char* kKinds[] = {"op", "input", "weight", "buffer", "state"};
    leaf["kind"] = kKinds[static_cast<int>(value.kind)];
    leaf["label"] = value.label;
    leaf["format"] = std::string(info(value.format).name);
    leaf["shape"] = value.shape;
    leaf["scale"] = scale_of(graph, ValueId{i});
    list.append(leaf);
  }
  return list;
}

}  // namespace

void bind_graph(nb::module_& module) {
  nb::class_<Graph>(module, "Graph", "A training step as tensors and ops (docs/graph.md).")
      .def_static(
          "parse",
          [](std::string_view text, const std::string& file) {
            return value_or_throw(graph::parse_graph(text, file));
          },
          nb::arg("text"), nb::arg("file") = "graph", "Reads the text form.")
      .def_static(
          "load", [](const std::string& path) { return value_or_throw(graph::load_graph(path)); },
          nb::arg("path"), "Reads a .graph file.")
      .def(
          "save",
          [](const Graph& self, const std::string& path) {
            value_or_throw(write_file_atomically(path, graph::print_graph(self)));
          },
          nb::arg("path"), "Writes the canonical text; the file is old or new, never torn.")
      .def("__str__", [](const Graph& self) { return graph::print_graph(self); })
      .def_ro("name", &Graph::name)
      .def_prop_ro("is_lowered", &Graph::is_lowered)
      .def_prop_ro("recipe",
                   [](const Graph& self) -> std::optional<std::string> {
                     return self.is_lowered() ? std::optional(self.lowering->recipe) : std::nullopt;
                   })
      .def_prop_ro("machine",
                   [](const Graph& self) -> std::optional<std::string> {
                     return self.is_lowered() ? std::optional(self.lowering->machine)
                                              : std::nullopt;
                   })
      .def_prop_ro(
          "sha256", [](const Graph& self) { return graph::graph_sha256(self); },
          "SHA-256 of the canonical text.")
      .def_prop_ro("op_count", [](const Graph& self) { return self.ops.size(); })
      .def("leaves", &leaves,
           "Inputs, weights, buffers and states: dicts of kind, label, format and shape.")
      .def(
          "statistics_json",
          [](const Graph& self) { return graph::statistics_json(graph::statistics_of(self)); },
          "FLOPs, bytes and counts as JSON, as `dojo graph stats --json` prints them.");

  module.def("op_names", &graph::op_names, "Names of all rows of the op table.");
  module.def("recipe_names", &graph::recipe_names, "The built-in recipes.");
  module.def(
      "keeps_parameters_in_fp32",
      [](std::string_view name) {
        const graph::Recipe recipe = value_or_throw(graph::recipe_named(name));
        return recipe.stored_as(graph::Role::MasterWeight).format == Format::F32 &&
               recipe.stored_as(graph::Role::MasterParameter).format == Format::F32;
      },
      nb::arg("recipe"), "Whether weights live in FP32 from step to step.");
}

}  // namespace dojo::bindings
