// Resizing of the last two dimensions: nearest and bilinear, and their gradients.
#include <algorithm>
#include <cmath>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

constexpr std::int64_t kMostExtent = std::int64_t{1} << 20;  // of a plane: products stay exact

// Scales must say what the sizes say: positions are computed from the sizes, as exact ratios.
Result<void> expect_scales(const OpCall& call, const Shape& from, const Shape& to) {
  const std::size_t plane = from.size() - 2;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto scale = optional_float_attr(call, i == 0 ? "scales_h" : "scales_w");
    const auto exact = static_cast<double>(to[plane + i]) / static_cast<double>(from[plane + i]);
    if (scale.has_value() && *scale != exact) {
      return unsupported("scales_{} is {}, but the sizes say {}: leave it out", i == 0 ? 'h' : 'w',
                         *scale, exact);
    }
  }
  return {};
}

Result<void> expect_planes(const Shape& shape) {
  const bool fits =
      shape.size() == 4 &&
      std::all_of(shape.begin(), shape.end(), [](auto extent) { return extent >= 1; }) &&
      shape[2] <= kMostExtent && shape[3] <= kMostExtent;
  if (!fits) {
    return invalid("{} must have 4 dimensions, the last two at most 2^20", show(shape));
  }
  return {};
}

Result<Shape> resized(const OpCall& call, const Shape& from) {
  DOJO_TRY_VOID(expect_planes(from));
  const std::vector<std::int64_t> size = ints_attr(call, "output_size");
  if (size.size() != 2) {
    return invalid("output_size {} must be two numbers", show(size));
  }
  Shape to{from[0], from[1], size[0], size[1]};
  DOJO_TRY_VOID(expect_planes(to));
  DOJO_TRY_VOID(expect_scales(call, from, to));
  return to;
}

Result<InferredTypes> infer_resize(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY(Shape shape, resized(call, call.shape(0)));
  return single(Format::F32, std::move(shape));
}

Result<InferredTypes> infer_resize_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  const Shape input = ints_attr(call, "input_size");
  DOJO_TRY(const Shape output, resized(call, input));
  DOJO_TRY_VOID(expect_shape(call, 0, output));
  return single(Format::F32, input);
}

// The first source element of output position i, as a ratio of loop `loop`.
Ratio nearest_source(int loop, std::int64_t from, std::int64_t to) { return {loop, from, 0, to}; }

// floor((y + 1/2) H / O - 1/2), or floor(y (H - 1) / (O - 1)) with aligned corners; nullopt:
// always element 0.
std::optional<Ratio> bilinear_source(int loop, std::int64_t from, std::int64_t to,
                                     bool are_aligned) {
  if (!are_aligned) {
    return Ratio{loop, 2 * from, from - to, 2 * to};
  }
  return to == 1 || from == 1 ? std::nullopt : std::optional(Ratio{loop, from - 1, 0, to - 1});
}

bool are_corners_aligned(const OpCall& call) {
  return has_attribute(call, "align_corners") && bool_attr(call, "align_corners");
}

bool is_nearest(const OpCall& call) { return call.info->name.find("nearest") != std::string::npos; }

LoopNest resize_nest(const OpCall& call) {
  const Shape& from = call.shape(0);
  const Shape& to = call.outputs[0]->shape;
  NestBuilder nest(call);
  const std::vector<int> loops{nest.loop("n", to[0]), nest.loop("c", to[1]), nest.loop("y", to[2]),
                               nest.loop("x", to[3])};
  std::vector<Access> map{at(loops[0]), at(loops[1])};
  if (is_nearest(call)) {
    nest.stage("", BodyClass::Move).parallel(loops);
    for (std::size_t dim = 2; dim < 4; ++dim) {
      map.push_back(Affine{.terms = {}, .ratio = nearest_source(loops[dim], from[dim], to[dim])});
    }
  } else {
    const std::vector<int> taps{nest.loop("ky", 2), nest.loop("kx", 2)};
    nest.stage("", BodyClass::Vector).parallel(loops).reduce(taps);
    nest.per_point({.vector_ops = 2});
    for (std::size_t dim = 2; dim < 4; ++dim) {
      map.push_back(Affine{
          .terms = {{taps[dim - 2], 1}},
          .ratio = bilinear_source(loops[dim], from[dim], to[dim], are_corners_aligned(call))});
    }
  }
  nest.read(0, std::move(map));
  nest.write(0, at_each(loops));
  return nest.finish();
}

// Which outputs read an input element h: `taps` of them from a ratio of h on (nullopt: from 0).
// Those that do not read it after all have weight 0 in the body.
struct Readers {
  std::optional<Ratio> first;
  std::int64_t taps = 1;
};

Readers nearest_readers(int loop, std::int64_t from, std::int64_t to) {
  return {Ratio{loop, to, from - 1, from}, ceil_divide(to, from)};
}

// Outputs whose source lies in (h - 1, h + 1); both rules of bilinear_source solved for y.
Readers bilinear_readers(int loop, std::int64_t from, std::int64_t to, bool are_aligned) {
  if (!are_aligned) {
    return {Ratio{loop, 2 * to, -to - from, 2 * from}, ceil_divide(2 * to, from) + 2};
  }
  if (from == 1 || to == 1) {
    return {std::nullopt, to};
  }
  return {Ratio{loop, to - 1, 1 - to, from - 1}, ceil_divide(2 * (to - 1), from - 1) + 2};
}

LoopNest resize_backward_nest(const OpCall& call) {
  const Shape from = ints_attr(call, "input_size");
  const Shape& to = call.shape(0);
  NestBuilder nest(call);
  const std::vector<int> loops{nest.loop("n", from[0]), nest.loop("c", from[1]),
                               nest.loop("h", from[2]), nest.loop("w", from[3])};
  std::vector<Access> map{at(loops[0]), at(loops[1])};
  std::vector<int> taps;
  for (std::size_t dim = 2; dim < 4; ++dim) {
    const Readers readers = is_nearest(call) ? nearest_readers(loops[dim], from[dim], to[dim])
                                             : bilinear_readers(loops[dim], from[dim], to[dim],
                                                                are_corners_aligned(call));
    taps.push_back(nest.loop(dim == 2 ? "ky" : "kx", readers.taps));
    map.push_back(Affine{.terms = {{taps.back(), 1}}, .ratio = readers.first});
  }
  nest.stage("", BodyClass::Vector).parallel(loops).reduce(taps);
  nest.per_point({.vector_ops = is_nearest(call) ? 1 : 2});
  nest.read(0, std::move(map));
  nest.write(0, at_each(loops));
  return nest.finish();
}

OpInfo resize_row(std::string_view name, std::string_view operand,
                  std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                  std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Pool;
  row.operands = {{operand}};
  row.attributes = std::move(attributes);
  row.attributes.push_back(required("output_size", AttributeType::Ints));
  row.attributes.push_back(optional("scales_h", AttributeType::Float));
  row.attributes.push_back(optional("scales_w", AttributeType::Float));
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_resize_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo size = required("input_size", AttributeType::Ints);
  const AttributeInfo corners = required("align_corners", AttributeType::Bool);
  rows.push_back(resize_row("aten.upsample_nearest2d", "self", {}, infer_resize, resize_nest,
                            "output y reads input floor(y H / O)"));
  rows.push_back(resize_row("aten.upsample_nearest2d_backward", "grad_output", {size},
                            infer_resize_backward, resize_backward_nest,
                            "gradient of upsample_nearest2d"));
  rows.push_back(resize_row("aten.upsample_bilinear2d", "self", {corners}, infer_resize,
                            resize_nest, "weighted by the distance to the four nearest"));
  rows.push_back(resize_row("aten.upsample_bilinear2d_backward", "grad_output", {size, corners},
                            infer_resize_backward, resize_backward_nest,
                            "gradient of upsample_bilinear2d"));
}

}  // namespace dojo::graph
