// Products on the GPU against the CPU's: bit by bit for the exact one; the tensor cores against
// sums in double of the values that their operands stand for.
#include "dojo/numerics/cuda/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "dojo/numerics/cuda/device_testing.h"
#include "dojo/numerics/cuda/tensor_core.h"

namespace dojo::numerics::cuda {
namespace {

using numerics::testing::Elements;
using numerics::testing::hard_elements;
using numerics::testing::Random;
using testing::OnDevice;

// An operand of a product: a matrix of lanes x k in either order, with gaps between its rows.
struct Operand {
  Elements elements;
  MatrixOperand matrix;
};

Operand operand(Random& random, Format format, std::int64_t rows, std::int64_t columns,
                std::int64_t batch) {
  Operand made;
  const bool is_transposed = random.one_in(2);
  const std::int64_t gap = random.between(0, 3);
  const std::int64_t inner = (is_transposed ? rows : columns) + gap;
  const std::int64_t outer = is_transposed ? columns : rows;
  const bool is_broadcast = random.one_in(3);
  const std::int64_t offset = random.between(0, 5);
  made.elements = hard_elements(random, format, offset + inner * outer * batch);
  made.matrix.storage = made.elements.storage(offset);
  made.matrix.row_stride = is_transposed ? 1 : inner;
  made.matrix.column_stride = is_transposed ? inner : 1;
  made.matrix.batch_stride = {0, is_broadcast ? 0 : inner * outer, 0};
  return made;
}

MatrixOperand moved(const MatrixOperand& from, const OnDevice<std::byte>& to) {
  MatrixOperand operand = from;
  operand.storage.data = to.data();
  return operand;
}

struct Case {
  GemmShape shape;
  Operand a;
  Operand b;
  ReduceCuts cuts;
  std::vector<float> row_bias;
  std::vector<float> column_bias;
  Activation activation = Activation::None;
};

std::vector<float> run_on_cpu(const Case& c) {
  std::vector<float> out(static_cast<std::size_t>(c.shape.batch[1] * c.shape.m * c.shape.n));
  ThreadPool pool(testing::cores());
  const Epilogue epilogue{c.row_bias.data(), c.column_bias.data(), c.activation};
  numerics::gemm(pool, c.shape, c.a.matrix, c.b.matrix, c.cuts, epilogue,
                 {out.data(), c.shape.n, {0, c.shape.m * c.shape.n, 0}});
  return out;
}

template <class Product>
std::vector<float> run_on_gpu(const Case& c, const Product& product) {
  const OnDevice<std::byte> a(c.a.elements.bytes);
  const OnDevice<std::byte> b(c.b.elements.bytes);
  const OnDevice<float> row_bias(c.row_bias);
  const OnDevice<float> column_bias(c.column_bias);
  const OnDevice<float> out(static_cast<std::size_t>(c.shape.batch[1] * c.shape.m * c.shape.n));
  const Epilogue epilogue{row_bias.data(), column_bias.data(), c.activation};
  const auto done = product(moved(c.a.matrix, a), moved(c.b.matrix, b), epilogue,
                            MatrixOutput{out.data(), c.shape.n, {0, c.shape.m * c.shape.n, 0}});
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return out.on_host();
}

std::vector<float> run_exact_on_gpu(const Case& c) {
  return run_on_gpu(c, [&](const MatrixOperand& a, const MatrixOperand& b, const Epilogue& epilogue,
                           const MatrixOutput& out) {
    return gemm(c.shape, a, b, c.cuts, epilogue, out, nullptr);
  });
}

std::vector<float> run_on_tensor_cores(const TensorCores& cores, const Case& c) {
  return run_on_gpu(c, [&](const MatrixOperand& a, const MatrixOperand& b, const Epilogue& epilogue,
                           const MatrixOutput& out) {
    return cores.gemm_fp8(c.shape, a, b, epilogue, out, nullptr);
  });
}

Case any_case(Random& random, Format format_a, Format format_b) {
  Case c;
  c.shape = {random.between(1, 300), random.between(1, 300), random.between(0, 400), {}};
  c.shape.batch = {1, random.between(1, 3), 1};
  c.a = operand(random, format_a, c.shape.m, c.shape.k, c.shape.batch[1]);
  c.b = operand(random, format_b, c.shape.k, c.shape.n, c.shape.batch[1]);
  c.cuts = numerics::testing::any_cuts(random, std::vector{c.shape.k});
  c.cuts.run.clear();
  c.activation = random.one_in(2) ? Activation::Relu : Activation::None;
  for (std::int64_t i = 0; i < c.shape.m; ++i) {
    c.row_bias.push_back(numerics::testing::hard_value(random, 0));
  }
  for (std::int64_t i = 0; i < c.shape.n; ++i) {
    c.column_bias.push_back(numerics::testing::hard_value(random, 0));
  }
  return c;
}

class CudaGemm : public testing::DeviceTest {};

TEST_F(CudaGemm, GivesTheBitsOfTheCpu) {
  constexpr std::array kFormats{Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::Bf16,
                                Format::F32,       Format::U8,        Format::Shp};
  Random random(11);
  for (int i = 0; i < 200; ++i) {
    const auto any = [&] { return kFormats[static_cast<std::size_t>(random.between(0, 5))]; };
    const Case c = any_case(random, any(), any());
    EXPECT_TRUE(numerics::testing::are_same(run_exact_on_gpu(c), run_on_cpu(c)))
        << "case " << i << ": " << c.shape.m << "x" << c.shape.n << "x" << c.shape.k;
  }
}

TEST_F(CudaGemm, GivesTheBitsOfTheCpuForALongSum) {
  Random random(12);
  Case c = any_case(random, Format::Cf8_1_4_3, Format::Cf8_1_5_2);
  c.shape = {257, 129, 20'000, {1, 1, 1}};
  c.a = operand(random, Format::Cf8_1_4_3, 257, 20'000, 1);
  c.b = operand(random, Format::Cf8_1_5_2, 20'000, 129, 1);
  c.row_bias.assign(257, 0.25F);
  c.column_bias.assign(129, -1.5F);
  for (const std::int64_t block : {20'000, 4'096, 1'000, 17}) {
    c.cuts = {{block}};
    EXPECT_TRUE(numerics::testing::are_same(run_exact_on_gpu(c), run_on_cpu(c))) << block;
  }
}

TEST_F(CudaGemm, RefusesAFormatItCannotRead) {
  const MatrixOperand integers{{nullptr, {Format::I32}, 0}, 1, 1, {}};
  const auto done = gemm({1, 1, 1, {1, 1, 1}}, integers, integers, {}, {}, {}, nullptr);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().message, "on a GPU operands are f32, bf16, u8, shp or CFloat8, not i32");
}

// What a code becomes on the tensor core, by the words of gemm.h.
double ocp_value(const StorageFormat& type, std::uint32_t code) {
  const CFloatSpec spec = cfloat_spec(type.format, type.bias, type.denormals);
  const bool is_e4m3 = type.format == Format::Cf8_1_4_3;
  const std::uint32_t magnitude = std::min(code & 0x7Fu, is_e4m3 ? 0x7Eu : 0x7Bu);
  const double sign = code >= 128 ? -1 : 1;
  if (magnitude >= spec.min_normal_magnitude()) {
    return sign * static_cast<double>(decode(spec, magnitude));
  }
  // OCP's denormals: multiples of 2^(1 - bias - M).
  const double spacing = std::ldexp(1.0, 1 - type.bias - spec.mantissa_bits);
  return sign * std::nearbyint(static_cast<double>(decode(spec, magnitude)) / spacing) * spacing;
}

double element(const Operand& operand, std::int64_t row, std::int64_t column, std::int64_t batch) {
  const std::int64_t at = operand.matrix.storage.offset + row * operand.matrix.row_stride +
                          column * operand.matrix.column_stride +
                          batch * operand.matrix.batch_stride[1];
  return ocp_value(
      operand.elements.type,
      static_cast<std::uint32_t>(operand.elements.bytes[static_cast<std::size_t>(at)]));
}

class CudaTensorCores : public testing::DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped() && current_device()->compute_capability < 89) {
      GTEST_SKIP() << "THIS GPU HAS NO FP8 TENSOR CORES";
    }
  }
};

TEST_F(CudaTensorCores, MultiplyTheNearestOcpValues) {
  const TensorCores cores = *TensorCores::create();
  Random random(13);
  for (int i = 0; i < 40; ++i) {
    Format formats[2] = {Format::Cf8_1_4_3,
                         random.one_in(2) ? Format::Cf8_1_4_3 : Format::Cf8_1_5_2};
    if (random.one_in(2)) {
      std::swap(formats[0], formats[1]);
    }
    Case c = any_case(random, formats[0], formats[1]);
    c.activation = Activation::None;
    c.row_bias.assign(c.row_bias.size(), 0.0F);
    c.column_bias.assign(c.column_bias.size(), 0.0F);
    const std::vector<float> got = run_on_tensor_cores(cores, c);
    for (std::int64_t j = 0; j < c.shape.batch[1]; ++j) {
      for (std::int64_t row = 0; row < c.shape.m; row += 7) {
        for (std::int64_t column = 0; column < c.shape.n; column += 5) {
          double sum = 0;
          double magnitude = 0;
          for (std::int64_t k = 0; k < c.shape.k; ++k) {
            const double product = element(c.a, row, k, j) * element(c.b, k, column, j);
            sum += product;
            magnitude += std::abs(product);
          }
          const float value =
              got[static_cast<std::size_t>((j * c.shape.m + row) * c.shape.n + column)];
          // The adders keep fewer bits than FP32; 2^-10 of the sum of magnitudes is well above.
          ASSERT_NEAR(value, sum, magnitude * 0x1p-10)
              << "case " << i << " at " << j << "," << row << "," << column;
        }
      }
    }
  }
}

TEST_F(CudaTensorCores, AddBiasAndCutNegativesOffAfterTheSum) {
  const TensorCores cores = *TensorCores::create();
  Random random(14);
  Case c = any_case(random, Format::Cf8_1_4_3, Format::Cf8_1_4_3);
  c.shape.k = 0;  // so each sum is +0
  c.activation = Activation::Relu;
  c.cuts = {};
  EXPECT_TRUE(numerics::testing::are_same(run_on_tensor_cores(cores, c), run_on_cpu(c)));
}

TEST_F(CudaTensorCores, RefuseTwoGradients) {
  const MatrixOperand gradient{{nullptr, {Format::Cf8_1_5_2}, 0}, 1, 1, {}};
  const auto done =
      TensorCores::create()->gemm_fp8({1, 1, 1, {1, 1, 1}}, gradient, gradient, {}, {}, nullptr);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().kind, ErrorKind::Unsupported);
}

}  // namespace
}  // namespace dojo::numerics::cuda
