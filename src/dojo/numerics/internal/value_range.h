// What the values of an operand are made of: all finite ones are multiples of 2^unit below 2^top in
// magnitude. Of most formats that is known; fp32 and bfloat16 operands are looked at. It decides
// whether the BF16 dot unit gives the bits of FMA, and how an exact sum can be split.
#pragma once

#include <cstdint>

#include "dojo/numerics/gemm.h"

namespace dojo::numerics::internal {

struct ValueRange {
  int unit = 0;
  int top = 0;
  bool is_finite = true;  // no Inf, no NaN
};

enum class Specials : std::uint8_t { Ignore, LookFor };

// Of all elements that the GEMM reads of A (rows m, columns k) or B (rows k, columns n). LookFor:
// is_finite is of the data; Ignore: it may be false for formats that have Inf or NaN.
ValueRange value_range(ThreadPool& pool, const MatrixOperand& operand, std::int64_t rows,
                       std::int64_t columns, const BatchExtents& batch, Specials specials);

// Whether sums of k products take the BF16 dot unit without a change of bits: operands are exact in
// bfloat16; every product and so every partial sum is a multiple of 2^-126, so neither operand,
// product nor sum is a denormal; and no finite product or sum overflows, so it does not matter
// whether a product is rounded by itself. (Inf and NaN operands of formats with few exponents do as
// in FMA.)
bool fits_bf16_dot(const ValueRange& a, const ValueRange& b, std::int64_t k);
bool is_exact_in_bf16(Format format);

}  // namespace dojo::numerics::internal
