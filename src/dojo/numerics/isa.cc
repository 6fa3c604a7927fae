#include "dojo/numerics/isa.h"

#include <xmmintrin.h>

namespace dojo::numerics {

Isa best_isa() {
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
  return has_avx512 ? Isa::Avx512 : Isa::Plain;
}

bool float_environment_is_default() {
  constexpr unsigned kFlushToZero = 0x8000;
  constexpr unsigned kDenormalsAreZero = 0x0040;
  constexpr unsigned kRoundingControl = 0x6000;
  return (_mm_getcsr() & (kFlushToZero | kDenormalsAreZero | kRoundingControl)) == 0;
}

}  // namespace dojo::numerics
