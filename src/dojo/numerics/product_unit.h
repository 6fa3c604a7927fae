// Which unit multiplies operands that bfloat16 holds exactly, in the order `sequential`: FP32 fused
// multiply-add, or the BF16 dot instruction (vdpbf16ps), which folds two points at a time. With the
// earlier point in the upper half of each pair it gives the bits of two FMAs, provided that it adds
// the upper product first and that nothing in the sum can be denormal, which it would flush. The
// first is tried out on the CPU at hand, once; the second is checked at every call
// (internal/value_range.h). So the unit is about speed alone.
#pragma once

#include <cstdint>
#include <string>

namespace dojo::numerics {

enum class ProductUnit : std::uint8_t { Fma, Bf16Dot };

constexpr const char* name_of(ProductUnit unit) {
  return unit == ProductUnit::Bf16Dot ? "bf16 dot" : "fma";
}

struct ProductUnitChoice {
  ProductUnit unit = ProductUnit::Fma;
  bool can_use_dot = false;  // the CPU has the instruction, and its order is ours
  double dot_speed = 0;  // products per second of the dot instruction over those of FMA; 0: none
  std::string why;       // one line for a log
};

// What this CPU should use. The first call measures for a few milliseconds.
const ProductUnitChoice& product_unit();

}  // namespace dojo::numerics
