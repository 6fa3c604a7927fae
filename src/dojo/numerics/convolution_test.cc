#include "dojo/numerics/convolution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "dojo/numerics/sum_order_oracle.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::are_same;
using testing::Elements;
using testing::Factors;
using testing::isas;
using testing::Random;

// Images n, c, z, y, x or weights o, c, kz, ky, kx.
struct Extents {
  std::int64_t outer = 1;
  std::int64_t channels = 1;
  Axes size{1, 1, 1};
};

std::int64_t elements_of(const Extents& e) { return e.outer * e.channels * volume(e.size); }

struct Tensor {
  Extents extent;
  Elements elements;
  ImageOperand operand;

  float at(std::int64_t i, std::int64_t j, const Axes& at) const {
    const ImageStrides& s = operand.stride;
    return ElementReader(operand.storage)(i * s[0] + j * s[1] + at[0] * s[2] + at[1] * s[3] +
                                          at[2] * s[4]);
  }
  bool has(const Axes& at) const {
    bool inside = true;
    for (std::size_t a = 0; a < 3; ++a) {
      inside = inside && at[a] >= 0 && at[a] < extent.size[a];
    }
    return inside;
  }
};

// Contiguous, channel-last, or with gaps.
void make(Random& random, const Extents& extent, Format format, Tensor& tensor) {
  const std::int64_t offset = random.between(0, 3);
  tensor.extent = extent;
  tensor.elements = testing::hard_elements(random, format, 2 * elements_of(extent) + offset);
  tensor.operand = {tensor.elements.storage(offset),
                    contiguous_strides(extent.channels, extent.size)};
  ImageStrides& stride = tensor.operand.stride;
  if (random.one_in(4)) {
    stride = {extent.channels * volume(extent.size), 1,
              extent.size[1] * extent.size[2] * extent.channels, extent.size[2] * extent.channels,
              extent.channels};
  } else if (random.one_in(4)) {
    for (std::int64_t& each : stride) {
      each *= 2;
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

Extents input_extent(const ConvolutionShape& s) { return {s.batch, s.channels_in, s.size}; }
Extents weight_extent(const ConvolutionShape& s) {
  return {s.channels_out, s.group_in(), s.kernel};
}
Extents output_extent(const ConvolutionShape& s) { return {s.batch, s.channels_out, s.out_size()}; }

// Mostly images, else volumes or lines. `size` bounds the extents of an image.
void make_axes(Random& random, std::int64_t size, ConvolutionShape& s) {
  const std::int64_t rank = random.one_in(3) ? random.between(1, 3) : 2;
  for (std::size_t a = 3 - static_cast<std::size_t>(rank); a < 3; ++a) {
    do {
      s.size[a] = random.between(1, rank == 3 ? size / 2 + 1 : size);
      s.kernel[a] = random.between(1, 5);
      s.stride[a] = random.between(1, 3);
      s.dilation[a] = random.between(1, 2);
      s.padding[a] = random.between(0, 3);
    } while (s.size[a] + 2 * s.padding[a] <= s.dilation[a] * (s.kernel[a] - 1));
  }
}

void make_tensors(Random& random, Case& c) {
  const ConvolutionShape& s = c.shape;
  make(random, input_extent(s), testing::any_format(random), c.input);
  make(random, weight_extent(s), testing::any_format(random), c.weight);
  make(random, output_extent(s), testing::any_format(random), c.gradient);
}

void make_cuts(Random& random, Case& c) {
  const ConvolutionShape& s = c.shape;
  const auto loops = [](std::int64_t outer, const Axes& size) {
    return std::array{outer, size[0], size[1], size[2]};
  };
  c.forward_cuts = testing::any_cuts(random, loops(s.group_in(), s.kernel));
  c.input_cuts = testing::any_cuts(random, loops(s.group_out(), s.kernel));
  c.weight_cuts = testing::any_cuts(random, loops(s.batch, s.out_size()));
  for (ReduceCuts* cuts : {&c.forward_cuts, &c.input_cuts, &c.weight_cuts}) {
    cuts->order = random.one_in(2)
                      ? SumOrder::Sequential
                      : testing::kSumOrders[static_cast<std::size_t>(random.between(1, 3))];
  }
}

void make(Random& random, std::int64_t channels, std::int64_t size, Case& c) {
  ConvolutionShape& s = c.shape;
  s.groups = random.one_in(3) ? random.between(2, 3) : 1;
  s.channels_in = s.groups * random.between(1, channels);
  s.channels_out = s.groups * random.between(1, channels);
  s.batch = random.between(1, 4);
  make_axes(random, size, s);
  make_tensors(random, c);
  for (std::int64_t o = 0; o < s.channels_out; ++o) {
    c.bias.push_back(testing::hard_value(random, 0));
  }
  c.has_bias = random.one_in(2);
  c.activation = random.one_in(2) ? Activation::Relu : Activation::None;
  make_cuts(random, c);
}

std::vector<float> sized(const Extents& extent) {
  return std::vector<float>(static_cast<std::size_t>(elements_of(extent)), -7.0F);
}

// How to compute: the scalar twin, or a vector path.
struct Path {
  Isa isa = Isa::Plain;
  int threads = 1;
  ProductUnit unit = ProductUnit::Fma;
};

std::string show(const Path& path) {
  return std::string(name_of(path.isa)) + " " + name_of(path.unit) + ", threads " +
         std::to_string(path.threads);
}

// All that this CPU can run but the plain one.
std::vector<Path> vector_paths() {
  std::vector<Path> paths;
  for (const Isa isa : isas()) {
    for (const int threads : {1, 2}) {
      if (isa != Isa::Plain) {
        paths.push_back({isa, threads, ProductUnit::Fma});
      }
      if (isa == Isa::Avx512 && product_unit().can_use_dot) {
        paths.push_back({isa, threads, ProductUnit::Bf16Dot});
      }
    }
  }
  return paths;
}

std::vector<float> forward(const Case& c, const Path& path) {
  ThreadPool pool(path.threads);
  std::vector<float> out = sized(c.gradient.extent);
  convolution(pool, c.shape, c.input.operand, c.weight.operand, c.forward_cuts,
              c.has_bias ? c.bias.data() : nullptr, c.activation, out.data(), path.isa, path.unit);
  return out;
}

std::vector<float> input_gradient(const Case& c, const Path& path) {
  ThreadPool pool(path.threads);
  std::vector<float> out = sized(c.input.extent);
  convolution_input_gradient(pool, c.shape, c.gradient.operand, c.weight.operand, c.input_cuts,
                             out.data(), path.isa, path.unit);
  return out;
}

std::vector<float> weight_gradient(const Case& c, const Path& path) {
  ThreadPool pool(path.threads);
  std::vector<float> out = sized(c.weight.extent);
  convolution_weight_gradient(pool, c.shape, c.gradient.operand, c.input.operand, c.weight_cuts,
                              out.data(), path.isa, path.unit);
  return out;
}

template <class Body>
std::vector<float> for_each_element(const Extents& e, const Body& body) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < e.outer; ++i) {
    for (std::int64_t j = 0; j < e.channels; ++j) {
      for (std::int64_t z = 0; z < e.size[0]; ++z) {
        for (std::int64_t y = 0; y < e.size[1]; ++y) {
          for (std::int64_t x = 0; x < e.size[2]; ++x) {
            out.push_back(body(i, j, Axes{z, y, x}));
          }
        }
      }
    }
  }
  return out;
}

using At = std::vector<std::int64_t>;

// Where the input lies that `tap` reads for output `at`.
Axes read_at(const ConvolutionShape& s, const Axes& at, const Axes& tap) {
  Axes in{};
  for (std::size_t a = 0; a < 3; ++a) {
    in[a] = at[a] * s.stride[a] - s.padding[a] + tap[a] * s.dilation[a];
  }
  return in;
}

std::vector<float> forward_long_hand(const Case& c) {
  const ConvolutionShape& s = c.shape;
  return for_each_element(c.gradient.extent, [&](auto n, auto o, const Axes& at) {
    const float sum = testing::sum_products_long_hand(
        {s.group_in(), s.kernel[0], s.kernel[1], s.kernel[2]}, c.forward_cuts, [&](const At& k) {
          const std::int64_t channel = o / s.group_out() * s.group_in() + k[0];
          const Axes tap{k[1], k[2], k[3]};
          const Axes in = read_at(s, at, tap);
          const float pixel = c.input.has(in) ? c.input.at(n, channel, in) : 0.0F;
          return Factors(pixel, c.weight.at(o, k[0], tap));
        });
    const float biased = c.has_bias ? sum + c.bias[static_cast<std::size_t>(o)] : sum;
    return c.activation == Activation::Relu && !(biased > 0) ? 0.0F : biased;
  });
}

// From the forward map: asks along each axis which output position reads this input, inside or not.
std::optional<Axes> reader_of(const ConvolutionShape& s, const Axes& in, const Axes& tap) {
  Axes found{};
  for (std::size_t a = 0; a < 3; ++a) {
    bool is_read = false;
    for (std::int64_t o = -20; o < s.out_size()[a] + 20; ++o) {
      if (o * s.stride[a] - s.padding[a] + tap[a] * s.dilation[a] == in[a]) {
        found[a] = o;
        is_read = true;
      }
    }
    if (!is_read) {
      return std::nullopt;
    }
  }
  return found;
}

std::vector<float> input_gradient_long_hand(const Case& c) {
  const ConvolutionShape& s = c.shape;
  return for_each_element(c.input.extent, [&](auto n, auto channel, const Axes& in) {
    const std::int64_t group = channel / s.group_in();
    return testing::sum_products_long_hand(
        {s.group_out(), s.kernel[0], s.kernel[1], s.kernel[2]}, c.input_cuts,
        [&](const At& k) -> std::optional<Factors> {
          const std::int64_t o = group * s.group_out() + k[0];
          const Axes tap{k[1], k[2], k[3]};
          const std::optional<Axes> at = reader_of(s, in, tap);
          if (!at.has_value()) {
            return std::nullopt;
          }
          const float gradient = c.gradient.has(*at) ? c.gradient.at(n, o, *at) : 0.0F;
          return Factors(gradient, c.weight.at(o, channel % s.group_in(), tap));
        });
  });
}

std::vector<float> weight_gradient_long_hand(const Case& c) {
  const ConvolutionShape& s = c.shape;
  const Axes out = s.out_size();
  return for_each_element(c.weight.extent, [&](auto o, auto channel, const Axes& tap) {
    return testing::sum_products_long_hand(
        {s.batch, out[0], out[1], out[2]}, c.weight_cuts, [&](const At& k) {
          const Axes at{k[1], k[2], k[3]};
          const Axes in = read_at(s, at, tap);
          const std::int64_t from = o / s.group_out() * s.group_in() + channel;
          const float pixel = c.input.has(in) ? c.input.at(k[0], from, in) : 0.0F;
          return Factors(c.gradient.at(k[0], o, at), pixel);
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
      const Path path{.isa = isa};
      EXPECT_TRUE(are_same(forward(c, path), y)) << "case " << i << " " << show(path);
      EXPECT_TRUE(are_same(input_gradient(c, path), dx)) << "case " << i << " " << show(path);
      EXPECT_TRUE(are_same(weight_gradient(c, path), dw)) << "case " << i << " " << show(path);
    }
  }
}

void expect_paths_agree(const Case& c, int number) {
  const std::vector<float> y = forward(c, {});
  const std::vector<float> dx = input_gradient(c, {});
  const std::vector<float> dw = weight_gradient(c, {});
  for (const Path& path : vector_paths()) {
    EXPECT_TRUE(are_same(forward(c, path), y)) << "case " << number << ", " << show(path);
    EXPECT_TRUE(are_same(input_gradient(c, path), dx)) << "case " << number << ", " << show(path);
    EXPECT_TRUE(are_same(weight_gradient(c, path), dw)) << "case " << number << ", " << show(path);
  }
}

TEST(Convolution, PathsAndThreadsAgreeOnHardOperands) {
  if (best_isa() == Isa::Plain) {
    GTEST_SKIP() << "THIS CPU HAS NEITHER AVX2 NOR AVX-512: the vector paths stay untested here";
  }
  Random random(52);
  for (int i = 0; i < 150; ++i) {
    Case c;
    make(random, i % 8 == 0 ? 20 : 5, i % 6 == 0 ? 40 : 12, c);
    expect_paths_agree(c, i);
  }
}

// Shapes that take the ways which small ones do not: reductions of several chunks, images that
// share a task, images decoded in bands, few and many channels, rows that are cut within a tile.
TEST(Convolution, PathsAgreeOnLargerShapes) {
  if (best_isa() == Isa::Plain) {
    GTEST_SKIP() << "THIS CPU HAS NEITHER AVX2 NOR AVX-512: the vector paths stay untested here";
  }
  const ConvolutionShape square{.size = {1, 9, 12}, .kernel = {1, 3, 3}, .padding = {0, 1, 1}};
  std::vector<ConvolutionShape> shapes(8, square);
  shapes[0].channels_in = 70;
  shapes[1] = shapes[0];
  shapes[1].stride = {1, 2, 2};
  shapes[2] = {
      .batch = 9, .channels_in = 40, .size = {1, 3, 4}, .kernel = {1, 3, 3}, .padding = {0, 1, 1}};
  shapes[3] = {.channels_in = 3,
               .size = {1, 50, 70},
               .kernel = {1, 7, 7},
               .stride = {1, 2, 2},
               .padding = {0, 3, 3}};
  shapes[4] = {.channels_in = 33,
               .size = {5, 6, 7},
               .kernel = {3, 3, 3},
               .stride = {2, 1, 2},
               .padding = {1, 1, 1}};
  shapes[5] = {.channels_in = 2, .size = {3, 40, 50}, .kernel = {2, 3, 5}, .padding = {1, 0, 2}};
  shapes[6].channels_in = 90;  // 30 groups of 3
  shapes[6].groups = 30;
  shapes.push_back({.channels_in = 40,  // depthwise
                    .size = {1, 9, 12},
                    .kernel = {1, 3, 3},
                    .padding = {0, 1, 1},
                    .groups = 40});
  shapes[7] = {.channels_in = 300, .size = {1, 6, 5}, .stride = {1, 2, 1}};
  Random random(53);
  for (std::size_t i = 0; i < 2 * shapes.size(); ++i) {
    Case c;
    c.shape = shapes[i % shapes.size()];
    c.shape.batch = std::max<std::int64_t>(c.shape.batch, 2);
    c.shape.channels_out = c.shape.groups > 1 ? 2 * c.shape.groups : random.between(3, 32);
    make_tensors(random, c);
    if (i >= shapes.size()) {
      make_cuts(random, c);
      for (ReduceCuts* cuts : {&c.forward_cuts, &c.input_cuts, &c.weight_cuts}) {
        // The exact order takes the scalar twin on every path.
        cuts->order = cuts->order == SumOrder::Exact ? SumOrder::Tile4 : cuts->order;
      }
    }
    expect_paths_agree(c, static_cast<int>(i));
  }
}

// What a trained network multiplies: frames of U8 with smooth gradients, weights and gradients of
// a normal distribution; and the worst of it, all values at the end of their range.
TEST(Convolution, PathsAgreeOnImagesAndOnSaturatedOperands) {
  if (best_isa() == Isa::Plain) {
    GTEST_SKIP() << "THIS CPU HAS NEITHER AVX2 NOR AVX-512: the vector paths stay untested here";
  }
  std::mt19937 engine(56);
  std::normal_distribution<float> normal;
  for (const bool is_saturated : {false, true}) {
    Case c;
    ConvolutionShape& s = c.shape;
    s = {.batch = 3,
         .channels_in = 3,
         .channels_out = 17,
         .size = {1, 30, 40},
         .kernel = {1, 5, 5},
         .stride = {1, 2, 2},
         .padding = {0, 1, 0}};
    Random random(57);
    make(random, input_extent(s), is_saturated ? Format::Cf8_1_4_3 : Format::U8, c.input);
    make(random, weight_extent(s), Format::Cf8_1_4_3, c.weight);
    make(random, output_extent(s), Format::Cf8_1_5_2, c.gradient);
    std::int64_t at = 0;
    for (std::byte& pixel : c.input.elements.bytes) {
      const double wave = std::sin(static_cast<double>(at++) / 9.0) * 90.0 + 128.0;
      pixel = static_cast<std::byte>(is_saturated ? 0x7F : static_cast<int>(wave));
    }
    for (Tensor* tensor : {&c.weight, &c.gradient}) {
      tensor->elements.type.bias = tensor == &c.weight ? 9 : 18;
      for (std::byte& code : tensor->elements.bytes) {
        const CFloatSpec spec = tensor->elements.type.spec();
        const float x = is_saturated ? (engine() % 3 == 0 ? -1e30F : 1e30F) : normal(engine);
        code = static_cast<std::byte>(encode_nearest(spec, x));
      }
      tensor->operand.storage.type = tensor->elements.type;
    }
    expect_paths_agree(c, is_saturated ? 1 : 0);
  }
}

TEST(Convolution, PathsAgreeWhereTheImagesAreStagedInSteps) {
  if (best_isa() == Isa::Plain) {
    GTEST_SKIP() << "THIS CPU HAS NEITHER AVX2 NOR AVX-512: the vector paths stay untested here";
  }
  Random random(54);
  struct Steps {
    ReduceCuts cuts;
    std::int64_t height = 0;
  };
  const auto by_runs = [](std::vector<std::int64_t> block, std::vector<std::int64_t> run) {
    return ReduceCuts{std::move(block), SumOrder::Sequential, std::move(run)};
  };
  // Images of 15 x 200 x 80 floats, four of which are decoded at a time, or of ones that do not
  // fit.
  for (const Steps& one :
       {Steps{{}, 200}, Steps{{{4, 1, 500, 100}}, 200}, Steps{{{5, 1, 500, 100}}, 200},
        Steps{{{2, 1, 3, 4}}, 200}, Steps{{{7, 1, 20, 1}}, 200}, Steps{{}, 1000},
        Steps{{{3, 1, 500, 100}}, 1000}, Steps{{{7, 1, 20, 100}}, 1000},
        Steps{by_runs({1, 1, 500, 100}, {3, 1, 1, 1}), 200},
        Steps{by_runs({2, 1, 3, 4}, {2, 1, 4, 3}), 200},
        Steps{by_runs({1, 1, 500, 100}, {2, 1, 1, 1}), 1000}}) {
    Case c;
    ConvolutionShape& s = c.shape;
    s = {.batch = one.height > 200 ? 4 : 7,
         .channels_in = 15,
         .channels_out = one.height > 200 ? 1 : 2,
         .size = {1, one.height, 80},
         .kernel = {1, 2, 1},
         .stride = {1, 3, 2},
         .padding = {0, 1, 0}};
    make(random, input_extent(s), Format::Cf8_1_4_3, c.input);
    make(random, output_extent(s), Format::Cf8_1_5_2, c.gradient);
    c.weight.extent = weight_extent(s);
    c.weight_cuts = one.cuts;
    for (const SumOrder order : {SumOrder::Sequential, SumOrder::Tile4}) {
      c.weight_cuts.order = order;
      const std::vector<float> wanted = weight_gradient(c, {});
      for (const Path& path : vector_paths()) {
        EXPECT_TRUE(are_same(weight_gradient(c, path), wanted))
            << one.height << ", " << name_of(order) << ", " << show(path);
      }
    }
  }
}

TEST(Convolution, WithoutElementsSumsAreZero) {
  const ConvolutionShape no_channels{.batch = 2, .channels_in = 0, .channels_out = 2};
  const ConvolutionShape no_images{.batch = 0, .channels_in = 2, .channels_out = 2};
  const std::vector<float> nothing(4, NAN);
  const ImageOperand any{{nothing.data(), {}}, {1, 1, 1, 1, 1}};
  const std::vector<float> bias{1, -1};
  for (const Isa isa : isas()) {
    ThreadPool pool(1);
    std::vector<float> out(4, NAN);
    convolution(pool, no_channels, any, any, {}, bias.data(), Activation::Relu, out.data(), isa);
    EXPECT_TRUE(are_same(out, std::vector<float>{1, 0, 1, 0}));
    out.assign(4, NAN);
    convolution_weight_gradient(pool, no_images, any, any, {}, out.data(), isa);
    EXPECT_TRUE(are_same(out, std::vector<float>(4, 0.0F)));
  }
}

TEST(Convolution, PaddingIsMultipliedAsZero) {
  // A 1 x 1 image under a 1 x 3 filter with an infinite weight outside of it.
  const std::vector<float> image{2.0F};
  const std::vector<float> filter{INFINITY, 3.0F, 1.0F};
  const ConvolutionShape s{.kernel = {1, 1, 3}, .padding = {0, 0, 1}};
  const ImageOperand x{{image.data(), {}}, contiguous_strides(1, s.size)};
  const ImageOperand w{{filter.data(), {}}, contiguous_strides(1, s.kernel)};
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
  const ConvolutionShape s{.size = {1, 1, 4}, .stride = {1, 1, 2}};
  const ImageOperand dy{{gradient.data(), {}}, contiguous_strides(1, s.out_size())};
  const ImageOperand w{{filter.data(), {}}, contiguous_strides(1, s.kernel)};
  for (const Isa isa : isas()) {
    ThreadPool pool(1);
    std::vector<float> out(4, NAN);
    convolution_input_gradient(pool, s, dy, w, {}, out.data(), isa);
    EXPECT_TRUE(are_same(out, std::vector<float>{15, 0, 21, 0}));
  }
}

}  // namespace
}  // namespace dojo::numerics
