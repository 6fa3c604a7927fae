#include "dojo/numerics/isa.h"

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <atomic>

#include "dojo/base/thread_pool.h"

namespace dojo::numerics {
namespace {

class SavedEnvironment {
 public:
  SavedEnvironment() : control_(_mm_getcsr()) {}
  ~SavedEnvironment() { _mm_setcsr(control_); }
  SavedEnvironment(const SavedEnvironment&) = delete;
  SavedEnvironment& operator=(const SavedEnvironment&) = delete;
  unsigned control() const { return control_; }

 private:
  unsigned control_;
};

TEST(FloatEnvironment, IsTheDefaultHereAndInAPool) {
  EXPECT_TRUE(float_environment_is_default());
  ThreadPool pool(3);
  std::atomic<int> other = 0;
  pool.parallel_for(
      64, 1, [&](std::int64_t, std::int64_t) { other += float_environment_is_default() ? 0 : 1; });
  EXPECT_EQ(other, 0);
}

TEST(FloatEnvironment, FlushingOfDenormalsAndOtherRoundingAreSeen) {
  const SavedEnvironment saved;
  for (const unsigned bits : {0x8000u, 0x0040u, 0x2000u, 0x4000u}) {
    _mm_setcsr(saved.control() | bits);
    EXPECT_FALSE(float_environment_is_default()) << std::hex << bits;
  }
}

TEST(Isa, EveryPathHasAName) {
  EXPECT_STREQ(name_of(Isa::Plain), "plain");
  EXPECT_STREQ(name_of(Isa::Avx2), "avx2");
  EXPECT_STREQ(name_of(Isa::Avx512), "avx512");
}

}  // namespace
}  // namespace dojo::numerics
