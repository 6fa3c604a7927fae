#include "dojo/numerics/product_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <random>

#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/internal/product_rounds_avx512.h"
#include "dojo/numerics/isa.h"

namespace dojo::numerics {
namespace {

constexpr int kTriedVectors = 2048;       // of 16 sums of two products
constexpr std::int64_t kRounds = 20'000;  // some hundred microseconds
constexpr int kTimings = 5;
constexpr double kWorthIt = 1.05;  // beyond the noise of the timing

// Any sign and mantissa, exponents that overlap, so that most sums round.
std::uint32_t any_bf16(std::mt19937& random) {
  const std::uint32_t bits = static_cast<std::uint32_t>(random());
  const std::uint32_t exponent = 127 - 8 + bits % 17;
  return (bits >> 16 & 0x8000u) | exponent << 7 | (bits >> 8 & 0x7Fu);
}

// Whether the instruction gives the bits of fma(low, fma(high, acc)): random sums, and sums whose
// large parts cancel, where any other order would show.
bool dot_is_in_order() {
  std::mt19937 random(20211001);
  for (int i = 0; i < kTriedVectors; ++i) {
    std::array<float, 16> acc{};
    std::array<float, 16> wanted{};
    std::array<std::uint32_t, 16> a{};
    std::array<std::uint32_t, 16> b{};
    for (std::size_t lane = 0; lane < 16; ++lane) {
      a[lane] = any_bf16(random) << 16 | any_bf16(random);
      b[lane] = any_bf16(random) << 16 | any_bf16(random);
      const auto high = [](std::uint32_t x) { return std::bit_cast<float>(x & 0xFFFF0000u); };
      const auto low = [](std::uint32_t x) { return std::bit_cast<float>(x << 16); };
      const float fraction = std::ldexp(static_cast<float>(random() >> 8), -24);
      acc[lane] = i % 2 == 0 ? std::ldexp(fraction - 0.5F, static_cast<int>(random() % 16) - 8)
                             : fraction - high(a[lane]) * high(b[lane]);
      wanted[lane] =
          std::fma(low(a[lane]), low(b[lane]), std::fma(high(a[lane]), high(b[lane]), acc[lane]));
    }
    avx512::dot_pairs(acc, a, b);
    for (std::size_t lane = 0; lane < 16; ++lane) {
      if (std::bit_cast<std::uint32_t>(acc[lane]) != std::bit_cast<std::uint32_t>(wanted[lane])) {
        return false;
      }
    }
  }
  return true;
}

double seconds(float (*rounds)(std::int64_t)) {
  const auto begin = std::chrono::steady_clock::now();
  const volatile float kept = rounds(kRounds);
  static_cast<void>(kept);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

ProductUnitChoice choose() {
  ProductUnitChoice choice;
  if (best_isa() != Isa::Avx512 || __builtin_cpu_supports("avx512bf16") == 0) {
    choice.why = "fma: this CPU has no BF16 dot instruction";
    return choice;
  }
  if (!dot_is_in_order()) {
    choice.why = "fma: the BF16 dot instruction of this CPU sums in another order";
    return choice;
  }
  choice.can_use_dot = true;
  double fma = 1e9;
  double dot = 1e9;
  for (int i = 0; i < kTimings; ++i) {
    fma = std::min(fma, seconds(avx512::fma_rounds));
    dot = std::min(dot, seconds(avx512::dot_rounds));
  }
  choice.dot_speed = fma / dot * static_cast<double>(avx512::kProductsPerDotRound) /
                     static_cast<double>(avx512::kProductsPerFmaRound);
  choice.unit = choice.dot_speed > kWorthIt ? ProductUnit::Bf16Dot : ProductUnit::Fma;
  choice.why = fmt::format(
      "{}: the BF16 dot instruction of this CPU is in order and has {:.2f} "
      "times the speed of FMA",
      name_of(choice.unit), choice.dot_speed);
  return choice;
}

}  // namespace

const ProductUnitChoice& product_unit() {
  static const ProductUnitChoice choice = choose();
  return choice;
}

}  // namespace dojo::numerics
