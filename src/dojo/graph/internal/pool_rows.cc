// Pooling: windows over the last two dimensions, reduced by maximum or sum.
#include <algorithm>
#include <limits>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

constexpr std::int64_t kMostSteps = std::int64_t{1} << 31;

struct Windows {
  std::vector<std::int64_t> kernel;
  std::vector<std::int64_t> stride;
  std::vector<std::int64_t> padding;
  std::vector<std::int64_t> dilation;
  Shape output;
};

Result<std::vector<std::int64_t>> pair_attr(const OpCall& call, std::string_view name,
                                            std::int64_t least) {
  const std::vector<std::int64_t> values = ints_attr(call, name, 2);
  const bool is_right =
      values.size() == 2 && std::all_of(values.begin(), values.end(), [least](std::int64_t value) {
        return value >= least && value <= kMostSteps;
      });
  if (!is_right) {
    return invalid("{} is {}, expected 2 numbers from {} to 2^31", name, show(values), least);
  }
  return values;
}

// PyTorch's rule: with ceil_mode a last window may hang over, but must begin inside.
std::int64_t window_count(std::int64_t extent, std::int64_t span, std::int64_t stride,
                          std::int64_t padding, bool is_ceil) {
  const std::int64_t room = extent + 2 * padding - span;
  std::int64_t count = (is_ceil ? ceil_divide(room, stride) : floor_divide(room, stride)) + 1;
  if (is_ceil && (count - 1) * stride >= extent + padding) {
    --count;
  }
  return count;
}

Result<Windows> windows_of(const OpCall& call, const Shape& shape) {
  if (shape.size() != 3 && shape.size() != 4) {
    return invalid("cannot pool {}: expected 3 or 4 dimensions", show(shape));
  }
  Windows out;
  DOJO_TRY(out.kernel, pair_attr(call, "kernel_size", 1));
  out.stride = out.kernel;
  if (!ints_attr(call, "stride").empty()) {
    DOJO_TRY(out.stride, pair_attr(call, "stride", 1));
  }
  DOJO_TRY(out.padding, pair_attr(call, "padding", 0));
  out.dilation = {1, 1};
  if (has_attribute(call, "dilation")) {
    DOJO_TRY(out.dilation, pair_attr(call, "dilation", 1));
  }
  out.output = shape;
  for (std::size_t i = 0; i < 2; ++i) {
    std::int64_t& extent = out.output[shape.size() - 2 + i];
    const std::int64_t span = out.dilation[i] * (out.kernel[i] - 1) + 1;
    if (2 * out.padding[i] > out.kernel[i]) {
      return invalid("padding {} is more than half of kernel_size {}", out.padding[i],
                     out.kernel[i]);
    }
    extent =
        window_count(extent, span, out.stride[i], out.padding[i], bool_attr(call, "ceil_mode"));
    if (extent < 1) {
      return invalid("the window {} is larger than the padded input {}", show(out.kernel),
                     show(shape));
    }
  }
  return out;
}

// Of the indices: places in the plane, or, in a lowered Graph, taps of the window in one byte.
Result<Format> index_format(const OpCall& call, const Windows& windows) {
  if (!bool_attr(call, "in_window")) {
    return Format::I64;
  }
  if (windows.kernel[0] > 256 || windows.kernel[0] * windows.kernel[1] > 256) {
    return invalid("a window of {} has more than 256 taps: in_window cannot number them in a byte",
                   show(windows.kernel));
  }
  return Format::U8;
}

Result<InferredTypes> infer_max_pool(const OpCall& call) {
  DOJO_TRY(const Windows windows, windows_of(call, call.shape(0)));
  DOJO_TRY(const Format indices, index_format(call, windows));
  return InferredTypes{TensorType{float_class(call.input(0).format), windows.output},
                       TensorType{indices, windows.output}};
}

Result<InferredTypes> infer_avg_pool(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY(const Windows windows, windows_of(call, call.shape(0)));
  if (const auto divisor = optional_int_attr(call, "divisor_override"); divisor == 0) {
    return invalid("divisor_override must not be 0");
  }
  return single(Format::F32, windows.output);
}

Result<InferredTypes> infer_pool_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY(const Windows windows, windows_of(call, call.shape(1)));
  DOJO_TRY_VOID(expect_shape(call, 0, windows.output));
  if (call.info->operands.size() == 3) {
    DOJO_TRY_VOID(expect_integer(call, 2));
    DOJO_TRY_VOID(expect_shape(call, 2, windows.output));
    DOJO_TRY(const Format indices, index_format(call, windows));
    if (indices == Format::U8 && call.input(2).format != indices) {
      return invalid("in_window indices are u8, not {}", info(call.input(2).format).name);
    }
  }
  return single(Format::F32, call.shape(1));
}

// The loops of the leading dimensions: n c, or c.
std::vector<int> leading_loops(NestBuilder& nest, const Shape& shape) {
  std::vector<int> loops;
  if (shape.size() == 4) {
    loops.push_back(nest.loop("n", shape[0]));
  }
  loops.push_back(nest.loop("c", shape[shape.size() - 3]));
  return loops;
}

std::vector<Access> with_plane(std::span<const int> leading, Access row, Access column) {
  std::vector<Access> map = at_each(leading);
  map.push_back(std::move(row));
  map.push_back(std::move(column));
  return map;
}

LoopNest pool_nest(const OpCall& call) {
  const auto windows = windows_of(call, call.shape(0));
  const bool is_max = call.outputs.size() == 2;
  NestBuilder nest(call);
  const std::vector<int> leading = leading_loops(nest, call.shape(0));
  const Shape& shape = windows->output;
  const int y = nest.loop("y", shape[shape.size() - 2]);
  const int x = nest.loop("x", shape[shape.size() - 1]);
  const int ky = nest.loop("ky", windows->kernel[0]);
  const int kx = nest.loop("kx", windows->kernel[1]);
  nest.stage("", BodyClass::Vector).parallel(leading).parallel({y, x});
  nest.reduce({ky, kx}, is_max ? Combine::Max : Combine::Sum);
  const auto window = [&](std::size_t i, int position, int tap) {
    return affine(-windows->padding[i],
                  {{position, windows->stride[i]}, {tap, windows->dilation[i]}});
  };
  nest.read(0, with_plane(leading, window(0, y, ky), window(1, x, kx)),
            is_max ? -std::numeric_limits<double>::infinity() : 0);
  nest.write(0, with_plane(leading, at(y), at(x)));
  if (is_max) {
    nest.write(1, with_plane(leading, at(y), at(x)));
    nest.per_point({.vector_ops = 2});
  } else {
    nest.per_point({.vector_ops = 1}).per_result({.vector_ops = 1});
  }
  return nest.finish();
}

// Each input element gathers from the windows that hold it: those it won, or a share of all.
LoopNest pool_backward_nest(const OpCall& call) {
  const Shape& shape = call.shape(1);
  const auto windows = windows_of(call, shape);
  NestBuilder nest(call);
  const std::vector<int> leading = leading_loops(nest, shape);
  const int h = nest.loop("h", shape[shape.size() - 2]);
  const int w = nest.loop("w", shape[shape.size() - 1]);
  const int ky = nest.loop("ky", windows->kernel[0]);
  const int kx = nest.loop("kx", windows->kernel[1]);
  nest.stage("", BodyClass::Vector).parallel(leading).parallel({h, w}).reduce({ky, kx});
  const auto gathered = [&](std::size_t i, int position, int tap) {
    return Affine{.offset = windows->padding[i],
                  .terms = {{position, 1}, {tap, -windows->dilation[i]}},
                  .divisor = windows->stride[i],
                  .counted_loop = position};
  };
  const bool is_max = call.inputs.size() == 3;
  nest.per_point({.vector_ops = 2});
  nest.read(0, with_plane(leading, gathered(0, h, ky), gathered(1, w, kx)));
  if (is_max) {
    nest.read(2, with_plane(leading, gathered(0, h, ky), gathered(1, w, kx)));
  }
  nest.write(0, with_plane(leading, at(h), at(w)));
  return nest.finish();
}

// --- adaptive: window y covers floor(y H / O) up to ceil((y + 1) H / O) ---
// The most elements in a window over `from` elements cut into `to` windows.
std::int64_t widest_window(std::int64_t from, std::int64_t to) {
  std::int64_t widest = 0;
  // Windows repeat with a period of to / gcd(from, to); the loop is short for real sizes.
  for (std::int64_t y = 0; y < to; ++y) {
    const std::int64_t begin = floor_divide(y * from, to);
    widest = std::max(widest, ceil_divide((y + 1) * from, to) - begin);
  }
  return widest;
}

Result<Shape> adaptive_shape(const OpCall& call, const Shape& input,
                             std::vector<std::int64_t> out) {
  if (input.size() != 3 && input.size() != 4) {
    return invalid("cannot pool {}: expected 3 or 4 dimensions", show(input));
  }
  static_cast<void>(call);
  if (out.size() == 1) {
    out.push_back(out.front());
  }
  Shape shape = input;
  for (std::size_t i = 0; i < 2; ++i) {
    if (out.size() != 2 || out[i] < 1 || out[i] > (std::int64_t{1} << 20) ||
        input[input.size() - 2 + i] > (std::int64_t{1} << 20)) {
      return invalid("output_size {} must be two numbers, and planes at most 2^20 wide", show(out));
    }
    shape[shape.size() - 2 + i] = out[i];
  }
  return shape;
}

Result<InferredTypes> infer_adaptive(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY(Shape shape, adaptive_shape(call, call.shape(0), ints_attr(call, "output_size")));
  return single(Format::F32, std::move(shape));
}

Result<InferredTypes> infer_adaptive_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  const Shape& gradient = call.shape(0);
  DOJO_TRY_VOID(expect_rank(call, 0, 3, 4));
  DOJO_TRY(const Shape shape,
           adaptive_shape(call, call.shape(1),
                          std::vector<std::int64_t>(gradient.end() - 2, gradient.end())));
  DOJO_TRY_VOID(expect_shape(call, 0, shape));
  return single(Format::F32, call.shape(1));
}

LoopNest adaptive_nest(const OpCall& call) {
  const Shape& from = call.shape(0);
  const Shape& to = call.outputs[0]->shape;
  NestBuilder nest(call);
  const std::vector<int> leading = leading_loops(nest, from);
  const std::size_t plane = from.size() - 2;
  const int y = nest.loop("y", to[plane]);
  const int x = nest.loop("x", to[plane + 1]);
  const int ky = nest.loop("ky", widest_window(from[plane], to[plane]));
  const int kx = nest.loop("kx", widest_window(from[plane + 1], to[plane + 1]));
  nest.stage("", BodyClass::Vector).parallel(leading).parallel({y, x}).reduce({ky, kx});
  nest.per_point({.vector_ops = 1}).per_result({.vector_ops = 1});
  const auto window = [&](std::size_t dim, int position, int tap) {
    return Affine{.terms = {{tap, 1}}, .ratio = Ratio{position, from[dim], 0, to[dim]}};
  };
  nest.read(0, with_plane(leading, window(plane, y, ky), window(plane + 1, x, kx)));
  nest.write(0, with_plane(leading, at(y), at(x)));
  return nest.finish();
}

// Element h lies in the windows from floor(h O / H) up to ceil((h + 1) O / H): the same rule with
// the sides exchanged.
LoopNest adaptive_backward_nest(const OpCall& call) {
  const Shape& gradient = call.shape(0);
  const Shape& shape = call.shape(1);
  NestBuilder nest(call);
  const std::vector<int> leading = leading_loops(nest, shape);
  const std::size_t plane = shape.size() - 2;
  const int h = nest.loop("h", shape[plane]);
  const int w = nest.loop("w", shape[plane + 1]);
  const int ky = nest.loop("ky", widest_window(gradient[plane], shape[plane]));
  const int kx = nest.loop("kx", widest_window(gradient[plane + 1], shape[plane + 1]));
  nest.stage("", BodyClass::Vector).parallel(leading).parallel({h, w}).reduce({ky, kx});
  nest.per_point({.vector_ops = 2});
  const auto windows = [&](std::size_t dim, int position, int tap) {
    return Affine{.terms = {{tap, 1}}, .ratio = Ratio{position, gradient[dim], 0, shape[dim]}};
  };
  nest.read(0, with_plane(leading, windows(plane, h, ky), windows(plane + 1, w, kx)));
  nest.write(0, with_plane(leading, at(h), at(w)));
  return nest.finish();
}

OpInfo pool_row(std::string_view name, std::vector<OperandInfo> operands,
                std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Pool;
  row.operands = std::move(operands);
  row.attributes = std::move(attributes);
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_pool_rows(std::vector<OpInfo>& rows) {
  const std::vector<AttributeInfo> base{required("kernel_size", AttributeType::IntsPerDimension),
                                        per_dimension("stride", {}), per_dimension("padding", {0}),
                                        defaulted("ceil_mode", false)};
  std::vector<AttributeInfo> max = base;
  max.push_back(per_dimension("dilation", {1}));
  max.push_back(defaulted("in_window", false));
  std::vector<AttributeInfo> average = base;
  average.push_back(defaulted("count_include_pad", true));
  average.push_back(optional("divisor_override", AttributeType::Int));

  rows.push_back(pool_row("aten.max_pool2d_with_indices", {{"self"}}, max, infer_max_pool,
                          pool_nest,
                          "greatest of each window, and where in the plane it was (row * width + "
                          "column; the first of equals), or with in_window which tap of its "
                          "window (ky * kernel width + kx, u8); stride [] is kernel_size"));
  rows.back().outputs = 2;
  rows.push_back(pool_row("aten.max_pool2d_with_indices_backward",
                          {{"grad_output"}, {"self", false, true}, {"indices"}}, max,
                          infer_pool_backward, pool_backward_nest,
                          "each window's gradient goes to its winner"));
  rows.push_back(pool_row("aten.avg_pool2d", {{"self"}}, average, infer_avg_pool, pool_nest,
                          "mean of each window; stride [] is kernel_size"));
  rows.push_back(pool_row("aten.avg_pool2d_backward", {{"grad_output"}, {"self", false, true}},
                          average, infer_pool_backward, pool_backward_nest,
                          "each window's gradient is shared out"));
  rows.push_back(pool_row("aten._adaptive_avg_pool2d", {{"self"}},
                          {required("output_size", AttributeType::IntsPerDimension)},
                          infer_adaptive, adaptive_nest,
                          "means of output_size windows; window y covers floor(y H / O) to "
                          "ceil((y + 1) H / O)"));
  rows.push_back(pool_row("aten._adaptive_avg_pool2d_backward",
                          {{"grad_output"}, {"self", false, true}}, {}, infer_adaptive_backward,
                          adaptive_backward_nest, "each window's gradient is shared out"));
}

}  // namespace dojo::graph
