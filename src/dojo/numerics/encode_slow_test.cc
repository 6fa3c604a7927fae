// Every FP32 input through the array encoders, against the oracle.
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <tuple>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/encode_sweep.h"

namespace dojo::numerics {
namespace {

constexpr std::uint64_t kAllMagnitudes = std::uint64_t{1} << 31;

void expect_every_input(ThreadPool& pool, const StorageFormat& type, Isa isa) {
  constexpr std::int64_t kRanges = 64;
  constexpr std::uint64_t kRange = kAllMagnitudes / kRanges;
  std::mutex mutex;
  std::int64_t inputs = 0;
  std::int64_t wrong = 0;
  pool.parallel_for(kRanges, 1, [&](std::int64_t begin, std::int64_t /*end*/) {
    const std::uint64_t first = static_cast<std::uint64_t>(begin) * kRange;
    const testing::SweepResult result = testing::sweep_nearest(type, first, first + kRange, 1, isa);
    const std::lock_guard lock(mutex);
    inputs += result.inputs;
    wrong += result.mismatches + result.wrong_counts;
  });
  EXPECT_EQ(inputs, std::int64_t{1} << 31) << "each with one sign";
  EXPECT_EQ(wrong, 0) << info(type.format).name << " bias " << type.bias << " " << name_of(isa);
}

TEST(EncodeExhaustive, WidestPathIsTheOracleForEveryInputAtBias11) {
  ThreadPool pool(2);
  for (const StorageFormat& type : testing::encoded_formats(11, 11)) {
    expect_every_input(pool, type, best_isa());
  }
}

TEST(EncodeExhaustive, OtherPathsAreTheOracleAtEvery61stInputAtBias11) {
  for (const StorageFormat& type : testing::encoded_formats(11, 11)) {
    for (const Isa isa : testing::isas()) {
      const testing::SweepResult result = testing::sweep_nearest(type, 0, kAllMagnitudes, 61, isa);
      EXPECT_EQ(result.mismatches + result.wrong_counts, 0)
          << info(type.format).name << " " << name_of(isa) << ", first at " << result.example;
    }
  }
}

// `make test-exhaustive`: every input at every bias. Hours, on the plain path above all.
class EveryBias : public ::testing::TestWithParam<std::tuple<Isa, Format>> {};

TEST_P(EveryBias, DISABLED_IsTheOracleForEveryInput) {
  const auto [isa, format] = GetParam();
  if (isa > best_isa()) {
    GTEST_SKIP() << "THIS CPU HAS NO " << name_of(isa);
  }
  ThreadPool pool(2);
  for (int bias = 0; bias <= kMaxBias; ++bias) {
    for (const StorageFormat& type : testing::encoded_formats(bias, 0)) {
      if (type.format == format) {
        expect_every_input(pool, type, isa);
      }
    }
  }
}

std::string path_and_format(const ::testing::TestParamInfo<std::tuple<Isa, Format>>& test) {
  const auto [isa, format] = test.param;
  return std::string(name_of(isa)) + "_" + std::string(info(format).name);
}

INSTANTIATE_TEST_SUITE_P(Exhaustive, EveryBias,
                         ::testing::Combine(::testing::Values(Isa::Avx512, Isa::Avx2, Isa::Plain),
                                            ::testing::Values(Format::Cf8_1_4_3, Format::Cf8_1_5_2,
                                                              Format::E4m3, Format::E5m2,
                                                              Format::Shp, Format::Uhp, Format::F16,
                                                              Format::Bf16)),
                         path_and_format);

}  // namespace
}  // namespace dojo::numerics
