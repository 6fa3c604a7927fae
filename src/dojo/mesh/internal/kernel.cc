#include "dojo/mesh/internal/kernel.h"

#include "dojo/base/check.h"

namespace dojo::mesh {

Isa best_isa() {
  if (__builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512cd") != 0 && __builtin_cpu_supports("bmi2") != 0) {
    return Isa::Avx512;
  }
  if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0) {
    return Isa::Avx2;
  }
  return Isa::Plain;
}

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::Plain:
      return "plain";
    case Isa::Avx2:
      return "avx2";
    case Isa::Avx512:
      return "avx512";
  }
  return "";
}

namespace internal {

CycleFunction cycle_function(Isa isa, int vcs) {
  DOJO_CHECK(vcs >= 1 && vcs <= kMaxVcs);
  switch (isa) {
    case Isa::Avx512:
      return avx512::cycle_function(vcs);
    case Isa::Avx2:
      return avx2::cycle_function(vcs);
    case Isa::Plain:
      break;
  }
  return plain::cycle_function(vcs);
}

}  // namespace internal
}  // namespace dojo::mesh
