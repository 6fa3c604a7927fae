// Movement: each output element is one input element or a constant.
#include <algorithm>
#include <numeric>

#include "dojo/graph/internal/movement.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

// --- permutations ---
Result<std::vector<std::size_t>> permutation(const OpCall& call) {
  const std::size_t rank = call.shape(0).size();
  std::vector<std::size_t> order(rank);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (call.info->name == "aten.t") {
    std::reverse(order.begin(), order.end());
  } else if (call.info->name == "aten.transpose") {
    DOJO_TRY(const std::size_t a, dimension(int_attr(call, "dim0"), rank));
    DOJO_TRY(const std::size_t b, dimension(int_attr(call, "dim1"), rank));
    if (rank > 0) {
      std::swap(order[a], order[b]);
    }
  } else {
    const std::vector<std::int64_t> dims = ints_attr(call, "dims");
    if (dims.size() != rank) {
      return invalid("dims {} must name each of the {} dimensions once", show(dims), rank);
    }
    std::vector<bool> is_seen(rank, false);
    for (std::size_t i = 0; i < rank; ++i) {
      DOJO_TRY(order[i], dimension(dims[i], rank));
      if (is_seen[order[i]]) {
        return invalid("dims {} must name each of the {} dimensions once", show(dims), rank);
      }
      is_seen[order[i]] = true;
    }
  }
  return order;
}

Result<InferredTypes> infer_permute(const OpCall& call) {
  if (call.info->name == "aten.t") {
    DOJO_TRY_VOID(expect_rank(call, 0, 0, 2));
  }
  DOJO_TRY(const std::vector<std::size_t> order, permutation(call));
  Shape shape;
  for (const std::size_t dim : order) {
    shape.push_back(call.shape(0)[dim]);
  }
  return single(moved_format(call), std::move(shape));
}

LoopNest permute_nest(const OpCall& call) {
  const auto order = permutation(call);
  return move_nest(call, [&](const std::vector<int>& loops) {
    std::vector<Access> map(order->size());
    for (std::size_t i = 0; i < order->size(); ++i) {
      map[(*order)[i]] = at(loops[i]);
    }
    return map;
  });
}

// --- broadcasting ---
Result<InferredTypes> infer_expand(const OpCall& call) {
  const Shape& from = call.shape(0);
  Shape size = ints_attr(call, "size");
  const std::size_t missing = size.size() - std::min(size.size(), from.size());
  bool fits = size.size() >= from.size();
  for (std::size_t i = 0; fits && i < size.size(); ++i) {
    if (i < missing) {
      fits = size[i] >= 1;
    } else {
      size[i] = size[i] == -1 ? from[i - missing] : size[i];
      fits = size[i] >= 1 && (from[i - missing] == 1 || from[i - missing] == size[i]);
    }
  }
  if (!fits) {
    return invalid("cannot expand {} to {}", show(from), show(size));
  }
  return single(moved_format(call), std::move(size));
}

LoopNest expand_nest(const OpCall& call) {
  return move_nest(call, [&](const std::vector<int>& loops) {
    return broadcast_access(call.shape(0), loops, call.outputs[0]->shape);
  });
}

Result<InferredTypes> infer_copy(const OpCall& call) {
  const Shape& target = call.shape(0);
  const Shape& source = call.shape(1);
  bool fits = source.size() <= target.size();
  for (std::size_t i = 0; fits && i < source.size(); ++i) {
    const std::int64_t extent = target[target.size() - source.size() + i];
    fits = source[i] == 1 || source[i] == extent;
  }
  if (!fits) {
    return invalid("src has shape {}, which does not broadcast to {}", show(source), show(target));
  }
  return single(moved_format(call), target);
}

LoopNest copy_nest(const OpCall& call) {
  NestBuilder nest(call);
  const Shape& shape = call.outputs[0]->shape;
  const std::vector<int> loops = nest.loops("d", shape);
  nest.stage("", BodyClass::Move).parallel(loops);
  nest.read(1, broadcast_access(call.shape(1), loops, shape));
  nest.write(0, at_each(loops));
  return nest.finish();
}

Result<InferredTypes> infer_repeat(const OpCall& call) {
  const Shape& from = call.shape(0);
  Shape size = ints_attr(call, "repeats");
  if (size.size() < from.size() ||
      std::any_of(size.begin(), size.end(), [](std::int64_t count) { return count < 1; })) {
    return invalid("repeats {} must give a count of 1 or more for each dimension of {}", show(size),
                   show(from));
  }
  const std::size_t missing = size.size() - from.size();
  for (std::size_t i = missing; i < size.size(); ++i) {
    size[i] = saturating_multiply(size[i], from[i - missing]);
  }
  return single(moved_format(call), std::move(size));
}

// Per dimension a loop over the repetitions and one over the elements.
LoopNest repeat_nest(const OpCall& call) {
  const Shape& from = call.shape(0);
  const std::vector<std::int64_t> repeats = ints_attr(call, "repeats");
  const std::size_t missing = repeats.size() - from.size();
  NestBuilder nest(call);
  const std::vector<int> outer = nest.loops("r", repeats);
  const std::vector<int> inner = nest.loops("d", from);
  nest.stage("", BodyClass::Move).parallel(outer).parallel(inner);
  nest.read(0, at_each(inner));
  std::vector<Access> out;
  for (std::size_t i = 0; i < repeats.size(); ++i) {
    out.push_back(i < missing
                      ? at(outer[i])
                      : affine(0, {{outer[i], from[i - missing]}, {inner[i - missing], 1}}));
  }
  nest.write(0, std::move(out));
  return nest.finish();
}

// --- flip, pad, cat, split ---
Result<InferredTypes> infer_flip(const OpCall& call) {
  DOJO_TRY(const auto dims, dimensions(ints_attr(call, "dims"), call.shape(0).size()));
  static_cast<void>(dims);
  return infer_like_first(call);
}

LoopNest flip_nest(const OpCall& call) {
  const std::vector<std::int64_t> dims = ints_attr(call, "dims");
  return move_nest(call, [&](const std::vector<int>& loops) {
    const Shape& shape = call.shape(0);
    std::vector<Access> map = at_each(loops);
    for (const std::int64_t each : dims) {
      const std::size_t dim = checked_dimension(each, shape.size());
      map[dim] = affine(shape[dim] - 1, {{loops[dim], -1}});
    }
    return map;
  });
}

// `pad` lists low and high of the last dimension first; negative pads crop.
Result<InferredTypes> infer_pad(const OpCall& call) {
  Shape shape = call.shape(0);
  const std::vector<std::int64_t> pad = ints_attr(call, "pad");
  if (pad.size() % 2 != 0 || pad.size() / 2 > shape.size()) {
    return invalid("pad {} must give two numbers for each of the last dimensions of {}", show(pad),
                   show(shape));
  }
  for (std::size_t i = 0; i < pad.size(); i += 2) {
    std::int64_t& extent = shape[shape.size() - 1 - i / 2];
    const auto is_small = [](std::int64_t each) { return each >= -kMaxStep && each <= kMaxStep; };
    const bool is_sane = is_small(pad[i]) && is_small(pad[i + 1]);
    if (!is_sane || extent + pad[i] + pad[i + 1] < 1) {
      return invalid("pad {} leaves nothing of {}", show(pad), show(call.shape(0)));
    }
    extent += pad[i] + pad[i + 1];
  }
  return single(moved_format(call), std::move(shape));
}

LoopNest pad_nest(const OpCall& call) {
  const std::vector<std::int64_t> pad = ints_attr(call, "pad");
  const auto map = [&](const std::vector<int>& loops) {
    std::vector<Access> out = at_each(loops);
    for (std::size_t i = 0; i < pad.size(); i += 2) {
      const std::size_t dim = out.size() - 1 - i / 2;
      out[dim] = affine(-pad[i], {{loops[dim], 1}});
    }
    return out;
  };
  return move_nest(call, map, float_attr(call, "value"));
}

Result<InferredTypes> infer_cat(const OpCall& call) {
  if (call.inputs.empty()) {
    return invalid("needs one operand at least");
  }
  Shape shape = call.shape(0);
  if (shape.empty()) {
    return invalid("cannot concatenate scalars");
  }
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), shape.size()));
  for (std::size_t i = 1; i < call.inputs.size(); ++i) {
    Shape expected = call.shape(0);
    const Shape& each = call.shape(i);
    if (each.size() == expected.size()) {
      expected[dim] = each[dim];
    }
    if (each != expected) {
      return invalid("operand {} has shape {}: it must be like {} outside of dim {}", i + 1,
                     show(each), show(call.shape(0)), dim);
    }
    shape[dim] = saturating_add(shape[dim], each[dim]);
    if (float_class(call.input(i).format) != moved_format(call)) {
      return invalid("operand {} is {}, the first is {}", i + 1, info(call.input(i).format).name,
                     info(call.input(0).format).name);
    }
  }
  return single(moved_format(call), std::move(shape));
}

// Operand i lies at an offset; outside of it another operand is meant.
LoopNest cat_nest(const OpCall& call) {
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", call.outputs[0]->shape);
  const std::size_t dim = checked_dimension(int_attr(call, "dim"), loops.size());
  nest.stage("", BodyClass::Move).parallel(loops);
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    std::vector<Access> map = at_each(loops);
    map[dim] = affine(-offset, {{loops[dim], 1}});
    offset += call.shape(i)[dim];
    nest.read(i, std::move(map));
  }
  nest.write(0, at_each(loops));
  return nest.finish();
}

Result<InferredTypes> infer_split(const OpCall& call) {
  const Shape& shape = call.shape(0);
  const std::vector<std::int64_t> sizes = ints_attr(call, "split_sizes");
  if (shape.empty()) {
    return invalid("cannot split a scalar");
  }
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), shape.size()));
  InferredTypes types;
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) {
    Shape part = shape;
    part[dim] = size;
    total = saturating_add(total, std::max<std::int64_t>(size, 0));
    types.push_back(TensorType{moved_format(call), std::move(part)});
  }
  const bool has_empty =
      std::any_of(sizes.begin(), sizes.end(), [](std::int64_t size) { return size < 1; });
  if (total != shape[dim] || has_empty) {
    return invalid("split_sizes {} must be 1 or more each and add up to {}", show(sizes),
                   shape[dim]);
  }
  return types;
}

LoopNest split_nest(const OpCall& call) {
  NestBuilder nest(call);
  const std::size_t rank = call.shape(0).size();
  const std::size_t dim = checked_dimension(int_attr(call, "dim"), rank);
  // The parts differ in one dimension: it gets a loop per part, and a stage per part.
  std::vector<int> loops;
  for (std::size_t i = 0; i < rank; ++i) {
    loops.push_back(i == dim ? -1 : nest.loop(fmt::format("d{}", i), call.shape(0)[i]));
  }
  std::int64_t offset = 0;
  for (std::size_t part = 0; part < call.outputs.size(); ++part) {
    const std::int64_t size = call.outputs[part]->shape[dim];
    loops[dim] = nest.loop(fmt::format("p{}", part), size);
    nest.stage(fmt::format("part{}", part), BodyClass::Move).parallel(loops);
    std::vector<Access> map = at_each(loops);
    map[dim] = affine(offset, {{loops[dim], 1}});
    offset += size;
    nest.read(0, std::move(map));
    nest.write(part, at_each(loops));
  }
  return nest.finish();
}

}  // namespace

OpInfo movement_row(std::string_view name, std::vector<OperandInfo> operands,
                    std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                    Storage storage, std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Movement;
  row.operands = std::move(operands);
  row.attributes = std::move(attributes);
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  row.is_strided_view = storage == Storage::StridedView;
  return row;
}

void add_movement_rows(std::vector<OpInfo>& rows) {
  add_reshape_rows(rows);
  add_slice_rows(rows);
  const auto add = [&rows](std::string_view name, std::vector<OperandInfo> operands,
                           std::vector<AttributeInfo> attributes, InferFunction infer,
                           NestFunction nest, Storage storage, std::string_view doc) -> OpInfo& {
    rows.push_back(
        movement_row(name, std::move(operands), std::move(attributes), infer, nest, storage, doc));
    return rows.back();
  };
  const std::vector<OperandInfo> self{{"self"}};
  add("aten.permute", self, {required("dims", AttributeType::Ints)}, infer_permute, permute_nest,
      Storage::StridedView, "dimensions in the order dims");
  add("aten.t", self, {}, infer_permute, permute_nest, Storage::StridedView, "a matrix transposed");
  add("aten.transpose", self,
      {required("dim0", AttributeType::Int), required("dim1", AttributeType::Int)}, infer_permute,
      permute_nest, Storage::StridedView, "two dimensions swapped");
  add("aten.expand", self, {required("size", AttributeType::Ints), defaulted("implicit", false)},
      infer_expand, expand_nest, Storage::StridedView,
      "dimensions of extent 1 repeated to size; -1 keeps one");
  add("aten.copy", {{"self", false, true}, {"src"}}, {}, infer_copy, copy_nest, Storage::Own,
      "src, broadcast to the shape of self");
  add("aten.repeat", self, {required("repeats", AttributeType::Ints)}, infer_repeat, repeat_nest,
      Storage::Own, "self repeated so often along each dimension");
  add("aten.flip", self, {required("dims", AttributeType::Ints)}, infer_flip, flip_nest,
      Storage::Own, "dimensions dims backwards");
  add("aten.constant_pad_nd", self,
      {required("pad", AttributeType::Ints), defaulted_scalar("value", 0)}, infer_pad, pad_nest,
      Storage::Own, "value around self; pad gives low and high of the last dimension first");
  add("aten.cat", {{"tensors"}}, {defaulted("dim", std::int64_t{0})}, infer_cat, cat_nest,
      Storage::Own, "operands one after the other along dim")
      .is_variadic = true;
  add("aten.split_with_sizes", self,
      {required("split_sizes", AttributeType::Ints), defaulted("dim", std::int64_t{0})},
      infer_split, split_nest, Storage::StridedView, "self cut along dim into parts of split_sizes")
      .has_more_outputs = true;
}

}  // namespace dojo::graph
