// For tests: rounding to a configurable float decided by search among all its magnitudes, held as
// doubles. Knows nothing of FP32 bits, shifts or masks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "dojo/numerics/cfloat.h"

namespace dojo::numerics::testing {

class GridOracle {
 public:
  explicit GridOracle(const CFloatSpec& spec) {
    const int steps = 1 << spec.mantissa_bits;
    const int denormal_exponent = spec.denormals == DenormalScale::Paper ? 0 : 1;
    for (int e = 0; e <= spec.max_exponent(); ++e) {
      for (int m = 0; m < steps; ++m) {
        const double fraction = static_cast<double>(m) / steps;
        value_.push_back(e == 0 ? std::ldexp(fraction, denormal_exponent - spec.bias)
                                : std::ldexp(1 + fraction, e - spec.bias));
      }
    }
    for (std::size_t i = 0; i + 1 < value_.size(); ++i) {
      middle_.push_back((value_[i] + value_[i + 1]) / 2);
    }
    const double step = value_.back() - value_[value_.size() - 2];
    overflow_ = value_.back() + step / 2;  // this tie goes to the even code, which is beyond
  }

  const std::vector<double>& values() const { return value_; }
  // Between magnitudes i and i + 1.
  const std::vector<double>& middles() const { return middle_; }
  // From here on nearest rounding exceeds the largest magnitude.
  double overflow() const { return overflow_; }

  // The magnitude code nearest to x >= 0, ties to even, clamped.
  std::uint32_t nearest(double x) const {
    const auto at = std::lower_bound(middle_.begin(), middle_.end(), x);  // first middle >= x
    std::uint32_t code = static_cast<std::uint32_t>(at - middle_.begin());
    if (at != middle_.end() && *at == x && code % 2 == 1) {
      ++code;
    }
    return code;
  }

  // Up from the lower neighbour if floor(2^16 (position between the neighbours)) + random >= 2^16.
  std::uint32_t stochastic(double x, std::uint32_t random) const {
    if (x >= value_.back()) {
      return static_cast<std::uint32_t>(value_.size() - 1);
    }
    const auto above = std::upper_bound(value_.begin(), value_.end(), x);
    const std::uint32_t code = static_cast<std::uint32_t>(above - value_.begin()) - 1;
    const long double position = (static_cast<long double>(x) - value_[code]) /
                                 (static_cast<long double>(*above) - value_[code]);
    const auto low = static_cast<std::uint32_t>(std::floor(position * 65536));
    return code + (low + random >= 65536 ? 1u : 0u);
  }

 private:
  std::vector<double> value_;  // ascending: index = code
  std::vector<double> middle_;
  double overflow_ = 0;
};

}  // namespace dojo::numerics::testing
