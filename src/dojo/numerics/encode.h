// Arrays between FP32 and storage. The value of each element is the one the scalar twin in cfloat.h
// gives, on every path; its random bits depend on (seed, step, tensor, element index) alone. So
// the result does not depend on how an array is split into ranges or over threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dojo/base/format.h"
#include "dojo/base/philox.h"
#include "dojo/base/thread_pool.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/isa.h"

namespace dojo::numerics {

struct RoundingSpec {
  Rounding mode = Rounding::NearestEven;
  RandomStream stream{};            // Stochastic only
  std::uint64_t first_element = 0;  // index in the tensor of the first element of the range
};

// How an element is stored. `bias` matters to formats that have one, `denormals` to CFloat8 and
// SHP, `overflow` to encoding into formats with special codes.
struct StorageFormat {
  Format format = Format::F32;
  int bias = 0;
  DenormalScale denormals = DenormalScale::Paper;
  Overflow overflow = Overflow::OfFormat;

  constexpr CFloatSpec spec() const { return cfloat_spec(format, bias, denormals, overflow); }
};

struct EncodeStats {
  float amax = 0;               // largest finite magnitude read
  std::int64_t saturated = 0;   // beyond the range (for uhp: negative, too), Inf and NaN included
                                // unless they stay what they are
  std::int64_t zeroed = 0;      // nonzero read, zero written
  std::int64_t not_finite = 0;  // Inf or NaN read
  Flags flags{};                // of all elements together (cfloat.h)

  EncodeStats& operator+=(const EncodeStats& other);
  friend bool operator==(const EncodeStats&, const EncodeStats&) = default;
};

// `out` holds in.size() elements of the float format `to`. On the calling thread.
EncodeStats encode(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
                   std::span<std::byte> out, Isa isa = best_isa());
// The same, its statistics added to `stats`. Of many short ranges this is the quicker form: a flag
// that is up is not looked for again.
void encode_and_add(std::span<const float> in, const StorageFormat& to,
                    const RoundingSpec& rounding, std::span<std::byte> out, EncodeStats& stats,
                    Isa isa = best_isa());
// The same as the first, split over the pool.
EncodeStats encode(ThreadPool& pool, std::span<const float> in, const StorageFormat& to,
                   const RoundingSpec& rounding, std::span<std::byte> out, Isa isa = best_isa());

// Exact. `in` holds out.size() elements of `from`, a float format or U8.
void decode(std::span<const std::byte> in, const StorageFormat& from, std::span<float> out,
            Isa isa = best_isa());
void decode(ThreadPool& pool, std::span<const std::byte> in, const StorageFormat& from,
            std::span<float> out, Isa isa = best_isa());

// random[i] = stream.bits16(first_element + i).
void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random, Isa isa = best_isa());

}  // namespace dojo::numerics
