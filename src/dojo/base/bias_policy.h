// BiasPolicy: how the tensors of a step choose the exponent bias of a configurable float. Plain
// data that the head of a lowered Graph carries; the rules themselves are numerics/bias.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "dojo/base/format.h"

namespace dojo {

enum class BiasRule : std::uint8_t {
  Delayed,  // from the largest amax of the tensor's last steps
  Current,  // from the amax of the very pass that stores the tensor
  Fixed,    // one stated bias per format
  Learnt,   // moves one step at a time towards fewer saturated and zeroed elements
};

// As the head of a Graph writes them, by the order of the enumerators.
inline constexpr std::array<std::string_view, 4> kBiasRuleNames{"delayed", "current", "fixed",
                                                                "learnt"};
constexpr std::string_view name_of(BiasRule rule) {
  return kBiasRuleNames[static_cast<std::size_t>(rule)];
}

inline constexpr int kMaxBias = 63;  // a bias has 6 bits

constexpr std::array<std::int8_t, kFormats.size()> usual_biases() {
  std::array<std::int8_t, kFormats.size()> biases{};
  for (const FormatInfo& row : kFormats) {
    biases[static_cast<std::size_t>(row.format)] =
        static_cast<std::int8_t>(has_bias(row.format) ? row.bias : 0);
  }
  return biases;
}

struct BiasPolicy {
  static constexpr int kMaxWindow = 4096;

  BiasRule rule = BiasRule::Delayed;
  int window = 16;  // Delayed: how many steps, 1 .. kMaxWindow
  int margin = 1;   // binades of headroom above an amax, 0 .. kMaxBias; not Fixed
  // Biases are multiples of it, 1 .. kMaxBias, so a step has at most ceil(64 / grid) different
  // ones; not Fixed.
  int grid = 1;
  std::array<std::int8_t, kFormats.size()> fixed = usual_biases();  // Fixed: by Format

  int fixed_bias(Format format) const { return fixed[static_cast<std::size_t>(format)]; }
  friend bool operator==(const BiasPolicy&, const BiasPolicy&) = default;
};

}  // namespace dojo
