#include "dojo/numerics/gemm.h"

#include "dojo/base/check.h"
#include "dojo/numerics/internal/batch.h"
#include "dojo/numerics/internal/gemm_avx512.h"

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

}  // namespace

void gemm(ThreadPool& pool, const GemmShape& shape, const MatrixOperand& a, const MatrixOperand& b,
          const ReduceCuts& cuts, const Epilogue& epilogue, const MatrixOutput& out, Isa isa) {
  DOJO_CHECK(shape.m >= 0 && shape.n >= 0 && shape.k >= 0);
  DOJO_CHECK(cuts.block.size() <= 1);
  if (isa == Isa::Avx512 && cuts.order == SumOrder::Sequential) {
    avx512::gemm(pool, shape, a, b, cuts, epilogue, out);
    return;
  }
  gemm_plain(pool, shape, a, b, cuts, epilogue, out);
}

}  // namespace dojo::numerics
