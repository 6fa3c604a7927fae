// The text form of a Graph (docs/graph.md): parse and print. Printing is canonical: attributes
// sorted by name, defaults left out, leaves first. Parsing what was printed gives the same Graph,
// and printing that the same bytes. A parsed Graph has been verified.
#pragma once

#include <string>
#include <string_view>

#include "dojo/graph/graph.h"

namespace dojo::graph {

// What the parser accepts at most; more is an error that says so.
struct TextLimits {
  static constexpr std::size_t kBytes = std::size_t{64} << 20;
  static constexpr std::size_t kValues = std::size_t{1} << 22;
  static constexpr std::size_t kListLength = 1 << 16;  // operands, numbers in a list
  static constexpr std::size_t kNameLength = 4096;
};

// `file` is what errors name. Errors: what was found, what was expected, file:line:column.
Result<Graph> parse_graph(std::string_view text, const std::string& file = "graph");

Result<Graph> load_graph(const std::string& path);

std::string print_graph(const Graph& graph);

// One statement as print_graph writes it, without indent or newline.
std::string print_op(const Graph& graph, const Op& op);

// "n:16x8", and "n:16x8 by 4" where it has runs.
std::string print_cut(const ReduceCut& cut);

// "f32[2,3]".
std::string print_type(Format format, const Shape& shape);

}  // namespace dojo::graph
