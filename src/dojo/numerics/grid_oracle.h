// For tests: rounding to a float format decided by search among all its magnitudes, held as
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
  explicit GridOracle(const CFloatSpec& spec) : spec_(spec) {
    const int steps = 1 << spec.mantissa_bits;
    const int denormal_exponent = spec.denormals == DenormalScale::Paper ? 0 : 1;
    const int exponents = (1 << spec.exponent_bits) - (spec.top_codes == TopCodes::InfNan ? 1 : 0);
    for (int e = 0; e < exponents; ++e) {
      for (int m = 0; m < steps; ++m) {
        const double fraction = static_cast<double>(m) / steps;
        value_.push_back(e == 0 ? std::ldexp(fraction, denormal_exponent - spec.bias)
                                : std::ldexp(1 + fraction, e - spec.bias));
      }
    }
    if (spec.top_codes == TopCodes::OneNan) {
      value_.pop_back();
    }
    for (std::size_t i = 0; i + 1 < value_.size(); ++i) {
      middle_.push_back((value_[i] + value_[i + 1]) / 2);
    }
    const double step = value_.back() - value_[value_.size() - 2];
    overflow_ = value_.back() + step / 2;
    first_normal_ = static_cast<std::uint32_t>(steps);
  }

  // Ascending: index = magnitude code. Of a format that flushes, denormals included.
  const std::vector<double>& values() const { return value_; }
  // Between magnitudes i and i + 1.
  const std::vector<double>& middles() const { return middle_; }
  // Half a step above the largest magnitude: the tie between it and what would follow.
  double overflow() const { return overflow_; }
  // Whether nearest rounding of x >= 0 exceeds the largest magnitude; a tie goes to the even code.
  bool overflows(double x) const {
    return x > overflow_ || (x == overflow_ && value_.size() % 2 == 0);
  }

  // The magnitude code nearest to x >= 0 (Inf too), ties to even.
  std::uint32_t nearest(double x) const {
    if (overflows(x)) {
      return beyond();
    }
    const auto at = std::lower_bound(middle_.begin(), middle_.end(), x);  // first middle >= x
    std::uint32_t code = static_cast<std::uint32_t>(at - middle_.begin());
    if (at != middle_.end() && *at == x && code % 2 == 1) {
      ++code;
    }
    return flushed(code);
  }

  // Up from the lower neighbour if floor(2^16 (position between the neighbours)) + random >= 2^16.
  std::uint32_t stochastic(double x, std::uint32_t random) const {
    if (x >= value_.back()) {
      return std::isinf(x) ? beyond() : last();
    }
    const auto above = std::upper_bound(value_.begin(), value_.end(), x);
    const std::uint32_t code = static_cast<std::uint32_t>(above - value_.begin()) - 1;
    const long double position = (static_cast<long double>(x) - value_[code]) /
                                 (static_cast<long double>(*above) - value_[code]);
    const auto low = static_cast<std::uint32_t>(std::floor(position * 65536));
    return flushed(code + (low + random >= 65536 ? 1u : 0u));
  }

  // The whole code of any x.
  std::uint32_t code(float x, Rounding rounding, std::uint32_t random) const {
    const bool is_negative = std::signbit(x);
    const std::uint32_t width = static_cast<std::uint32_t>(spec_.exponent_bits) +
                                static_cast<std::uint32_t>(spec_.mantissa_bits);
    const std::uint32_t sign = is_negative && spec_.has_sign ? 1u << width : 0u;
    if (std::isnan(x)) {
      return sign | not_a_number();
    }
    if (is_negative && !spec_.has_sign) {
      return 0;
    }
    const double magnitude = std::fabs(static_cast<double>(x));
    return sign |
           (rounding == Rounding::Stochastic ? stochastic(magnitude, random) : nearest(magnitude));
  }

 private:
  std::uint32_t last() const { return static_cast<std::uint32_t>(value_.size() - 1); }
  std::uint32_t beyond() const {
    const bool saturates =
        spec_.top_codes == TopCodes::Numbers || spec_.overflow == Overflow::Saturates;
    return saturates ? last() : last() + 1;
  }
  std::uint32_t not_a_number() const {
    switch (spec_.top_codes) {
      case TopCodes::Numbers:
        return last();
      case TopCodes::OneNan:
        return last() + 1;
      case TopCodes::InfNan:
        return last() + 1 + first_normal_ / 2;  // Inf, with the top bit of the mantissa set
    }
    return 0;
  }
  std::uint32_t flushed(std::uint32_t code) const {
    return spec_.flushes_denormals && code < first_normal_ ? 0 : code;
  }

  CFloatSpec spec_;
  std::vector<double> value_;
  std::vector<double> middle_;
  double overflow_ = 0;
  std::uint32_t first_normal_ = 0;
};

}  // namespace dojo::numerics::testing
