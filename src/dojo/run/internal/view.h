// Buffer and View: where the elements of a step's tensors lie. A buffer is contiguous storage of
// one format with one bias; a view is a strided window on it. Ops that only move elements (view,
// permute, slice, expand, ...) make views and cost nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "dojo/base/format.h"
#include "dojo/base/ids.h"
#include "dojo/graph/graph.h"

namespace dojo::run::internal {

using BufferId = Id<struct BufferTag>;

enum class Place : std::uint8_t {
  Arena,     // lives from its writer to its last reader
  Leaf,      // a weight, buffer or state: lives as long as the executor
  Input,     // the caller's memory during a step
  Register,  // inside one element-wise pass, block by block; never stored
  Piece,     // handed from a kernel to an element-wise pass piece by piece; never stored whole
  Constant,  // one number, for as long as the plan lives
  Nowhere,   // never written
};

struct Buffer {
  Format format = Format::F32;
  std::int64_t elements = 0;
  Place place = Place::Arena;
  std::optional<ValueId> value;  // stored here; none for an intermediate of an op
  bool is_stochastic = false;
  std::variant<float, std::int64_t> constant;  // Place::Constant
};

// Element index -> buffer element: offset + sum of index * stride. Strides count elements; 0
// repeats, negative ones run backwards.
struct View {
  BufferId buffer;
  std::int64_t offset = 0;
  graph::Shape shape;
  std::vector<std::int64_t> strides;

  std::int64_t elements() const { return graph::element_count(shape); }
  // Element i of the view, in row-major order, is element offset + i of the buffer.
  bool is_contiguous() const;
};

std::vector<std::int64_t> contiguous_strides(const graph::Shape& shape);
View contiguous_view(BufferId buffer, graph::Shape shape);

// --- the same elements otherwise arranged ---
// nullopt: no strides on the same buffer give that shape; the elements must be copied first.
std::optional<View> reshaped(const View& view, const graph::Shape& shape);
// Dimension i of the result is dimension order[i] of the view.
View permuted(const View& view, const std::vector<std::int64_t>& order);
// As NumPy broadcasts; the view's shape must allow it.
View broadcast_to(const View& view, const graph::Shape& shape);
// Every step-th index of the dimension from `start`, `extent` of them.
View sliced(const View& view, std::int64_t dim, std::int64_t start, std::int64_t extent,
            std::int64_t step);
View selected(const View& view, std::int64_t dim, std::int64_t index);
View unsqueezed(const View& view, std::int64_t dim);
View reversed(const View& view, std::int64_t dim);

// The view as few nested runs, outermost first: neighbours that step alike are merged, extents of 1
// dropped. Never empty.
struct Run {
  std::int64_t extent = 1;
  std::int64_t stride = 0;
};
std::vector<Run> runs_of(const View& view);

}  // namespace dojo::run::internal
