// Units live in types; raw numbers only at the edges. A Quantity adds and compares with its own
// kind alone; a Rate turns one kind into another. Time is integer: cycles belong to one clock
// domain, and only its Clock turns them into Picoseconds.
#pragma once

#include <cmath>
#include <compare>
#include <cstdint>

#include "dojo/base/check.h"

namespace dojo {

template <class Tag, class Rep = std::int64_t>
class Quantity {
 public:
  using rep = Rep;
  constexpr Quantity() = default;
  constexpr explicit Quantity(Rep count) : count_(count) {}
  constexpr Rep count() const { return count_; }

  friend constexpr auto operator<=>(Quantity, Quantity) = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.count_ + b.count_);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.count_ - b.count_);
  }
  friend constexpr Quantity operator*(Quantity a, Rep times) { return Quantity(a.count_ * times); }
  friend constexpr Quantity operator*(Rep times, Quantity a) { return a * times; }
  friend constexpr double operator/(Quantity a, Quantity b) {
    return static_cast<double>(a.count_) / static_cast<double>(b.count_);
  }
  constexpr Quantity& operator+=(Quantity other) { return *this = *this + other; }
  constexpr Quantity& operator-=(Quantity other) { return *this = *this - other; }

 private:
  Rep count_ = Rep{};
};

using Cycles = Quantity<struct CyclesTag>;
using Bytes = Quantity<struct BytesTag>;
using Flops = Quantity<struct FlopsTag>;              // floating-point operations, not per second
using Picoseconds = Quantity<struct PicosecondsTag>;  // the one event time
using Joules = Quantity<struct JoulesTag, double>;
using Watts = Quantity<struct WattsTag, double>;

// So many `Num` per `Den`; finite and above zero wherever a busy time is asked.
template <class Num, class Den>
class Rate {
 public:
  constexpr Rate() = default;
  constexpr explicit Rate(double value) : value_(value) {}
  constexpr double value() const { return value_; }
  friend constexpr auto operator<=>(Rate, Rate) = default;
  friend constexpr Rate operator*(Rate a, double factor) { return Rate(a.value_ * factor); }

 private:
  double value_ = 0;
};

struct Seconds;  // only as a denominator: times themselves are Picoseconds
using BytesPerCycle = Rate<Bytes, Cycles>;
using BytesPerSecond = Rate<Bytes, Seconds>;
using FlopsPerSecond = Rate<Flops, Seconds>;

// Whole cycles to move `size`: a partial beat costs a cycle. Rates are decimal fractions in
// binary, so a quotient within 1e-9 of an integer counts as that integer.
inline Cycles busy_time(Bytes size, BytesPerCycle rate) {
  DOJO_CHECK(rate.value() > 0);
  const double exact = static_cast<double>(size.count()) / rate.value();
  return Cycles(static_cast<std::int64_t>(std::ceil(exact - 1e-9 * (1 + exact))));
}

// A clock domain; frequency in hertz, above zero.
class Clock {
 public:
  constexpr Clock() = default;
  constexpr explicit Clock(std::int64_t hertz) : hertz_(hertz) {}
  constexpr std::int64_t hertz() const { return hertz_; }

  // Rounded up to whole picoseconds.
  constexpr Picoseconds to_picoseconds(Cycles cycles) const {
    __extension__ using Wide = __int128;
    const Wide numerator = static_cast<Wide>(cycles.count()) * 1'000'000'000'000;
    return Picoseconds(static_cast<std::int64_t>((numerator + hertz_ - 1) / hertz_));
  }
  // Rounded up to whole cycles: what is ready within a cycle is usable in the next.
  constexpr Cycles to_cycles(Picoseconds time) const {
    __extension__ using Wide = __int128;
    const Wide numerator = static_cast<Wide>(time.count()) * hertz_;
    return Cycles(static_cast<std::int64_t>((numerator + 999'999'999'999) / 1'000'000'000'000));
  }
  constexpr BytesPerCycle per_cycle(BytesPerSecond rate) const {
    return BytesPerCycle(rate.value() / static_cast<double>(hertz_));
  }

 private:
  std::int64_t hertz_ = 1;
};

constexpr double to_seconds(Picoseconds time) { return static_cast<double>(time.count()) * 1e-12; }

}  // namespace dojo
