// The algorithms of special.h. This text is included twice, in two namespaces: once for scalar use,
// once compiled for AVX-512, where loops over it become vector code. Every operation is an IEEE 754
// +, -, *, /, fma, sqrt, comparison or selection, so both give equal bits. No branches, no tables.
// Polynomials are minimax fits (relative error of the result below 2^-25.7 before rounding).
// NOLINT(llvm-header-guard): included more than once on purpose.

inline float power_of_two(std::int32_t exponent) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

// exp(x) = 2^n exp(r), n = x / ln 2 to the nearest integer, |r| <= ln 2 / 2 (Cody and Waite);
// exp(r) = 1 + r + r^2 q(r). The scale is applied in two steps, so denormals round once.
inline float exp(float x) {
  constexpr float kShift = 0x1.8p23F;  // adding it rounds to an integer in the low bits
  const float above = x > 89.0F ? 89.0F : x;
  const float c = above < -104.0F ? -104.0F : above;
  const float shifted = __builtin_fmaf(c, 0x1.715476p+0F, kShift);
  const std::int32_t n =
      static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - 0x4B400000u);
  const float k = shifted - kShift;
  const float coarse = __builtin_fmaf(k, -0x1.62e4p-1F, c);  // exact: 15 bits times at most 8
  const float r = __builtin_fmaf(k, -0x1.7f7d1cp-20F, coarse);
  float q = 0x1.6a4154p-10F;
  q = __builtin_fmaf(q, r, 0x1.1239c6p-7F);
  q = __builtin_fmaf(q, r, 0x1.5558bcp-5F);
  q = __builtin_fmaf(q, r, 0x1.555492p-3F);
  q = __builtin_fmaf(q, r, 0x1.fffffcp-2F);
  const float y = 1.0F + __builtin_fmaf(q, r * r, r);
  const std::int32_t half = n >> 1;
  const float scaled = y * power_of_two(half) * power_of_two(n - half);
  return x != x ? x + x : scaled;
}

// log(x) = k ln 2 + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2));
// log(1 + f) = f - f^2/2 + f^3 p(f).
inline float log(float x) {
  const bool is_denormal = x < 0x1p-126F;
  const float scaled = is_denormal ? x * 0x1p25F : x;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(scaled);
  const std::int32_t exponent = static_cast<std::int32_t>(bits - 0x3F3504F3u) >> 23;
  const float f = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(exponent) << 23)) - 1.0F;
  const float k = static_cast<float>(exponent) - (is_denormal ? 25.0F : 0.0F);
  float p = 0x1.148b0cp-4F;
  p = __builtin_fmaf(p, f, -0x1.de1b4ep-4F);
  p = __builtin_fmaf(p, f, 0x1.e6c3a6p-4F);
  p = __builtin_fmaf(p, f, -0x1.fc256cp-4F);
  p = __builtin_fmaf(p, f, 0x1.233b38p-3F);
  p = __builtin_fmaf(p, f, -0x1.555c52p-3F);
  p = __builtin_fmaf(p, f, 0x1.99a47ap-3F);
  p = __builtin_fmaf(p, f, -0x1.000006p-2F);
  p = __builtin_fmaf(p, f, 0x1.555548p-2F);
  const float square = f * f;
  float tail = __builtin_fmaf(-0.5F, square, p * f * square);
  tail = __builtin_fmaf(k, -0x1.05c61p-29F, tail);
  const float value = __builtin_fmaf(k, 0x1.62e43p-1F, f + tail);
  constexpr float kInfinity = __builtin_inff();
  const float at_infinity = x == kInfinity ? x : value;
  const float at_zero = x == 0.0F ? -kInfinity : at_infinity;
  const float negative = x < 0.0F ? __builtin_nanf("") : at_zero;
  return x != x ? x + x : negative;
}

// |x| < 5/8: x + x^3 p(x^2); else 1 - 2 / (exp(2 |x|) + 1), with the sign of x.
inline float tanh(float x) {
  const float a = __builtin_fabsf(x);
  const float square = a * a;
  float p = 0x1.1a2e3ep-9F;
  p = __builtin_fmaf(p, square, -0x1.0c602p-7F);
  p = __builtin_fmaf(p, square, 0x1.63a57ep-6F);
  p = __builtin_fmaf(p, square, -0x1.b9f18ap-5F);
  p = __builtin_fmaf(p, square, 0x1.11107ap-3F);
  p = __builtin_fmaf(p, square, -0x1.555554p-2F);
  const float near_zero = __builtin_fmaf(a * square, p, a);
  const float far = 1.0F - 2.0F / (exp(2.0F * a) + 1.0F);
  return __builtin_copysignf(a < 0.625F ? near_zero : far, x);
}

// |x| < 0.925: x + x p(x^2); else 1 - exp(-(|x| + |x| q(|x|))), with the sign of x.
inline float erf(float x) {
  const float whole = __builtin_fabsf(x);
  const float a = whole > 4.0F ? 4.0F : whole;  // erf(4) rounds to 1
  const float square = a * a;
  float p = -0x1.387442p-11F;
  p = __builtin_fmaf(p, square, 0x1.46d9e6p-8F);
  p = __builtin_fmaf(p, square, -0x1.b67c04p-6F);
  p = __builtin_fmaf(p, square, 0x1.ce1986p-4F);
  p = __builtin_fmaf(p, square, -0x1.8126e2p-2F);
  p = __builtin_fmaf(p, square, 0x1.06eba6p-3F);
  const float near_zero = __builtin_fmaf(a, p, a);
  float q = 0x1.78d116p-17F;
  q = __builtin_fmaf(q, a, -0x1.52795cp-12F);
  q = __builtin_fmaf(q, a, 0x1.dd6ba8p-9F);
  q = __builtin_fmaf(q, a, -0x1.855122p-6F);
  q = __builtin_fmaf(q, a, 0x1.b32568p-4F);
  q = __builtin_fmaf(q, a, 0x1.45328ep-1F);
  q = __builtin_fmaf(q, a, 0x1.0778dcp-3F);
  const float far = 1.0F - exp(__builtin_fmaf(-a, q, -a));
  return __builtin_copysignf(a < 0.925F ? near_zero : far, x);
}

// 1 / sqrt(x), both correctly rounded.
inline float rsqrt(float x) { return 1.0F / __builtin_sqrtf(x); }

// e = exp(-|x|): 1 / (1 + e) for x >= 0, else e / (1 + e).
inline float sigmoid(float x) {
  const float e = exp(-__builtin_fabsf(x));
  const float over = x < 0.0F ? e : 1.0F;
  return x != x ? x + x : over / (1.0F + e);
}

// Of x >= 0: sin(x) with quarter_turns = 0, cos(x) with 1, in FP64 up to the last rounding: x = k
// pi/2 + r with |r| <= pi/4 (pi/2 in two parts, so that r is good for |x| < 2^50), then the Taylor
// series of sine or cosine, as k + quarter_turns says. NaN from 2^50 on, where neighbours are 2^26
// apart.
inline float sine(float x, std::uint64_t quarter_turns) {
  constexpr double kShift = 0x1.8p52;  // adding it rounds to an integer in the low bits
  const double wide = static_cast<double>(x);
  const double shifted = __builtin_fma(wide, 0x1.45f306dc9c883p-1, kShift);
  const double k = shifted - kShift;
  const std::uint64_t turns = std::bit_cast<std::uint64_t>(shifted) + quarter_turns;
  const double coarse = __builtin_fma(k, -0x1.921fb54442d18p+0, wide);
  const double r = __builtin_fma(k, -0x1.1a62633145c07p-54, coarse);
  const double square = r * r;
  double s = 1.0 / 362880;
  s = __builtin_fma(s, square, -1.0 / 5040);
  s = __builtin_fma(s, square, 1.0 / 120);
  s = __builtin_fma(s, square, -1.0 / 6);
  const double of_sine = __builtin_fma(r * square, s, r);
  double c = -1.0 / 3628800;
  c = __builtin_fma(c, square, 1.0 / 40320);
  c = __builtin_fma(c, square, -1.0 / 720);
  c = __builtin_fma(c, square, 1.0 / 24);
  c = __builtin_fma(c, square, -0.5);
  const double of_cosine = __builtin_fma(square, c, 1.0);
  const double magnitude = (turns & 1) != 0 ? of_cosine : of_sine;
  const auto value = static_cast<float>((turns & 2) != 0 ? -magnitude : magnitude);
  const float inside = x < 0x1p50F ? value : __builtin_nanf("");
  return x != x ? x + x : inside;
}
inline float sin(float x) {
  const std::uint32_t sign = std::bit_cast<std::uint32_t>(x) & 0x80000000u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(sine(__builtin_fabsf(x), 0)) ^ sign);
}
inline float cos(float x) { return sine(__builtin_fabsf(x), 1); }
