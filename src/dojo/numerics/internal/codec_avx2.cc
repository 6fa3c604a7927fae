#include <algorithm>
#include <bit>
#include <cstring>

#include "dojo/base/check.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/internal/codec.h"
#include "dojo/numerics/internal/decode_avx2.h"
#include "dojo/numerics/internal/lanes_avx2.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::numerics::avx2 {

#include "dojo/numerics/internal/rounding_algorithms.h"
// after its codes
#include "dojo/numerics/internal/codec_algorithms.h"

void encode(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
            std::byte* out, Caching caching, EncodeStats& stats) {
  encode_lanes(in, to, rounding, out, caching, stats);
}

void random_bits16(const RandomStream& stream, std::uint64_t first_element,
                   std::span<std::uint16_t> random) {
  fill_random(stream, first_element, random);
}

void decode(const std::byte* in, const StorageFormat& from, std::span<float> out) {
  with_load(load_of(from), [&]<class Load>(const Load& load) {
    const std::int64_t count = static_cast<std::int64_t>(out.size());
    for (std::int64_t i = 0; i + 8 <= count; i += 8) {
      _mm256_storeu_ps(out.data() + i, load(in + i * Load::kBytes));
    }
    if (const std::int64_t rest = count % 8; rest != 0) {
      alignas(32) float last[8];
      _mm256_store_ps(last, load_first(load, in + (count - rest) * Load::kBytes, rest));
      std::copy(last, last + rest, out.data() + (count - rest));
    }
  });
}

}  // namespace dojo::numerics::avx2

#pragma GCC pop_options
