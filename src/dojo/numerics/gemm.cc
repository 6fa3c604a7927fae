#include "dojo/numerics/gemm.h"

#include "dojo/base/check.h"
#include "dojo/numerics/internal/batch.h"
#include "dojo/numerics/internal/gemm_blocked.h"
#include "dojo/numerics/internal/gemm_exact_avx512.h"
#include "dojo/numerics/internal/gemm_kernels.h"
#include "dojo/numerics/internal/value_range.h"

namespace dojo::numerics {
namespace {

float finish(const Epilogue& epilogue, float sum, std::int64_t row, std::int64_t column) {
  if (epilogue.row_bias != nullptr) {
    sum += epilogue.row_bias[row];
  }
  if (epilogue.column_bias != nullptr) {
    sum += epilogue.column_bias[column];
  }
  return epilogue.activation == Activation::Relu ? relu(sum) : sum;
}

// The scalar twin: the definition, output by output.
void gemm_plain(ThreadPool& pool, const GemmShape& shape, const MatrixOperand& a,
                const MatrixOperand& b, const ReduceCuts& cuts, const Epilogue& epilogue,
                const MatrixOutput& out) {
  const ElementReader read_a(a.storage);
  const ElementReader read_b(b.storage);
  const std::array<std::int64_t, 1> extent{shape.k};
  pool.parallel_for(
      internal::batch_count(shape) * shape.m, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
          const std::int64_t row = index % shape.m;
          const internal::BatchOffset at =
              internal::batch_offset(shape, a, b, out, index / shape.m);
          for (std::int64_t column = 0; column < shape.n; ++column) {
            const float sum =
                sum_products(extent, cuts, [&](auto& acc, std::span<const std::int64_t> point) {
                  acc.add(read_a(at.a + row * a.row_stride + point[0] * a.column_stride),
                          read_b(at.b + point[0] * b.row_stride + column * b.column_stride));
                });
            out.data[at.out + row * out.row_stride + column] = finish(epilogue, sum, row, column);
          }
        }
      });
}

using internal::Specials;
using internal::value_range;

bool takes_dot(ThreadPool& pool, const GemmShape& s, const MatrixOperand& a, const MatrixOperand& b,
               SumOrder order, ProductUnit unit) {
  if (unit != ProductUnit::Bf16Dot || !product_unit().can_use_dot ||
      order != SumOrder::Sequential || !internal::is_exact_in_bf16(a.storage.type.format) ||
      !internal::is_exact_in_bf16(b.storage.type.format)) {
    return false;
  }
  return internal::fits_bf16_dot(value_range(pool, a, s.m, s.k, s.batch, Specials::Ignore),
                                 value_range(pool, b, s.k, s.n, s.batch, Specials::Ignore), s.k);
}

// Of the orders that fold point by point; nullptr: the scalar twin.
const internal::GemmKernels* kernels_of(ThreadPool& pool, const GemmShape& shape,
                                        const MatrixOperand& a, const MatrixOperand& b,
                                        SumOrder order, Isa isa, ProductUnit unit) {
  if (isa == Isa::Plain || order == SumOrder::Exact) {
    return nullptr;
  }
  if (isa == Isa::Avx2) {
    return &avx2::gemm_kernels();
  }
  return takes_dot(pool, shape, a, b, order, unit) ? &avx512::gemm_kernels_of_pairs()
                                                   : &avx512::gemm_kernels();
}

}  // namespace

void gemm(ThreadPool& pool, const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
          const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out, Isa isa,
          ProductUnit unit) {
  DOJO_CHECK(shape.m >= 0 && shape.n >= 0 && shape.k >= 0);
  DOJO_CHECK(cuts.block.size() <= 1);
  if (const internal::GemmKernels* kernels = kernels_of(pool, shape, a, b, cuts.order, isa, unit)) {
    internal::gemm_blocked(*kernels, pool, shape, a, b, cuts, epilogue, out);
    return;
  }
  if (cuts.order == SumOrder::Exact && isa == Isa::Avx512) {
    const std::optional<avx512::ExactPlan> plan = avx512::exact_plan(
        value_range(pool, a, shape.m, shape.k, shape.batch, Specials::LookFor),
        value_range(pool, b, shape.k, shape.n, shape.batch, Specials::LookFor), shape.k);
    if (plan.has_value()) {
      avx512::gemm_exact(*plan, pool, shape, a, b, epilogue, out);
      return;
    }
  }
  gemm_plain(pool, shape, a, b, cuts, epilogue, out);
}

}  // namespace dojo::numerics
