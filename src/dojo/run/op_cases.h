// Small cases of every op of the table, for tests: operands, attributes, and how to make a lowered
// Graph of one op from them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/run/interpreter.h"

namespace dojo::run::testing {

// A float operand is given in FP32 and converted to the format of the test; integers are drawn from
// [low, high].
struct CaseOperand {
  graph::Shape shape{};
  Format format = Format::F32;
  std::int64_t low = 0;
  std::int64_t high = 1;
  bool is_given = true;      // false: `none`
  bool is_positive = false;  // floats: magnitudes only
};

struct OpCase {
  std::string op;
  std::vector<CaseOperand> operands{};
  std::map<std::string, graph::Attribute> attributes{};
  graph::Phase phase = graph::Phase::Forward;
};

const std::vector<OpCase>& op_cases();

enum class Cuts : std::uint8_t { None, Two, Many, Runs };
enum class RoundingOf : std::uint8_t { Nearest, Stochastic };

// The op between conversions, all its outputs as outputs of the Graph; floats in `format`.
graph::Graph graph_of(const OpCase& one, Format format, Cuts cuts, RoundingOf rounding,
                      const BiasPolicy& policy);

// Contents for every input, weight, buffer and state of a Graph.
std::map<std::string, Tensor> random_leaves(const graph::Graph& graph, const OpCase& one,
                                            std::uint32_t seed);

}  // namespace dojo::run::testing
