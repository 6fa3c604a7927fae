// For tests: random machines and loads, and the engine held to the plain twin on them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "dojo/mesh/mesh.h"
#include "dojo/mesh/plain_rectangle.h"

namespace dojo::mesh {

inline std::vector<Isa> isas_here() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::Plain, Isa::Avx2, Isa::Avx512}) {
    if (isa <= best_isa()) {
      isas.push_back(isa);
    }
  }
  return isas;
}

struct RandomCase {
  MeshSpec spec;
  SyntheticTraffic traffic;
  Cycle cycles = 0;
};

inline RandomCase random_case(std::mt19937& random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  RandomCase c;
  c.spec.rows = pick(1, 9);
  c.spec.columns = pick(1, 9);
  c.spec.router = {.vcs = pick(1, kMaxVcs),
                   .depth = pick(1, kMaxDepth),
                   .speculation = pick(0, 1) == 0 ? Speculation::Off : Speculation::On,
                   .flit_delay = pick(1, 4),
                   .eject_delay = pick(1, 5),
                   .credit_delay = pick(1, 4),
                   .source_credit_delay = pick(1, 3),
                   .eject_credit_delay = pick(1, 8),
                   .inject_delay = pick(0, 3)};
  if (pick(0, 2) == 0) {
    const auto presets = router_presets();
    c.spec.router =
        presets[static_cast<std::size_t>(pick(0, static_cast<int>(presets.size()) - 1))].config;
  }
  const auto any = [&](Pattern pattern) {
    return Traffic::synthetic({.pattern = pattern, .rows = c.spec.rows, .columns = c.spec.columns})
        .has_value();
  };
  c.traffic = {.rows = c.spec.rows, .columns = c.spec.columns};
  do {
    c.traffic.pattern = static_cast<Pattern>(pick(0, static_cast<int>(pattern_names().size()) - 1));
  } while (!any(c.traffic.pattern));
  c.traffic.rate = pick(0, 20) * 0.05;
  c.traffic.packet_flits = pick(0, 1) == 0 ? 1 : pick(1, 9);
  c.traffic.seed = random();
  c.cycles = static_cast<Cycle>(pick(20, 600));
  return c;
}

inline std::string describe(const RandomCase& c) {
  const RouterConfig& r = c.spec.router;
  return fmt::format(
      "{}x{} {} VCs x {} speculation {} delays {} {} {} {} {} {}; {} rate {} flits {} "
      "seed {} cycles {}",
      c.spec.rows, c.spec.columns, r.vcs, r.depth, static_cast<int>(r.speculation), r.flit_delay,
      r.eject_delay, r.credit_delay, r.source_credit_delay, r.eject_credit_delay, r.inject_delay,
      name(c.traffic.pattern), c.traffic.rate, c.traffic.packet_flits, c.traffic.seed, c.cycles);
}

// All counters, and the flits of every link, after any number of cycles under load.
inline void expect_equal_to_plain_twin(std::uint32_t seed, int cases) {
  std::mt19937 random(seed);
  for (int i = 0; i < cases; ++i) {
    const RandomCase c = random_case(random);
    SCOPED_TRACE(describe(c));
    const Traffic traffic = *Traffic::synthetic(c.traffic);
    PlainRectangle twin(c.spec.rows, c.spec.columns, c.spec.router, traffic);
    while (twin->now() < c.cycles) {
      twin->step();
    }
    std::vector<std::uint64_t> sent;
    for (int router = 0; router < c.spec.rows * c.spec.columns; ++router) {
      for (int port = 0; port < kPorts; ++port) {
        sent.push_back(twin->sent({static_cast<std::uint32_t>(router)}, static_cast<Port>(port)));
      }
    }
    const Counters entered = twin->counters();
    // The engine counts a flit when it is granted, the twin when it arrives.
    while (twin->now() < c.cycles + c.spec.router.eject_delay) {
      twin->step();
    }
    Counters expected = twin->counters();
    expected.entered_flits = entered.entered_flits;
    expected.entered_generated_sum = entered.entered_generated_sum;
    expected.measured_entered = entered.measured_entered;
    expected.measured_routers = entered.measured_routers;
    expected.injected_flits = entered.injected_flits;

    for (const Isa isa : isas_here()) {
      for (const int threads : {1, 2, 3}) {
        Mesh mesh =
            *Mesh::make(c.spec, traffic, {.threads = threads, .isa = isa, .shuffle = random()});
        mesh.run_until(c.cycles / 3);
        mesh.run_until(c.cycles);
        EXPECT_EQ(mesh.counters(), expected) << name(isa) << ", " << threads << " threads";
        std::size_t next = 0;
        for (int router = 0; router < mesh.routers(); ++router) {
          for (int port = 0; port < kPorts; ++port) {
            ASSERT_EQ(mesh.flits_sent(router, port), sent[next++])
                << name(isa) << " router " << router << " port " << port;
          }
        }
      }
    }
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

}  // namespace dojo::mesh
