// The array encoders of encode.h on the vocabulary of lanes_avx512.h and lanes_avx2.h, with the
// codes of rounding_algorithms.h. This text is included twice, in the namespaces avx512 and avx2.
// NOLINT(llvm-header-guard): included more than once on purpose.

namespace {

constexpr std::int64_t kStep = 4 * kLanes;  // elements per iteration
constexpr std::int64_t kBlock = 1024;       // elements between looks at the rare cases; fits L1

// PERF: a core that works on a cache line does not see far enough ahead to keep memory busy. Random
// bits take longer than memory does, and their block is fetched into the second level meanwhile.
template <Rounding mode>
void prefetch(const float* x) {
  constexpr int kAhead = mode == Rounding::Stochastic ? 512 : 6144;  // bytes
  _mm_prefetch(reinterpret_cast<const char*>(x) + kAhead, _MM_HINT_T0);
}

// What a block of input held, to decide whether its rare elements must be counted.
struct BlockSums {
  Bits largest;   // magnitude
  Bits smallest;  // of what became zero, without zeros, as bits (bf16, f32: of denormal operands)
  Bits zeroed;    // counts
  Bits signs;     // of formats without sign: all bits of the input, joined
};

BlockSums no_sums() { return {all(0u), all(~0u), all(0u), all(0u)}; }

// Codes of one step, narrowed and with their signs. PERF: zeros (bf16: denormal operands) are
// looked for in the narrow codes and noted only where there are some.
template <class L>
void store_codes(const Bits (&code)[4], const Bits (&bits)[4], std::byte* out, BlockSums& sums) {
  constexpr int kStored = L::kRow.bytes;  // vectors
  Bits narrow[kStored];
  Bits sign[kStored];
  bool is_rare = false;
  for (int i = 0; i < kStored; ++i) {
    if constexpr (kStored == 1) {
      narrow[i] = bytes_of(code[0], code[1], code[2], code[3]);
      sign[i] = byte_signs(bits[0], bits[1], bits[2], bits[3]);
      is_rare |= has_zero_byte(narrow[i]);
    } else {
      narrow[i] = halves_of(code[2 * i], code[2 * i + 1]);
      sign[i] = half_signs(bits[2 * i], bits[2 * i + 1]);
      is_rare |= has_half_up_to(L::kSmallest, narrow[i]);
    }
    store(out + i * kStep, in_order<kStored>(L::kHasSign ? joined(narrow[i], sign[i]) : narrow[i]));
  }
  for (int part = 0; is_rare && part < 4; ++part) {
    const Bits magnitude = common(bits[part], all(0x7FFFFFFFu));
    const Mask is_lost = is_nonzero_but(magnitude, code[part]);
    sums.zeroed = add_where(is_lost, sums.zeroed, all(1u));
    if constexpr (L::kHasFp32Range) {
      sums.smallest = smaller_where(is_less(all(0u), magnitude), sums.smallest, magnitude);
    } else {
      sums.smallest = smaller_where(is_lost, sums.smallest, L::kHasSign ? magnitude : bits[part]);
    }
  }
}

// PERF: constants and sums are local, or each store of codes, which may alias them, would have them
// read again.
template <class L, Rounding mode>
BlockSums encode_steps(const float* x, std::int64_t count, const Constants& constants,
                       const std::uint16_t* random, std::byte* out) {
  const Constants c = constants;
  BlockSums sums = no_sums();
  for (std::int64_t i = 0; i < count; i += kStep) {
    Bits code[4];
    Bits bits[4];
    for (int part = 0; part < 4; ++part) {
      const std::int64_t at = i + part * kLanes;
      prefetch<mode>(x + at);
      bits[part] = load_bits(x + at);
      const Bits magnitude = common(bits[part], all(0x7FFFFFFFu));
      sums.largest = larger(sums.largest, magnitude);
      code[part] = codes_of<L, mode>(bits[part], magnitude, random + at, c);
      if constexpr (!L::kHasSign) {
        sums.signs = joined(sums.signs, bits[part]);
      }
    }
    store_codes<L>(code, bits, out + i * L::kRow.bytes, sums);
  }
  return sums;
}

// Whether one of the codes is that of a denormal number.
template <class L>
bool has_denormal(const std::byte* codes, std::int64_t count) {
  constexpr std::uint32_t kCopies = L::kRow.bytes == 1 ? 0x01010101u : 0x00010001u;
  const Bits mantissa = all(kCopies * ((1u << L::kRow.mantissa_bits) - 1));
  const Bits exponent =
      all(kCopies * (((1u << L::kRow.exponent_bits) - 1) << L::kRow.mantissa_bits));
  bool has_one = false;
  for (std::int64_t i = 0; i < count * L::kRow.bytes; i += kStep) {
    const Bits code = load(codes + i);
    if constexpr (L::kRow.bytes == 1) {
      has_one |= has_denormal_byte(code, exponent, mantissa);
    } else {
      has_one |= has_denormal_half(code, exponent, mantissa);
    }
  }
  return has_one;
}

// Whether a denormal number was written that is not what was read. `count` is a multiple of kStep.
// PERF: looks at the codes, and only if that may be so at the elements; flushing formats have none.
template <class L>
bool has_inexact_denormal(const float* x, const std::byte* codes, std::int64_t count,
                          const Constants& c) {
  if (L::kFlushes || !has_denormal<L>(codes, count)) {
    return false;
  }
  constexpr std::uint32_t kMagnitude = (1u << (L::kRow.exponent_bits + L::kRow.mantissa_bits)) - 1;
  Bits differences = all(0u);
  for (std::int64_t i = 0; i < count; i += kLanes) {
    Bits code;
    if constexpr (L::kRow.bytes == 1) {
      code = load_bytes(codes + i);
    } else {
      code = load_halves(reinterpret_cast<const std::uint16_t*>(codes) + i);
    }
    code = common(code, all(kMagnitude));
    Bits value;
    if constexpr (L::kHasFp32Range) {
      value = shifted_left<L::kShift>(code);
    } else {
      value = as_bits(multiply(to_floats(code), all(c.spacing)));
    }
    const Bits magnitude = common(load_bits(x + i), all(0x7FFFFFFFu));
    const Bits difference = subtract(value, magnitude);
    differences =
        joined(differences, select(is_less(code, all(c.min_normal)), difference, all(0u)));
  }
  return largest_of(differences) != 0;
}

struct Kernels {
  BlockSums (*steps)(const float*, std::int64_t, const Constants&, const std::uint16_t*,
                     std::byte*) = nullptr;
  bool (*has_inexact_denormal)(const float*, const std::byte*, std::int64_t,
                               const Constants&) = nullptr;
};

template <class L>
Kernels kernels_of(Rounding mode) {
  switch (mode) {
    case Rounding::NearestEven:
      return {encode_steps<L, Rounding::NearestEven>, has_inexact_denormal<L>};
    case Rounding::Stochastic:
      return {encode_steps<L, Rounding::Stochastic>, has_inexact_denormal<L>};
    case Rounding::NearestAway:
      return {encode_steps<L, Rounding::NearestAway>, has_inexact_denormal<L>};
  }
  return {};
}

template <Format format>
Kernels kernels_of(DenormalScale denormals, Rounding mode) {
  return denormals == DenormalScale::Paper
             ? kernels_of<Layout<format, DenormalScale::Paper>>(mode)
             : kernels_of<Layout<format, DenormalScale::Gradual>>(mode);
}

Kernels kernels_of(const StorageFormat& to, Rounding mode) {
  switch (to.format) {
    case Format::Bf16:
      return kernels_of<Layout<Format::Bf16, DenormalScale::Gradual>>(mode);
    case Format::F16:
      return kernels_of<Layout<Format::F16, DenormalScale::Gradual>>(mode);
    case Format::Cf8_1_4_3:
      return kernels_of<Format::Cf8_1_4_3>(to.denormals, mode);
    case Format::Cf8_1_5_2:
      return kernels_of<Format::Cf8_1_5_2>(to.denormals, mode);
    case Format::Shp:
      return kernels_of<Format::Shp>(to.denormals, mode);
    case Format::Uhp:
      return kernels_of<Layout<Format::Uhp, DenormalScale::Gradual>>(mode);
    case Format::E4m3:
      return kernels_of<Layout<Format::E4m3, DenormalScale::Gradual>>(mode);
    case Format::E5m2:
      return kernels_of<Layout<Format::E5m2, DenormalScale::Gradual>>(mode);
    default:
      DOJO_CHECK(false);
      return {};
  }
}

// Overflow, and Invalid for want of a sign, of a block.
Flags range_flags(const float* x, std::int64_t count, const Limits& limits) {
  const Bits none = all(0u);
  Bits overflowing = none;  // the largest magnitudes
  Bits negative = none;
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const Bits bits = load_bits(x + i);
    const Bits magnitude = common(bits, all(0x7FFFFFFFu));
    const Bits refused = limits.has_sign ? none : select(is_negative(bits), magnitude, none);
    const Bits taken = subtract(magnitude, refused);
    negative = larger(negative, refused);
    overflowing =
        larger(overflowing, select(is_less(all(limits.overflow_last), taken), none, taken));
  }
  return {.invalid = largest_of(negative) != 0,
          .overflow = largest_of(overflowing) > limits.largest};
}

// Adds what a block shows; looks at its elements again if one of them is out of range. `count` is a
// multiple of kLanes.
void add_block(EncodeStats& stats, const BlockSums& sums, const float* x, std::int64_t count,
               const Limits& limits) {
  std::uint32_t largest = largest_of(sums.largest);
  const std::uint32_t smallest = smallest_of(sums.smallest);
  const std::int64_t zeroed = sum_of(sums.zeroed);
  const bool has_negative = largest_of(sums.signs) >> 31 != 0;  // where there is no sign
  Flags& flags = stats.flags;
  flags.invalid |= largest > kInfinityBits;
  flags.denormal |= smallest < kMinNormalBits;
  flags.underflow |= limits.has_sign ? zeroed != 0 : smallest < kInfinityBits;
  stats.zeroed += zeroed;
  if ((largest > limits.largest && !flags.overflow) || (has_negative && !flags.invalid)) {
    flags |= range_flags(x, count, limits);
  }
  if (largest > limits.largest || has_negative) {
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

// Philox4x32-10 of base/philox.h.
struct PhiloxKeys {
  explicit PhiloxKeys(std::uint64_t seed) {
    for (std::uint32_t round = 0; round < 10; ++round) {
      key[2 * round] = static_cast<std::uint32_t>(seed) + round * 0x9E3779B9u;
      key[2 * round + 1] = static_cast<std::uint32_t>(seed >> 32) + round * 0xBB67AE85u;
    }
  }
  std::uint32_t key[20];
};

constexpr std::int64_t kDraws = 8 * kCounters;  // of a vector of counters

// The draws of kVectors vectors of counters, in memory order. PERF: each round waits for the one
// before, so several vectors go side by side; meanwhile memory fetches what the caller reads
// `next`, 4 bytes per draw.
template <int kVectors>
void random_step(const RandomStream& stream, const PhiloxKeys& keys, std::uint64_t first_block,
                 std::uint16_t* out, const float* next) {
  Bits word[kVectors][4];
  for (int v = 0; v < kVectors; ++v) {
    for (std::int64_t line = 0; line < kDraws; line += 16) {
      _mm_prefetch(reinterpret_cast<const char*>(next + v * kDraws + line), _MM_HINT_T1);
    }
    const Bits index = counters_from(first_block + static_cast<std::uint64_t>(v * kCounters));
    word[v][0] = index;
    word[v][1] = high_halves(index);
    word[v][2] = all(stream.tensor);
    word[v][3] = all(stream.step);
  }
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {  // only the low half of each lane counts
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Bits a = low_halves_product(word[v][0], all(0xD2511F53u));
      const Bits b = low_halves_product(word[v][2], all(0xCD9E8D57u));
      word[v][0] = differing(high_halves(b), word[v][1], all(keys.key[2 * round]));
      word[v][2] = differing(high_halves(a), word[v][3], all(keys.key[2 * round + 1]));
      word[v][1] = b;
      word[v][3] = a;
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    store_words(word[v], out + v * kDraws);
  }
}

// Writes whole vectors, up to kDraws - 1 draws beyond `count`.
void random_steps(const RandomStream& stream, std::uint64_t first_block, std::int64_t count,
                  std::uint16_t* out, const float* next) {
  const PhiloxKeys keys(stream.seed);
  std::int64_t at = 0;
  for (; at + kPhiloxVectors * kDraws <= count; at += kPhiloxVectors * kDraws) {
    random_step<kPhiloxVectors>(stream, keys, first_block + static_cast<std::uint64_t>(at) / 8,
                                out + at, next + at);
  }
  for (; at < count; at += kDraws) {
    random_step<1>(stream, keys, first_block + static_cast<std::uint64_t>(at) / 8, out + at,
                   next + at);
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
          std::byte* out, EncodeStats& stats)
      : in_(in.data()),
        out_(out),
        width_(bytes_of(to.format)),
        kernels_(kernels_of(to, rounding.mode)),
        constants_(to.spec(), rounding.mode),
        random_(rounding),
        stats_(stats) {}

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

 private:
  void encode_block(const float* x, std::int64_t at, std::int64_t size, std::byte* to) {
    const BlockSums sums =
        kernels_.steps(x, size, constants_, random_.fill(at, size, in_ + at + kBlock), to);
    add_block(stats_, sums, x, size, constants_.limits);
    // bf16 has denormals only of denormal operands.
    if (!stats_.flags.underflow && (stats_.flags.denormal || !constants_.has_fp32_range)) {
      stats_.flags.underflow = kernels_.has_inexact_denormal(x, to, size, constants_);
    }
  }

  const float* in_;
  std::byte* out_;
  std::int64_t width_;
  Kernels kernels_;
  Constants constants_;
  RandomBlock random_;
  EncodeStats& stats_;
  alignas(64) std::byte codes_[2 * kBlock];
};

void copy_f32(std::span<const float> in, std::byte* out, EncodeStats& stats) {
  const Limits limits(cfloat_spec(Format::F32, 0), kInfinityBits - 1);
  const auto look_at = [&](const float* x, std::int64_t count) {
    BlockSums sums = no_sums();
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const Bits magnitude = common(load_bits(x + i), all(0x7FFFFFFFu));
      sums.largest = larger(sums.largest, magnitude);
      sums.smallest = smaller_where(is_less(all(0u), magnitude), sums.smallest, magnitude);
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
}

void encode_lanes(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding,
                  std::byte* out, Caching caching, EncodeStats& stats) {
  if (to.format == Format::F32) {
    return copy_f32(in, out, stats);
  }
  Encoder encoder(in, to, rounding, out, stats);
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
