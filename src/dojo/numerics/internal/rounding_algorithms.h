// The codes of vectors of FP32 magnitudes, as cfloat.h defines them, on the vocabulary of
// lanes_avx512.h and lanes_avx2.h; a magnitude is an FP32 number without its sign, as bits. This
// text is included twice, in the namespaces avx512 and avx2, before codec_algorithms.h.
// NOLINT(llvm-header-guard): included more than once on purpose.

namespace {

constexpr std::uint32_t kInfinityBits = 0x7F800000u;
constexpr std::uint32_t kMinNormalBits = 0x00800000u;

template <Format kFormat, DenormalScale kScale>
struct Layout {
  static constexpr const FormatInfo& kRow = info(kFormat);
  static constexpr int kShift = 23 - kRow.mantissa_bits;
  static constexpr bool kHasSign = kRow.sign_bits != 0;
  static constexpr bool kHasNan = kRow.top_codes != TopCodes::Numbers;
  // bf16: its denormals are FP32's, cut like its normal numbers.
  static constexpr bool kHasFp32Range = kRow.exponent_bits == 8;
  // Codes, without sign, up to this one come from denormal FP32 numbers, or are zero.
  static constexpr std::uint16_t kSmallest = kHasFp32Range ? 1u << kRow.mantissa_bits : 0u;
  // CFloat8: what is too large is left to the narrowing, which saturates at 127, the largest code.
  static constexpr bool kSaturatesAt127 = kRow.bytes == 1 && kRow.top_codes == TopCodes::Numbers;
  static constexpr bool kFlushes = kRow.denormals == DenormalRule::Flushed;
  static constexpr bool kIsPaper =
      kRow.denormals == DenormalRule::Selectable && kScale == DenormalScale::Paper;
};

// Magnitudes above `largest` up to `last` are out of range; of negative numbers, which a format may
// not hold, those above `negative_largest` up to `negative_last`.
struct Limits {
  Limits(const CFloatSpec& spec, std::uint32_t largest_bits)
      : largest(largest_bits), last(spec.has_nan() ? kInfinityBits : 0x7FFFFFFFu) {
    last -= spec.keeps_infinity() ? 1 : 0;
    negative_largest = spec.has_sign ? largest : 0;
    negative_last = spec.has_sign ? last : kInfinityBits;
    overflow_last = spec.keeps_infinity() ? kInfinityBits - 1 : kInfinityBits;
    has_sign = spec.has_sign;
  }

  std::uint32_t largest;
  std::uint32_t last;
  std::uint32_t negative_largest;
  std::uint32_t negative_last;
  std::uint32_t overflow_last;  // the last for which out of range is Overflow
  bool has_sign;
};

struct Constants {
  Constants(const CFloatSpec& spec, Rounding mode)
      : rebase(static_cast<std::uint32_t>(127 - spec.bias) << 23),
        min_normal(spec.min_normal_magnitude()),
        max_bits(rebase + (spec.max_magnitude() << (23 - spec.mantissa_bits))),
        overflow(spec.overflow_magnitude()),
        nan(spec.nan_magnitude()),
        normal_from(rebase + (1u << 23)),
        limits(spec, max_bits + beyond_max(spec, mode)),
        has_fp32_range(spec.exponent_bits == 8) {
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
  bool has_fp32_range;
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

}  // namespace
