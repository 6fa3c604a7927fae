// Helpers of the graph tests: texts to Graphs, nests by brute force. For tests only.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/text.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"

namespace dojo::graph {

inline Graph parsed(std::string_view text) {
  Result<Graph> graph = parse_graph(text, "test.graph");
  if (!graph) {
    ADD_FAILURE() << graph.error().to_string();
    return {};
  }
  return *std::move(graph);
}

// "graph "t" {" + body + "}".
inline Graph parsed_body(std::string_view body) {
  return parsed("graph \"t\" {\n" + std::string(body) + "\n}\n");
}

inline std::string every_op_text() {
  return *read_file(std::string(DOJO_SOURCE_DIR) + "/tests/golden/graph/every_op.graph");
}

// Calls visit(point) for each point of the slice, the last loop fastest; point is by loop index.
inline void for_each_point(const Slice& slice,
                           const std::function<void(const std::vector<std::int64_t>&)>& visit) {
  std::vector<std::int64_t> point;
  for (const Interval& loop : slice) {
    if (loop.is_empty()) {
      return;
    }
    point.push_back(loop.begin);
  }
  while (true) {
    visit(point);
    std::size_t i = slice.size();
    while (i > 0 && ++point[i - 1] == slice[i - 1].end) {
      point[i - 1] = slice[i - 1].begin;
      --i;
    }
    if (i == 0) {
      return;
    }
  }
}

// The slice with all loops but those of the stage held at their first point.
inline Slice only_loops_of(const Stage& stage, Slice slice) {
  for (int loop = 0; loop < static_cast<int>(slice.size()); ++loop) {
    if (!kind_of(stage, loop).has_value()) {
      slice[loop] = {0, 1};
    }
  }
  return slice;
}

// The index an affine map gives at a point, by its definition; nullopt where it does not divide.
inline std::optional<std::int64_t> index_at(const Affine& map,
                                            const std::vector<std::int64_t>& point) {
  std::int64_t numerator = map.offset;
  for (const Term& term : map.terms) {
    numerator += term.stride * point[term.loop];
  }
  if (map.ratio.has_value()) {
    const Ratio& ratio = *map.ratio;
    std::int64_t inside = ratio.multiplier * point[ratio.loop] + ratio.addend;
    std::int64_t quotient = inside / ratio.divisor;
    quotient -= inside % ratio.divisor < 0 ? 1 : 0;
    numerator += quotient;
  }
  if (numerator % map.divisor != 0) {
    return std::nullopt;
  }
  return numerator / map.divisor;
}

// The index in each dimension of a written operand at a point; written maps are affine.
using Element = std::vector<std::int64_t>;

inline Element element_at(const Operand& operand, const std::vector<std::int64_t>& point) {
  Element element;
  for (const Access& access : operand.access) {
    element.push_back(*index_at(std::get<Affine>(access), point));
  }
  return element;
}

}  // namespace dojo::graph
