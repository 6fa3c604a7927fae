#include "dojo/numerics/convolution.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::are_same;
using testing::Elements;
using testing::isas;
using testing::kNoAvx512;
using testing::Random;

using Extents = std::array<std::int64_t, 4>;

std::int64_t volume(const Extents& e) { return e[0] * e[1] * e[2] * e[3]; }

struct Tensor {
  Extents extent;
  Elements elements;
  ImageOperand operand;

  float at(std::int64_t i, std::int64_t j, std::int64_t y, std::int64_t x) const {
    const Extents& s = operand.stride;
    return ElementReader(operand.storage)(i * s[0] + j * s[1] + y * s[2] + x * s[3]);
  }
  bool has(std::int64_t y, std::int64_t x) const {
    return y >= 0 && y < extent[2] && x >= 0 && x < extent[3];
  }
};

// Contiguous, channel-last, or with gaps.
void make(Random& random, const Extents& extent, Format format, Tensor& tensor) {
  const std::int64_t offset = random.between(0, 3);
  tensor.extent = extent;
  tensor.elements = testing::hard_elements(random, format, 2 * volume(extent) + offset);
  tensor.operand = {tensor.elements.storage(offset), contiguous_strides(extent)};
  if (random.one_in(4)) {
    tensor.operand.stride = {extent[1] * extent[2] * extent[3], 1, extent[3] * extent[1],
                             extent[1]};
  } else if (random.one_in(4)) {
    for (std::int64_t& stride : tensor.operand.stride) {
      stride *= 2;
    }
  }
}

struct Case {
  ConvolutionShape shape;
  Tensor input;
  Tensor weight;
  Tensor gradient;
  std::vector<float> bias;
  bool has_bias = false;
  Activation activation = Activation::None;
  ReduceCuts forward_cuts;
  ReduceCuts input_cuts;
  ReduceCuts weight_cuts;
};

bool is_possible(const ConvolutionShape& s) {
  return s.height + 2 * s.padding_y > s.dilation_y * (s.kernel_height - 1) &&
         s.width + 2 * s.padding_x > s.dilation_x * (s.kernel_width - 1);
}

void make(Random& random, std::int64_t channels, std::int64_t size, Case& c) {
  ConvolutionShape& s = c.shape;
  do {
    s.groups = random.one_in(3) ? random.between(2, 3) : 1;
    s.channels_in = s.groups * random.between(1, channels);
    s.channels_out = s.groups * random.between(1, channels);
    s.batch = random.between(1, 4);
    s.height = random.between(1, size);
    s.width = random.between(1, size);
    s.kernel_height = random.between(1, 5);
    s.kernel_width = random.between(1, 5);
    s.stride_y = random.between(1, 3);
    s.stride_x = random.between(1, 3);
    s.dilation_y = random.between(1, 2);
    s.dilation_x = random.between(1, 2);
    s.padding_y = random.between(0, 3);
    s.padding_x = random.between(0, 3);
  } while (!is_possible(s));
  make(random, {s.batch, s.channels_in, s.height, s.width}, testing::any_format(random), c.input);
  make(random, {s.channels_out, s.group_in(), s.kernel_height, s.kernel_width},
       testing::any_format(random), c.weight);
  make(random, {s.batch, s.channels_out, s.out_height(), s.out_width()},
       testing::any_format(random), c.gradient);
  for (std::int64_t o = 0; o < s.channels_out; ++o) {
    c.bias.push_back(testing::hard_value(random, 0));
  }
  c.has_bias = random.one_in(2);
  c.activation = random.one_in(2) ? Activation::Relu : Activation::None;
  const std::array forward{s.group_in(), s.kernel_height, s.kernel_width};
  const std::array input{s.group_out(), s.kernel_height, s.kernel_width};
  const std::array weight{s.batch, s.out_height(), s.out_width()};
  c.forward_cuts = testing::any_cuts(random, forward);
  c.input_cuts = testing::any_cuts(random, input);
  c.weight_cuts = testing::any_cuts(random, weight);
}

std::vector<float> sized(const Extents& extent) {
  return std::vector<float>(static_cast<std::size_t>(volume(extent)), -7.0F);
}

std::vector<float> forward(const Case& c, int threads, Isa isa) {
  ThreadPool pool(threads);
  std::vector<float> out = sized(c.gradient.extent);
  convolution(pool, c.shape, c.input.operand, c.weight.operand, c.forward_cuts,
              c.has_bias ? c.bias.data() : nullptr, c.activation, out.data(), isa);
  return out;
}

std::vector<float> input_gradient(const Case& c, int threads, Isa isa) {
  ThreadPool pool(threads);
  std::vector<float> out = sized(c.input.extent);
  convolution_input_gradient(pool, c.shape, c.gradient.operand, c.weight.operand, c.input_cuts,
                             out.data(), isa);
  return out;
}

std::vector<float> weight_gradient(const Case& c, int threads, Isa isa) {
  ThreadPool pool(threads);
  std::vector<float> out = sized(c.weight.extent);
  convolution_weight_gradient(pool, c.shape, c.gradient.operand, c.input.operand, c.weight_cuts,
                              out.data(), isa);
  return out;
}

template <class Body>
std::vector<float> for_each_element(const Extents& e, const Body& body) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < e[0]; ++i) {
    for (std::int64_t j = 0; j < e[1]; ++j) {
      for (std::int64_t y = 0; y < e[2]; ++y) {
        for (std::int64_t x = 0; x < e[3]; ++x) {
          out.push_back(body(i, j, y, x));
        }
      }
    }
  }
  return out;
}

using At = std::vector<std::int64_t>;

std::vector<float> forward_long_hand(const Case& c) {
  const ConvolutionShape& s = c.shape;
  return for_each_element(c.gradient.extent, [&](auto n, auto o, auto oy, auto ox) {
    const float sum = testing::sum_long_hand(
        {s.group_in(), s.kernel_height, s.kernel_width}, c.forward_cuts,
        [&](float acc, const At& k) {
          const std::int64_t channel = o / s.group_out() * s.group_in() + k[0];
          const std::int64_t y = oy * s.stride_y - s.padding_y + k[1] * s.dilation_y;
          const std::int64_t x = ox * s.stride_x - s.padding_x + k[2] * s.dilation_x;
          const float pixel = c.input.has(y, x) ? c.input.at(n, channel, y, x) : 0.0F;
          return std::fma(pixel, c.weight.at(o, k[0], k[1], k[2]), acc);
        });
    const float biased = c.has_bias ? sum + c.bias[static_cast<std::size_t>(o)] : sum;
    return c.activation == Activation::Relu && !(biased > 0) ? 0.0F : biased;
  });
}

// From the forward map: visits the output positions and asks which of them read this input.
std::vector<float> input_gradient_long_hand(const Case& c) {
  const ConvolutionShape& s = c.shape;
  return for_each_element(c.input.extent, [&](auto n, auto channel, auto y, auto x) {
    const std::int64_t group = channel / s.group_in();
    return testing::sum_long_hand(
        {s.group_out(), s.kernel_height, s.kernel_width}, c.input_cuts,
        [&](float acc, const At& k) {
          const std::int64_t o = group * s.group_out() + k[0];
          for (std::int64_t oy = -20; oy < s.out_height() + 20; ++oy) {
            for (std::int64_t ox = -20; ox < s.out_width() + 20; ++ox) {
              if (oy * s.stride_y - s.padding_y + k[1] * s.dilation_y == y &&
                  ox * s.stride_x - s.padding_x + k[2] * s.dilation_x == x) {
                const float gradient = c.gradient.has(oy, ox) ? c.gradient.at(n, o, oy, ox) : 0.0F;
                return std::fma(gradient, c.weight.at(o, channel % s.group_in(), k[1], k[2]), acc);
              }
            }
          }
          return acc;
        });
  });
}

std::vector<float> weight_gradient_long_hand(const Case& c) {
  const ConvolutionShape& s = c.shape;
  return for_each_element(c.weight.extent, [&](auto o, auto channel, auto ky, auto kx) {
    return testing::sum_long_hand(
        {s.batch, s.out_height(), s.out_width()}, c.weight_cuts, [&](float acc, const At& k) {
          const std::int64_t y = k[1] * s.stride_y - s.padding_y + ky * s.dilation_y;
          const std::int64_t x = k[2] * s.stride_x - s.padding_x + kx * s.dilation_x;
          const std::int64_t from = o / s.group_out() * s.group_in() + channel;
          const float pixel = c.input.has(y, x) ? c.input.at(k[0], from, y, x) : 0.0F;
          return std::fma(c.gradient.at(k[0], o, k[1], k[2]), pixel, acc);
        });
  });
}

TEST(Convolution, EqualsTheLongHandSums) {
  Random random(51);
  for (int i = 0; i < 40; ++i) {
    Case c;
    make(random, 3, 7, c);
    const std::vector<float> y = forward_long_hand(c);
    const std::vector<float> dx = input_gradient_long_hand(c);
    const std::vector<float> dw = weight_gradient_long_hand(c);
    for (const Isa isa : isas()) {
      EXPECT_TRUE(are_same(forward(c, 1, isa), y)) << "case " << i << " " << name_of(isa);
      EXPECT_TRUE(are_same(input_gradient(c, 1, isa), dx)) << "case " << i << " " << name_of(isa);
      EXPECT_TRUE(are_same(weight_gradient(c, 1, isa), dw)) << "case " << i << " " << name_of(isa);
    }
  }
}

void expect_paths_agree(const Case& c, int number) {
  const std::vector<float> y = forward(c, 1, Isa::Plain);
  const std::vector<float> dx = input_gradient(c, 1, Isa::Plain);
  const std::vector<float> dw = weight_gradient(c, 1, Isa::Plain);
  for (const int threads : {1, 2}) {
    EXPECT_TRUE(are_same(forward(c, threads, Isa::Avx512), y)) << "case " << number;
    EXPECT_TRUE(are_same(input_gradient(c, threads, Isa::Avx512), dx)) << "case " << number;
    EXPECT_TRUE(are_same(weight_gradient(c, threads, Isa::Avx512), dw)) << "case " << number;
  }
}

TEST(Convolution, PathsAndThreadsAgreeOnHardOperands) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  Random random(52);
  for (int i = 0; i < 150; ++i) {
    Case c;
    make(random, i % 8 == 0 ? 20 : 5, i % 6 == 0 ? 40 : 12, c);
    expect_paths_agree(c, i);
  }
}

TEST(Convolution, PathsAgreeWhereTheReductionSpansSeveralChunks) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  Random random(53);
  for (int i = 0; i < 6; ++i) {
    Case c;
    ConvolutionShape& s = c.shape;
    s = {.batch = 2,
         .channels_in = 70,
         .channels_out = 50,
         .height = 9,
         .width = 12,
         .kernel_height = 3,
         .kernel_width = 3,
         .stride_y = 1 + i % 2,
         .stride_x = 1 + i % 2,
         .padding_y = 1,
         .padding_x = 1};
    make(random, {s.batch, s.channels_in, s.height, s.width}, Format::Cf8_1_4_3, c.input);
    make(random, {s.channels_out, s.channels_in, 3, 3}, Format::Cf8_1_4_3, c.weight);
    make(random, {s.batch, s.channels_out, s.out_height(), s.out_width()}, Format::Cf8_1_5_2,
         c.gradient);
    if (i >= 2) {
      c.forward_cuts = {{random.between(1, 70), random.between(1, 3), random.between(1, 3)}};
      c.input_cuts = {{random.between(1, 50), random.between(1, 3), random.between(1, 3)}};
      c.weight_cuts = {{random.between(1, 2), random.between(1, 9), random.between(1, 12)}};
    }
    expect_paths_agree(c, i);
  }
}

TEST(Convolution, PathsAgreeWhereTheImagesAreStagedInSteps) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << kNoAvx512;
  }
  Random random(54);
  for (const ReduceCuts& cuts : {ReduceCuts{}, ReduceCuts{{4, 100, 100}}, ReduceCuts{{5, 100, 100}},
                                 ReduceCuts{{2, 3, 4}}, ReduceCuts{{7, 20, 1}}}) {
    Case c;
    ConvolutionShape& s = c.shape;
    // An image of 15 x 61 x 80 floats: five fit the stage at a time.
    s = {.batch = 7,
         .channels_in = 15,
         .channels_out = 3,
         .height = 60,
         .width = 80,
         .kernel_height = 2,
         .kernel_width = 1,
         .stride_y = 3,
         .stride_x = 2,
         .padding_y = 1};
    make(random, {s.batch, s.channels_in, s.height, s.width}, Format::Cf8_1_4_3, c.input);
    make(random, {s.batch, s.channels_out, s.out_height(), s.out_width()}, Format::Cf8_1_5_2,
         c.gradient);
    c.weight.extent = {s.channels_out, s.channels_in, 2, 1};
    c.weight_cuts = cuts;
    const std::vector<float> wanted = weight_gradient(c, 1, Isa::Plain);
    EXPECT_TRUE(are_same(weight_gradient(c, 1, Isa::Avx512), wanted));
    EXPECT_TRUE(are_same(weight_gradient(c, 2, Isa::Avx512), wanted));
  }
}

TEST(Convolution, PaddingIsMultipliedAsZero) {
  // A 1 x 1 image under a 1 x 3 filter with an infinite weight outside of it.
  const std::vector<float> image{2.0F};
  const std::vector<float> filter{INFINITY, 3.0F, 1.0F};
  const ConvolutionShape s{.kernel_width = 3, .padding_x = 1};
  const ImageOperand x{{image.data(), {}}, contiguous_strides({1, 1, 1, 1})};
  const ImageOperand w{{filter.data(), {}}, contiguous_strides({1, 1, 1, 3})};
  for (const Isa isa : isas()) {
    ThreadPool pool(1);
    float out = 0;
    convolution(pool, s, x, w, {}, nullptr, Activation::None, &out, isa);
    EXPECT_TRUE(std::isnan(out));
  }
}

TEST(Convolution, AnInputThatNoOutputReadsHasGradientZero) {
  // Stride 2, filter 1 x 1: every second input is never read.
  const std::vector<float> gradient{5.0F, 7.0F};
  const std::vector<float> filter{3.0F};
  const ConvolutionShape s{.width = 4, .stride_x = 2};
  const ImageOperand dy{{gradient.data(), {}}, contiguous_strides({1, 1, 1, 2})};
  const ImageOperand w{{filter.data(), {}}, contiguous_strides({1, 1, 1, 1})};
  for (const Isa isa : isas()) {
    ThreadPool pool(1);
    std::vector<float> out(4, NAN);
    convolution_input_gradient(pool, s, dy, w, {}, out.data(), isa);
    EXPECT_TRUE(are_same(out, std::vector<float>{15, 0, 21, 0}));
  }
}

}  // namespace
}  // namespace dojo::numerics
