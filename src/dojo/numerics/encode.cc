#include "dojo/numerics/encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>

#include "dojo/base/check.h"
#include "dojo/numerics/internal/codec.h"
#include "dojo/numerics/storage.h"

namespace dojo::numerics {
namespace {

// A multiple of the 8 elements that share a Philox counter, and of every vector width.
constexpr std::int64_t kRange = std::int64_t{1} << 15;

bool is_finite(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu) < 0x7F800000u; }

void note(EncodeStats& stats, float x, bool saturated, bool zero_written) {
  if (is_finite(x)) {
    stats.amax = std::max(stats.amax, std::fabs(x));
  } else {
    ++stats.not_finite;
  }
  stats.saturated += saturated ? 1 : 0;
  stats.zeroed += (x != 0 && zero_written) ? 1 : 0;
}

void encode_plain(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
                  std::byte* out, EncodeStats& stats) {
  const CFloatSpec spec = to.spec();
  const std::size_t width = static_cast<std::size_t>(bytes_of(to.format));
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::uint32_t random = rounding.mode == Rounding::Stochastic
                                     ? rounding.stream.bits16(rounding.first_element + i)
                                     : 0;
    Flags flags;
    const std::uint32_t code = internal::encode(spec, in[i], rounding.mode, random, flags);
    std::memcpy(out + width * i, &code, width);  // little endian
    const bool stays_nan = std::isnan(in[i]) && spec.has_nan();
    note(stats, in[i], flags.overflow || (flags.invalid && !stays_nan),
         (code & spec.magnitude_mask()) == 0);
    stats.flags |= flags;
  }
}

void copy_f32(std::span<const float> in, std::byte* out, EncodeStats& stats) {
  std::ranges::copy(std::as_bytes(in), out);
  for (const float x : in) {
    note(stats, x, false, false);
    stats.flags.invalid |= std::isnan(x);
    stats.flags.denormal |= std::fpclassify(x) == FP_SUBNORMAL;
  }
}

void encode_range(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
                  std::span<std::byte> out, Isa isa, Caching caching, EncodeStats& stats) {
  switch (isa) {
    case Isa::Avx512:
      return avx512::encode(in, to, rounding, out.data(), caching, stats);
    case Isa::Avx2:
      return avx2::encode(in, to, rounding, out.data(), caching, stats);
    case Isa::Plain:
      return to.format == Format::F32 ? copy_f32(in, out.data(), stats)
                                      : encode_plain(in, to, rounding, out.data(), stats);
  }
}

// PERF: codes of arrays that no cache will hold are written around the caches, which saves reading
// the lines first: 2.8 -> 3.1 G elements/s where f32 is read and bytes are written (the two
// streaming kernels of encode_bench.cc on an Emerald Rapids core).
Caching caching_of(std::size_t elements) {
  constexpr std::size_t kFrom = std::size_t{1} << 24;
  return elements >= kFrom ? Caching::PastCaches : Caching::Cached;
}

}  // namespace

EncodeStats& EncodeStats::operator+=(const EncodeStats& other) {
  amax = std::max(amax, other.amax);
  saturated += other.saturated;
  zeroed += other.zeroed;
  not_finite += other.not_finite;
  flags |= other.flags;
  return *this;
}

EncodeStats encode(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
                   std::span<std::byte> out, Isa isa) {
  EncodeStats stats;
  encode_and_add(in, to, rounding, out, stats, isa);
  return stats;
}

void encode_and_add(std::span<const float> in, const StorageFormat& to,
                    const RoundingSpec& rounding, std::span<std::byte> out, EncodeStats& stats,
                    Isa isa) {
  DOJO_CHECK(is_float(to.format));
  DOJO_CHECK(out.size() == in.size() * static_cast<std::size_t>(bytes_of(to.format)));
  encode_range(in, to, rounding, out, isa, caching_of(in.size()), stats);
}

EncodeStats encode(ThreadPool& pool, std::span<const float> in, const StorageFormat& to,
                   const RoundingSpec& rounding, std::span<std::byte> out, Isa isa) {
  const std::size_t width = static_cast<std::size_t>(bytes_of(to.format));
  DOJO_CHECK(is_float(to.format));
  DOJO_CHECK(out.size() == in.size() * width);
  std::mutex mutex;
  EncodeStats total;
  pool.parallel_for(
      static_cast<std::int64_t>(in.size()), kRange, [&](std::int64_t begin, std::int64_t end) {
        const std::size_t first = static_cast<std::size_t>(begin);
        const std::size_t count = static_cast<std::size_t>(end - begin);
        RoundingSpec part = rounding;
        part.first_element += first;
        EncodeStats stats;
        encode_range(in.subspan(first, count), to, part, out.subspan(first * width, count * width),
                     isa, caching_of(in.size()), stats);
        const std::lock_guard lock(mutex);
        total += stats;
      });
  return total;
}

void decode(std::span<const std::byte> in, const StorageFormat& from, std::span<float> out,
            Isa isa) {
  DOJO_CHECK(in.size() == out.size() * static_cast<std::size_t>(bytes_of(from.format)));
  if (isa != Isa::Plain) {
    (isa == Isa::Avx512 ? avx512::decode : avx2::decode)(in.data(), from, out);
    return;
  }
  const ElementReader read(Storage{in.data(), from, 0});
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = read(static_cast<std::int64_t>(i));
  }
}

void decode(ThreadPool& pool, std::span<const std::byte> in, const StorageFormat& from,
            std::span<float> out, Isa isa) {
  const std::size_t width = static_cast<std::size_t>(bytes_of(from.format));
  DOJO_CHECK(in.size() == out.size() * width);
  pool.parallel_for(
      static_cast<std::int64_t>(out.size()), kRange, [&](std::int64_t begin, std::int64_t end) {
        const std::size_t first = static_cast<std::size_t>(begin);
        const std::size_t count = static_cast<std::size_t>(end - begin);
        decode(in.subspan(first * width, count * width), from, out.subspan(first, count), isa);
      });
}

void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random, Isa isa) {
  if (isa != Isa::Plain) {
    (isa == Isa::Avx512 ? avx512::random_bits16 : avx2::random_bits16)(stream, first_element,
                                                                       random);
    return;
  }
  for (std::size_t i = 0; i < random.size(); ++i) {
    random[i] = stream.bits16(first_element + i);
  }
}

}  // namespace dojo::numerics
