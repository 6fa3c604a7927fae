// Convolution over up to three spatial axes with zero padding, stride, dilation and groups: forward
// and both gradients, each in one stated order (association.h), products folded by fma from +0.
// Reduce loops, outermost first:
//   forward          c, kz, ky, kx   (c within the group)
//   input gradient   o, kz, ky, kx   (o within the group)
//   weight gradient  n, z, y, x      (z, y, x of the output)
// Images of two axes or one have extent 1 along z, or z and y: the loops over them are then no cut.
// A point whose image operand falls into the padding is a point like any other, with operand +0.
// In the input gradient, a tap (kz, ky, kx) that meets this input position at no output position
// for any size of output (the stride does not divide the distance) is no point; a part without
// points is +0.
#pragma once

#include <array>
#include <cstdint>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/association.h"
#include "dojo/numerics/gemm.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/product_unit.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics {

using Axes = std::array<std::int64_t, 3>;  // z, y, x

struct ConvolutionShape {
  std::int64_t batch = 1;
  std::int64_t channels_in = 1;   // of all groups
  std::int64_t channels_out = 1;  // of all groups
  Axes size{1, 1, 1};             // of the input
  Axes kernel{1, 1, 1};
  Axes stride{1, 1, 1};
  Axes padding{0, 0, 0};  // on both sides
  Axes dilation{1, 1, 1};
  std::int64_t groups = 1;

  constexpr Axes out_size() const {
    Axes out{};
    for (std::size_t a = 0; a < 3; ++a) {
      out[a] = (size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) / stride[a] + 1;
    }
    return out;
  }
  constexpr std::int64_t group_in() const { return channels_in / groups; }
  constexpr std::int64_t group_out() const { return channels_out / groups; }
};

constexpr std::int64_t volume(const Axes& size) { return size[0] * size[1] * size[2]; }

// A tensor of five dimensions: images n, c, z, y, x; weights o, c (within the group), kz, ky, kx.
using ImageStrides = std::array<std::int64_t, 5>;
struct ImageOperand {
  Storage storage{};
  ImageStrides stride{};
};

// Strides of a contiguous tensor of `channels` and `size` in its last four dimensions.
constexpr ImageStrides contiguous_strides(std::int64_t channels, const Axes& size) {
  return {channels * volume(size), volume(size), size[1] * size[2], size[2], 1};
}

// Below, `isa` and `unit` are what to use where it changes no bit; they are given to test and to
// time the others.

// out: contiguous [batch, channels_out, out_size]. `bias`: one value per output
// channel or nullptr, added to the sum with one rounding.
void convolution(ThreadPool& pool, const ConvolutionShape& shape, const ImageOperand& input,
                 const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                 Activation activation, float* out, Isa isa = best_isa(),
                 ProductUnit unit = product_unit().unit);

// out: contiguous [batch, channels_in, size].
void convolution_input_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                const ImageOperand& output_gradient, const ImageOperand& weight,
                                const ReduceCuts& cuts, float* out, Isa isa = best_isa(),
                                ProductUnit unit = product_unit().unit);

// out: contiguous [channels_out, channels_in / groups, kernel].
void convolution_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                 const ImageOperand& output_gradient, const ImageOperand& input,
                                 const ReduceCuts& cuts, float* out, Isa isa = best_isa(),
                                 ProductUnit unit = product_unit().unit);

}  // namespace dojo::numerics
