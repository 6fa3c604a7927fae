// The order `exact` in FP64: operands are taken as integers, in units of their smallest bit, and
// cut into pieces of so few bits that FP64 sums of products of pieces are exact in any order. The
// sums of all pairs of pieces are added as 128-bit integers and rounded once.
#pragma once

#include <optional>

#include "dojo/numerics/gemm.h"
#include "dojo/numerics/internal/value_range.h"

namespace dojo::numerics::avx512 {

// The value of an element is 2^unit sum over i of piece i 2^(i width), |piece| < 2^width.
struct Pieces {
  int unit = 0;
  int width = 1;
  int count = 1;
};

struct ExactPlan {
  Pieces a;
  Pieces b;
};

// None if an operand is not finite or the ranges are too wide; then only the scalar twin will do.
std::optional<ExactPlan> exact_plan(const internal::ValueRange& a, const internal::ValueRange& b,
                                    std::int64_t k);

void gemm_exact(const ExactPlan& plan, ThreadPool& pool, const GemmShape& shape,
                const MatrixOperand& a, const MatrixOperand& b, const Epilogue& epilogue,
                const MatrixOutput& out);

}  // namespace dojo::numerics::avx512
