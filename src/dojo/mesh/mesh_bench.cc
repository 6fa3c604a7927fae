// Speed of the mesh as JSON, answers checked first: dojo_mesh_bench
//
// One thread is timed by the CPU time of the process, which other programs on the machine disturb
// less; several by the wall. The figures it is compared with are BookSim2's, measured on one core
// of a 2-core x86-64 machine: commit 28f43299, fixed-length runs, uniform traffic, one-flit
// packets, medians.
#include <fmt/format.h>
#include <time.h>  // NOLINT: clock_gettime is POSIX

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/mesh/golden_traffic.h"
#include "dojo/mesh/mesh.h"

namespace dojo::mesh {
namespace {

struct Case {
  std::string_view name;
  int side = 0;
  double rate = 0;
  int threads = 1;
  double booksim_cycles_per_second = 0;
};

constexpr Case kCases[] = {
    {"18x18 at 0.18", 18, 0.18, 1, 196},  {"18x18 at 0.18, two threads", 18, 0.18, 2, 196},
    {"8x8 at 0.36", 8, 0.36, 1, 3410},    {"32x32 at 0.10", 32, 0.10, 1, 56},
    {"18x18 at 0.02", 18, 0.02, 1, 2060},
};

void check_golden_totals(Isa isa, int threads) {
  for (const GoldenRow& row : kGoldenRows) {
    Mesh mesh = *Mesh::make({row.side, row.side, *router_preset(row.router)},
                            golden_traffic(row.side * row.side, row.threshold, row.packet_flits),
                            {.threads = threads, .isa = isa});
    mesh.run_until(row.last_arrival + 1);
    const Counters counters = mesh.counters();
    DOJO_CHECK(mesh.is_empty());
    DOJO_CHECK(counters.packets == row.packets && counters.latency_sum == row.latency_sum &&
               counters.latency_square_sum == row.latency_square_sum &&
               counters.last_arrival == row.last_arrival);
  }
}

double seconds_now(int threads) {
  timespec time{};
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void measure(const Case& what, Isa isa, bool is_first) {
  constexpr int kRuns = 9;
  constexpr double kSeconds = 0.25;  // of a run, about
  check_golden_totals(isa, what.threads);
  const Traffic traffic =
      *Traffic::synthetic({.rows = what.side, .columns = what.side, .rate = what.rate});
  Mesh mesh = *Mesh::make({what.side, what.side, *router_preset("booksim-v4")}, traffic,
                          {.threads = what.threads, .isa = isa});
  mesh.run_until(2000);
  const auto cycles = static_cast<Cycle>(what.booksim_cycles_per_second * 300 * kSeconds);
  std::vector<double> seconds;
  const std::uint64_t before = mesh.flits_moved();
  for (int run = 0; run < kRuns; ++run) {
    const double start = seconds_now(what.threads);
    mesh.run_until(mesh.now() + cycles);
    seconds.push_back(seconds_now(what.threads) - start);
  }
  const double per_cycle =
      static_cast<double>(mesh.flits_moved() - before) / (static_cast<double>(cycles) * kRuns);
  std::sort(seconds.begin(), seconds.end());
  const double rate = cycles / seconds[kRuns / 2];
  fmt::print(
      "{}  {{\"case\": \"{}\", \"isa\": \"{}\", \"threads\": {}, \"cycles_per_second\": {:.0f}, "
      "\"best_cycles_per_second\": {:.0f}, \"traversals_per_second\": {:.4g}, "
      "\"booksim2_cycles_per_second\": {}, \"ratio\": {:.1f}}}",
      is_first ? "" : ",\n", what.name, name(isa), what.threads, rate, cycles / seconds[0],
      per_cycle * rate, what.booksim_cycles_per_second, rate / what.booksim_cycles_per_second);
  std::fflush(stdout);
}

}  // namespace
}  // namespace dojo::mesh

int main() {
  using dojo::mesh::Isa;
  bool is_first = true;
  fmt::print("[\n");
  for (const auto& what : dojo::mesh::kCases) {
    for (const Isa isa : {Isa::Plain, Isa::Avx2, Isa::Avx512}) {
      const bool is_best = isa == dojo::mesh::best_isa();
      if (is_best || (isa < dojo::mesh::best_isa() && &what == &dojo::mesh::kCases[0])) {
        measure(what, isa, is_first);
        is_first = false;
      }
    }
  }
  fmt::print("\n]\n");
}
