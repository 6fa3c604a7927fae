// For tests: the error of a special function in units in the last place of the exact value, against
// double, and whether its array versions give the bits of the scalar one.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "dojo/numerics/special.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics::testing {

struct SpecialFunction {
  const char* name;
  float (*scalar)(float);
  void (*array)(std::span<const float>, std::span<float>, Isa);
  double (*exact)(double);
  double max_ulps;  // stated in docs/numerics.md
  bool is_odd = false;
};

inline const std::vector<SpecialFunction>& special_functions() {
  static const std::vector<SpecialFunction> kAll{
      {"exp", exp, exp, [](double x) { return std::exp(x); }, 1.1, false},
      {"log", log, log, [](double x) { return std::log(x); }, 1.0, false},
      {"tanh", tanh, tanh, [](double x) { return std::tanh(x); }, 1.5, true},
      {"erf", erf, erf, [](double x) { return std::erf(x); }, 1.5, true},
      {"rsqrt", rsqrt, rsqrt, [](double x) { return 1 / std::sqrt(x); }, 1.5, false},
      {"sigmoid", sigmoid, sigmoid,
       [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); },
       2.5, false},
      {"sin", sin, sin, [](double x) { return std::fabs(x) < 0x1p50 ? std::sin(x) : NAN; }, 0.6,
       true},
      {"cos", cos, cos, [](double x) { return std::fabs(x) < 0x1p50 ? std::cos(x) : NAN; }, 0.6,
       false}};
  return kAll;
}

inline double ulps(float got, double exact) {
  const float rounded = static_cast<float>(exact);
  if (!(std::fabs(rounded) < INFINITY) || !(std::fabs(got) < INFINITY)) {
    const bool is_equal = std::isnan(exact) ? std::isnan(got) : got == rounded;
    return is_equal ? 0 : INFINITY;
  }
  // 2^(e - 23) for 2^e <= |exact| < 2^(e+1), at least the spacing of the denormals.
  const std::uint64_t exponent = std::bit_cast<std::uint64_t>(exact) >> 52 & 0x7FF;
  const std::uint64_t ulp = std::max<std::uint64_t>(exponent, 1023 - 126) - 23;
  return std::fabs(got - exact) / std::bit_cast<double>(ulp << 52);
}

struct SpecialResult {
  double worst_ulps = 0;
  float worst_at = 0;
  std::int64_t differing = 0;  // array results whose bits are not the scalar's
};

// Over the FP32 bit patterns first, first + stride, ... below `end`. The scalar function, slow
// where the compiler may not use the fma instruction, is compared on one block of `scalar_every`.
inline SpecialResult check_special(const SpecialFunction& f, std::uint64_t first, std::uint64_t end,
                                   std::uint64_t stride, Isa isa, std::uint64_t scalar_every = 1) {
  SpecialResult result;
  std::vector<float> x(4096);
  std::vector<float> y(4096);
  for (std::uint64_t base = first; base < end; base += x.size() * stride) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(base + i * stride));
    }
    f.array(x, y, isa);
    const bool checks_scalar = (base - first) / (x.size() * stride) % scalar_every == 0;
    for (std::size_t i = 0; checks_scalar && i < x.size(); ++i) {
      result.differing += bits_of(f.scalar(x[i])) != bits_of(y[i]) ? 1 : 0;
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double error = ulps(y[i], f.exact(x[i]));
      if (error > result.worst_ulps) {
        result.worst_ulps = error;
        result.worst_at = x[i];
      }
    }
  }
  return result;
}

}  // namespace dojo::numerics::testing
