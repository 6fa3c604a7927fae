// For tests: the named orders of sum_order.h a second time, by other means. Rounding to 13 bits is
// nearbyint of a scaled double; the exact sum is an expansion of doubles that do not overlap
// (Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997), rounded to odd before FP32.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "dojo/numerics/testing.h"

namespace dojo::numerics::testing {

using Factors = std::pair<float, float>;

inline float round_w21_long_hand(float x) {
  constexpr double kMax = (2.0 - 0x1p-13) * 0x1p64;
  if (std::isnan(x)) {
    return x;
  }
  if (std::fabs(double{x}) > kMax) {
    return static_cast<float>(std::copysign(kMax, double{x}));
  }
  if (std::fabs(double{x}) < 0x1p-62) {
    return 0.0F;
  }
  const int exponent = std::ilogb(x);
  return static_cast<float>(
      std::ldexp(std::nearbyint(std::ldexp(double{x}, 13 - exponent)), exponent - 13));
}

inline float exact_sum_long_hand(const std::vector<Factors>& products) {
  std::vector<double> expansion;  // ascending magnitude
  double not_finite = 0;
  for (const Factors& f : products) {
    double x = double{f.first} * double{f.second};  // exact
    if (!std::isfinite(x)) {
      not_finite += x;
      continue;
    }
    std::vector<double> grown;
    for (const double y : expansion) {
      const double sum = x + y;
      const double of_y = sum - x;
      const double error = (x - (sum - of_y)) + (y - of_y);
      if (error != 0) {
        grown.push_back(error);
      }
      x = sum;
    }
    if (x != 0) {
      grown.push_back(x);
    }
    expansion = std::move(grown);
  }
  if (not_finite != 0 || expansion.empty()) {
    return static_cast<float>(not_finite);
  }
  double top = expansion.back();
  double rest = 0;  // its sign is that of all that is below `top`
  if (expansion.size() > 1) {
    rest = expansion[expansion.size() - 2];
  }
  if (rest != 0 && std::bit_cast<std::uint64_t>(top) % 2 == 0) {
    top = std::nextafter(top, rest > 0 ? HUGE_VAL : -HUGE_VAL);
  }
  return static_cast<float>(top);
}

// factors(point) are the two factors of a point; an std::optional without value says that it is
// none.
template <class FactorsAt>
float sum_products_long_hand(const std::vector<std::int64_t>& extent, const ReduceCuts& cuts,
                             const FactorsAt& factors) {
  const auto products_of = [&](const Points& points) {
    std::vector<Factors> products;
    for (const std::vector<std::int64_t>& point : points) {
      const std::optional<Factors> f = factors(point);
      if (f.has_value()) {
        products.push_back(*f);
      }
    }
    return products;
  };
  const auto plus = +[](float x, float y) { return x + y; };
  switch (cuts.order) {
    case SumOrder::Sequential:
      return chain_long_hand(
          extent, cuts,
          [&](const Points& points) {
            float acc = 0;
            for (const Factors& f : products_of(points)) {
              acc = std::fma(f.first, f.second, acc);
            }
            return acc;
          },
          plus);
    case SumOrder::Tile4:
      return chain_long_hand(
          extent, cuts,
          [&](const Points& points) {
            const std::vector<Factors> products = products_of(points);
            float acc = 0;
            for (std::size_t group = 0; group < products.size(); group += 4) {
              float of_group = 0;
              for (std::size_t i = group; i < std::min(group + 4, products.size()); ++i) {
                of_group = std::fma(products[i].first, products[i].second, of_group);
              }
              acc = acc + of_group;
            }
            return acc;
          },
          plus);
    case SumOrder::W21:
      return chain_long_hand(
          extent, cuts,
          [&](const Points& points) {
            float acc = 0;
            for (const Factors& f : products_of(points)) {
              acc = round_w21_long_hand(std::fma(f.first, f.second, acc));
            }
            return acc;
          },
          +[](float x, float y) { return round_w21_long_hand(x + y); });
    case SumOrder::Exact:
      break;
  }
  std::vector<Factors> products;
  for (const Points& part : parts_long_hand(extent, cuts).parts) {
    for (const Factors& f : products_of(part)) {
      products.push_back(f);
    }
  }
  return exact_sum_long_hand(products);
}

inline constexpr std::array kSumOrders{SumOrder::Sequential, SumOrder::Tile4, SumOrder::W21,
                                       SumOrder::Exact};

}  // namespace dojo::numerics::testing
