// The named orders in which a sum of products a b is taken: `order` of ReduceCuts. The parts and
// how they are chained is association.h's; here is how the points of one part are folded, and with
// what rounding two parts are added. fma and + are FP32, round to nearest even.
//
//   sequential  acc = +0; for each point: acc = fma(a, b, acc). Parts are added by +.
//   tile4       The points of a part in groups of four, the last group maybe shorter. A group is
//               folded as above, from +0; acc = +0; for each group: acc = acc + group. Parts are
//               added by +. As a matrix unit that takes four points at a time does.
//   w21         acc = +0; for each point: acc = round_w21(fma(a, b, acc)). Parts are added by
//               round_w21(x + y). The 21-bit accumulator, 1-7-13, of US patent 11,556,615.
//   exact       The real sum of all products of all parts, rounded once to FP32; so neither order
//               nor cut matters. A sum of zero is +0; one that rounds to zero keeps its sign. With
//               operands that are not finite: NaN if a product is NaN or both infinities occur,
//               else the infinity that occurs.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "dojo/base/sum_order.h"

namespace dojo::numerics {

using dojo::kSumOrderNames;
using dojo::name_of;
using dojo::sum_order_named;
using dojo::SumOrder;

// Values of the 21-bit accumulator: sign, 7 bits of exponent with bias 63, 13 bits of mantissa.
// The patent says no more; our choices: every exponent code from 1 on is an ordinary one (as in
// CFloat8), code 0 is zero alone.
inline constexpr float kW21Max = 0x1.fff8p64F;
inline constexpr float kW21MinNormal = 0x1p-62F;

// x as the accumulator holds it: beyond the range clamped, sign kept (Inf too); a magnitude below
// the smallest normal number becomes +0; else rounded to 13 bits of mantissa, ties to even. A NaN
// stays a NaN.
constexpr float round_w21(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return x;
  }
  if (magnitude < std::bit_cast<std::uint32_t>(kW21MinNormal)) {
    return 0.0F;
  }
  constexpr std::uint32_t kMax = std::bit_cast<std::uint32_t>(kW21Max);
  constexpr int kDropped = 23 - 13;
  const std::uint32_t half = (1u << (kDropped - 1)) - 1 + (magnitude >> kDropped & 1u);
  const std::uint32_t rounded = (magnitude + half) >> kDropped << kDropped;
  return std::bit_cast<float>((bits & 0x80000000u) | (rounded < kMax ? rounded : kMax));
}

// One part of a sum in the order of the class's name. combine() adds two parts.
class SequentialPart {
 public:
  void add(float a, float b) { acc_ = std::fma(a, b, acc_); }
  float value() const { return acc_; }
  static float combine(float x, float y) { return x + y; }

 private:
  float acc_ = 0;
};

class Tile4Part {
 public:
  void add(float a, float b) {
    group_ = std::fma(a, b, group_);
    if (++count_ == 4) {
      acc_ += group_;
      group_ = 0;
      count_ = 0;
    }
  }
  // An open group of no points is +0, and acc is never -0: adding it changes nothing.
  float value() const { return acc_ + group_; }
  static float combine(float x, float y) { return x + y; }

 private:
  float acc_ = 0;
  float group_ = 0;
  int count_ = 0;  // points of the open group
};

class W21Part {
 public:
  void add(float a, float b) { acc_ = round_w21(std::fma(a, b, acc_)); }
  float value() const { return acc_; }
  static float combine(float x, float y) { return round_w21(x + y); }

 private:
  float acc_ = 0;
};

// A sum of products of any FP32 operands without rounding: a fixed-point number wide enough for
// all of them, in digits of 32 bits that are carried late.
class ExactSum {
 public:
  void add(float a, float b);
  // The sum rounded once to FP32.
  float value() const;

 private:
  // The unit of digit 0 is 2^-298, the smallest product. The largest is below 2^256, and 2^62 of
  // them below 2^318: 616 bits and a sign.
  static constexpr int kLowest = -298;
  static constexpr std::size_t kDigits = 20;
  static constexpr std::int64_t kAddsPerCarry = std::int64_t{1} << 29;

  using Digits = std::array<std::int64_t, kDigits>;
  static void carry(Digits& digits);

  Digits digit_{};
  std::int64_t adds_ = 0;    // since the last carry
  double not_finite_ = 0.0;  // the sum of the products that are Inf or NaN
};

}  // namespace dojo::numerics
