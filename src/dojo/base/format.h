// Format: the descriptor of how one element of a tensor is stored. One table row per format.
// CFloat8 and CFloat16 (shp, uhp) are Tesla's configurable floats ("A Guide to Tesla's Configurable
// Floating Point Formats & Arithmetic", 2021). e4m3 and e5m2 are those of the OCP 8-bit Floating
// Point Specification (OFP8), 2023; their bias is a power-of-two scale of the tensor.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace dojo {

enum class Format : std::uint8_t {
  F32,
  Bf16,
  F16,
  Cf8_1_4_3,
  Cf8_1_5_2,
  Shp,
  Uhp,
  E4m3,
  E5m2,
  U8,
  I32,
  I64,
  Bool
};

// A ConfigurableFloat has an exponent bias per tensor, 0 .. 63.
enum class FormatKind : std::uint8_t { Float, ConfigurableFloat, Integer, Boolean };

// What a mantissa m is worth where the exponent field is 0, with bias b: 2^(1-b) 0.m as in IEEE
// 754 (Gradual), nothing (Flushed), or whichever of Gradual and 2^(-b) 0.m is asked for.
enum class DenormalRule : std::uint8_t { Selectable, Gradual, Flushed };

// What the largest codes are: ordinary numbers; the last one a NaN; or, with the largest exponent,
// Inf and NaN as in IEEE 754.
enum class TopCodes : std::uint8_t { Numbers, OneNan, InfNan };

struct FormatInfo {
  Format format;
  std::string_view name;  // as Graph text writes it
  FormatKind kind;
  int bytes;          // per element
  int sign_bits;      // this and the rest: 0 for integers
  int exponent_bits;  // field widths in bits, from the top: sign, exponent, mantissa
  int mantissa_bits;  // without the hidden bit
  int bias;           // of a Float; of a ConfigurableFloat the usual one
  DenormalRule denormals;
  TopCodes top_codes;
  std::string_view what;
};

inline constexpr std::array kFormats{
    FormatInfo{Format::F32, "f32", FormatKind::Float, 4, 1, 8, 23, 127, DenormalRule::Gradual,
               TopCodes::InfNan, "IEEE binary32"},
    FormatInfo{Format::Bf16, "bf16", FormatKind::Float, 2, 1, 8, 7, 127, DenormalRule::Gradual,
               TopCodes::InfNan, "bfloat16"},
    FormatInfo{Format::F16, "f16", FormatKind::Float, 2, 1, 5, 10, 15, DenormalRule::Gradual,
               TopCodes::InfNan, "IEEE binary16"},
    FormatInfo{Format::Cf8_1_4_3, "cf8_1_4_3", FormatKind::ConfigurableFloat, 1, 1, 4, 3, 7,
               DenormalRule::Selectable, TopCodes::Numbers, "CFloat8 1-4-3, 6-bit bias"},
    FormatInfo{Format::Cf8_1_5_2, "cf8_1_5_2", FormatKind::ConfigurableFloat, 1, 1, 5, 2, 15,
               DenormalRule::Selectable, TopCodes::Numbers, "CFloat8 1-5-2, 6-bit bias"},
    FormatInfo{Format::Shp, "shp", FormatKind::ConfigurableFloat, 2, 1, 5, 10, 15,
               DenormalRule::Selectable, TopCodes::Numbers, "CFloat16 signed 1-5-10, 6-bit bias"},
    FormatInfo{Format::Uhp, "uhp", FormatKind::Float, 2, 0, 6, 10, 31, DenormalRule::Flushed,
               TopCodes::InfNan, "CFloat16 unsigned 0-6-10"},
    FormatInfo{Format::E4m3, "e4m3", FormatKind::ConfigurableFloat, 1, 1, 4, 3, 7,
               DenormalRule::Gradual, TopCodes::OneNan, "OCP FP8 E4M3, bias 7 +- scale"},
    FormatInfo{Format::E5m2, "e5m2", FormatKind::ConfigurableFloat, 1, 1, 5, 2, 15,
               DenormalRule::Gradual, TopCodes::InfNan, "OCP FP8 E5M2, bias 15 +- scale"},
    FormatInfo{Format::U8, "u8", FormatKind::Integer, 1, 0, 0, 0, 0, DenormalRule::Gradual,
               TopCodes::Numbers, "unsigned 8-bit integer"},
    FormatInfo{Format::I32, "i32", FormatKind::Integer, 4, 0, 0, 0, 0, DenormalRule::Gradual,
               TopCodes::Numbers, "signed 32-bit integer"},
    FormatInfo{Format::I64, "i64", FormatKind::Integer, 8, 0, 0, 0, 0, DenormalRule::Gradual,
               TopCodes::Numbers, "signed 64-bit integer"},
    FormatInfo{Format::Bool, "bool", FormatKind::Boolean, 1, 0, 0, 0, 0, DenormalRule::Gradual,
               TopCodes::Numbers, "0 or 1 in one byte"},
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

constexpr bool fields_fill_the_bytes() {
  for (const FormatInfo& row : kFormats) {
    if (is_float(row.format) &&
        row.sign_bits + row.exponent_bits + row.mantissa_bits != 8 * row.bytes) {
      return false;
    }
  }
  return true;
}
static_assert(fields_fill_the_bytes(), "sign, exponent and mantissa make up the whole code");

}  // namespace dojo
