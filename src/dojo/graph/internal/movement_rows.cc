// Movement: each output element is one input element or a constant.
#include <algorithm>
#include <limits>
#include <numeric>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

constexpr std::int64_t kMaxStep = std::int64_t{1} << 40;

Format moved_format(const OpCall& call) { return float_class(call.input(0).format); }

// --- reshapes ---
// A size with at most one -1, which stands for what is left.
Result<InferredTypes> infer_reshape(const OpCall& call, Shape size) {
  const std::int64_t count = element_count(call.shape(0));
  std::int64_t known = 1;
  std::int64_t* open = nullptr;
  for (std::int64_t& extent : size) {
    if (extent == -1 && open == nullptr) {
      open = &extent;
    } else if (extent < 1) {
      return invalid("size {} has an extent below 1 (one may be -1)", show(size));
    } else {
      known = saturating_multiply(known, extent);
    }
  }
  if (open != nullptr && count % known == 0) {
    *open = count / known;
    known = count;
  }
  if (known != count) {
    return invalid("cannot view {} ({} elements) as {}", show(call.shape(0)), count, show(size));
  }
  return single(moved_format(call), std::move(size));
}

Result<InferredTypes> infer_view(const OpCall& call) {
  return infer_reshape(call, ints_attr(call, "size"));
}
Result<InferredTypes> infer_reshape_shape(const OpCall& call) {
  return infer_reshape(call, ints_attr(call, "shape"));
}

Result<InferredTypes> infer_squeeze(const OpCall& call) {
  const Shape& shape = call.shape(0);
  const std::vector<std::int64_t> dims =
      optional_ints_attr(call, "dim").value_or(std::vector<std::int64_t>{});
  DOJO_TRY(const std::vector<std::size_t> squeezed, dimensions(dims, shape.size()));
  Shape out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool is_named = std::find(squeezed.begin(), squeezed.end(), i) != squeezed.end();
    if (!is_named || shape[i] != 1) {
      out.push_back(shape[i]);
    }
  }
  return single(moved_format(call), std::move(out));
}

Result<InferredTypes> infer_unsqueeze(const OpCall& call) {
  Shape shape = call.shape(0);
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), shape.size() + 1));
  shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(dim), 1);
  return single(moved_format(call), std::move(shape));
}

// The loops of the common refinement of two shapes with equal counts: [6,4] and [2,12] give
// 2 x 3 x 4. Where no refinement exists the loops are those of the output, and the input
// dimensions are needed whole.
class Reshape {
 public:
  explicit Reshape(const OpCall& call) : from_(call.shape(0)), to_(call.outputs[0]->shape) {}

  LoopNest nest(const OpCall& call) {
    read_.assign(from_.size(), fixed(0));
    write_.assign(to_.size(), fixed(0));
    std::size_t i = from_.size();
    std::size_t o = to_.size();
    while (i > 0 || o > 0) {  // the smallest last dimensions of equal count, then on to the left
      const std::size_t i_end = i;
      const std::size_t o_end = o;
      std::int64_t in = 1;
      std::int64_t out = 1;
      while (in != out || i == i_end || o == o_end) {
        if (i > 0 && (in < out || i == i_end || o == 0)) {
          in *= from_[--i];
        } else if (o > 0) {
          out *= to_[--o];
        } else {
          break;
        }
      }
      add_group(i, i_end, o, o_end);
    }
    NestBuilder builder(call);
    std::reverse(extents_.begin(), extents_.end());
    const std::vector<int> loops = builder.loops("d", extents_);
    builder.stage("", BodyClass::Move).parallel(loops);
    builder.read(0, renumbered(std::move(read_)));
    builder.write(0, renumbered(std::move(write_)));
    return builder.finish();
  }

 private:
  void add_group(std::size_t i, std::size_t i_end, std::size_t o, std::size_t o_end) {
    std::vector<std::vector<Term>> in(i_end - i);
    std::vector<std::vector<Term>> out(o_end - o);
    const std::size_t loops_before = extents_.size();
    if (!refine(i, i_end, o, o_end, in, out)) {
      extents_.resize(loops_before);
      for (std::size_t dim = o_end; dim-- > o;) {
        write_[dim] = at(new_loop(to_[dim]));
      }
      for (std::size_t dim = i; dim < i_end; ++dim) {
        read_[dim] = Whole{};
      }
      return;
    }
    for (std::size_t dim = i; dim < i_end; ++dim) {
      read_[dim] = affine(0, std::move(in[dim - i]));
    }
    for (std::size_t dim = o; dim < o_end; ++dim) {
      write_[dim] = affine(0, std::move(out[dim - o]));
    }
  }

  // Cuts both sides into common factors, from the last dimension on.
  bool refine(std::size_t i, std::size_t i_end, std::size_t o, std::size_t o_end,
              std::vector<std::vector<Term>>& in, std::vector<std::vector<Term>>& out) {
    std::size_t a = i_end;
    std::size_t b = o_end;
    std::int64_t in_left = 1;
    std::int64_t out_left = 1;
    std::int64_t in_stride = 1;
    std::int64_t out_stride = 1;
    while (true) {
      while (in_left == 1 && a > i) {
        in_left = from_[--a];
        in_stride = 1;
      }
      while (out_left == 1 && b > o) {
        out_left = to_[--b];
        out_stride = 1;
      }
      if (in_left == 1 && out_left == 1) {
        return true;
      }
      const std::int64_t factor = std::min(in_left, out_left);
      if (in_left % factor != 0 || out_left % factor != 0) {
        return false;
      }
      const int loop = new_loop(factor);
      in[a - i].push_back({loop, in_stride});
      out[b - o].push_back({loop, out_stride});
      in_left /= factor;
      out_left /= factor;
      in_stride *= factor;
      out_stride *= factor;
    }
  }

  // Loops are made from the last to the first; their numbers are turned round at the end.
  int new_loop(std::int64_t extent) {
    extents_.push_back(extent);
    return static_cast<int>(extents_.size()) - 1;
  }

  std::vector<Access> renumbered(std::vector<Access> accesses) const {
    for (Access& access : accesses) {
      if (auto* map = std::get_if<Affine>(&access)) {
        for (Term& term : map->terms) {
          term.loop = static_cast<int>(extents_.size()) - 1 - term.loop;
        }
      }
    }
    return accesses;
  }

  const Shape& from_;
  const Shape& to_;
  Shape extents_;
  std::vector<Access> read_;
  std::vector<Access> write_;
};

LoopNest reshape_nest(const OpCall& call) { return Reshape(call).nest(call); }

// --- nests over the dimensions of the output ---
// `map` gives the access of each input dimension from the loops of the output.
template <class Map>
LoopNest move_nest(const OpCall& call, Map map, double pad_value = 0) {
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", call.outputs[0]->shape);
  nest.stage("", BodyClass::Move).parallel(loops);
  nest.read(0, map(loops), pad_value);
  nest.write(0, at_each(loops));
  return nest.finish();
}

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

// --- slices ---
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

class Adder {
 public:
  explicit Adder(std::vector<OpInfo>& rows) : rows_(rows) {}

  OpInfo& add(std::string_view name, std::vector<OperandInfo> operands,
              std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
              std::string_view doc) {
    OpInfo row;
    row.name = name;
    row.group = OpGroup::Movement;
    row.operands = std::move(operands);
    row.attributes = std::move(attributes);
    row.infer = infer;
    row.nest = nest;
    row.doc = doc;
    rows_.push_back(std::move(row));
    return rows_.back();
  }
  void reshape(std::string_view name, std::vector<AttributeInfo> attributes, InferFunction infer,
               std::string_view doc) {
    OpInfo& row = add(name, {{"self"}}, std::move(attributes), infer, reshape_nest, doc);
    row.is_reshape = true;
    row.is_strided_view = true;
  }
  void view(std::string_view name, std::vector<AttributeInfo> attributes, InferFunction infer,
            NestFunction nest, std::string_view doc) {
    add(name, {{"self"}}, std::move(attributes), infer, nest, doc).is_strided_view = true;
  }

 private:
  std::vector<OpInfo>& rows_;
};

void add_views(Adder& rows) {
  const AttributeInfo size = required("size", AttributeType::Ints);
  const AttributeInfo dim = required("dim", AttributeType::Int);
  rows.reshape("aten.view", {size}, infer_view, "the same elements in another shape");
  rows.reshape("aten._unsafe_view", {size}, infer_view, "the same elements in another shape");
  rows.reshape("aten.reshape", {required("shape", AttributeType::Ints)}, infer_reshape_shape,
               "the same elements in another shape");
  rows.reshape("aten.squeeze", {optional("dim", AttributeType::Ints)}, infer_squeeze,
               "without the dimensions of extent 1 (all, or those in dim)");
  rows.reshape("aten.unsqueeze", {dim}, infer_unsqueeze, "with a dimension of extent 1 at dim");
  rows.reshape("aten.alias", {}, infer_like_first, "self");
  rows.reshape("aten.detach", {}, infer_like_first, "self");
  rows.reshape("aten.clone", {}, infer_like_first, "self");
  rows.view("aten.permute", {required("dims", AttributeType::Ints)}, infer_permute, permute_nest,
            "dimensions in the order dims");
  rows.view("aten.t", {}, infer_permute, permute_nest, "a matrix transposed");
  rows.view("aten.transpose",
            {required("dim0", AttributeType::Int), required("dim1", AttributeType::Int)},
            infer_permute, permute_nest, "two dimensions swapped");
  rows.view("aten.expand", {size, defaulted("implicit", false)}, infer_expand, expand_nest,
            "dimensions of extent 1 repeated to size; -1 keeps one");
  const std::vector<AttributeInfo> range{
      defaulted("dim", std::int64_t{0}), optional("start", AttributeType::Int),
      optional("end", AttributeType::Int), defaulted("step", std::int64_t{1})};
  rows.view("aten.slice", range, infer_slice, slice_nest,
            "indices start, start + step, ... below end of dim");
  rows.view("aten.select", {dim, required("index", AttributeType::Int)}, infer_select, select_nest,
            "one index of dim, which goes");
}

void add_moves(Adder& rows) {
  const AttributeInfo sizes = required("input_sizes", AttributeType::Ints);
  rows.add("aten.copy", {{"self", false, true}, {"src"}}, {}, infer_copy, copy_nest,
           "src, broadcast to the shape of self");
  rows.add("aten.repeat", {{"self"}}, {required("repeats", AttributeType::Ints)}, infer_repeat,
           repeat_nest, "self repeated so often along each dimension");
  rows.add("aten.flip", {{"self"}}, {required("dims", AttributeType::Ints)}, infer_flip, flip_nest,
           "dimensions dims backwards");
  rows.add("aten.constant_pad_nd", {{"self"}},
           {required("pad", AttributeType::Ints), defaulted_scalar("value", 0)}, infer_pad,
           pad_nest, "value around self; pad gives low and high of the last dimension first");
  rows.add("aten.slice_backward", {{"grad_output"}},
           {sizes, required("dim", AttributeType::Int), required("start", AttributeType::Int),
            required("end", AttributeType::Int), required("step", AttributeType::Int)},
           infer_slice_backward, slice_backward_nest, "gradient of slice: zeros around");
  rows.add("aten.select_backward", {{"grad_output"}},
           {sizes, required("dim", AttributeType::Int), required("index", AttributeType::Int)},
           infer_select_backward, select_backward_nest, "gradient of select: zeros around");
  rows.add("aten.cat", {{"tensors"}}, {defaulted("dim", std::int64_t{0})}, infer_cat, cat_nest,
           "operands one after the other along dim")
      .is_variadic = true;
  OpInfo& split =
      rows.add("aten.split_with_sizes", {{"self"}},
               {required("split_sizes", AttributeType::Ints), defaulted("dim", std::int64_t{0})},
               infer_split, split_nest, "self cut along dim into parts of split_sizes");
  split.has_more_outputs = true;
  split.is_strided_view = true;
}

}  // namespace

void add_movement_rows(std::vector<OpInfo>& rows) {
  Adder adder(rows);
  add_views(adder);
  add_moves(adder);
}

}  // namespace dojo::graph
