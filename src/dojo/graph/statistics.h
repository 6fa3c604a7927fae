// What a Graph does and holds, counted from the loop nests and the tensors as stored.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dojo/base/units.h"
#include "dojo/graph/graph.h"

namespace dojo::graph {

struct OpStatistics {
  Flops matrix_flops;            // 2 per multiply-accumulate, padding counted
  std::int64_t macs_inside = 0;  // without those that read padding
  std::int64_t vector_ops = 0;
  std::int64_t special_ops = 0;
  std::int64_t conversions = 0;  // roundings to a storage format
  Bytes bytes_read;              // operands as stored, once each; fused values are none
  Bytes bytes_written;
};
OpStatistics statistics_of(const Graph& graph, const Op& op);

struct Statistics {
  std::array<OpStatistics, 3> by_phase;     // by Phase
  std::map<std::string, std::int64_t> ops;  // how many of each op
  std::int64_t parameters = 0;              // elements of weights
  Bytes weight_bytes;
  Bytes buffer_bytes;
  Bytes state_bytes;
  Bytes input_bytes;
  // Storage of what forward ops computed and backward or update ops read. Views count as what they
  // view, so two views of one tensor count once, and a view of a leaf not at all. Codes of weights
  // are no activations and do not count.
  Bytes saved_bytes;
  Bytes saved_bytes_f32;  // the same tensors with floats in FP32

  OpStatistics total() const;
};
Statistics statistics_of(const Graph& graph);

// One JSON object, keys in a fixed order: what `dojo graph stats --json` prints.
std::string statistics_json(const Statistics& statistics);

// The values whose storage saved_bytes counts, ascending.
std::vector<ValueId> saved_values(const Graph& graph);

}  // namespace dojo::graph
