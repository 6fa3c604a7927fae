// Speed of the mesh as JSON, answers checked first: dojo_mesh_bench [PART OF A CASE'S NAME]
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
#include <utility>
#include <vector>

#include "dojo/base/check.h"
#include "dojo/machine/description.h"
#include "dojo/mesh/golden_traffic.h"
#include "dojo/mesh/mesh.h"
#include "dojo/mesh/pattern_messages.h"
#include "dojo/mesh/run_messages.h"

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

constexpr std::string_view kTileCase =
    "training tile, all-reduce of 1 MB per node, two threads against one";

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

void measure(const Case& what, Isa isa) {
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
      "  {{\"case\": \"{}\", \"isa\": \"{}\", \"threads\": {}, \"cycles_per_second\": {:.0f}, "
      "\"best_cycles_per_second\": {:.0f}, \"traversals_per_second\": {:.4g}, "
      "\"booksim2_cycles_per_second\": {}, \"ratio\": {:.1f}}}",
      what.name, name(isa), what.threads, rate, cycles / seconds[0], per_cycle * rate,
      what.booksim_cycles_per_second, rate / what.booksim_cycles_per_second);
  std::fflush(stdout);
}

// The all-reduce of a training tile, every node with the given bytes.
struct TileAllReduce {
  explicit TileAllReduce(const machine::MachineModel& machine, std::int64_t bytes)
      : topology(topology_of(machine).value()),
        routing(RoutingTable::make(topology, RoutingKind::XFirst, config.vcs).value()),
        grid(NodeGrid::of_region(machine::whole_machine(machine), machine, topology).value()),
        trace(pattern_messages(
                  machine::parse_pattern(fmt::format("all_reduce both order=chain bytes={}", bytes))
                      .value(),
                  {topology, routing, grid}, pattern_timing(machine))
                  .value()) {}

  MessageRun run(int threads) const {
    return MessageRun::make(topology, routing, config, trace, {.threads = threads}).value();
  }

  RouterConfig config = *router_preset("d1");
  Topology topology;
  RoutingTable routing;
  NodeGrid grid;
  MessageTrace trace;
};

// Every message arrives whole, in the same cycle for any number of threads.
void check_deliveries(const machine::MachineModel& tile) {
  const TileAllReduce small(tile, 8192);
  MessageRun one = small.run(1);
  MessageRun two = small.run(2);
  one.finish();
  two.finish();
  const MessagesOutcome outcome = one.outcome();
  DOJO_CHECK(outcome.trap.empty() && outcome.flits == small.trace.flits());
  DOJO_CHECK(outcome == two.outcome());
}

// Two runs side by side, from when all nodes of the first phase are at work. Each is timed by the
// wall, in turns; after each turn both are in the same state. The ratio is that of the shortest
// turns, which other programs disturbed least.
void measure_tile() {
  constexpr Cycle kFull = 6000;
  constexpr Cycle kTurn = 500;
  constexpr int kTurns = 9;
  const machine::MachineModel tile = machine::load_machine("training-tile").value();
  check_deliveries(tile);
  const TileAllReduce all(tile, 1 << 20);
  MessageRun one = all.run(1);
  MessageRun two = all.run(2);
  one.run_until(kFull);
  two.run_until(kFull);
  const std::int64_t before = one.outcome().traversals;
  double shortest[2] = {1e9, 1e9};
  for (int turn = 1; turn <= kTurns; ++turn) {
    for (MessageRun* const run : {&one, &two}) {
      double& best = shortest[run == &two ? 1 : 0];
      const double start = seconds_now(2);
      run->run_until(kFull + turn * kTurn);
      best = std::min(best, seconds_now(2) - start);
    }
    DOJO_CHECK(one.outcome() == two.outcome());
  }
  const double per_cycle =
      static_cast<double>(one.outcome().traversals - before) / (kTurn * kTurns);
  const double routers = static_cast<double>(all.topology.routers());
  fmt::print(
      "  {{\"case\": \"{}\", \"isa\": \"{}\", \"threads\": 2, \"cycles_per_second\": {:.0f}, "
      "\"cycles_per_second_of_one_thread\": {:.0f}, \"traversals_per_second\": {:.4g}, "
      "\"bytes_per_router\": {:.0f}, \"ratio\": {:.2f}}}",
      kTileCase, name(best_isa()), kTurn / shortest[1], kTurn / shortest[0],
      per_cycle * kTurn / shortest[1], static_cast<double>(one.mesh().bytes()) / routers,
      shortest[0] / shortest[1]);
}

// The cases whose name has `wanted` in it.
void run_cases(std::string_view wanted) {
  std::string_view separator = "[\n";
  const auto is_next = [&](std::string_view name) {
    const bool is_wanted = name.find(wanted) != std::string_view::npos;
    fmt::print("{}", is_wanted ? std::exchange(separator, ",\n") : "");
    return is_wanted;
  };
  for (const Case& what : kCases) {
    for (const Isa isa : {Isa::Plain, Isa::Avx2, Isa::Avx512}) {
      const bool is_other = isa < best_isa() && &what == &kCases[0];
      if ((isa == best_isa() || is_other) && is_next(what.name)) {
        measure(what, isa);
      }
    }
  }
  if (is_next(kTileCase)) {
    measure_tile();
  }
  fmt::print("\n]\n");
}

}  // namespace
}  // namespace dojo::mesh

int main(int argc, char** argv) { dojo::mesh::run_cases(argc > 1 ? argv[1] : ""); }
