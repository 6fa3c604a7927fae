// 2-D convolution with zero padding, stride, dilation and groups: forward and both gradients, each
// in one stated order (association.h), products folded by fma from +0. Reduce loops, outermost
// first:
//   forward          c, ky, kx   (c within the group)
//   input gradient   o, ky, kx   (o within the group)
//   weight gradient  n, y, x     (y, x of the output)
// A point whose image operand falls into the padding is a point like any other, with operand +0.
// In the input gradient, a pair (ky, kx) that meets this input position at no output position for
// any size of output (the stride does not divide the distance) is no point; a part without points
// is +0.
#pragma once

#include <array>
#include <cstdint>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/association.h"
#include "dojo/numerics/gemm.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics {

struct ConvolutionShape {
  std::int64_t batch = 1;
  std::int64_t channels_in = 1;   // of all groups
  std::int64_t channels_out = 1;  // of all groups
  std::int64_t height = 1;        // of the input
  std::int64_t width = 1;
  std::int64_t kernel_height = 1;
  std::int64_t kernel_width = 1;
  std::int64_t stride_y = 1;
  std::int64_t stride_x = 1;
  std::int64_t padding_y = 0;  // on both sides
  std::int64_t padding_x = 0;
  std::int64_t dilation_y = 1;
  std::int64_t dilation_x = 1;
  std::int64_t groups = 1;

  constexpr std::int64_t out_height() const {
    return (height + 2 * padding_y - dilation_y * (kernel_height - 1) - 1) / stride_y + 1;
  }
  constexpr std::int64_t out_width() const {
    return (width + 2 * padding_x - dilation_x * (kernel_width - 1) - 1) / stride_x + 1;
  }
  constexpr std::int64_t group_in() const { return channels_in / groups; }
  constexpr std::int64_t group_out() const { return channels_out / groups; }
};

// A tensor of four dimensions: images n, c, y, x; weights o, c (within the group), ky, kx.
struct ImageOperand {
  Storage storage{};
  std::array<std::int64_t, 4> stride{};
};

// Strides of a contiguous tensor of these extents.
constexpr std::array<std::int64_t, 4> contiguous_strides(std::array<std::int64_t, 4> extent) {
  return {extent[1] * extent[2] * extent[3], extent[2] * extent[3], extent[3], 1};
}

// out: contiguous [batch, channels_out, out_height, out_width]. `bias`: one value per output
// channel or nullptr, added to the sum with one rounding.
void convolution(ThreadPool& pool, const ConvolutionShape& shape, const ImageOperand& input,
                 const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                 Activation activation, float* out, Isa isa = best_isa());

// out: contiguous [batch, channels_in, height, width].
void convolution_input_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                const ImageOperand& output_gradient, const ImageOperand& weight,
                                const ReduceCuts& cuts, float* out, Isa isa = best_isa());

// out: contiguous [channels_out, channels_in / groups, kernel_height, kernel_width].
void convolution_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                 const ImageOperand& output_gradient, const ImageOperand& input,
                                 const ReduceCuts& cuts, float* out, Isa isa = best_isa());

}  // namespace dojo::numerics
