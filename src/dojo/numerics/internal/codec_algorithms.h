// The array encoders of encode.h on the vocabulary of lanes_avx512.h and lanes_avx2.h. This text is
// included twice, in the namespaces avx512 and avx2. Codes are those of cfloat.h; a magnitude is an
// FP32 number without its sign, as bits.
// NOLINT(llvm-header-guard): included more than once on purpose.

namespace {

constexpr std::uint32_t kInfinityBits = 0x7F800000u;
constexpr std::int64_t kStep = 4 * kLanes;  // elements per iteration
constexpr std::int64_t kBlock = 1024;       // elements between looks at the rare cases; fits L1

template <Format kFormat, DenormalScale kScale>
struct Layout {
  static constexpr const FormatInfo& kRow = info(kFormat);
  static constexpr int kShift = 23 - kRow.mantissa_bits;
  static constexpr bool kHasSign = kRow.sign_bits != 0;
  static constexpr bool kHasNan = kRow.top_codes != TopCodes::Numbers;
  // bf16: its denormals are FP32's, cut like its normal numbers.
  static constexpr bool kHasFp32Range = kRow.exponent_bits == 8;
  // CFloat8: what is too large is left to the narrowing, which saturates at 127, the largest code.
  static constexpr bool kSaturatesAt127 = kRow.bytes == 1 && kRow.top_codes == TopCodes::Numbers;
  static constexpr bool kFlushes = kRow.denormals == DenormalRule::Flushed;
  static constexpr bool kIsPaper =
      kRow.denormals == DenormalRule::Selectable && kScale == DenormalScale::Paper;
};

// Into the first level of cache from near and, if nobody else does it, into the second from far.
template <bool is_far>
void prefetch(const float* x) {
  const char* const at = reinterpret_cast<const char*>(x);
  _mm_prefetch(at + 512, _MM_HINT_T0);
  if constexpr (is_far) {
    _mm_prefetch(at + 4096, _MM_HINT_T1);
  }
}

// Magnitudes above `largest` up to `last` are out of range; of negative numbers, which a format may
// not hold, those above `negative_largest` up to `negative_last`.
struct Limits {
  Limits(const CFloatSpec& spec, std::uint32_t largest_bits)
      : largest(largest_bits), last(spec.has_nan() ? kInfinityBits : 0x7FFFFFFFu) {
    last -= spec.keeps_infinity() ? 1 : 0;
    negative_largest = spec.has_sign ? largest : 0;
    negative_last = spec.has_sign ? last : kInfinityBits;
  }

  std::uint32_t largest;
  std::uint32_t last;
  std::uint32_t negative_largest;
  std::uint32_t negative_last;
};

struct Constants {
  Constants(const CFloatSpec& spec, Rounding mode)
      : rebase(static_cast<std::uint32_t>(127 - spec.bias) << 23),
        min_normal(spec.min_normal_magnitude()),
        max_bits(rebase + (spec.max_magnitude() << (23 - spec.mantissa_bits))),
        overflow(spec.overflow_magnitude()),
        nan(spec.nan_magnitude()),
        normal_from(rebase + (1u << 23)),
        limits(spec, max_bits + beyond_max(spec, mode)) {
    const bool is_paper = spec.denormals == DenormalScale::Paper;
    if (spec.exponent_bits < 8) {
      const int exponent = (is_paper ? 0 : 1) - spec.bias - spec.mantissa_bits;
      spacing = std::bit_cast<float>(static_cast<std::uint32_t>(127 + exponent) << 23);
    }
    if (mode != Rounding::Stochastic &&
        (is_paper || spec.flushes_denormals)) {  // the middle below the smallest normal number
      const float below = static_cast<float>(min_normal - 1) * spacing;
      normal_from = std::bit_cast<std::uint32_t>((below + std::bit_cast<float>(normal_from)) / 2);
    }
  }

  // What still rounds to the largest value: half a step more; that tie stays if the largest is
  // even.
  static std::uint32_t beyond_max(const CFloatSpec& spec, Rounding mode) {
    const bool tie_stays = mode == Rounding::NearestEven && spec.max_magnitude() % 2 == 0;
    const std::uint32_t half_step = 1u << (22 - spec.mantissa_bits);
    return mode == Rounding::Stochastic ? 0 : half_step - (tie_stays ? 0 : 1);
  }

  std::uint32_t rebase;
  std::uint32_t min_normal;   // code
  std::uint32_t max_bits;     // of the largest finite value
  std::uint32_t overflow;     // code of what is too large
  std::uint32_t nan;          // code
  std::uint32_t normal_from;  // magnitudes below have a denormal code
  Limits limits;
  float spacing = 1;  // of denormals
};

// Codes of magnitudes.
template <class L, Rounding mode>
Bits nearest_codes(Bits magnitude, const Constants& c) {
  constexpr std::uint32_t kHalf = 1u << (L::kShift - 1);
  Bits rounded;
  if constexpr (mode == Rounding::NearestAway) {
    rounded = add(magnitude, all(kHalf - c.rebase));
  } else {
    const Mask is_odd = has_bit(magnitude, all(2 * kHalf));
    rounded = add_where(is_odd, add(magnitude, all(kHalf - 1 - c.rebase)), all(1u));
  }
  Bits code = shifted_right<L::kShift>(rounded);
  if constexpr (!L::kSaturatesAt127) {
    code = smaller(code, all(c.overflow));
  }
  if constexpr (L::kHasFp32Range) {
    return code;
  }
  if constexpr (L::kIsPaper || L::kFlushes) {
    code = larger(code, all(c.min_normal));
  }
  const Mask is_denormal = is_less(magnitude, all(c.normal_from));
  if constexpr (L::kFlushes) {
    return select(is_denormal, all(0u), code);
  }
  // Adding 2^23 spacings rounds to a whole number of them, in the low bits of the sum.
  const float whole = c.spacing * 0x1p23F;
  const Floats sum = add(as_floats(magnitude), all(whole));
  Bits denormal = subtract(as_bits(sum), all(std::bit_cast<std::uint32_t>(whole)));
  if constexpr (mode == Rounding::NearestAway) {
    const Floats error = subtract(as_floats(magnitude), subtract(sum, all(whole)));  // exact
    denormal = add_where(is_equal(error, all(c.spacing / 2)), denormal, all(1u));
  }
  if constexpr (L::kIsPaper) {
    denormal = smaller(denormal, all(c.min_normal - 1));
  }
  return select(is_denormal, denormal, code);
}

// The same with 16 random bits per element, widened.
template <class L>
Bits stochastic_codes(Bits magnitude, Bits random, const Constants& c) {
  const Bits clamped = smaller(magnitude, all(c.max_bits));
  Bits addend;
  if constexpr (L::kShift >= 16) {
    addend = shifted_left<L::kShift - 16>(random);
  } else {
    addend = shifted_right<16 - L::kShift>(random);  // the position has no such low bits
  }
  const Bits normal = shifted_right<L::kShift>(add(add(clamped, addend), all(0u - c.rebase)));
  if constexpr (L::kHasFp32Range) {
    return normal;
  }
  // In spacings with 16 bits behind the point.
  const Bits fixed = truncated(multiply(as_floats(clamped), all(0x1p16F / c.spacing)));
  const Bits sum = add(fixed, random);
  Bits denormal = shifted_right<16>(sum);
  if constexpr (L::kIsPaper) {
    // The hole, of 2^M + 1 spacings above the largest denormal 2^M - 1: up if
    // floor((fixed - (2^M - 1) 2^16) / (2^M + 1)) + random >= 2^16, here without the division.
    constexpr int kMantissa = L::kRow.mantissa_bits;
    const Bits scaled = add(sum, shifted_left<kMantissa>(random));
    const Mask stays = is_less(scaled, all(1u << (kMantissa + 17)));
    denormal = smaller(denormal, all(c.min_normal - 1));
    denormal = select(stays, denormal, all(c.min_normal));
  }
  if constexpr (L::kFlushes) {
    denormal = select(is_less(denormal, all(c.min_normal)), all(0u), denormal);
  }
  return select(is_less(clamped, all(c.normal_from)), denormal, normal);
}

// Codes of one vector, without the sign.
template <class L, Rounding mode>
Bits codes_of(Bits bits, Bits magnitude, const std::uint16_t* random, const Constants& c) {
  Bits code;
  if constexpr (mode == Rounding::Stochastic) {
    code = stochastic_codes<L>(magnitude, load_halves(random), c);
    if constexpr (L::kHasNan) {
      code = select(is_less(magnitude, all(kInfinityBits)), code, all(c.overflow));
    }
  } else {
    code = nearest_codes<L, mode>(magnitude, c);
  }
  if constexpr (!L::kHasSign) {
    code = select(is_negative(bits), all(0u), code);
  }
  if constexpr (L::kHasNan) {
    code = select(is_less(all(kInfinityBits), magnitude), all(c.nan), code);
  }
  return code;
}

// What a block of input held, to decide whether its rare elements must be counted.
struct BlockSums {
  Bits largest;  // magnitude
  Bits zeroed;   // counts
  Bits signs;    // of formats without sign: all bits of the input, joined
};

// Codes of one step, narrowed and with their signs. PERF: zeros are looked for in the narrow codes
// and counted only where there are some.
template <class L>
void store_codes(const Bits (&code)[4], const Bits (&bits)[4], std::byte* out, Bits& zeroed) {
  constexpr int kStored = L::kRow.bytes;  // vectors
  Bits narrow[kStored];
  Bits sign[kStored];
  bool has_zero = false;
  for (int i = 0; i < kStored; ++i) {
    if constexpr (kStored == 1) {
      narrow[i] = bytes_of(code[0], code[1], code[2], code[3]);
      sign[i] = byte_signs(bits[0], bits[1], bits[2], bits[3]);
      has_zero |= has_zero_byte(narrow[i]);
    } else {
      narrow[i] = halves_of(code[2 * i], code[2 * i + 1]);
      sign[i] = half_signs(bits[2 * i], bits[2 * i + 1]);
      has_zero |= has_zero_half(narrow[i]);
    }
    store(out + i * kStep, in_order<kStored>(L::kHasSign ? joined(narrow[i], sign[i]) : narrow[i]));
  }
  for (int part = 0; has_zero && part < 4; ++part) {
    const Bits magnitude = common(bits[part], all(0x7FFFFFFFu));
    zeroed = add_where(is_nonzero_but(magnitude, code[part]), zeroed, all(1u));
  }
}

// PERF: constants and sums are local, or each store of codes, which may alias them, would have them
// read again. Without prefetching a core waits for memory half of the time: the work on a cache
// line leaves its window of instructions too small to see the next page.
template <class L, Rounding mode>
BlockSums encode_steps(const float* x, std::int64_t count, const Constants& constants,
                       const std::uint16_t* random, std::byte* out) {
  const Constants c = constants;
  BlockSums sums{all(0u), all(0u), all(0u)};
  for (std::int64_t i = 0; i < count; i += kStep) {
    Bits code[4];
    Bits bits[4];
    for (int part = 0; part < 4; ++part) {
      const std::int64_t at = i + part * kLanes;
      prefetch<mode != Rounding::Stochastic>(x + at);
      bits[part] = load_bits(x + at);
      const Bits magnitude = common(bits[part], all(0x7FFFFFFFu));
      sums.largest = larger(sums.largest, magnitude);
      code[part] = codes_of<L, mode>(bits[part], magnitude, random + at, c);
      if constexpr (!L::kHasSign) {
        sums.signs = joined(sums.signs, bits[part]);
      }
    }
    store_codes<L>(code, bits, out + i * L::kRow.bytes, sums.zeroed);
  }
  return sums;
}

using Steps = BlockSums (*)(const float*, std::int64_t, const Constants&, const std::uint16_t*,
                            std::byte*);

template <class L>
Steps steps_of(Rounding mode) {
  switch (mode) {
    case Rounding::NearestEven:
      return encode_steps<L, Rounding::NearestEven>;
    case Rounding::Stochastic:
      return encode_steps<L, Rounding::Stochastic>;
    case Rounding::NearestAway:
      return encode_steps<L, Rounding::NearestAway>;
  }
  return nullptr;
}

template <Format format>
Steps steps_of(DenormalScale denormals, Rounding mode) {
  return denormals == DenormalScale::Paper ? steps_of<Layout<format, DenormalScale::Paper>>(mode)
                                           : steps_of<Layout<format, DenormalScale::Gradual>>(mode);
}

Steps steps_of(const StorageFormat& to, Rounding mode) {
  switch (to.format) {
    case Format::Bf16:
      return steps_of<Layout<Format::Bf16, DenormalScale::Gradual>>(mode);
    case Format::F16:
      return steps_of<Layout<Format::F16, DenormalScale::Gradual>>(mode);
    case Format::Cf8_1_4_3:
      return steps_of<Format::Cf8_1_4_3>(to.denormals, mode);
    case Format::Cf8_1_5_2:
      return steps_of<Format::Cf8_1_5_2>(to.denormals, mode);
    case Format::Shp:
      return steps_of<Format::Shp>(to.denormals, mode);
    case Format::Uhp:
      return steps_of<Layout<Format::Uhp, DenormalScale::Gradual>>(mode);
    case Format::E4m3:
      return steps_of<Layout<Format::E4m3, DenormalScale::Gradual>>(mode);
    case Format::E5m2:
      return steps_of<Layout<Format::E5m2, DenormalScale::Gradual>>(mode);
    default:
      DOJO_CHECK(false);
      return nullptr;
  }
}

// Adds what a block shows; looks at its elements again if one of them is out of range. `count` is a
// multiple of kLanes.
void add_block(EncodeStats& stats, const BlockSums& sums, const float* x, std::int64_t count,
               const Limits& limits) {
  std::uint32_t largest = largest_of(sums.largest);
  stats.zeroed += sum_of(sums.zeroed);
  if (largest > limits.largest || largest_of(sums.signs) >> 31 != 0) {
    const Bits none = all(0u);
    Bits finite = none;  // the largest
    Bits above = none;   // counts
    Bits beyond = none;
    Bits not_finite = none;
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const Bits bits = load_bits(x + i);
      const Bits magnitude = common(bits, all(0x7FFFFFFFu));
      const Mask is_minus = is_negative(bits);
      const Bits from = select(is_minus, all(limits.negative_largest), all(limits.largest));
      const Bits last = select(is_minus, all(limits.negative_last), all(limits.last));
      above = add_where(is_less(from, magnitude), above, all(1u));
      beyond = add_where(is_less(last, magnitude), beyond, all(1u));
      const Mask is_special = is_less(all(kInfinityBits - 1), magnitude);
      not_finite = add_where(is_special, not_finite, all(1u));
      finite = larger(finite, select(is_special, none, magnitude));
    }
    stats.saturated += sum_of(above) - sum_of(beyond);
    stats.not_finite += sum_of(not_finite);
    largest = largest_of(finite);
  }
  stats.amax = std::max(stats.amax, std::bit_cast<float>(largest));
}

// Philox4x32-10 of base/philox.h for several counters at a time: 8 draws each, in memory order.
// Writes whole steps, up to 8 kCounters - 1 draws beyond `count`. PERF: while it computes, memory
// fetches what the caller reads `next`, 4 bytes per draw.
void random_steps(const RandomStream& stream, std::uint64_t first_block, std::int64_t count,
                  std::uint16_t* out, const float* next) {
  std::uint32_t key[20];
  for (std::uint32_t round = 0; round < 10; ++round) {
    key[2 * round] = static_cast<std::uint32_t>(stream.seed) + round * 0x9E3779B9u;
    key[2 * round + 1] = static_cast<std::uint32_t>(stream.seed >> 32) + round * 0xBB67AE85u;
  }
  for (std::int64_t at = 0; at < count; at += 8 * kCounters) {
    const Bits index = counters_from(first_block + static_cast<std::uint64_t>(at) / 8);
    for (std::int64_t line = 0; line < 8 * kCounters; line += 16) {
      _mm_prefetch(reinterpret_cast<const char*>(next + at + line), _MM_HINT_T1);
    }
    Bits word[4] = {index, high_halves(index), all(stream.tensor), all(stream.step)};
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {  // only the low half of each lane counts
      const Bits a = low_halves_product(word[0], all(0xD2511F53u));
      const Bits b = low_halves_product(word[2], all(0xCD9E8D57u));
      word[0] = differing(high_halves(b), word[1], all(key[2 * round]));
      word[2] = differing(high_halves(a), word[3], all(key[2 * round + 1]));
      word[1] = b;
      word[3] = a;
    }
    store_words(word, out + at);
  }
}

// Random bits of the elements of one block, in L1.
class RandomBlock {
 public:
  explicit RandomBlock(const RoundingSpec& rounding) : rounding_(rounding) {}

  // Of `count` <= kBlock elements from the `at`-th of the range on.
  const std::uint16_t* fill(std::int64_t at, std::int64_t count, const float* next) {
    if (rounding_.mode != Rounding::Stochastic) {
      return bits_;
    }
    const std::uint64_t element = rounding_.first_element + static_cast<std::uint64_t>(at);
    const std::int64_t lead = static_cast<std::int64_t>(element % 8);
    random_steps(rounding_.stream, element / 8, lead + count, bits_, next);
    return bits_ + lead;
  }

 private:
  const RoundingSpec& rounding_;
  alignas(64) std::uint16_t bits_[kBlock + 128];
};

// Walks over an array for its encoder.
class Encoder {
 public:
  Encoder(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
          std::byte* out)
      : in_(in.data()),
        out_(out),
        width_(bytes_of(to.format)),
        steps_(steps_of(to, rounding.mode)),
        constants_(to.spec(), rounding.mode),
        random_(rounding) {}

  // `count` elements, a multiple of 64, from the `at`-th on.
  void encode_blocks(std::int64_t at, std::int64_t count, Caching caching) {
    for (const std::int64_t end = at + count; at < end;) {
      const std::int64_t size = std::min(kBlock, end - at);
      std::byte* const to = out_ + at * width_;
      encode_block(in_ + at, at, size, caching == Caching::Cached ? to : codes_);
      if (caching == Caching::PastCaches) {
        copy_past_caches(codes_, size * width_, to);
      }
      at += size;
    }
  }

  // Any number of elements, through buffers.
  void encode_some(std::int64_t at, std::int64_t count) {
    for (const std::int64_t end = at + count; at < end;) {
      const std::int64_t size = std::min(kStep, end - at);
      alignas(64) float padded[kStep] = {};  // zeros leave no trace in the sums
      std::memcpy(padded, in_ + at, static_cast<std::size_t>(size) * sizeof(float));
      encode_block(padded, at, kStep, codes_);
      std::memcpy(out_ + at * width_, codes_, static_cast<std::size_t>(size * width_));
      at += size;
    }
  }

  const EncodeStats& stats() const { return stats_; }

 private:
  void encode_block(const float* x, std::int64_t at, std::int64_t size, std::byte* to) {
    const BlockSums sums =
        steps_(x, size, constants_, random_.fill(at, size, in_ + at + kBlock), to);
    add_block(stats_, sums, x, size, constants_.limits);
  }

  const float* in_;
  std::byte* out_;
  std::int64_t width_;
  Steps steps_;
  Constants constants_;
  RandomBlock random_;
  EncodeStats stats_;
  alignas(64) std::byte codes_[2 * kBlock];
};

EncodeStats copy_f32(std::span<const float> in, std::byte* out) {
  EncodeStats stats;
  const Limits limits(cfloat_spec(Format::F32, 0), kInfinityBits - 1);
  const auto look_at = [&](const float* x, std::int64_t count) {
    BlockSums sums{all(0u), all(0u), all(0u)};
    for (std::int64_t i = 0; i < count; i += kLanes) {
      sums.largest = larger(sums.largest, common(load_bits(x + i), all(0x7FFFFFFFu)));
    }
    add_block(stats, sums, x, count, limits);
  };
  const std::int64_t count = static_cast<std::int64_t>(in.size());
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t at = 0; at < whole; at += kBlock) {
    const std::int64_t size = std::min(kBlock, whole - at);
    look_at(in.data() + at, size);
    std::memcpy(out + at * 4, in.data() + at, static_cast<std::size_t>(size) * 4);
  }
  if (whole < count) {
    alignas(64) float rest[kLanes] = {};
    std::copy(in.begin() + whole, in.end(), rest);
    look_at(rest, kLanes);
    std::memcpy(out + whole * 4, rest, static_cast<std::size_t>(count - whole) * 4);
  }
  return stats;
}

EncodeStats encode_lanes(std::span<const float> in, const StorageFormat& to,
                         const RoundingSpec& rounding, std::byte* out, Caching caching) {
  if (to.format == Format::F32) {
    return copy_f32(in, out);
  }
  Encoder encoder(in, to, rounding, out);
  const std::int64_t count = static_cast<std::int64_t>(in.size());
  const std::int64_t width = bytes_of(to.format);
  std::int64_t lead = 0;  // up to a cache line
  if (caching == Caching::PastCaches) {
    const auto offset = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) % 64);
    if (offset % width != 0) {
      caching = Caching::Cached;
    } else {
      lead = std::min(count, (64 - offset) % 64 / width);
    }
  }
  const std::int64_t blocks = (count - lead) / 64 * 64;
  encoder.encode_some(0, lead);
  encoder.encode_blocks(lead, blocks, caching);
  encoder.encode_some(lead + blocks, count - lead - blocks);
  if (caching == Caching::PastCaches) {
    _mm_sfence();
  }
  return encoder.stats();
}

void fill_random(const RandomStream& stream, std::uint64_t first_element,
                 std::span<std::uint16_t> random) {
  const RoundingSpec rounding{Rounding::Stochastic, stream, first_element};
  RandomBlock block(rounding);
  const std::uint16_t* const bits = random.data();  // as good as any: nothing is read next
  const std::int64_t count = static_cast<std::int64_t>(random.size());
  for (std::int64_t at = 0; at < count; at += kBlock) {
    const std::int64_t size = std::min(kBlock, count - at);
    std::memcpy(random.data() + at, block.fill(at, size, reinterpret_cast<const float*>(bits)),
                static_cast<std::size_t>(size) * 2);
  }
}

}  // namespace
