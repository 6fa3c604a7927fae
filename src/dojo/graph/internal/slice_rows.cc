// Slices and selections, and their gradients.
#include <algorithm>
#include <limits>

#include "dojo/graph/internal/movement.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

struct SliceRange {
  std::size_t dim = 0;
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::int64_t count = 0;
};

// PyTorch's rule: negative counts from the end, then clamped.
Result<SliceRange> slice_range(const OpCall& call, const Shape& shape) {
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), shape.size()));
  if (shape.empty()) {
    return invalid("cannot slice a scalar");
  }
  const std::int64_t extent = shape[dim];
  const auto clamp = [extent](std::int64_t index) {
    return std::clamp<std::int64_t>(index < 0 ? index + extent : index, 0, extent);
  };
  const std::int64_t start = clamp(optional_int_attr(call, "start").value_or(0));
  const std::int64_t end =
      clamp(optional_int_attr(call, "end").value_or(std::numeric_limits<std::int64_t>::max()));
  const std::int64_t step = int_attr(call, "step");
  if (step < 1 || step > kMaxStep) {
    return invalid("step is {}, expected 1 to 2^40", step);
  }
  if (end <= start) {
    return invalid("the slice from {} to {} of dim {} of {} is empty", start, end, dim,
                   show(shape));
  }
  return SliceRange{dim, start, step, (end - start + step - 1) / step};
}

Result<InferredTypes> infer_slice(const OpCall& call) {
  Shape shape = call.shape(0);
  DOJO_TRY(const SliceRange range, slice_range(call, shape));
  shape[range.dim] = range.count;
  return single(moved_format(call), std::move(shape));
}

LoopNest slice_nest(const OpCall& call) {
  const auto range = slice_range(call, call.shape(0));
  return move_nest(call, [&](const std::vector<int>& loops) {
    std::vector<Access> map = at_each(loops);
    map[range->dim] = affine(range->start, {{loops[range->dim], range->step}});
    return map;
  });
}

Result<void> expect_sizes(const Shape& sizes) {
  if (std::any_of(sizes.begin(), sizes.end(),
                  [](std::int64_t size) { return size < 1 || size > kMaxStep; })) {
    return invalid("input_sizes {} has an extent outside of 1 to 2^40", show(sizes));
  }
  return {};
}

Result<InferredTypes> infer_slice_backward(const OpCall& call) {
  const Shape sizes = ints_attr(call, "input_sizes");
  DOJO_TRY_VOID(expect_sizes(sizes));
  DOJO_TRY(const SliceRange range, slice_range(call, sizes));
  Shape gradient = sizes;
  gradient[range.dim] = range.count;
  DOJO_TRY_VOID(expect_shape(call, 0, gradient));
  return single(moved_format(call), sizes);
}

LoopNest slice_backward_nest(const OpCall& call) {
  const auto range = slice_range(call, ints_attr(call, "input_sizes"));
  return move_nest(call, [&](const std::vector<int>& loops) {
    std::vector<Access> map = at_each(loops);
    map[range->dim] = affine(-range->start, {{loops[range->dim], 1}}, range->step);
    return map;
  });
}

struct Selection {
  std::size_t dim = 0;
  std::int64_t index = 0;
};

Result<Selection> selection(const OpCall& call, const Shape& shape) {
  if (shape.empty()) {
    return invalid("cannot select from a scalar");
  }
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), shape.size()));
  const std::int64_t index = int_attr(call, "index");
  if (index < -shape[dim] || index >= shape[dim]) {
    return invalid("index {} is out of range for dim {} of {}", index, dim, show(shape));
  }
  return Selection{dim, index < 0 ? index + shape[dim] : index};
}

Result<InferredTypes> infer_select(const OpCall& call) {
  Shape shape = call.shape(0);
  DOJO_TRY(const Selection chosen, selection(call, shape));
  shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(chosen.dim));
  return single(moved_format(call), std::move(shape));
}

LoopNest select_nest(const OpCall& call) {
  const auto chosen = selection(call, call.shape(0));
  return move_nest(call, [&](const std::vector<int>& loops) {
    std::vector<Access> map = at_each(loops);
    map.insert(map.begin() + static_cast<std::ptrdiff_t>(chosen->dim), fixed(chosen->index));
    return map;
  });
}

Result<InferredTypes> infer_select_backward(const OpCall& call) {
  const Shape sizes = ints_attr(call, "input_sizes");
  DOJO_TRY_VOID(expect_sizes(sizes));
  DOJO_TRY(const Selection chosen, selection(call, sizes));
  Shape gradient = sizes;
  gradient.erase(gradient.begin() + static_cast<std::ptrdiff_t>(chosen.dim));
  DOJO_TRY_VOID(expect_shape(call, 0, gradient));
  return single(moved_format(call), sizes);
}

// Like concatenation: the gradient lies at one index of `dim`. A dimension of extent 1 that the
// operand lacks has no access, so the loop over it is tested against the index by the body.
LoopNest select_backward_nest(const OpCall& call) {
  const auto chosen = selection(call, ints_attr(call, "input_sizes"));
  return move_nest(call, [&](const std::vector<int>& loops) {
    std::vector<Access> map = at_each(loops);
    map.erase(map.begin() + static_cast<std::ptrdiff_t>(chosen->dim));
    return map;
  });
}

}  // namespace

void add_slice_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo sizes = required("input_sizes", AttributeType::Ints);
  const AttributeInfo dim = required("dim", AttributeType::Int);
  const AttributeInfo index = required("index", AttributeType::Int);
  rows.push_back(
      movement_row("aten.slice", {{"self"}},
                   {defaulted("dim", std::int64_t{0}), optional("start", AttributeType::Int),
                    optional("end", AttributeType::Int), defaulted("step", std::int64_t{1})},
                   infer_slice, slice_nest, Storage::StridedView,
                   "indices start, start + step, ... below end of dim"));
  rows.push_back(movement_row("aten.select", {{"self"}}, {dim, index}, infer_select, select_nest,
                              Storage::StridedView, "one index of dim, which goes"));
  rows.push_back(movement_row(
      "aten.slice_backward", {{"grad_output"}},
      {sizes, dim, required("start", AttributeType::Int), required("end", AttributeType::Int),
       required("step", AttributeType::Int)},
      infer_slice_backward, slice_backward_nest, Storage::Own, "gradient of slice: zeros around"));
  rows.push_back(movement_row("aten.select_backward", {{"grad_output"}}, {sizes, dim, index},
                              infer_select_backward, select_backward_nest, Storage::Own,
                              "gradient of select: zeros around"));
}

}  // namespace dojo::graph
