// Every FP32 input of every special function against double (of one sign where the function is odd;
// special_test.cc holds it to that).
#include <gtest/gtest.h>

#include <mutex>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/special_check.h"

namespace dojo::numerics {
namespace {

class SpecialExhaustive : public ::testing::TestWithParam<std::size_t> {};

TEST_P(SpecialExhaustive, ErrorIsWithinTheStatedBoundForEveryInput) {
  if (best_isa() == Isa::Plain) {
    GTEST_SKIP() << "THIS CPU HAS NO AVX2: the plain path would take hours";
  }
  const testing::SpecialFunction& f = testing::special_functions()[GetParam()];
  constexpr std::int64_t kRanges = 256;
  const std::uint64_t range = (std::uint64_t{1} << (f.is_odd ? 31 : 32)) / kRanges;
  std::mutex mutex;
  testing::SpecialResult total;
  ThreadPool pool(2);
  pool.parallel_for(kRanges, 1, [&](std::int64_t begin, std::int64_t /*end*/) {
    const std::uint64_t first = static_cast<std::uint64_t>(begin) * range;
    const testing::SpecialResult result =
        testing::check_special(f, first, first + range, 1, best_isa(), 64);
    const std::lock_guard lock(mutex);
    total.differing += result.differing;
    if (result.worst_ulps > total.worst_ulps) {
      total.worst_ulps = result.worst_ulps;
      total.worst_at = result.worst_at;
    }
  });
  EXPECT_LE(total.worst_ulps, f.max_ulps) << f.name << " at " << total.worst_at;
  EXPECT_EQ(total.differing, 0) << f.name;
  RecordProperty(f.name, std::to_string(total.worst_ulps));
}

INSTANTIATE_TEST_SUITE_P(Functions, SpecialExhaustive,
                         ::testing::Range<std::size_t>(0, testing::special_functions().size()),
                         [](const auto& at) {
                           return std::string(testing::special_functions()[at.param].name);
                         });

}  // namespace
}  // namespace dojo::numerics
