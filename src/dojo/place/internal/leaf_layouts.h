// How leaves lie (docs/placement.md, "The rules"): weights, states, buffers, inputs.
#pragma once

#include <cstdint>
#include <optional>

#include "dojo/graph/graph.h"
#include "dojo/place/internal/mesh.h"
#include "dojo/program/split.h"

namespace dojo::place::internal {

inline constexpr std::int64_t kMatrixQuantum = 8;  // of the matrix unit's m and n
// Buffers up to this size are the same on every node.
inline constexpr std::int64_t kReplicatedBufferBytes = 4096;

// Blocks that divide the extent, unless that would leave half of the parts.
program::AxisCut even(const program::AxisCut& made, std::int64_t extent);

// Weights, states and large buffers: dimension 0 over node.x, dimension 1 over node.y in blocks of
// 8, or the other way round where only that fills both axes; an axis that this would leave half
// empty takes even shares instead. Embedding tables that only
// look-ups read: dimension 0 over node.y, 1 over node.x.
program::Layout weight_layout(const graph::Shape& shape, Format format, const Mesh& mesh,
                              bool is_looked_up);

// With free groups: the slices in which a product reads the weight, and over node.y, if it reads
// all of that, blocks of a dimension that columns do not have; the rest in even shares. nullopt:
// that would leave an axis half empty.
std::optional<program::Layout> weight_layout_as_read(const program::Layout& read,
                                                     const graph::Shape& shape, Format format,
                                                     const Mesh& mesh);

// Inputs that carry the batch: samples over replicas; images have rows over node.y and columns over
// node.x, sequences their positions over node.y and features over node.x, tables of features their
// samples and features. Other inputs are the same everywhere. `is_whole`: all samples of a replica
// are there at once, and not those of a micro-batch.
program::Layout input_layout(const graph::Shape& shape, Format format, const Mesh& mesh,
                             bool is_whole = false);

}  // namespace dojo::place::internal
