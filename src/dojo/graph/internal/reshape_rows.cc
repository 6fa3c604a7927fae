// Reshapes: the same elements in the same order.
#include <algorithm>

#include "dojo/graph/internal/movement.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

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

void add(std::vector<OpInfo>& rows, std::string_view name, std::vector<AttributeInfo> attributes,
         InferFunction infer, std::string_view doc) {
  rows.push_back(movement_row(name, {{"self"}}, std::move(attributes), infer, reshape_nest,
                              Storage::StridedView, doc));
  rows.back().is_reshape = true;
}

}  // namespace

void add_reshape_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo size = required("size", AttributeType::Ints);
  add(rows, "aten.view", {size}, infer_view, "the same elements in another shape");
  add(rows, "aten._unsafe_view", {size}, infer_view, "the same elements in another shape");
  add(rows, "aten.reshape", {required("shape", AttributeType::Ints)}, infer_reshape_shape,
      "the same elements in another shape");
  add(rows, "aten.squeeze", {optional("dim", AttributeType::Ints)}, infer_squeeze,
      "without the dimensions of extent 1 (all, or those in dim)");
  add(rows, "aten.unsqueeze", {required("dim", AttributeType::Int)}, infer_unsqueeze,
      "with a dimension of extent 1 at dim");
  add(rows, "aten.alias", {}, infer_like_first, "self");
  add(rows, "aten.detach", {}, infer_like_first, "self");
  add(rows, "aten.clone", {}, infer_like_first, "self");
}

}  // namespace dojo::graph
