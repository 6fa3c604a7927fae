// How a kernel takes the points of a convolution: one by one, or as pairs for the BF16 dot unit.
// What a tile folds at a time, 32 bits of each operand, is a unit.
#pragma once

#include <cstdint>
#include <vector>

#include "dojo/numerics/association.h"
#include "dojo/numerics/internal/reduce_plan.h"
#include "dojo/numerics/internal/tile_avx512.h"

namespace dojo::numerics::internal {

// Of every order but exact.
avx512::TileFold fold_of(SumOrder order, bool has_pairs);

// Points that must not be parted by the end of a chunk.
std::int64_t group_of(avx512::TileFold fold);

// The point of each unit, or its pair of points; -1 where there is no second one.
struct Units {
  std::vector<std::int32_t> first;
  std::vector<std::int32_t> second;  // empty: units are points
};

// Makes segments and chunks count units.
Units into_units(Chunked& chunked, avx512::TileFold fold);

// row[i] = first[i] and second[i] as one unit, for bfloat16 values; no second is 0.
void join(const float* first, const float* second, std::int64_t count, float* row);

}  // namespace dojo::numerics::internal
