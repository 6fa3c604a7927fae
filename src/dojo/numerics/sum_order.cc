#include "dojo/numerics/sum_order.h"

#include <algorithm>

namespace dojo::numerics {
namespace {

// significand 2^exponent with `exponent` >= -149; 0 for zero.
struct Parts {
  std::uint64_t significand = 0;
  int exponent = 0;
};

Parts parts_of(float x) {
  const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu;
  const std::uint32_t field = magnitude >> 23;
  const std::uint32_t fraction = magnitude & 0x7FFFFFu;
  return field == 0 ? Parts{fraction, -149}
                    : Parts{fraction | 0x800000u, static_cast<int>(field) - 150};
}

}  // namespace

void ExactSum::add(float a, float b) {
  if (!std::isfinite(a) || !std::isfinite(b)) {
    not_finite_ += double{a} * double{b};
    return;
  }
  const Parts left = parts_of(a);
  const Parts right = parts_of(b);
  const std::uint64_t product = left.significand * right.significand;  // 48 bits
  const int position = left.exponent + right.exponent - kLowest;
  const std::size_t digit = static_cast<std::size_t>(position / 32);
  const int shift = position % 32;
  const std::int64_t sign = std::signbit(a) == std::signbit(b) ? 1 : -1;
  const std::uint64_t low = (product & 0xFFFFFFFFu) << shift;  // below 2^63
  const std::uint64_t high = (product >> 32) << shift;         // below 2^47
  digit_[digit] += sign * static_cast<std::int64_t>(low & 0xFFFFFFFFu);
  digit_[digit + 1] += sign * static_cast<std::int64_t>((low >> 32) + (high & 0xFFFFFFFFu));
  digit_[digit + 2] += sign * static_cast<std::int64_t>(high >> 32);
  if (++adds_ == kAddsPerCarry) {
    carry(digit_);
    adds_ = 0;
  }
}

// All digits but the last into 0 .. 2^32 - 1.
void ExactSum::carry(Digits& digits) {
  for (std::size_t i = 0; i + 1 < kDigits; ++i) {
    const std::int64_t up = digits[i] >> 32;  // rounds down: what is left is not negative
    digits[i] -= up * (std::int64_t{1} << 32);
    digits[i + 1] += up;
  }
}

float ExactSum::value() const {
  if (not_finite_ != 0.0) {  // Inf or NaN
    return static_cast<float>(not_finite_);
  }
  Digits digits = digit_;
  carry(digits);
  const bool is_negative = digits.back() < 0;
  if (is_negative) {
    for (std::int64_t& digit : digits) {
      digit = -digit;
    }
    carry(digits);
  }
  std::size_t top = kDigits;
  while (top > 0 && digits[top - 1] == 0) {
    --top;
  }
  if (top == 0) {
    return 0.0F;
  }
  // The leading bits (33 to 53 if there are so many) as a double, its last bit set if anything is
  // left below it: such a number rounds to FP32 as the whole sum does.
  std::uint64_t leading = static_cast<std::uint64_t>(digits[--top]);
  int exponent = kLowest + 32 * static_cast<int>(top);
  while (top > 0 && leading < (std::uint64_t{1} << 32)) {
    leading = leading << 32 | static_cast<std::uint64_t>(digits[--top]);
    exponent -= 32;
  }
  bool is_inexact = std::any_of(digits.begin(), digits.begin() + static_cast<std::ptrdiff_t>(top),
                                [](std::int64_t digit) { return digit != 0; });
  const int dropped = std::max(0, 64 - 53 - std::countl_zero(leading));
  is_inexact = is_inexact || (leading & ((std::uint64_t{1} << dropped) - 1)) != 0;
  leading = (leading >> dropped) | (is_inexact ? 1u : 0u);
  const double value = std::ldexp(static_cast<double>(leading), exponent + dropped);
  return static_cast<float>(is_negative ? -value : value);
}

}  // namespace dojo::numerics
