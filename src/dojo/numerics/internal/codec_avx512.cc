#include <algorithm>
#include <bit>
#include <cstring>

#include "dojo/base/check.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/internal/codec.h"
#include "dojo/numerics/internal/decode_avx512.h"
#include "dojo/numerics/internal/lanes_avx512.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {

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
    for (std::int64_t i = 0; i < count; i += 16) {
      const __mmask16 lanes = first_lanes(count - i);
      _mm512_mask_storeu_ps(out.data() + i, lanes, load(in + i * Load::kBytes, lanes));
    }
  });
}

}  // namespace dojo::numerics::avx512

#pragma GCC pop_options
