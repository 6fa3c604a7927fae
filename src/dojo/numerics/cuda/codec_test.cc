// Encode and decode on the GPU against the CPU's, code by code and count by count.
#include "dojo/numerics/cuda/codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <numeric>
#include <vector>

#include "dojo/numerics/cuda/device_testing.h"

namespace dojo::numerics::cuda {
namespace {

using testing::OnDevice;

struct Encoded {
  std::vector<std::byte> codes;
  EncodeStats stats;
};

Encoded encode_on_gpu(std::span<const float> in, const StorageFormat& to,
                      const RoundingSpec& rounding) {
  const OnDevice<float> from(in);
  const OnDevice<std::byte> out(in.size() * static_cast<std::size_t>(bytes_of(to.format)));
  const OnDevice<DeviceStats> stats(std::vector<DeviceStats>(1));
  const auto done = encode(from.data(), static_cast<std::int64_t>(in.size()), to, rounding,
                           out.data(), stats.data(), nullptr);
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return {out.on_host(), stats.on_host()[0].on_host()};
}

std::vector<StorageFormat> types(int bias) {
  std::vector<StorageFormat> all;
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2, Format::Shp}) {
    for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
      all.push_back({format, bias, denormals});
    }
  }
  return all;
}

// FP32 inputs first, first + step, ... as bits.
std::vector<float> inputs(std::uint64_t first, std::uint64_t step, std::uint64_t end) {
  std::vector<float> values;
  for (std::uint64_t bits = first; bits < end; bits += step) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  return values;
}

void expect_equal(ThreadPool& pool, std::span<const float> in, const StorageFormat& to,
                  const RoundingSpec& rounding) {
  std::vector<std::byte> wanted(in.size() * static_cast<std::size_t>(bytes_of(to.format)));
  const EncodeStats stats = numerics::encode(pool, in, to, rounding, wanted);
  const Encoded got = encode_on_gpu(in, to, rounding);
  EXPECT_EQ(got.codes, wanted) << info(to.format).name << " bias " << to.bias;
  EXPECT_EQ(got.stats, stats) << info(to.format).name << " bias " << to.bias;
}

class CudaCodec : public testing::DeviceTest {
 protected:
  ThreadPool pool_{testing::cores()};
};

TEST_F(CudaCodec, EncodesOneInputOf61AsTheCpuDoes) {
  const std::vector<float> in = inputs(0, 61, std::uint64_t{1} << 32);
  for (const int bias : {0, 7, 31, 63}) {
    for (const StorageFormat& to : types(bias)) {
      expect_equal(pool_, in, to, {});
      expect_equal(pool_, in, to, {Rounding::Stochastic, {0x123456789ABCDEFull, 77, 5}, 0});
    }
  }
}

TEST_F(CudaCodec, EncodesEveryInputAsTheCpuDoesAtBias11) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 28;
  for (std::uint64_t first = 0; first < std::uint64_t{1} << 32; first += kPiece) {
    const std::vector<float> in = inputs(first, 1, first + kPiece);
    for (const StorageFormat& to : types(11)) {
      expect_equal(pool_, in, to, {});
    }
  }
}

TEST_F(CudaCodec, DrawsTheBitsOfItsElements) {
  std::vector<float> in(1 << 16, 1.03F);
  const StorageFormat to{Format::Cf8_1_4_3, 7};
  for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{1} << 36}) {
    expect_equal(pool_, in, to, {Rounding::Stochastic, {42, 3, 9}, first});
  }
}

TEST_F(CudaCodec, TakesAnyLength) {
  const std::vector<float> in = inputs(0x3F800000u, 12345, 0x41000000u);
  for (std::size_t length = 0; length < 40; ++length) {
    expect_equal(pool_, std::span(in).first(length), {Format::Cf8_1_5_2, 15}, {});
  }
}

TEST_F(CudaCodec, DecodesEveryCodeAsTheCpuDoes) {
  for (int bias = 0; bias <= kMaxBias; ++bias) {
    for (const StorageFormat& from : types(bias)) {
      // Every code, and a tail that is not a multiple of four.
      const std::size_t size = static_cast<std::size_t>(bytes_of(from.format));
      const std::size_t count = (std::size_t{1} << (8 * size)) + 3;
      std::vector<std::byte> codes(count * size);
      for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(codes.data() + i * size, &i, size);  // little-endian: the low bits
      }
      std::vector<float> wanted(count);
      numerics::decode(codes, from, wanted);
      const OnDevice<std::byte> in(codes);
      const OnDevice<float> out(count);
      ASSERT_TRUE(decode(in.data(), static_cast<std::int64_t>(count), from, out.data(), nullptr));
      EXPECT_TRUE(numerics::testing::are_same(out.on_host(), wanted)) << bias;
    }
  }
}

TEST_F(CudaCodec, RefusesWhatItHasNoKernelFor) {
  EXPECT_EQ(encode(nullptr, 8, {Format::Bf16}, {}, nullptr, nullptr, nullptr).error().kind,
            ErrorKind::Unsupported);
  EXPECT_EQ(
      encode(nullptr, 8, {Format::Cf8_1_4_3}, {Rounding::NearestAway}, nullptr, nullptr, nullptr)
          .error()
          .kind,
      ErrorKind::Unsupported);
}

}  // namespace
}  // namespace dojo::numerics::cuda
