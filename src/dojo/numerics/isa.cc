#include "dojo/numerics/isa.h"

#include <xmmintrin.h>

namespace dojo::numerics {

Isa best_isa() {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0 &&
                               __builtin_cpu_supports("fma") != 0 &&
                               __builtin_cpu_supports("f16c") != 0;
  static const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") != 0 &&
                                 __builtin_cpu_supports("avx512bw") != 0 &&
                                 __builtin_cpu_supports("avx512vl") != 0 &&
                                 __builtin_cpu_supports("avx512dq") != 0;
  if (has_avx512) {
    return Isa::Avx512;
  }
  return has_avx2 ? Isa::Avx2 : Isa::Plain;
}

bool float_environment_is_default() {
  constexpr unsigned kFlushToZero = 0x8000;
  constexpr unsigned kDenormalsAreZero = 0x0040;
  constexpr unsigned kRoundingControl = 0x6000;
  return (_mm_getcsr() & (kFlushToZero | kDenormalsAreZero | kRoundingControl)) == 0;
}

}  // namespace dojo::numerics
