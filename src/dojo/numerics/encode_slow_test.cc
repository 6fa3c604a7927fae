// Every FP32 input through the vector encoder, against the oracle.
#include <gtest/gtest.h>

#include <mutex>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/encode_sweep.h"

namespace dojo::numerics {
namespace {

TEST(EncodeExhaustive, VectorPathIsTheOracleForEveryInputAtBias11) {
  if (best_isa() != Isa::Avx512) {
    GTEST_SKIP() << testing::kNoAvx512;
  }
  constexpr std::int64_t kRanges = 64;
  constexpr std::uint64_t kRange = (std::uint64_t{1} << 31) / kRanges;
  ThreadPool pool(2);
  for (const Format format : {Format::Cf8_1_4_3, Format::Cf8_1_5_2}) {
    for (const DenormalScale denormals : {DenormalScale::Paper, DenormalScale::Gradual}) {
      std::mutex mutex;
      std::int64_t inputs = 0;
      std::int64_t wrong = 0;
      pool.parallel_for(kRanges, 1, [&](std::int64_t begin, std::int64_t /*end*/) {
        const std::uint64_t first = static_cast<std::uint64_t>(begin) * kRange;
        const testing::SweepResult result =
            testing::sweep_nearest({format, 11, denormals}, first, first + kRange, 1, Isa::Avx512);
        const std::lock_guard lock(mutex);
        inputs += result.inputs;
        wrong += result.mismatches + result.wrong_counts;
      });
      EXPECT_EQ(inputs, std::int64_t{1} << 31) << "each with one sign";
      EXPECT_EQ(wrong, 0) << info(format).name;
    }
  }
}

}  // namespace
}  // namespace dojo::numerics
