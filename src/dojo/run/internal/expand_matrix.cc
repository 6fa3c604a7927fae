// Matrix products and convolutions: kernels of numerics in FP32, then bias and rounding as an
// element-wise pass, which takes the result piece by piece.
#include <algorithm>
#include <array>
#include <span>

#include "dojo/base/check.h"
#include "dojo/numerics/convolution.h"
#include "dojo/numerics/gemm.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::ints_attr;
using graph::Shape;

// Operands of kernels are floats or U8.
View factor(Builder& b, std::size_t i) {
  const Format format = b.in_format(i);
  return is_float(format) || format == Format::U8 ? b.in(i) : b.dense(b.in(i));
}

numerics::MatrixOperand matrix(const StepContext& context, const View& view) {
  const std::size_t rank = view.shape.size();
  numerics::MatrixOperand operand;
  operand.storage = context.storage(view);
  operand.row_stride = view.strides[rank - 2];
  operand.column_stride = view.strides[rank - 1];
  operand.batch_stride[0] = rank == 3 ? view.strides[0] : 0;
  return operand;
}

// left x right into `out`, [m, n] or [b, m, n]: rows are rows of the result, or products.
void product(Builder& b, const View& left, const View& right, const View& out) {
  const bool has_batch = left.shape.size() == 3;
  const std::size_t d = has_batch ? 1 : 0;
  const numerics::GemmShape shape{left.shape[d], right.shape[d + 1], left.shape[d + 1], {1, 1, 1}};
  const numerics::ReduceCuts cuts = b.cuts(b.stage(), {shape.k});
  RowProducer producer;
  producer.rows = has_batch ? left.shape[0] : shape.m;
  producer.row_elements = has_batch ? shape.m * shape.n : shape.n;
  producer.produce = [=](const StepContext& context, std::int64_t begin, std::int64_t end,
                         float* data) {
    numerics::GemmShape part = shape;
    numerics::MatrixOperand a = matrix(context, left);
    numerics::MatrixOperand c = matrix(context, right);
    numerics::MatrixOutput result{data, shape.n, {0, 0, 0}};
    if (has_batch) {
      part.batch[0] = end - begin;
      a.storage.offset += begin * a.batch_stride[0];
      c.storage.offset += begin * c.batch_stride[0];
      result.batch_stride[0] = shape.m * shape.n;
    } else {
      part.m = end - begin;
      a.storage.offset += begin * a.row_stride;
    }
    numerics::gemm(*context.pool, part, a, c, cuts, {}, result, context.isa, context.unit);
  };
  b.rows({left, right}, out, std::move(producer));
}

Result<void> matmul(Builder& b) {
  const View out = b.target(0);
  product(b, factor(b, 0), factor(b, 1), out);
  b.finish(0, out);
  return {};
}

// The product, then one rounding for the sum with self.
Result<void> matmul_plus(Builder& b) {
  const View made = b.temporary(b.out_value(0).shape);
  product(b, factor(b, 1), factor(b, 2), made);
  b.map(kernels::add, {made, b.in(0)}, {b.out(0)});
  return {};
}

// --- convolutions ---
// One and two spatial dimensions are three, the others with extent 1.
View as_volume(View view) {
  while (view.shape.size() < 5) {
    view = unsqueezed(view, 2);
  }
  return view;
}

numerics::Axes axes_of(std::span<const std::int64_t> values, std::int64_t neutral) {
  numerics::Axes axes{neutral, neutral, neutral};
  std::copy(values.begin(), values.end(), axes.end() - static_cast<std::ptrdiff_t>(values.size()));
  return axes;
}

numerics::ConvolutionShape convolution_shape(const Builder& b, const Shape& input,
                                             const Shape& weight) {
  const std::size_t spatial = input.size() - 2;
  const auto attribute = [&](std::string_view name, std::int64_t neutral) {
    return axes_of(ints_attr(b.op(), name, spatial), neutral);
  };
  return {.batch = input[0],
          .channels_in = input[1],
          .channels_out = weight[0],
          .size = axes_of(std::span(input).subspan(2), 1),
          .kernel = axes_of(std::span(weight).subspan(2), 1),
          .stride = attribute("stride", 1),
          .padding = attribute("padding", 0),
          .dilation = attribute("dilation", 1),
          .groups = graph::int_attr(b.op(), "groups")};
}

numerics::ImageOperand image(const StepContext& context, const View& view) {
  numerics::ImageOperand operand{context.storage(view), {}};
  std::copy(view.strides.begin(), view.strides.end(), operand.stride.begin());
  return operand;
}

// Cuts of the reduce loops of the nest: `first` and the last `spatial` of the axes; with cuts for
// the axes that as_volume adds.
numerics::ReduceCuts volume_cuts(const Builder& b, std::string_view stage, std::int64_t first,
                                 const numerics::Axes& axes, std::size_t spatial) {
  Shape extents{first};
  extents.insert(extents.end(), axes.end() - static_cast<std::ptrdiff_t>(spatial), axes.end());
  numerics::ReduceCuts cuts = b.cuts(b.stage(stage), extents);
  if (!cuts.block.empty()) {
    cuts.block.insert(cuts.block.begin() + 1, 3 - spatial, 1);
    cuts.run.insert(cuts.run.begin() + 1, 3 - spatial, 1);
  }
  return cuts;
}

using ImageKernel = void (*)(ThreadPool&, const numerics::ConvolutionShape&,
                             const numerics::ImageOperand&, const numerics::ImageOperand&,
                             const numerics::ReduceCuts&, float*, numerics::Isa,
                             numerics::ProductUnit);

void forward_kernel(ThreadPool& pool, const numerics::ConvolutionShape& shape,
                    const numerics::ImageOperand& input, const numerics::ImageOperand& weight,
                    const numerics::ReduceCuts& cuts, float* out, numerics::Isa isa,
                    numerics::ProductUnit unit) {
  numerics::convolution(pool, shape, input, weight, cuts, nullptr, numerics::Activation::None, out,
                        isa, unit);
}

void input_gradient_kernel(ThreadPool& pool, const numerics::ConvolutionShape& shape,
                           const numerics::ImageOperand& gradient,
                           const numerics::ImageOperand& weight, const numerics::ReduceCuts& cuts,
                           float* out, numerics::Isa isa, numerics::ProductUnit unit) {
  numerics::convolution_input_gradient(pool, shape, gradient, weight, cuts, out, isa, unit);
}

// A kernel whose first operand and result are images of the batch.
void per_image(Builder& b, ImageKernel kernel, const numerics::ConvolutionShape& shape,
               const numerics::ReduceCuts& cuts, const View& images, const View& weight,
               const View& out) {
  RowProducer producer;
  producer.rows = shape.batch;
  producer.row_elements = out.elements() / shape.batch;
  producer.produce = [=](const StepContext& context, std::int64_t begin, std::int64_t end,
                         float* data) {
    numerics::ConvolutionShape part = shape;
    part.batch = end - begin;
    numerics::ImageOperand operand = image(context, images);
    operand.storage.offset += begin * operand.stride[0];
    kernel(*context.pool, part, operand, image(context, weight), cuts, data, context.isa,
           context.unit);
  };
  b.rows({images, weight}, out, std::move(producer));
}

Result<void> convolution(Builder& b) {
  const numerics::ConvolutionShape shape = convolution_shape(b, b.in_shape(0), b.in_shape(1));
  const numerics::ReduceCuts cuts =
      volume_cuts(b, "", shape.group_in(), shape.kernel, b.in_shape(0).size() - 2);
  const bool has_bias_operand = b.has_in(2);
  const View made = has_bias_operand ? b.temporary(b.out_value(0).shape) : b.target(0);
  per_image(b, forward_kernel, shape, cuts, as_volume(factor(b, 0)), as_volume(factor(b, 1)), made);
  if (has_bias_operand) {
    View bias = b.in(2);
    while (bias.shape.size() + 1 < made.shape.size()) {
      bias = unsqueezed(bias, static_cast<std::int64_t>(bias.shape.size()));
    }
    b.map(kernels::add, {made, bias}, {b.out(0)});
  } else {
    b.finish(0, made);
  }
  return {};
}

Result<void> conv_input_grad(Builder& b) {
  const numerics::ConvolutionShape shape =
      convolution_shape(b, b.out_value(0).shape, b.in_shape(1));
  const numerics::ReduceCuts cuts =
      volume_cuts(b, "input", shape.group_out(), shape.kernel, b.in_shape(0).size() - 2);
  const View made = b.target(0);
  per_image(b, input_gradient_kernel, shape, cuts, as_volume(factor(b, 0)), as_volume(factor(b, 1)),
            made);
  b.finish(0, made);
  return {};
}

Result<void> conv_weight_grad(Builder& b) {
  const numerics::ConvolutionShape shape =
      convolution_shape(b, b.in_shape(1), b.out_value(0).shape);
  const numerics::ReduceCuts cuts =
      volume_cuts(b, "weight", shape.batch, shape.out_size(), b.in_shape(0).size() - 2);
  const View gradient = as_volume(factor(b, 0));
  const View input = as_volume(factor(b, 1));
  const View made = b.target(0);
  b.whole({gradient, input}, {made}, [=](const StepContext& context) -> Result<void> {
    numerics::convolution_weight_gradient(*context.pool, shape, image(context, gradient),
                                          image(context, input), cuts, context.at<float>(made),
                                          context.isa, context.unit);
    return {};
  });
  b.finish(0, made);
  return {};
}

}  // namespace

void add_matrix_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.mm", matmul},
      {"aten.bmm", matmul},
      {"aten.addmm", matmul_plus},
      {"aten.baddbmm", matmul_plus},
      {"aten.convolution", internal::convolution},
      {"dojo.conv_input_grad", conv_input_grad},
      {"dojo.conv_weight_grad", conv_weight_grad},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
