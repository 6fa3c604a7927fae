// A packer for one-byte floats, 64 codes at a time. Needs avx512_vbmi.
#pragma once

#include <memory>

#include "dojo/numerics/internal/gemm_kernels.h"

namespace dojo::numerics::avx512 {

bool can_pack_bytes(const StorageFormat& type);

// `points_per_unit` 1 or 2; `others` takes what has neither adjacent lanes nor adjacent points.
std::unique_ptr<internal::Packer> byte_packer_of(const Storage& storage,
                                                 std::int64_t points_per_unit,
                                                 std::unique_ptr<internal::Packer> others);

}  // namespace dojo::numerics::avx512
