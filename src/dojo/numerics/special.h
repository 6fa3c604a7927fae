// Special functions in FP32: one stated algorithm each (internal/special_algorithms.h), made of
// IEEE 754 operations alone, so a value does not depend on the instruction set or on its
// neighbours. Division and square root are the correctly rounded ones of the language. Largest
// errors, over all FP32 inputs (special_slow_test.cc holds them), are in docs/numerics.md.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "dojo/numerics/isa.h"

namespace dojo::numerics {

#include "dojo/numerics/internal/special_algorithms.h"

// y[i] = f(x[i]), with the bits of the scalar function; x and y of one size, equal or disjoint. On
// the calling thread.
void exp(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void log(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void tanh(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void erf(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void rsqrt(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void sigmoid(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void sin(std::span<const float> x, std::span<float> y, Isa isa = best_isa());
void cos(std::span<const float> x, std::span<float> y, Isa isa = best_isa());

}  // namespace dojo::numerics
