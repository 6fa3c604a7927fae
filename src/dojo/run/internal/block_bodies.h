// The bodies of the block kernels. This text is included three times in block_kernels.cc, in three
// namespaces: for any CPU, and compiled for AVX2 and AVX-512. Operations are IEEE 754 ones in the
// order written, so all give equal bits. NOLINT(llvm-header-guard): included more than once on
// purpose.

// y = f(x), y = f(a, b), ...: an output block may be an input block (ivdep: equal or disjoint).
template <class T, class R, class F>
void each(const BlockCall& call, const F& f) {
  const T* x = static_cast<const T*>(call.in[0]);
  R* y = static_cast<R*>(call.out[0]);
#pragma GCC ivdep
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = f(x[i]);
  }
}
template <class T, class R, class F>
void each2(const BlockCall& call, const F& f) {
  const T* a = static_cast<const T*>(call.in[0]);
  const T* b = static_cast<const T*>(call.in[1]);
  R* y = static_cast<R*>(call.out[0]);
#pragma GCC ivdep
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = f(a[i], b[i]);
  }
}
// The same of any number of floats: f takes one of each operand.
template <class F, std::size_t... operands>
void each_float(const BlockCall& call, const F& f, std::index_sequence<operands...> /*which*/) {
  const auto loop = [&](float* y, const auto*... in) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < call.count; ++i) {
      y[i] = f(in[i]...);
    }
  };
  loop(call.float_out(0), call.floats(operands)...);
}
template <std::size_t operands, class F>
void each_float(const BlockCall& call, const F& f) {
  each_float(call, f, std::make_index_sequence<operands>());
}

// --- conversions ---
void copy(const BlockCall& call) {
  each<float, float>(call, [](float x) { return x; });
}
void copy_int(const BlockCall& call) {
  each<std::int64_t, std::int64_t>(call, [](std::int64_t x) { return x; });
}
// Towards zero; a float beyond int64 (or NaN) gives the nearest end of it (or 0).
void truncate(const BlockCall& call) {
  each<float, std::int64_t>(call, [](float x) {
    constexpr float kEnd = 0x1p63F;
    const bool is_inside = x > -kEnd && x < kEnd;
    const std::int64_t inside = static_cast<std::int64_t>(is_inside ? x : 0.0F);
    return x >= kEnd ? INT64_MAX : (x <= -kEnd ? INT64_MIN : inside);
  });
}
void is_nonzero(const BlockCall& call) {
  each<float, std::int64_t>(call, [](float x) { return std::int64_t{x != 0}; });
}

// --- arithmetic ---
void add(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return a + b; });
}
void sub(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return a - b; });
}
void add_scaled(const BlockCall& call) {
  const float alpha = call.params->f[0];
  each2<float, float>(call, [alpha](float a, float b) { return a + alpha * b; });
}
void sub_scaled(const BlockCall& call) {
  const float alpha = call.params->f[0];
  each2<float, float>(call, [alpha](float a, float b) { return a - alpha * b; });
}
void mul(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return a * b; });
}
void div(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return a / b; });
}
void div_floor(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return __builtin_floorf(a / b); });
}
void div_trunc(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return __builtin_truncf(a / b); });
}
void remainder(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) {
    const float rest = std::fmod(a, b);  // exact
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  });
}
void maximum(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return a > b || a != a ? a : b; });
}
void minimum(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return a < b || a != a ? a : b; });
}
// Integers wrap; division by zero gives 0.
using Unsigned = std::uint64_t;
void add_int(const BlockCall& call) {
  each2<Unsigned, Unsigned>(call, [](Unsigned a, Unsigned b) { return a + b; });
}
void sub_int(const BlockCall& call) {
  each2<Unsigned, Unsigned>(call, [](Unsigned a, Unsigned b) { return a - b; });
}
void add_scaled_int(const BlockCall& call) {
  const auto alpha = static_cast<Unsigned>(call.params->i[0]);
  each2<Unsigned, Unsigned>(call, [alpha](Unsigned a, Unsigned b) { return a + alpha * b; });
}
void sub_scaled_int(const BlockCall& call) {
  const auto alpha = static_cast<Unsigned>(call.params->i[0]);
  each2<Unsigned, Unsigned>(call, [alpha](Unsigned a, Unsigned b) { return a - alpha * b; });
}
void mul_int(const BlockCall& call) {
  each2<Unsigned, Unsigned>(call, [](Unsigned a, Unsigned b) { return a * b; });
}
inline std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (b == 0 || b == -1) {
    return b == 0 ? 0 : static_cast<std::int64_t>(-static_cast<Unsigned>(a));
  }
  return a / b;
}
inline std::int64_t quotient_floor(std::int64_t a, std::int64_t b) {
  const std::int64_t towards_zero = quotient(a, b);
  const bool is_above = b != 0 && b != -1 && a % b != 0 && (a < 0) != (b < 0);
  return is_above ? towards_zero - 1 : towards_zero;
}
void div_floor_int(const BlockCall& call) {
  each2<std::int64_t, std::int64_t>(call, quotient_floor);
}
void div_trunc_int(const BlockCall& call) { each2<std::int64_t, std::int64_t>(call, quotient); }
void remainder_int(const BlockCall& call) {
  each2<std::int64_t, std::int64_t>(call, [](std::int64_t a, std::int64_t b) {
    return b == 0 || b == -1 ? 0 : a - quotient_floor(a, b) * b;
  });
}
void maximum_int(const BlockCall& call) {
  each2<std::int64_t, std::int64_t>(call,
                                    [](std::int64_t a, std::int64_t b) { return a > b ? a : b; });
}
void minimum_int(const BlockCall& call) {
  each2<std::int64_t, std::int64_t>(call,
                                    [](std::int64_t a, std::int64_t b) { return a < b ? a : b; });
}
void pow_int(const BlockCall& call) {
  each2<std::int64_t, std::int64_t>(call, [](std::int64_t a, std::int64_t b) {
    if (b < 0) {
      return a == 1 ? 1 : (a == -1 ? (b % 2 == 0 ? 1 : -1) : std::int64_t{0});
    }
    Unsigned power = 1;
    Unsigned square = static_cast<Unsigned>(a);
    for (Unsigned rest = static_cast<Unsigned>(b); rest != 0; rest >>= 1) {
      power *= (rest & 1) != 0 ? square : 1;
      square *= square;
    }
    return static_cast<std::int64_t>(power);
  });
}
// What pow gives for the exponents 2, 3, -2.
void square(const BlockCall& call) {
  each<float, float>(call, [](float x) { return x * x; });
}
void cube(const BlockCall& call) {
  each<float, float>(call, [](float x) { return x * x * x; });
}
void reciprocal_square(const BlockCall& call) {
  each<float, float>(call, [](float x) { return 1.0F / (x * x); });
}
// Exponents 0, 1, 2, 3, -1, -2, 1/2 and -1/2 by the operations they stand for; every other by
// exp(b log |a|), negative for a negative base and an odd exponent, NaN for a negative base and an
// exponent that is no integer.
void pow(const BlockCall& call) {
  const float* a = call.floats(0);
  const float* b = call.floats(1);
  float* y = call.float_out(0);
  std::array<float, kBlock> work{};
  const auto count = static_cast<std::size_t>(call.count);
  for (std::size_t i = 0; i < count; ++i) {
    work[i] = __builtin_fabsf(a[i]);
  }
  numerics::log({work.data(), count}, {work.data(), count}, call.isa);
  for (std::size_t i = 0; i < count; ++i) {
    work[i] = b[i] * work[i];
  }
  numerics::exp({work.data(), count}, {work.data(), count}, call.isa);
  for (std::size_t i = 0; i < count; ++i) {
    const float base = a[i];
    const float exponent = b[i];
    const bool is_integer = __builtin_floorf(exponent) == exponent;
    const bool is_odd = is_integer && __builtin_floorf(exponent * 0.5F) != exponent * 0.5F;
    float power = base < 0 && !is_integer ? __builtin_nanf("") : work[i];
    power = base < 0 && is_odd ? -power : power;
    power = base == 0 ? (exponent > 0 ? 0.0F : __builtin_inff()) : power;
    power = exponent == 0.5F ? __builtin_sqrtf(base) : power;
    power = exponent == -0.5F ? 1.0F / __builtin_sqrtf(base) : power;
    power = exponent == -2 ? 1.0F / (base * base) : power;
    power = exponent == -1 ? 1.0F / base : power;
    power = exponent == 3 ? base * base * base : power;
    power = exponent == 2 ? base * base : power;
    power = exponent == 1 ? base : power;
    power = exponent == 0 || base == 1 ? 1.0F : power;
    y[i] = power;
  }
}

void neg(const BlockCall& call) {
  each<float, float>(call, [](float x) { return -x; });
}
void abs(const BlockCall& call) {
  each<float, float>(call, [](float x) { return __builtin_fabsf(x); });
}
void sign(const BlockCall& call) {
  each<float, float>(call, [](float x) { return x > 0 ? 1.0F : (x < 0 ? -1.0F : 0.0F); });
}
void floor(const BlockCall& call) {
  each<float, float>(call, [](float x) { return __builtin_floorf(x); });
}
void ceil(const BlockCall& call) {
  each<float, float>(call, [](float x) { return __builtin_ceilf(x); });
}
void round(const BlockCall& call) {
  each<float, float>(call, [](float x) { return __builtin_rintf(x); });
}
void sqrt(const BlockCall& call) {
  each<float, float>(call, [](float x) { return __builtin_sqrtf(x); });
}
void reciprocal(const BlockCall& call) {
  each<float, float>(call, [](float x) { return 1.0F / x; });
}
void neg_int(const BlockCall& call) {
  each<Unsigned, Unsigned>(call, [](Unsigned x) { return -x; });
}
void abs_int(const BlockCall& call) {
  each<Unsigned, Unsigned>(call, [](Unsigned x) { return x >> 63 != 0 ? -x : x; });
}
void sign_int(const BlockCall& call) {
  each<std::int64_t, std::int64_t>(
      call, [](std::int64_t x) { return std::int64_t{x > 0} - std::int64_t{x < 0}; });
}
void bitwise_and(const BlockCall& call) {
  each2<Unsigned, Unsigned>(call, [](Unsigned a, Unsigned b) { return a & b; });
}
void bitwise_or(const BlockCall& call) {
  each2<Unsigned, Unsigned>(call, [](Unsigned a, Unsigned b) { return a | b; });
}
void bitwise_not(const BlockCall& call) {
  each<Unsigned, Unsigned>(call, [](Unsigned x) { return ~x; });
}

// --- special functions ---
template <class F>
void special(const BlockCall& call, const F& f) {
  const auto count = static_cast<std::size_t>(call.count);
  f(std::span<const float>(call.floats(0), count), std::span<float>(call.float_out(0), count));
}
void rsqrt(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::rsqrt(x, y, call.isa); });
}
void exp(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::exp(x, y, call.isa); });
}
void log(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::log(x, y, call.isa); });
}
void erf(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::erf(x, y, call.isa); });
}
void sin(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::sin(x, y, call.isa); });
}
void cos(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::cos(x, y, call.isa); });
}
void sigmoid(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::sigmoid(x, y, call.isa); });
}
void tanh(const BlockCall& call) {
  special(call, [&](auto x, auto y) { numerics::tanh(x, y, call.isa); });
}

// work[i] = before(i), then the special function, then y[i] = after(i, work[i]).
template <class Before, class Special, class After>
void around(const BlockCall& call, const Before& before, const Special& f, const After& after) {
  std::array<float, kBlock> work;  // NOLINT: filled below
  const auto count = static_cast<std::size_t>(call.count);
  for (std::int64_t i = 0; i < call.count; ++i) {
    work[static_cast<std::size_t>(i)] = before(i);
  }
  f(std::span<const float>(work.data(), count), std::span<float>(work.data(), count));
  float* y = call.float_out(0);
#pragma GCC ivdep
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = after(i, work[static_cast<std::size_t>(i)]);
  }
}
void expm1(const BlockCall& call) {
  const float* x = call.floats(0);
  around(
      call, [x](std::int64_t i) { return x[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [](std::int64_t, float e) { return e - 1.0F; });
}
void log1p(const BlockCall& call) {
  const float* x = call.floats(0);
  around(
      call, [x](std::int64_t i) { return 1.0F + x[i]; },
      [&](auto a, auto b) { numerics::log(a, b, call.isa); },
      [](std::int64_t, float value) { return value; });
}

// --- comparisons, selection ---
void eq(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a == b}; });
}
void ne(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a != b}; });
}
void lt(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a < b}; });
}
void le(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a <= b}; });
}
void gt(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a > b}; });
}
void ge(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a >= b}; });
}
void logical_and(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a != 0 && b != 0}; });
}
void logical_or(const BlockCall& call) {
  each2<float, std::int64_t>(call, [](float a, float b) { return std::int64_t{a != 0 || b != 0}; });
}
void logical_not(const BlockCall& call) {
  each<float, std::int64_t>(call, [](float x) { return std::int64_t{x == 0}; });
}
using Int = std::int64_t;
void eq_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a == b}; });
}
void ne_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a != b}; });
}
void lt_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a < b}; });
}
void le_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a <= b}; });
}
void gt_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a > b}; });
}
void ge_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a >= b}; });
}
void logical_and_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a != 0 && b != 0}; });
}
void logical_or_int(const BlockCall& call) {
  each2<Int, Int>(call, [](Int a, Int b) { return Int{a != 0 || b != 0}; });
}
void logical_not_int(const BlockCall& call) {
  each<Int, Int>(call, [](Int x) { return Int{x == 0}; });
}
template <class T>
void select(const BlockCall& call) {
  const std::int64_t* condition = call.ints(0);
  const T* a = static_cast<const T*>(call.in[1]);
  const T* b = static_cast<const T*>(call.in[2]);
  T* y = static_cast<T*>(call.out[0]);
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = condition[i] != 0 ? a[i] : b[i];
  }
}
void where(const BlockCall& call) { select<float>(call); }
void where_int(const BlockCall& call) { select<std::int64_t>(call); }
// min(max(x, low), high); a NaN stays.
template <class T>
void clamp_to(const BlockCall& call) {
  const T* x = static_cast<const T*>(call.in[0]);
  const T* low = static_cast<const T*>(call.in[1]);
  const T* high = static_cast<const T*>(call.in[2]);
  T* y = static_cast<T*>(call.out[0]);
  for (std::int64_t i = 0; i < call.count; ++i) {
    const T raised = x[i] < low[i] ? low[i] : x[i];
    y[i] = raised > high[i] ? high[i] : raised;
  }
}
void clamp(const BlockCall& call) { clamp_to<float>(call); }
void clamp_int(const BlockCall& call) { clamp_to<std::int64_t>(call); }
// i: rows, columns, the first kept column - row, the last kept one.
template <class T>
void keep_triangle(const BlockCall& call) {
  const auto& [rows, columns, from, to] = call.params->i;
  const T* x = static_cast<const T*>(call.in[0]);
  T* y = static_cast<T*>(call.out[0]);
  for (std::int64_t i = 0; i < call.count; ++i) {
    const std::int64_t at = call.first + i;
    const std::int64_t distance = at % columns - at / columns % rows;
    y[i] = distance >= from && distance <= to ? x[i] : T{0};
  }
}
void triangle(const BlockCall& call) { keep_triangle<float>(call); }
void triangle_int(const BlockCall& call) { keep_triangle<std::int64_t>(call); }

// --- activations ---
void relu(const BlockCall& call) {
  each<float, float>(call, [](float x) { return x <= 0 ? 0.0F : x; });
}
void relu_int(const BlockCall& call) {
  each<std::int64_t, std::int64_t>(call,
                                   [](std::int64_t x) { return x > 0 ? x : std::int64_t{0}; });
}
// dY, self
void threshold_backward(const BlockCall& call) {
  const float threshold = call.params->f[0];
  each2<float, float>(call, [threshold](float dy, float x) { return x > threshold ? dy : 0.0F; });
}
constexpr float kSqrtHalf = 0x1.6a09e6p-1F;       // sqrt(1/2)
constexpr float kNormalDensity = 0x1.988454p-2F;  // 1 / sqrt(2 pi)
constexpr float kSqrtTwoOverPi = 0x1.988454p-1F;  // sqrt(2 / pi)
constexpr float kGeluCube = 0.044715F;            // of the tanh formula
// (x / 2) (1 + erf(x sqrt(1/2)))
void gelu(const BlockCall& call) {
  const float* x = call.floats(0);
  around(
      call, [x](std::int64_t i) { return x[i] * kSqrtHalf; },
      [&](auto a, auto b) { numerics::erf(a, b, call.isa); },
      [x](std::int64_t i, float e) { return (x[i] * 0.5F) * (1.0F + e); });
}
// (x / 2) (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
void gelu_tanh(const BlockCall& call) {
  const float* x = call.floats(0);
  around(
      call,
      [x](std::int64_t i) {
        const float cube = x[i] * x[i] * x[i];
        return kSqrtTwoOverPi * (x[i] + kGeluCube * cube);
      },
      [&](auto a, auto b) { numerics::tanh(a, b, call.isa); },
      [x](std::int64_t i, float t) { return (x[i] * 0.5F) * (1.0F + t); });
}
// dY (Phi(x) + x phi(x)), Phi = (1 + erf(x sqrt(1/2))) / 2, phi = exp(-x^2 / 2) / sqrt(2 pi)
void gelu_backward(const BlockCall& call) {
  const float* dy = call.floats(0);
  const float* x = call.floats(1);
  std::array<float, kBlock> cdf;  // NOLINT: filled below
  const auto count = static_cast<std::size_t>(call.count);
  for (std::size_t i = 0; i < count; ++i) {
    cdf[i] = x[i] * kSqrtHalf;
  }
  numerics::erf({cdf.data(), count}, {cdf.data(), count}, call.isa);
  around(
      call, [x](std::int64_t i) { return -0.5F * x[i] * x[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [&](std::int64_t i, float e) {
        const float phi = 0.5F * (1.0F + cdf[static_cast<std::size_t>(i)]);
        return dy[i] * (phi + x[i] * (e * kNormalDensity));
      });
}
// With t the tanh above: dY ((1 + t) / 2 + (x / 2) (1 - t^2) sqrt(2/pi) (1 + 3 0.044715 x^2))
void gelu_tanh_backward(const BlockCall& call) {
  const float* dy = call.floats(0);
  const float* x = call.floats(1);
  around(
      call,
      [x](std::int64_t i) {
        const float cube = x[i] * x[i] * x[i];
        return kSqrtTwoOverPi * (x[i] + kGeluCube * cube);
      },
      [&](auto a, auto b) { numerics::tanh(a, b, call.isa); },
      [dy, x](std::int64_t i, float t) {
        const float slope = kSqrtTwoOverPi * (1.0F + (3.0F * kGeluCube) * (x[i] * x[i]));
        const float from_tanh = (x[i] * 0.5F) * (1.0F - t * t) * slope;
        return dy[i] * (0.5F * (1.0F + t) + from_tanh);
      });
}
void silu(const BlockCall& call) {
  const float* x = call.floats(0);
  around(
      call, [x](std::int64_t i) { return x[i]; },
      [&](auto a, auto b) { numerics::sigmoid(a, b, call.isa); },
      [x](std::int64_t i, float s) { return x[i] * s; });
}
// dY (s (1 + x (1 - s)))
void silu_backward(const BlockCall& call) {
  const float* dy = call.floats(0);
  const float* x = call.floats(1);
  around(
      call, [x](std::int64_t i) { return x[i]; },
      [&](auto a, auto b) { numerics::sigmoid(a, b, call.isa); },
      [dy, x](std::int64_t i, float s) { return dy[i] * (s * (1.0F + x[i] * (1.0F - s))); });
}
void sigmoid_backward(const BlockCall& call) {
  each2<float, float>(call, [](float dy, float y) { return dy * (1.0F - y) * y; });
}
void tanh_backward(const BlockCall& call) {
  each2<float, float>(call, [](float dy, float y) { return dy * (1.0F - y * y); });
}
inline float relu6(float x) { return x < 0 ? 0.0F : (x > 6 ? 6.0F : x); }
void hardswish(const BlockCall& call) {
  each<float, float>(call, [](float x) { return x * relu6(x + 3.0F) / 6.0F; });
}
void hardswish_backward(const BlockCall& call) {
  each2<float, float>(call, [](float dy, float x) {
    return x <= -3 ? 0.0F : (x < 3 ? dy * (x / 3.0F + 0.5F) : dy);
  });
}
void hardsigmoid(const BlockCall& call) {
  each<float, float>(call, [](float x) { return relu6(x + 3.0F) / 6.0F; });
}
void hardsigmoid_backward(const BlockCall& call) {
  each2<float, float>(call, [](float dy, float x) { return x > -3 && x < 3 ? dy / 6.0F : 0.0F; });
}
// f: min_val, max_val
void hardtanh_backward(const BlockCall& call) {
  const float low = call.params->f[0];
  const float high = call.params->f[1];
  each2<float, float>(call,
                      [low, high](float dy, float x) { return x > low && x < high ? dy : 0.0F; });
}
void leaky_relu(const BlockCall& call) {
  const float slope = call.params->f[0];
  each<float, float>(call, [slope](float x) { return x > 0 ? x : slope * x; });
}
void leaky_relu_backward(const BlockCall& call) {
  const float slope = call.params->f[0];
  each2<float, float>(call, [slope](float dy, float x) { return x > 0 ? dy : slope * dy; });
}
// f: alpha scale, scale, input_scale
void elu(const BlockCall& call) {
  const float* x = call.floats(0);
  const auto& f = call.params->f;
  around(
      call, [x, &f](std::int64_t i) { return f[2] * x[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [x, &f](std::int64_t i, float e) { return x[i] > 0 ? f[1] * x[i] : f[0] * (e - 1.0F); });
}
void elu_backward(const BlockCall& call) {
  const float* dy = call.floats(0);
  const float* x = call.floats(1);
  const auto& f = call.params->f;
  around(
      call, [x, &f](std::int64_t i) { return f[2] * x[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [dy, x, &f](std::int64_t i, float e) {
        return x[i] > 0 ? dy[i] * f[1] : dy[i] * f[2] * f[0] * e;
      });
}
void elu_backward_of_result(const BlockCall& call) {
  const auto& f = call.params->f;
  each2<float, float>(
      call, [&f](float dy, float y) { return y > 0 ? dy * f[1] : dy * f[2] * (y + f[0]); });
}
// f: beta, threshold. log(1 + exp(beta x)) / beta
void softplus(const BlockCall& call) {
  const float* x = call.floats(0);
  const float beta = call.params->f[0];
  const float threshold = call.params->f[1];
  std::array<float, kBlock> grown;  // NOLINT: filled below
  const auto count = static_cast<std::size_t>(call.count);
  for (std::size_t i = 0; i < count; ++i) {
    grown[i] = beta * x[i];
  }
  numerics::exp({grown.data(), count}, {grown.data(), count}, call.isa);
  around(
      call, [&grown](std::int64_t i) { return 1.0F + grown[static_cast<std::size_t>(i)]; },
      [&](auto a, auto b) { numerics::log(a, b, call.isa); },
      [=](std::int64_t i, float l) { return beta * x[i] > threshold ? x[i] : l / beta; });
}
void softplus_backward(const BlockCall& call) {
  const float* dy = call.floats(0);
  const float* x = call.floats(1);
  const float beta = call.params->f[0];
  const float threshold = call.params->f[1];
  around(
      call, [=](std::int64_t i) { return beta * x[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [=](std::int64_t i, float e) {
        return beta * x[i] > threshold ? dy[i] : dy[i] * e / (e + 1.0F);
      });
}

// --- pieces of softmax ---
// exp(x - m). i[0]: a row of nothing but -Inf gives zeros.
void exp_of_difference(const BlockCall& call) {
  const float* x = call.floats(0);
  const float* m = call.floats(1);
  const bool is_safe = call.params->i[0] != 0;
  constexpr float kNone = -__builtin_inff();
  around(
      call, [=](std::int64_t i) { return is_safe && m[i] == kNone ? kNone : x[i] - m[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [](std::int64_t, float e) { return e; });
}
// e / z; 0 where z is 0 (only a safe softmax has such rows)
void ratio_or_zero(const BlockCall& call) {
  each2<float, float>(call, [](float e, float z) { return z == 0 ? 0.0F : e / z; });
}
// (x - m) - l
void log_softmax(const BlockCall& call) {
  each_float<3>(call, [](float x, float m, float l) { return (x - m) - l; });
}
// Y (dY - t)
void softmax_backward(const BlockCall& call) {
  each_float<3>(call, [](float dy, float y, float t) { return y * (dy - t); });
}
// dY - exp(Y) s
void log_softmax_backward(const BlockCall& call) {
  const float* dy = call.floats(0);
  const float* y = call.floats(1);
  const float* s = call.floats(2);
  around(
      call, [y](std::int64_t i) { return y[i]; },
      [&](auto a, auto b) { numerics::exp(a, b, call.isa); },
      [dy, s](std::int64_t i, float e) { return dy[i] - e * s[i]; });
}

// --- pieces of normalisations ---
// f: count, eps. 1 / sqrt(sum / count + eps)
void inverse_deviation(const BlockCall& call) {
  const float count = call.params->f[0];
  const float eps = call.params->f[1];
  each<float, float>(call, [=](float sum) { return 1.0F / __builtin_sqrtf(sum / count + eps); });
}
// f: momentum, 1 - momentum, divisor. momentum (new / divisor) + (1 - momentum) old
void blend(const BlockCall& call) {
  const float momentum = call.params->f[0];
  const float rest = call.params->f[1];
  const float divisor = call.params->f[2];
  each2<float, float>(
      call, [=](float now, float old) { return momentum * (now / divisor) + rest * old; });
}
// (x - mean) rstd
void normalise(const BlockCall& call) {
  each_float<3>(call, [](float x, float mean, float rstd) { return (x - mean) * rstd; });
}
// ((x - mean) rstd) w + b
void normalise_affine(const BlockCall& call) {
  each_float<5>(call, [](float x, float mean, float rstd, float w, float b) {
    return ((x - mean) * rstd) * w + b;
  });
}
// rstd ((g - m1) - h m2) with g = dY w and h = (x - mean) rstd: operands dY, x, mean, rstd, w, m1,
// m2
void normalise_backward(const BlockCall& call) {
  each_float<7>(call, [](float dy, float x, float mean, float rstd, float w, float m1, float m2) {
    const float h = (x - mean) * rstd;
    return rstd * ((dy * w - m1) - h * m2);
  });
}
// --- pieces of losses ---
void squared_difference(const BlockCall& call) {
  each2<float, float>(call, [](float a, float b) { return (a - b) * (a - b); });
}
// f[0]: the scale. (scale (x - t)) dY: operands dY, x, t
void mse_backward(const BlockCall& call) {
  const float factor = call.params->f[0];
  each_float<3>(call, [factor](float dy, float x, float t) { return (factor * (x - t)) * dy; });
}
// f[0]: beta
void smooth_l1(const BlockCall& call) {
  const float beta = call.params->f[0];
  each2<float, float>(call, [beta](float a, float b) {
    const float z = __builtin_fabsf(a - b);
    return z < beta ? 0.5F * z * z / beta : z - 0.5F * beta;
  });
}
// f: scale, beta. Operands dY, x, t
void smooth_l1_backward(const BlockCall& call) {
  const float factor = call.params->f[0];
  const float beta = call.params->f[1];
  each_float<3>(call, [=](float dy, float x, float t) {
    const float d = x - t;
    return d <= -beta ? -factor * dy : (d >= beta ? factor * dy : factor * d * dy / beta);
  });
}
// (1 - t) x + (1 + (p - 1) t) (log(1 + exp(-|x|)) + max(-x, 0)): operands x, t, pos_weight p
void bce_with_logits(const BlockCall& call) {
  const float* x = call.floats(0);
  const float* t = call.floats(1);
  const float* p = call.floats(2);
  std::array<float, kBlock> shrunk;  // NOLINT: filled below
  const auto count = static_cast<std::size_t>(call.count);
  for (std::size_t i = 0; i < count; ++i) {
    shrunk[i] = -__builtin_fabsf(x[i]);
  }
  numerics::exp({shrunk.data(), count}, {shrunk.data(), count}, call.isa);
  around(
      call, [&shrunk](std::int64_t i) { return 1.0F + shrunk[static_cast<std::size_t>(i)]; },
      [&](auto a, auto b) { numerics::log(a, b, call.isa); },
      [x, t, p](std::int64_t i, float l) {
        const float below = x[i] < 0 ? -x[i] : 0.0F;
        const float weight = 1.0F + (p[i] - 1.0F) * t[i];
        return (1.0F - t[i]) * x[i] + weight * (l + below);
      });
}

// --- constants and random masks ---
void full(const BlockCall& call) {
  float* y = call.float_out(0);
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = call.params->f[0];
  }
}
void full_int(const BlockCall& call) {
  std::int64_t* y = call.int_out(0);
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = call.params->i[0];
  }
}
// f: start, step. start + i step
void arange(const BlockCall& call) {
  float* y = call.float_out(0);
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = call.params->f[0] + static_cast<float>(call.first + i) * call.params->f[1];
  }
}
void arange_int(const BlockCall& call) {
  std::int64_t* y = call.int_out(0);
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = call.params->i[0] + (call.first + i) * call.params->i[1];
  }
}
// f[0]: 1 / (1 - p); i: site, p in units of 2^-16. 0 where the element's 16 random bits are below p
void mask(const BlockCall& call) {
  std::array<std::uint16_t, kBlock> random;  // NOLINT: filled below
  const auto count = static_cast<std::size_t>(call.count);
  numerics::random_bits16({call.seed, static_cast<std::uint32_t>(call.params->i[0]), call.step},
                          static_cast<std::uint64_t>(call.first), {random.data(), count}, call.isa);
  float* y = call.float_out(0);
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = random[i] < call.params->i[1] ? 0.0F : call.params->f[0];
  }
}

// --- optimisers ---
// f: weight_decay, sign of the gradient (-1: maximize). The gradient they use.
inline float decayed(const Params& params, float w, float g) {
  return params.f[1] * g + params.f[0] * w;
}
// Operands w, g, lr.
void sgd(const BlockCall& call) {
  const float* w = call.floats(0);
  const float* g = call.floats(1);
  const float* lr = call.floats(2);
  float* y = call.float_out(0);
  const Params params = *call.params;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < call.count; ++i) {
    y[i] = w[i] - lr[i] * decayed(params, w[i], g[i]);
  }
}
// f: ..., momentum, 1 - dampening; i[0]: nesterov. Operands w, g, m, lr; results w, m.
void sgd_momentum(const BlockCall& call) {
  const float* w = call.floats(0);
  const float* g = call.floats(1);
  const float* m = call.floats(2);
  const float* lr = call.floats(3);
  float* w_out = call.float_out(0);
  float* m_out = call.float_out(1);
  const Params params = *call.params;
  const bool is_nesterov = params.i[0] != 0;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < call.count; ++i) {
    const float gradient = decayed(params, w[i], g[i]);
    const float moved = params.f[2] * m[i] + params.f[3] * gradient;
    const float direction = is_nesterov ? gradient + params.f[2] * moved : moved;
    w_out[i] = w[i] - lr[i] * direction;
    m_out[i] = moved;
  }
}
// f: weight_decay, sign, beta1, 1 - beta1, beta2, 1 - beta2, eps, v_scale; i[0]: decoupled; i[1],
// i[2]: bits of beta1 and beta2 as doubles. Operands w, g, m, v, lr, step; results w, m, v. The
// powers of beta are products of doubles.
inline double power(double base, std::int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    result = (exponent & 1) != 0 ? result * base : result;
    base = base * base;
  }
  return result;
}
void adamw(const BlockCall& call) {
  const float* w = call.floats(0);
  const float* g = call.floats(1);
  const float* m = call.floats(2);
  const float* v = call.floats(3);
  const float* lr = call.floats(4);
  const std::int64_t step = call.ints(5)[0];
  float* w_out = call.float_out(0);
  float* m_out = call.float_out(1);
  float* v_out = call.float_out(2);
  const Params params = *call.params;
  const auto& f = params.f;
  const bool is_decoupled = params.i[0] != 0;
  const float unscale = 1.0F / f[7];
  const auto correction1 = static_cast<float>(1 - power(std::bit_cast<double>(params.i[1]), step));
  const auto correction2 =
      static_cast<float>(__builtin_sqrt(1 - power(std::bit_cast<double>(params.i[2]), step)));
#pragma GCC ivdep
  for (std::int64_t i = 0; i < call.count; ++i) {
    const float gradient = is_decoupled ? f[1] * g[i] : decayed(params, w[i], g[i]);
    const float decay = is_decoupled ? w[i] * (1.0F - lr[i] * f[0]) : w[i];
    const float mean = m[i] + f[3] * (gradient - m[i]);
    const float square = f[4] * (v[i] * unscale) + f[5] * (gradient * gradient);
    const float scale = __builtin_sqrtf(square) / correction2 + f[6];
    w_out[i] = decay - (lr[i] / correction1) * (mean / scale);
    m_out[i] = mean;
    v_out[i] = square * f[7];
  }
}
