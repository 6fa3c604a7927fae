// C = A B in a stated order: c(i, j) sums the products a(i, k) b(k, j) over ascending k, the only
// reduce loop, as association.h and the named order of the cuts (sum_order.h) say; then one
// rounding for the optional bias, then the optional relu. Operands are read from storage as they
// are, so transposes, broadcasts and slices are strides.
#pragma once

#include <array>
#include <cstdint>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/association.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/product_unit.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics {

// +0 where x <= 0 or x is -0; a NaN stays.
constexpr float relu(float x) { return x <= 0 ? 0.0F : x; }

enum class Activation : std::uint8_t { None, Relu };

// Loops over independent products, outermost first; 1 where unused.
using BatchExtents = std::array<std::int64_t, 3>;

struct GemmShape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  BatchExtents batch{1, 1, 1};
};

struct MatrixOperand {
  Storage storage{};
  std::int64_t row_stride = 0;     // A: along m; B: along k
  std::int64_t column_stride = 0;  // A: along k; B: along n
  BatchExtents batch_stride{0, 0, 0};
};

struct MatrixOutput {
  float* data = nullptr;
  std::int64_t row_stride = 0;  // columns are adjacent
  BatchExtents batch_stride{0, 0, 0};
};

struct Epilogue {
  const float* row_bias = nullptr;     // one value per row of C, or none
  const float* column_bias = nullptr;  // one value per column; added after the row bias
  Activation activation = Activation::None;
};

// `cuts` is empty or has one entry. The output must not overlap an operand. `unit` is what to use
// where it changes no bit; it is given to test and to time the other one.
void gemm(ThreadPool& pool, const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
          const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out,
          Isa isa = best_isa(), ProductUnit unit = product_unit().unit);

}  // namespace dojo::numerics
