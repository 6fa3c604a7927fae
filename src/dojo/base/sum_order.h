// SumOrder: the order in which the products of a GEMM or convolution are added up. The head of a
// lowered Graph carries it; what each order computes is numerics/sum_order.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace dojo {

enum class SumOrder : std::uint8_t {
  Sequential,  // one product after the other, in FP32
  Tile4,       // groups of four products, then the groups
  W21,         // one after the other in a 21-bit accumulator
  Exact,       // the real sum, rounded once
};

// As the head of a Graph writes them, by the order of the enumerators.
inline constexpr std::array<std::string_view, 4> kSumOrderNames{"sequential", "tile4", "w21",
                                                                "exact"};
constexpr std::string_view name_of(SumOrder order) {
  return kSumOrderNames[static_cast<std::size_t>(order)];
}

constexpr std::optional<SumOrder> sum_order_named(std::string_view name) {
  for (std::size_t i = 0; i < kSumOrderNames.size(); ++i) {
    if (kSumOrderNames[i] == name) {
      return static_cast<SumOrder>(i);
    }
  }
  return std::nullopt;
}

}  // namespace dojo
