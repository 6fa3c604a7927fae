#include "dojo/numerics/internal/product_units.h"

#include <bit>

#include "dojo/base/check.h"

namespace dojo::numerics::internal {

using avx512::TileFold;

TileFold fold_of(SumOrder order, bool has_pairs) {
  switch (order) {
    case SumOrder::Sequential:
      return has_pairs ? TileFold::Bf16Pair : TileFold::Fma;
    case SumOrder::Tile4:
      return TileFold::GroupOf4;
    case SumOrder::W21:
      return TileFold::W21;
    case SumOrder::Exact:
      break;
  }
  DOJO_CHECK(false);
}

std::int64_t group_of(TileFold fold) {
  return fold == TileFold::GroupOf4 ? 4 : (fold == TileFold::Bf16Pair ? 2 : 1);
}

Units into_units(Chunked& chunked, TileFold fold) {
  Units units;
  const std::int32_t size = fold == TileFold::Bf16Pair ? 2 : 1;
  std::int32_t point = 0;
  std::size_t at = 0;
  for (Chunk& chunk : chunked.chunks) {
    chunk.first_point = static_cast<std::int64_t>(units.first.size());
    for (std::int64_t s = 0; s < chunk.segments; ++s, ++at) {
      Segment& segment = chunked.segments[at];
      const std::int32_t end = point + segment.points;
      segment.points = (segment.points + size - 1) / size;
      for (; point < end; point += size) {
        units.first.push_back(point);
        if (size == 2) {
          units.second.push_back(point + 1 < end ? point + 1 : -1);
        }
      }
      point = end;
    }
    chunk.points = static_cast<std::int64_t>(units.first.size()) - chunk.first_point;
  }
  return units;
}

void join(const float* first, const float* second, std::int64_t count, float* row) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t low = second != nullptr ? std::bit_cast<std::uint32_t>(second[i]) : 0;
    row[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(first[i]) | low >> 16);
  }
}

}  // namespace dojo::numerics::internal
