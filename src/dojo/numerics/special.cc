#include "dojo/numerics/special.h"

#include "dojo/base/check.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

#include "dojo/numerics/internal/special_algorithms.h"
#include "dojo/numerics/internal/special_loops.h"

}  // namespace
}  // namespace dojo::numerics::avx512

#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace dojo::numerics::avx2 {
namespace {

// NOLINTBEGIN(readability-duplicate-include): compiled once per instruction set.
#include "dojo/numerics/internal/special_algorithms.h"
#include "dojo/numerics/internal/special_loops.h"
// NOLINTEND(readability-duplicate-include)

}  // namespace
}  // namespace dojo::numerics::avx2

#pragma GCC pop_options

namespace dojo::numerics {
namespace {

using Loop = void (*)(const float*, float*, std::size_t);

template <float (*scalar)(float)>
void apply(std::span<const float> x, std::span<float> y, Isa isa, Loop wide, Loop narrow) {
  DOJO_CHECK(x.size() == y.size());
  if (isa != Isa::Plain) {
    (isa == Isa::Avx512 ? wide : narrow)(x.data(), y.data(), x.size());
    return;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = scalar(x[i]);
  }
}

}  // namespace

void exp(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<exp>(x, y, isa, avx512::exp, avx2::exp);
}
void log(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<log>(x, y, isa, avx512::log, avx2::log);
}
void tanh(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<tanh>(x, y, isa, avx512::tanh, avx2::tanh);
}
void erf(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<erf>(x, y, isa, avx512::erf, avx2::erf);
}
void rsqrt(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<rsqrt>(x, y, isa, avx512::rsqrt, avx2::rsqrt);
}
void sigmoid(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<sigmoid>(x, y, isa, avx512::sigmoid, avx2::sigmoid);
}
void sin(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<sin>(x, y, isa, avx512::sin, avx2::sin);
}
void cos(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<cos>(x, y, isa, avx512::cos, avx2::cos);
}

}  // namespace dojo::numerics
