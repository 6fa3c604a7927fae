// Format: the descriptor of how one element of a tensor is stored. One table row per format.
// CFloat8 is Tesla's configurable 8-bit float ("A Guide to Tesla's Configurable Floating Point
// Formats & Arithmetic", 2021): no Inf, no NaN, an unsigned 6-bit exponent bias per tensor.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace dojo {

enum class Format : std::uint8_t { F32, Bf16, Cf8_1_4_3, Cf8_1_5_2, U8, I32, I64, Bool };

enum class FormatKind : std::uint8_t { Float, ConfigurableFloat, Integer, Boolean };

struct FormatInfo {
  Format format;
  std::string_view name;  // as Graph text writes it
  FormatKind kind;
  int bytes;          // per element
  int exponent_bits;  // 0 for integers
  int mantissa_bits;  // stored bits, without the hidden one
  std::string_view what;
};

inline constexpr std::array kFormats{
    FormatInfo{Format::F32, "f32", FormatKind::Float, 4, 8, 23, "IEEE binary32"},
    FormatInfo{Format::Bf16, "bf16", FormatKind::Float, 2, 8, 7, "bfloat16"},
    FormatInfo{Format::Cf8_1_4_3, "cf8_1_4_3", FormatKind::ConfigurableFloat, 1, 4, 3,
               "CFloat8 1-4-3, 6-bit bias"},
    FormatInfo{Format::Cf8_1_5_2, "cf8_1_5_2", FormatKind::ConfigurableFloat, 1, 5, 2,
               "CFloat8 1-5-2, 6-bit bias"},
    FormatInfo{Format::U8, "u8", FormatKind::Integer, 1, 0, 0, "unsigned 8-bit integer"},
    FormatInfo{Format::I32, "i32", FormatKind::Integer, 4, 0, 0, "signed 32-bit integer"},
    FormatInfo{Format::I64, "i64", FormatKind::Integer, 8, 0, 0, "signed 64-bit integer"},
    FormatInfo{Format::Bool, "bool", FormatKind::Boolean, 1, 0, 0, "0 or 1 in one byte"},
};

constexpr const FormatInfo& info(Format format) {
  return kFormats[static_cast<std::size_t>(format)];
}
constexpr std::int64_t bytes_of(Format format) { return info(format).bytes; }
constexpr bool is_float(Format format) {
  return info(format).kind == FormatKind::Float ||
         info(format).kind == FormatKind::ConfigurableFloat;
}
constexpr bool has_bias(Format format) {
  return info(format).kind == FormatKind::ConfigurableFloat;
}
constexpr std::optional<Format> format_named(std::string_view name) {
  for (const FormatInfo& row : kFormats) {
    if (row.name == name) {
      return row.format;
    }
  }
  return std::nullopt;
}

constexpr bool rows_follow_the_enum() {
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    if (static_cast<std::size_t>(kFormats[i].format) != i) {
      return false;
    }
  }
  return true;
}
static_assert(rows_follow_the_enum(), "kFormats is indexed by Format");

}  // namespace dojo
