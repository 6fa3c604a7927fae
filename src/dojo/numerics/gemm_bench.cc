// How far GEMM is from this CPU's own instruction peaks: prints one JSON object per line. The peaks
// are loops of independent instructions without memory; a product counts 2 m n k operations, its
// time includes packing and decoding. Answers are the tests' business.
//   dojo_gemm_bench [threads]
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string_view>
#include <vector>

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/gemm.h"
#include "dojo/numerics/internal/product_rounds_avx512.h"

namespace {

constexpr std::int64_t kPeakRounds = 200'000;

using dojo::ThreadPool;
namespace numerics = dojo::numerics;
namespace avx512 = dojo::numerics::avx512;

// One thread is timed by its own CPU time, so that a busy machine does not matter as much.
double now(int threads) {
  timespec time{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

template <class Body>
double least_seconds(const ThreadPool& pool, int runs, const Body& body) {
  double least = 1e9;
  for (int i = 0; i < runs; ++i) {
    const double begin = now(pool.threads());
    body();
    least = std::min(least, now(pool.threads()) - begin);
  }
  return least;
}

volatile float sink = 0;

// GFLOP/s of all threads.
double peak(ThreadPool& pool, float (*rounds)(std::int64_t), std::int64_t products_per_round) {
  const double time = least_seconds(pool, 5, [&] {
    pool.parallel_for(pool.threads(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        sink = rounds(kPeakRounds);
      }
    });
  });
  return 2e-9 * static_cast<double>(products_per_round * kPeakRounds * pool.threads()) / time;
}

struct Shape {
  std::string_view what;
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
};

constexpr std::array kShapes{
    Shape{"square", 512, 512, 512},         Shape{"square", 1024, 1024, 1024},
    Shape{"square", 2048, 2048, 2048},      Shape{"square", 4096, 4096, 4096},
    Shape{"gpt qkv", 1024, 768, 256},       Shape{"gpt up", 1024, 1024, 256},
    Shape{"gpt down", 1024, 256, 1024},     Shape{"gpt weight gradient", 256, 1024, 1024},
    Shape{"gpt head", 1024, 65, 256},       Shape{"resnet head", 32, 1000, 512},
    Shape{"steering dense", 64, 100, 1152}, Shape{"steering weight gradient", 100, 1152, 64},
    Shape{"tall", 16384, 64, 64},           Shape{"flat", 64, 16384, 64},
    Shape{"one row", 1, 4096, 4096},
};

// How a product is computed, and the peak that it is compared with.
struct Way {
  std::string_view name;
  numerics::Isa isa = numerics::Isa::Avx512;
  numerics::ProductUnit unit = numerics::ProductUnit::Fma;
  numerics::SumOrder order = numerics::SumOrder::Sequential;
  dojo::Format right = dojo::Format::Cf8_1_4_3;
  double peak = 0;
};

void time_product(ThreadPool& pool, const Shape& shape, const Way& way) {
  std::mt19937 random(1);
  std::vector<std::uint8_t> a(static_cast<std::size_t>(shape.m * shape.k));
  std::vector<std::uint8_t> b(static_cast<std::size_t>(shape.k * shape.n));
  for (std::uint8_t& code : a) {
    code = static_cast<std::uint8_t>(random());
  }
  for (std::uint8_t& code : b) {
    code = static_cast<std::uint8_t>(random());
  }
  std::vector<float> out(static_cast<std::size_t>(shape.m * shape.n));
  const numerics::StorageFormat type{dojo::Format::Cf8_1_4_3, 11};
  const auto run = [&] {
    numerics::gemm(pool, {shape.m, shape.n, shape.k}, {{a.data(), type}, shape.k, 1, {}},
                   {{b.data(), {way.right, 11}}, shape.n, 1, {}}, {{}, way.order}, {},
                   {out.data(), shape.n, {}}, way.isa, way.unit);
  };
  const double operations = 2.0 * static_cast<double>(shape.m * shape.n * shape.k);
  run();
  const int runs = static_cast<int>(std::clamp(1e11 / operations, 3.0, 200.0));
  const double rate = operations / least_seconds(pool, runs, run) * 1e-9;
  fmt::print(
      R"({{"what": "{}", "way": "{}", "m": {}, "n": {}, "k": {}, "gflops": {:.1f}, "of_peak": {:.3f}}})"
      "\n",
      shape.what, way.name, shape.m, shape.n, shape.k, rate, rate / way.peak);
}

}  // namespace

int main(int argc, char** argv) {
  if (numerics::best_isa() != numerics::Isa::Avx512 || !numerics::product_unit().can_use_dot) {
    fmt::print(stderr, "needs AVX-512 and its BF16 dot instruction\n");
    return 1;
  }
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  ThreadPool pool(threads);
  const double fma = peak(pool, avx512::fma_rounds, avx512::kProductsPerFmaRound);
  const double dot = peak(pool, avx512::dot_rounds, avx512::kProductsPerDotRound);
  fmt::print(
      R"({{"threads": {}, "fma_peak_gflops": {:.1f}, "dot_peak_gflops": {:.1f}, "unit": "{}"}})"
      "\n",
      threads, fma, dot, numerics::product_unit().why);
  for (const Shape& shape : kShapes) {
    time_product(pool, shape, {.name = "fma", .peak = fma});
  }
  using numerics::Isa;
  using numerics::ProductUnit;
  using numerics::SumOrder;
  const std::array ways{
      Way{.name = "bf16 pairs", .unit = ProductUnit::Bf16Dot, .peak = dot},
      Way{.name = "avx2", .isa = Isa::Avx2, .peak = fma / 2},
      Way{.name = "tile4", .order = SumOrder::Tile4, .peak = fma},
      Way{.name = "w21", .order = SumOrder::W21, .peak = fma},
      Way{.name = "exact", .order = SumOrder::Exact, .peak = fma},
      Way{.name = "exact, 1_5_2 right",
          .order = SumOrder::Exact,
          .right = dojo::Format::Cf8_1_5_2,
          .peak = fma},
  };
  for (const Way& way : ways) {
    time_product(pool, kShapes[0], way);
    time_product(pool, kShapes[1], way);
  }
  return 0;
}
