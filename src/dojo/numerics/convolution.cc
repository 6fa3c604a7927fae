#include "dojo/numerics/convolution.h"

#include <optional>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/convolution_kernels_avx2.h"
#include "dojo/numerics/internal/convolution_kernels_avx512.h"
#include "dojo/numerics/internal/sliding_convolution.h"
#include "dojo/numerics/internal/value_range.h"
#include "dojo/numerics/internal/weight_gradient.h"
#include "dojo/numerics/internal/weight_gradient_plan.h"

namespace dojo::numerics {
namespace {

class ImageReader {
 public:
  explicit ImageReader(const ImageOperand& operand)
      : read_(operand.storage), stride_(operand.stride) {}
  float operator()(std::int64_t i, std::int64_t j, const Axes& at) const {
    return read_(i * stride_[0] + j * stride_[1] + at[0] * stride_[2] + at[1] * stride_[3] +
                 at[2] * stride_[4]);
  }

 private:
  ElementReader read_;
  ImageStrides stride_;
};

bool is_inside(const Axes& at, const Axes& size) {
  bool inside = true;
  for (std::size_t a = 0; a < 3; ++a) {
    inside = inside && at[a] >= 0 && at[a] < size[a];
  }
  return inside;
}

void check_shape(const ConvolutionShape& s) {
  DOJO_CHECK(s.groups >= 1 && s.channels_in % s.groups == 0 && s.channels_out % s.groups == 0);
  for (std::size_t a = 0; a < 3; ++a) {
    DOJO_CHECK(s.stride[a] >= 1 && s.dilation[a] >= 1 && s.padding[a] >= 0);
    DOJO_CHECK(s.out_size()[a] >= 1);
  }
}

using Point = std::span<const std::int64_t>;

Axes position_of(std::int64_t index, const Axes& size) {
  return {index / (size[1] * size[2]), index / size[2] % size[1], index % size[2]};
}

// The last three loops of a reduction.
Axes axes_of(Point k) { return {k[1], k[2], k[3]}; }

std::array<std::int64_t, 4> loops(std::int64_t outermost, const Axes& rest) {
  return {outermost, rest[0], rest[1], rest[2]};
}

// Where the input lies that filter tap `tap` reads for output `at`; it may be in the padding.
Axes input_of(const ConvolutionShape& s, const Axes& at, const Axes& tap) {
  Axes in{};
  for (std::size_t a = 0; a < 3; ++a) {
    in[a] = at[a] * s.stride[a] - s.padding[a] + tap[a] * s.dilation[a];
  }
  return in;
}

// The output that reads input `at` through `tap`, if the strides allow for one; it may lie outside.
std::optional<Axes> output_of(const ConvolutionShape& s, const Axes& at, const Axes& tap) {
  Axes out{};
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t distance = at[a] + s.padding[a] - tap[a] * s.dilation[a];
    if (distance % s.stride[a] != 0) {
      return std::nullopt;
    }
    out[a] = distance / s.stride[a];
  }
  return out;
}

void forward_plain(ThreadPool& pool, const ConvolutionShape& s, const ImageOperand& input,
                   const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                   Activation activation, float* out) {
  const ImageReader read_input(input);
  const ImageReader read_weight(weight);
  const std::array<std::int64_t, 4> extent = loops(s.group_in(), s.kernel);
  const Axes out_size = s.out_size();
  pool.parallel_for(s.batch * s.channels_out, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t n = plane / s.channels_out;
      const std::int64_t o = plane % s.channels_out;
      const std::int64_t first_channel = o / s.group_out() * s.group_in();
      for (std::int64_t i = 0; i < volume(out_size); ++i) {
        const Axes at = position_of(i, out_size);
        float sum = sum_products(extent, cuts, [&](auto& acc, Point k) {
          const Axes tap = axes_of(k);
          const Axes from = input_of(s, at, tap);
          const float pixel =
              is_inside(from, s.size) ? read_input(n, first_channel + k[0], from) : 0.0F;
          acc.add(read_weight(o, k[0], tap), pixel);
        });
        sum = bias != nullptr ? sum + bias[o] : sum;
        out[plane * volume(out_size) + i] = activation == Activation::Relu ? relu(sum) : sum;
      }
    }
  });
}

void input_gradient_plain(ThreadPool& pool, const ConvolutionShape& s,
                          const ImageOperand& output_gradient, const ImageOperand& weight,
                          const ReduceCuts& cuts, float* out) {
  const ImageReader read_gradient(output_gradient);
  const ImageReader read_weight(weight);
  const std::array<std::int64_t, 4> extent = loops(s.group_out(), s.kernel);
  const Axes out_size = s.out_size();
  pool.parallel_for(s.batch * s.channels_in, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t n = plane / s.channels_in;
      const std::int64_t c = plane % s.channels_in;
      const std::int64_t first_channel = c / s.group_in() * s.group_out();
      for (std::int64_t i = 0; i < volume(s.size); ++i) {
        const Axes at = position_of(i, s.size);
        out[plane * volume(s.size) + i] = sum_products(extent, cuts, [&](auto& acc, Point k) {
          const Axes tap = axes_of(k);
          const std::optional<Axes> from = output_of(s, at, tap);
          if (!from.has_value()) {
            return;
          }
          const float gradient =
              is_inside(*from, out_size) ? read_gradient(n, first_channel + k[0], *from) : 0.0F;
          acc.add(read_weight(first_channel + k[0], c % s.group_in(), tap), gradient);
        });
      }
    }
  });
}

void weight_gradient_plain(ThreadPool& pool, const ConvolutionShape& s,
                           const ImageOperand& output_gradient, const ImageOperand& input,
                           const ReduceCuts& cuts, float* out) {
  const ImageReader read_gradient(output_gradient);
  const ImageReader read_input(input);
  const std::array<std::int64_t, 4> extent = loops(s.batch, s.out_size());
  pool.parallel_for(s.channels_out * s.group_in(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t filter = begin; filter < end; ++filter) {
      const std::int64_t o = filter / s.group_in();
      const std::int64_t c = o / s.group_out() * s.group_in() + filter % s.group_in();
      for (std::int64_t i = 0; i < volume(s.kernel); ++i) {
        const Axes tap = position_of(i, s.kernel);
        out[filter * volume(s.kernel) + i] = sum_products(extent, cuts, [&](auto& acc, Point k) {
          const Axes at = axes_of(k);
          const Axes from = input_of(s, at, tap);
          const float pixel = is_inside(from, s.size) ? read_input(k[0], c, from) : 0.0F;
          acc.add(read_gradient(k[0], o, at), pixel);
        });
      }
    }
  });
}

// The vector paths want an output and a point in its sum; where there is none, the plain loop says
// what the result is.
bool is_empty(const ConvolutionShape& s) {
  return s.batch == 0 || s.channels_in == 0 || s.channels_out == 0 || volume(s.size) == 0;
}

// Extents of an operand and where it lies.
struct Image {
  const ImageOperand& operand;
  std::int64_t outer = 0;
  std::int64_t channels = 0;
  Axes size{};
};

internal::ValueRange range_of(ThreadPool& pool, const Image& image) {
  const ImageStrides& s = image.operand.stride;
  const MatrixOperand rows{image.operand.storage, s[3], s[4], {s[0], s[1], s[2]}};
  return internal::value_range(pool, rows, image.size[1], image.size[2],
                               {image.outer, image.channels, image.size[0]},
                               internal::Specials::Ignore);
}

bool takes_dot(ThreadPool& pool, const Image& a, const Image& b, std::int64_t points,
               SumOrder order, ProductUnit unit) {
  if (unit != ProductUnit::Bf16Dot || !product_unit().can_use_dot ||
      order != SumOrder::Sequential || !internal::is_exact_in_bf16(a.operand.storage.type.format) ||
      !internal::is_exact_in_bf16(b.operand.storage.type.format)) {
    return false;
  }
  return internal::fits_bf16_dot(range_of(pool, a), range_of(pool, b), points);
}

// The products of a vector path, or none for the plain one.
std::optional<internal::Products> products_of(ThreadPool& pool, const ConvolutionShape& shape,
                                              const Image& a, const Image& b, std::int64_t points,
                                              SumOrder order, Isa isa, ProductUnit unit) {
  if (isa == Isa::Plain || order == SumOrder::Exact || is_empty(shape)) {
    return std::nullopt;
  }
  if (isa == Isa::Avx2) {
    return internal::Products{&avx2::convolution_kernels(), internal::fold_of(order, false)};
  }
  const bool has_pairs = takes_dot(pool, a, b, points, order, unit);
  return internal::Products{&avx512::convolution_kernels(), internal::fold_of(order, has_pairs)};
}

}  // namespace

void convolution(ThreadPool& pool, const ConvolutionShape& shape, const ImageOperand& input,
                 const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                 Activation activation, float* out, Isa isa, ProductUnit unit) {
  check_shape(shape);
  const std::optional<internal::Products> products =
      products_of(pool, shape, {input, shape.batch, shape.channels_in, shape.size},
                  {weight, shape.channels_out, shape.group_in(), shape.kernel},
                  shape.group_in() * volume(shape.kernel), cuts.order, isa, unit);
  if (products.has_value()) {
    internal::run_sliding(pool, internal::forward_plan(shape, input, weight, cuts, *products), bias,
                          activation, out);
    return;
  }
  forward_plain(pool, shape, input, weight, cuts, bias, activation, out);
}

void convolution_input_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                const ImageOperand& output_gradient, const ImageOperand& weight,
                                const ReduceCuts& cuts, float* out, Isa isa, ProductUnit unit) {
  check_shape(shape);
  const std::optional<internal::Products> products =
      products_of(pool, shape, {output_gradient, shape.batch, shape.channels_out, shape.out_size()},
                  {weight, shape.channels_out, shape.group_in(), shape.kernel},
                  shape.group_out() * volume(shape.kernel), cuts.order, isa, unit);
  if (products.has_value()) {
    internal::run_sliding(
        pool, internal::input_gradient_plan(shape, output_gradient, weight, cuts, *products),
        nullptr, Activation::None, out);
    return;
  }
  input_gradient_plain(pool, shape, output_gradient, weight, cuts, out);
}

void convolution_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                 const ImageOperand& output_gradient, const ImageOperand& input,
                                 const ReduceCuts& cuts, float* out, Isa isa, ProductUnit unit) {
  check_shape(shape);
  const std::optional<internal::Products> products =
      products_of(pool, shape, {output_gradient, shape.batch, shape.channels_out, shape.out_size()},
                  {input, shape.batch, shape.channels_in, shape.size},
                  shape.batch * volume(shape.out_size()), cuts.order, isa, unit);
  if (products.has_value()) {
    internal::run_weight_gradient(pool, shape, output_gradient, input, cuts, *products, out);
    return;
  }
  weight_gradient_plain(pool, shape, output_gradient, input, cuts, out);
}

}  // namespace dojo::numerics
