// Times the array encoders beside a kernel that only moves the same bytes: reads f32, writes one
// or two bytes per element. One thread; arrays that no cache holds; the kernels take turns. Prints
// one JSON object: seconds of each kernel's runs, in order. bench/bench_formats.py reads it.
// Arguments: the formats to time, by name.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/base/format.h"
#include "dojo/base/philox.h"
#include "dojo/numerics/encode.h"
#include "dojo/numerics/internal/intrinsics.h"
#include "dojo/numerics/isa.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")

namespace dojo::numerics::avx512 {
namespace {

enum class Store : std::uint8_t { Cached, PastCaches };

// Reads whole cache lines and writes one, or a half, for each; `ahead`: bytes to prefetch.
template <Store store, int width, int ahead>
void move(std::span<const float> in, std::byte* out) {
  constexpr std::size_t kStep = 64 / width;
  for (std::size_t i = 0; i < in.size(); i += kStep) {
    const float* x = in.data() + i;
    __m512i narrowed[2];
    for (std::size_t half = 0; half < (width == 1 ? 2 : 1); ++half) {
      const float* from = x + 32 * half;
      if constexpr (ahead > 0) {
        _mm_prefetch(reinterpret_cast<const char*>(from) + ahead, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(from) + ahead + 64, _MM_HINT_T0);
      }
      narrowed[half] = _mm512_packus_epi32(_mm512_loadu_si512(from), _mm512_loadu_si512(from + 16));
    }
    const __m512i value = width == 1 ? _mm512_packus_epi16(narrowed[0], narrowed[1]) : narrowed[0];
    std::byte* const to = out + i * width;
    if constexpr (store == Store::PastCaches) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), value);
    } else {
      _mm512_store_si512(to, value);
    }
  }
  _mm_sfence();
}

}  // namespace
}  // namespace dojo::numerics::avx512

#pragma GCC pop_options

namespace dojo::numerics {
namespace {

constexpr std::size_t kCount = std::size_t{1} << 27;
constexpr int kRounds = 5;

// CPU time of this thread: what other programs take does not count.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Kernel {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds{};
};

struct Arrays {
  std::vector<float> in;
  std::byte* out;
};

std::vector<float> normal_like_values() {
  std::vector<float> x(kCount);
  std::vector<std::uint16_t> bits(4 * 4096);
  for (std::size_t at = 0; at < kCount; at += 4096) {
    random_bits16({1, 2, 3}, 4 * at, bits);
    for (std::size_t i = 0; i < 4096; ++i) {  // a sum of four uniform numbers
      float sum = 0;
      for (std::size_t j = 0; j < 4; ++j) {
        sum += static_cast<float>(bits[4 * i + j]);
      }
      x[at + i] = (sum - 2 * 65535.0F) * 0x1p-15F;
    }
  }
  return x;
}

// The encoder's codes of some ranges against the plain path.
void check(std::span<const float> in, const StorageFormat& to, const RoundingSpec& rounding) {
  constexpr std::size_t kSample = 1 << 14;
  const std::size_t width = static_cast<std::size_t>(bytes_of(to.format));
  std::vector<std::byte> got(kSample * width);
  std::vector<std::byte> wanted(kSample * width);
  for (std::size_t at = 0; at < in.size(); at += in.size() / 8) {
    RoundingSpec part = rounding;
    part.first_element = at;
    const EncodeStats stats = encode(in.subspan(at, kSample), to, part, got);
    DOJO_CHECK(stats == encode(in.subspan(at, kSample), to, part, wanted, Isa::Plain));
    DOJO_CHECK(got == wanted);
  }
}

void add_encoder(std::vector<Kernel>& kernels, const Arrays& arrays, Format format, Rounding mode) {
  const StorageFormat to{.format = format, .bias = info(format).bias};
  const RoundingSpec rounding{mode, {.seed = 1, .tensor = 2, .step = 3}, 0};
  check(arrays.in, to, rounding);
  const std::size_t bytes = kCount * static_cast<std::size_t>(bytes_of(format));
  kernels.push_back(
      {std::string(info(format).name) + (mode == Rounding::Stochastic ? " stochastic" : " nearest"),
       [&arrays, to, rounding, bytes] {
         encode(arrays.in, to, rounding, std::span(arrays.out, bytes));
       }});
}

void print(const std::vector<Kernel>& kernels) {
  std::printf("{\"elements\": %zu, \"seconds\": {", kCount);
  for (const Kernel& kernel : kernels) {
    std::printf("%s\"%s\": [", &kernel == kernels.data() ? "" : ", ", kernel.name.c_str());
    for (std::size_t i = 0; i < kernel.seconds.size(); ++i) {
      std::printf("%s%.6f", i == 0 ? "" : ", ", kernel.seconds[i]);
    }
    std::printf("]");
  }
  std::printf("}}\n");
}

int run(std::span<const char* const> formats) {
  if (best_isa() != Isa::Avx512) {
    std::fprintf(stderr, "this CPU has no AVX-512, in which the streaming bound is written\n");
    return 1;
  }
  std::vector<std::byte> memory(2 * kCount + 64);
  void* start = memory.data();
  std::size_t space = memory.size();
  const Arrays arrays{normal_like_values(),
                      static_cast<std::byte*>(std::align(64, 2 * kCount, start, space))};
  std::vector<Kernel> kernels;
  const auto add_move = [&](const char* name, auto move) {
    kernels.push_back({name, [&arrays, move] { move(arrays.in, arrays.out); }});
  };
  using avx512::Store;
  add_move("move to bytes", avx512::move<Store::Cached, 1, 0>);
  add_move("move to bytes past caches", avx512::move<Store::PastCaches, 1, 0>);
  add_move("move to bytes past caches, prefetching", avx512::move<Store::PastCaches, 1, 6144>);
  add_move("move to halves", avx512::move<Store::Cached, 2, 0>);
  add_move("move to halves past caches", avx512::move<Store::PastCaches, 2, 0>);
  add_move("move to halves past caches, prefetching", avx512::move<Store::PastCaches, 2, 6144>);
  for (const char* name : formats) {
    const std::optional<Format> format = format_named(name);
    if (!format.has_value() || !is_float(*format)) {
      std::fprintf(stderr, "%s is no float format\n", name);
      return 1;
    }
    add_encoder(kernels, arrays, *format, Rounding::NearestEven);
    add_encoder(kernels, arrays, *format, Rounding::Stochastic);
  }
  for (int round = 0; round < kRounds; ++round) {
    for (Kernel& kernel : kernels) {
      const double begin = thread_seconds();
      kernel.run();
      kernel.seconds.push_back(thread_seconds() - begin);
    }
  }
  print(kernels);
  return 0;
}

}  // namespace
}  // namespace dojo::numerics

int main(int argc, char** argv) {
  return dojo::numerics::run(std::span(argv + 1, static_cast<std::size_t>(argc - 1)));
}
