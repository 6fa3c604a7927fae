#include <algorithm>
#include <bit>

#include "dojo/base/philox.h"
#include "dojo/numerics/cuda/codec.h"
#include "dojo/numerics/cuda/internal/codec.cuh"
#include "dojo/numerics/cuda/internal/status.cuh"

namespace dojo::numerics::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;  // elements: what one block of random bits serves

template <class Code>
struct alignas(8 * sizeof(Code)) Codes {
  Code at[kPerThread];
};

constexpr std::uint32_t kInfinityBits = 0x7F800000u;
constexpr std::uint32_t kMinNormalBits = 0x00800000u;

enum FlagBit : std::uint32_t { kInvalid = 1, kDenormal = 2, kOverflow = 4, kUnderflow = 8 };

// Counts of one thread, then of a warp, then added to the total by one lane.
struct Counts {
  std::uint32_t amax_bits = 0;
  std::uint32_t saturated = 0;
  std::uint32_t zeroed = 0;
  std::uint32_t not_finite = 0;
  std::uint32_t flags = 0;

  // PERF: what is rare is looked for in the extremes of a few elements. Underflow is not rare, but
  // a flag that is up needs no look.
  template <int kCount>
  __device__ void note(const internal::Codec& by, const std::uint32_t (&magnitude)[kCount],
                       const std::uint32_t (&code)[kCount]) {
    std::uint32_t largest = 0;
    std::uint32_t largest_code = 0;
    std::uint32_t smallest_code = 0xFFFFFFFFu;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      largest = max(largest, magnitude[i]);
      largest_code = max(largest_code, code[i]);
      smallest_code = min(smallest_code, code[i]);
    }
    if (largest_code > by.max_magnitude || largest >= kInfinityBits) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        note_large(by, magnitude[i], code[i]);
      }
    } else {
      amax_bits = max(amax_bits, largest);
    }
    if (smallest_code == 0) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        zeroed += code[i] == 0 && magnitude[i] != 0 ? 1u : 0u;
        flags |= magnitude[i] != 0 && magnitude[i] < kMinNormalBits ? kDenormal : 0u;
      }
    }
    if (smallest_code < by.min_normal && (flags & kUnderflow) == 0) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const bool is_inexact = internal::denormal_bits(by, code[i]) != magnitude[i];
        flags |= code[i] < by.min_normal && is_inexact ? kUnderflow : 0u;
      }
    }
  }
  // Lets the lanes that run know of each other's underflow.
  __device__ void share_underflow() {
    flags |= __any_sync(__activemask(), flags & kUnderflow) != 0 ? kUnderflow : 0u;
  }
  __device__ void add_to(DeviceStats* total) const {
    const std::uint32_t all = 0xFFFFFFFFu;
    const std::uint32_t amax = __reduce_max_sync(all, amax_bits);
    const std::uint32_t clamped = __reduce_add_sync(all, saturated);
    const std::uint32_t zeros = __reduce_add_sync(all, zeroed);
    const std::uint32_t strange = __reduce_add_sync(all, not_finite);
    const std::uint32_t raised = __reduce_or_sync(all, flags);
    if (threadIdx.x % 32 != 0) {
      return;
    }
    // PERF: most warps change nothing, and an atomic per warp would be the limit.
    if (amax > *static_cast<volatile std::uint32_t*>(&total->amax_bits)) {
      atomicMax(&total->amax_bits, amax);
    }
    if (clamped != 0) {
      atomicAdd(&total->saturated, clamped);
    }
    if (zeros != 0) {
      atomicAdd(&total->zeroed, zeros);
    }
    if (strange != 0) {
      atomicAdd(&total->not_finite, strange);
    }
    if ((raised & ~*static_cast<volatile std::uint32_t*>(&total->flags)) != 0) {
      atomicOr(&total->flags, raised);
    }
  }

 private:
  __device__ void note_large(const internal::Codec& by, std::uint32_t magnitude,
                             std::uint32_t code) {
    const bool is_finite = magnitude < kInfinityBits;
    amax_bits = is_finite ? max(amax_bits, magnitude) : amax_bits;
    not_finite += is_finite ? 0u : 1u;
    if (code > by.max_magnitude) {
      ++saturated;
      flags |= magnitude > kInfinityBits ? kInvalid : kOverflow;
    }
  }
};

struct Draws {
  bool is_stochastic = false;
  RandomStream stream{};
  std::uint64_t first_block = 0;
};

// The codes of some elements, noted; `random` gives 16 bits for each.
template <class Code, bool kIsStochastic, int kCount, class Random>
__device__ void encode_some(const internal::Codec& by, const float (&x)[kCount],
                            const Random& random, Counts& counts, Code (&out)[kCount]) {
  std::uint32_t magnitude[kCount];
  std::uint32_t code[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const std::uint32_t bits = __float_as_uint(x[i]);
    magnitude[i] = bits & 0x7FFFFFFFu;
    code[i] = kIsStochastic ? internal::stochastic_code(by, magnitude[i], random(i))
                            : internal::nearest_code(by, magnitude[i]);
    out[i] = static_cast<Code>((bits >> 31 << by.sign_shift) | min(code[i], by.max_magnitude));
  }
  counts.note(by, magnitude, code);
}

// PERF: the bounds keep enough threads, and so bytes under way, on a multiprocessor.
template <class Code, bool kIsStochastic>
__global__ void __launch_bounds__(kThreads, kIsStochastic ? 4 : 6)
    encode_kernel(const float* __restrict__ in, std::int64_t count, internal::Codec by, Draws draws,
                  Code* __restrict__ out, DeviceStats* stats) {
  Counts counts;
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t groups = (count + kPerThread - 1) / kPerThread;
  for (std::int64_t group = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; group < groups;
       group += step) {
    PhiloxCounter random{};
    if constexpr (kIsStochastic) {
      random = draws.stream.block(draws.first_block + static_cast<std::uint64_t>(group));
    }
    const auto draw = [&](int i) { return (random[i / 2] >> (i % 2 * 16)) & 0xFFFFu; };
    const std::int64_t first = group * kPerThread;
    if (first + kPerThread <= count) {
      const float4 low = reinterpret_cast<const float4*>(in)[group * 2];
      const float4 high = reinterpret_cast<const float4*>(in)[group * 2 + 1];
      const float x[kPerThread] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      Codes<Code> codes;
      encode_some<Code, kIsStochastic>(by, x, draw, counts, codes.at);
      reinterpret_cast<Codes<Code>*>(out)[group] = codes;
    } else {
      for (int i = 0; first + i < count; ++i) {
        const float x[1] = {in[first + i]};
        Code code[1];
        encode_some<Code, kIsStochastic>(by, x, [&](int) { return draw(i); }, counts, code);
        out[first + i] = code[0];
      }
    }
    counts.share_underflow();
  }
  if (stats != nullptr) {
    counts.add_to(stats);
  }
}

template <class Code>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const Code* in, std::int64_t count, internal::Codec by, float* out) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t whole = count / 4;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < whole; i += step) {
    struct alignas(4 * sizeof(Code)) Four {
      Code at[4];
    };
    const Four codes = reinterpret_cast<const Four*>(in)[i];
    reinterpret_cast<float4*>(out)[i] =
        make_float4(internal::decoded(by, codes.at[0]), internal::decoded(by, codes.at[1]),
                    internal::decoded(by, codes.at[2]), internal::decoded(by, codes.at[3]));
  }
  const std::int64_t rest = whole * 4 + threadIdx.x;
  if (blockIdx.x == 0 && rest < count) {
    out[rest] = internal::decoded(by, in[rest]);
  }
}

unsigned blocks_for(std::int64_t threads) {
  constexpr std::int64_t kMost = 132 * 16;  // PERF: a few waves; the loops stride over the rest
  return static_cast<unsigned>(
      std::clamp<std::int64_t>((threads + kThreads - 1) / kThreads, 1, kMost));
}

Result<void> check_format(const StorageFormat& type) {
  const FormatInfo& row = info(type.format);
  if (has_bias(type.format) && row.top_codes == TopCodes::Numbers && type.bias >= 0 &&
      type.bias <= kMaxBias) {
    return {};
  }
  return Error{ErrorKind::Unsupported,
               "on a GPU arrays are encoded to and decoded from cf8_1_4_3, cf8_1_5_2 and shp with "
               "a bias of 0..63, not " +
                   std::string(row.name)};
}

template <class Code>
void launch_encode(const float* in, std::int64_t count, const internal::Codec& by,
                   const RoundingSpec& rounding, std::byte* out, DeviceStats* stats,
                   cudaStream_t stream) {
  const unsigned blocks = blocks_for((count + kPerThread - 1) / kPerThread);
  Code* codes = reinterpret_cast<Code*>(out);
  if (rounding.mode == Rounding::Stochastic) {
    const Draws draws{true, rounding.stream, rounding.first_element / kPerThread};
    encode_kernel<Code, true><<<blocks, kThreads, 0, stream>>>(in, count, by, draws, codes, stats);
  } else {
    encode_kernel<Code, false><<<blocks, kThreads, 0, stream>>>(in, count, by, {}, codes, stats);
  }
}

}  // namespace

EncodeStats DeviceStats::on_host() const {
  return {.amax = std::bit_cast<float>(amax_bits),
          .saturated = static_cast<std::int64_t>(saturated),
          .zeroed = static_cast<std::int64_t>(zeroed),
          .not_finite = static_cast<std::int64_t>(not_finite),
          .flags = {.invalid = (flags & kInvalid) != 0,
                    .denormal = (flags & kDenormal) != 0,
                    .overflow = (flags & kOverflow) != 0,
                    .underflow = (flags & kUnderflow) != 0}};
}

Result<void> encode(const float* in, std::int64_t count, const StorageFormat& to,
                    const RoundingSpec& rounding, std::byte* out, DeviceStats* stats,
                    cudaStream_t stream) {
  DOJO_CHECK(count >= 0 && rounding.first_element % kPerThread == 0);
  DOJO_TRY_VOID(check_format(to));
  if (rounding.mode == Rounding::NearestAway) {
    return Error{ErrorKind::Unsupported,
                 "on a GPU rounding is nearest even or stochastic, not nearest away"};
  }
  if (count == 0) {
    return {};
  }
  const internal::Codec by(to);
  if (bytes_of(to.format) == 1) {
    launch_encode<std::uint8_t>(in, count, by, rounding, out, stats, stream);
  } else {
    launch_encode<std::uint16_t>(in, count, by, rounding, out, stats, stream);
  }
  return internal::launched("encode");
}

Result<void> decode(const std::byte* in, std::int64_t count, const StorageFormat& from, float* out,
                    cudaStream_t stream) {
  DOJO_CHECK(count >= 0);
  DOJO_TRY_VOID(check_format(from));
  if (count == 0) {
    return {};
  }
  const internal::Codec by(from);
  const unsigned blocks = blocks_for((count + 3) / 4);
  if (bytes_of(from.format) == 1) {
    decode_kernel<<<blocks, kThreads, 0, stream>>>(reinterpret_cast<const std::uint8_t*>(in), count,
                                                   by, out);
  } else {
    decode_kernel<<<blocks, kThreads, 0, stream>>>(reinterpret_cast<const std::uint16_t*>(in),
                                                   count, by, out);
  }
  return internal::launched("decode");
}

}  // namespace dojo::numerics::cuda
