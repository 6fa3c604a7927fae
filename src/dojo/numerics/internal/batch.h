// Offsets of one product of a batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dojo/numerics/gemm.h"

namespace dojo::numerics::internal {

struct BatchOffset {
  std::int64_t a = 0;
  std::int64_t b = 0;
  std::int64_t out = 0;
};

inline BatchOffset batch_offset(const GemmShape& shape, const MatrixOperand& a,
                                const MatrixOperand& b, const MatrixOutput& out,
                                std::int64_t index) {
  BatchOffset at;
  for (std::size_t i = shape.batch.size(); i-- > 0;) {
    const std::int64_t digit = index % shape.batch[i];
    index /= shape.batch[i];
    at.a += digit * a.batch_stride[i];
    at.b += digit * b.batch_stride[i];
    at.out += digit * out.batch_stride[i];
  }
  return at;
}

constexpr std::int64_t batch_count(const GemmShape& shape) {
  return shape.batch[0] * shape.batch[1] * shape.batch[2];
}

}  // namespace dojo::numerics::internal
