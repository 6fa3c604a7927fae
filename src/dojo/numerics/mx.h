// MXFP8: blocks of 32 elements of e4m3 or e5m2 that share one power-of-two scale.
// Source: OCP Microscaling Formats (MX) Specification v1.0, 2023. An element is worth its OCP value
// times the scale of its block; a scale is E8M0: code c is 2^(c - 127), 255 is NaN.
//
// The scale of a block is the specification's: 2^(floor(log2(amax)) - emax), emax the exponent of
// the largest element (8 or 15), clamped to 2^-127 .. 2^127. What it leaves open: amax is that of
// the finite elements, 0 counting as the smallest; elements are rounded as e4m3 and e5m2 are
// elsewhere (encode.h): beyond the range and Inf saturate, a NaN stays one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dojo/base/format.h"
#include "dojo/base/thread_pool.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics {

inline constexpr std::int64_t kMxBlock = 32;

// A contiguous array seen as [outer, length, inner]: blocks lie along the middle one. The last
// block may be shorter. inner = 1: along the last axis.
struct MxShape {
  std::int64_t outer = 1;
  std::int64_t length = 0;
  std::int64_t inner = 1;

  constexpr std::int64_t elements() const { return outer * length * inner; }
  constexpr std::int64_t blocks() const { return (length + kMxBlock - 1) / kMxBlock; }  // per line
  constexpr std::int64_t scales() const { return outer * blocks() * inner; }
};

// The value of a scale's code.
float mx_scale(std::uint8_t code);

// `element`: E4m3 or E5m2. `in` and `codes` hold shape.elements(), `scales` shape.scales() elements
// of an array [outer, blocks, inner]. Random bits follow the element's index in `in`.
EncodeStats encode_mx(ThreadPool& pool, std::span<const float> in, const MxShape& shape,
                      Format element, const RoundingSpec& rounding, std::span<std::byte> codes,
                      std::span<std::uint8_t> scales, Isa isa = best_isa());

// Exact, but for products beyond FP32, which become Inf (encode_mx makes none).
void decode_mx(ThreadPool& pool, std::span<const std::byte> codes,
               std::span<const std::uint8_t> scales, const MxShape& shape, Format element,
               std::span<float> out, Isa isa = best_isa());

}  // namespace dojo::numerics
