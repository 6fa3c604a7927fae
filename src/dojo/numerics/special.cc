#include "dojo/numerics/special.h"

#include "dojo/base/check.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

#include "dojo/numerics/internal/special_algorithms.h"

// PERF: plain loops that the compiler vectorises over 16 lanes.
void exp(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = exp(x[i]);
  }
}
void log(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = log(x[i]);
  }
}
void tanh(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = tanh(x[i]);
  }
}
void erf(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = erf(x[i]);
  }
}
void rsqrt(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = rsqrt(x[i]);
  }
}
void sigmoid(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = sigmoid(x[i]);
  }
}
void sin(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = sin(x[i]);
  }
}
void cos(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = cos(x[i]);
  }
}

}  // namespace
}  // namespace dojo::numerics::avx512

#pragma GCC pop_options

namespace dojo::numerics {
namespace {

using Loop = void (*)(const float*, float*, std::size_t);

template <float (*scalar)(float)>
void apply(std::span<const float> x, std::span<float> y, Isa isa, Loop vector) {
  DOJO_CHECK(x.size() == y.size());
  if (isa == Isa::Avx512) {
    vector(x.data(), y.data(), x.size());
    return;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = scalar(x[i]);
  }
}

}  // namespace

void exp(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<exp>(x, y, isa, avx512::exp);
}
void log(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<log>(x, y, isa, avx512::log);
}
void tanh(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<tanh>(x, y, isa, avx512::tanh);
}
void erf(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<erf>(x, y, isa, avx512::erf);
}
void rsqrt(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<rsqrt>(x, y, isa, avx512::rsqrt);
}
void sigmoid(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<sigmoid>(x, y, isa, avx512::sigmoid);
}
void sin(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<sin>(x, y, isa, avx512::sin);
}
void cos(std::span<const float> x, std::span<float> y, Isa isa) {
  apply<cos>(x, y, isa, avx512::cos);
}

}  // namespace dojo::numerics
