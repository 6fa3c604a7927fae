#include "dojo/numerics/convolution.h"

#include <cmath>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/convolution_avx512.h"

namespace dojo::numerics {
namespace {

class ImageReader {
 public:
  explicit ImageReader(const ImageOperand& operand)
      : read_(operand.storage), stride_(operand.stride) {}
  float operator()(std::int64_t i, std::int64_t j, std::int64_t y, std::int64_t x) const {
    return read_(i * stride_[0] + j * stride_[1] + y * stride_[2] + x * stride_[3]);
  }

 private:
  ElementReader read_;
  std::array<std::int64_t, 4> stride_;
};

bool is_inside(std::int64_t at, std::int64_t extent) { return at >= 0 && at < extent; }

void check_shape(const ConvolutionShape& s) {
  DOJO_CHECK(s.groups >= 1 && s.channels_in % s.groups == 0 && s.channels_out % s.groups == 0);
  DOJO_CHECK(s.stride_y >= 1 && s.stride_x >= 1 && s.dilation_y >= 1 && s.dilation_x >= 1);
  DOJO_CHECK(s.padding_y >= 0 && s.padding_x >= 0);
  DOJO_CHECK(s.out_height() >= 1 && s.out_width() >= 1);
}

// The vector paths want an output and a point in its sum; where there is none, the plain loop says
// what the result is.
bool is_empty(const ConvolutionShape& s) {
  return s.batch == 0 || s.channels_in == 0 || s.channels_out == 0 || s.height == 0 || s.width == 0;
}

using Point = std::span<const std::int64_t>;

void forward_plain(ThreadPool& pool, const ConvolutionShape& s, const ImageOperand& input,
                   const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                   Activation activation, float* out) {
  const ImageReader read_input(input);
  const ImageReader read_weight(weight);
  const std::array<std::int64_t, 3> extent{s.group_in(), s.kernel_height, s.kernel_width};
  const std::int64_t height = s.out_height();
  const std::int64_t width = s.out_width();
  pool.parallel_for(s.batch * s.channels_out, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t n = plane / s.channels_out;
      const std::int64_t o = plane % s.channels_out;
      const std::int64_t first_channel = o / s.group_out() * s.group_in();
      for (std::int64_t at = 0; at < height * width; ++at) {
        const std::int64_t top = at / width * s.stride_y - s.padding_y;
        const std::int64_t left = at % width * s.stride_x - s.padding_x;
        float sum = sum_in_order(extent, cuts, [&](float acc, Point k) {
          const std::int64_t y = top + k[1] * s.dilation_y;
          const std::int64_t x = left + k[2] * s.dilation_x;
          const float pixel = is_inside(y, s.height) && is_inside(x, s.width)
                                  ? read_input(n, first_channel + k[0], y, x)
                                  : 0.0F;
          return std::fma(read_weight(o, k[0], k[1], k[2]), pixel, acc);
        });
        sum = bias != nullptr ? sum + bias[o] : sum;
        out[plane * height * width + at] = activation == Activation::Relu ? relu(sum) : sum;
      }
    }
  });
}

void input_gradient_plain(ThreadPool& pool, const ConvolutionShape& s,
                          const ImageOperand& output_gradient, const ImageOperand& weight,
                          const ReduceCuts& cuts, float* out) {
  const ImageReader read_gradient(output_gradient);
  const ImageReader read_weight(weight);
  const std::array<std::int64_t, 3> extent{s.group_out(), s.kernel_height, s.kernel_width};
  pool.parallel_for(s.batch * s.channels_in, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t n = plane / s.channels_in;
      const std::int64_t c = plane % s.channels_in;
      const std::int64_t first_channel = c / s.group_in() * s.group_out();
      for (std::int64_t at = 0; at < s.height * s.width; ++at) {
        const std::int64_t bottom = at / s.width + s.padding_y;
        const std::int64_t right = at % s.width + s.padding_x;
        out[plane * s.height * s.width + at] = sum_in_order(extent, cuts, [&](float acc, Point k) {
          const std::int64_t y = bottom - k[1] * s.dilation_y;
          const std::int64_t x = right - k[2] * s.dilation_x;
          if (y % s.stride_y != 0 || x % s.stride_x != 0) {
            return acc;
          }
          const bool inside = is_inside(y / s.stride_y, s.out_height()) && y >= 0 &&
                              is_inside(x / s.stride_x, s.out_width()) && x >= 0;
          const float gradient =
              inside ? read_gradient(n, first_channel + k[0], y / s.stride_y, x / s.stride_x)
                     : 0.0F;
          return std::fma(read_weight(first_channel + k[0], c % s.group_in(), k[1], k[2]), gradient,
                          acc);
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
  const std::array<std::int64_t, 3> extent{s.batch, s.out_height(), s.out_width()};
  const std::int64_t taps = s.kernel_height * s.kernel_width;
  pool.parallel_for(s.channels_out * s.group_in(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t filter = begin; filter < end; ++filter) {
      const std::int64_t o = filter / s.group_in();
      const std::int64_t c = o / s.group_out() * s.group_in() + filter % s.group_in();
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        const std::int64_t top = tap / s.kernel_width * s.dilation_y - s.padding_y;
        const std::int64_t left = tap % s.kernel_width * s.dilation_x - s.padding_x;
        out[filter * taps + tap] = sum_in_order(extent, cuts, [&](float acc, Point k) {
          const std::int64_t y = top + k[1] * s.stride_y;
          const std::int64_t x = left + k[2] * s.stride_x;
          const float pixel =
              is_inside(y, s.height) && is_inside(x, s.width) ? read_input(k[0], c, y, x) : 0.0F;
          return std::fma(read_gradient(k[0], o, k[1], k[2]), pixel, acc);
        });
      }
    }
  });
}

}  // namespace

void convolution(ThreadPool& pool, const ConvolutionShape& shape, const ImageOperand& input,
                 const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                 Activation activation, float* out, Isa isa) {
  check_shape(shape);
  if (isa == Isa::Avx512 && !is_empty(shape)) {
    avx512::convolution(pool, shape, input, weight, cuts, bias, activation, out);
    return;
  }
  forward_plain(pool, shape, input, weight, cuts, bias, activation, out);
}

void convolution_input_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                const ImageOperand& output_gradient, const ImageOperand& weight,
                                const ReduceCuts& cuts, float* out, Isa isa) {
  check_shape(shape);
  if (isa == Isa::Avx512 && !is_empty(shape)) {
    avx512::convolution_input_gradient(pool, shape, output_gradient, weight, cuts, out);
    return;
  }
  input_gradient_plain(pool, shape, output_gradient, weight, cuts, out);
}

void convolution_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                 const ImageOperand& output_gradient, const ImageOperand& input,
                                 const ReduceCuts& cuts, float* out, Isa isa) {
  check_shape(shape);
  if (isa == Isa::Avx512 && !is_empty(shape)) {
    avx512::convolution_weight_gradient(pool, shape, output_gradient, input, cuts, out);
    return;
  }
  weight_gradient_plain(pool, shape, output_gradient, input, cuts, out);
}

}  // namespace dojo::numerics
