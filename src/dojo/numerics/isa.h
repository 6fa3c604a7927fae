// Which instruction set a kernel uses. Every kernel gives equal bits on every path: the choice is
// about speed alone, and tests make it explicit. Plain is the scalar twin, written from the
// definition; Avx2 needs avx2, fma and f16c; Avx512 needs avx512f, bw, vl and dq as well. A kernel
// without an Avx2 version takes the plain path there.
//
// All arithmetic here assumes the default floating-point environment: round to nearest even, and
// neither flush-to-zero nor denormals-are-zero.
#pragma once

#include <cstdint>

namespace dojo::numerics {

enum class Isa : std::uint8_t { Plain, Avx2, Avx512 };  // each CPU has those up to its best

// The fastest path this CPU can run.
Isa best_isa();

constexpr const char* name_of(Isa isa) {
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

// Whether the calling thread rounds to nearest even and keeps denormals (x86: MXCSR). Threads
// inherit the setting of the thread that starts them.
bool float_environment_is_default();

}  // namespace dojo::numerics
