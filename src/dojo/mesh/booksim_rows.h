// For tests: rows of tests/data/mesh/booksim2_mesh.csv, and this mesh measured as they were.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "dojo/mesh/measure.h"

namespace dojo::mesh {

struct BooksimRow {
  std::string router, traffic, mode;
  int side = 0, packet_flits = 0;
  double offered = 0, packet_latency = 0, flit_latency = 0, routers = 0, accepted = 0;
  double accepted_minimum = 0, cycles = 0;
  bool unstable = false;

  // What a router on the way takes of a head's latency.
  int cycles_per_router() const { return router == "V8S" ? 3 : 4; }
  // Of a packet in an empty mesh, over as many routers.
  double zero_load_latency() const {
    return cycles_per_router() * routers + 2 + (packet_flits - 1);
  }
  // The usual rule: a load saturates a network if packets take more than three times as long as in
  // an empty one; by BookSim2's own latency.
  bool is_saturated() const { return unstable || packet_latency > 3 * zero_load_latency(); }
};

inline std::vector<BooksimRow> booksim_rows() {
  std::ifstream file(DOJO_SOURCE_DIR "/tests/data/mesh/booksim2_mesh.csv");
  std::string line;
  std::getline(file, line);  // headings
  std::vector<BooksimRow> rows;
  while (std::getline(file, line)) {
    std::vector<std::string> cells;
    std::stringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) {
      cells.push_back(cell);
    }
    const auto number = [&](std::size_t i) { return cells[i].empty() ? 0.0 : std::stod(cells[i]); };
    rows.push_back({.router = cells[0],
                    .traffic = cells[2],
                    .mode = cells[6],
                    .side = std::stoi(cells[1]),
                    .packet_flits = std::stoi(cells[3]),
                    .offered = number(4),
                    .packet_latency = number(7),
                    .flit_latency = number(9),
                    .routers = number(10),
                    .accepted = number(11),
                    .accepted_minimum = number(12),
                    .cycles = number(13),
                    .unstable = cells[14] == "yes"});
  }
  return rows;
}

// The sample period of the row's run.
inline Cycle period_of(const BooksimRow& row) {
  if (row.side == 32) {
    return 500;
  }
  if (row.side == 18) {
    return row.traffic == "neighbor" ? 1000 : row.cycles > 8000 ? 2500 : 1500;
  }
  return row.cycles > 40000 && row.cycles < 41000 ? 10000 : 5000;
}

inline Measurement measure(const BooksimRow& row, std::uint64_t seed) {
  const char* const router = row.router == "V4"   ? "booksim-v4"
                             : row.router == "V1" ? "booksim-v1"
                                                  : "booksim-v8s";
  const SyntheticTraffic traffic{.pattern = *parse_pattern(row.traffic),
                                 .rows = row.side,
                                 .columns = row.side,
                                 .rate = row.offered,
                                 .packet_flits = row.packet_flits,
                                 .seed = seed};
  Mesh mesh =
      *Mesh::make({row.side, row.side, *router_preset(router)}, *Traffic::synthetic(traffic));
  return row.mode == "throughput" ? measure_throughput(mesh, 20000)
                                  : measure_latency(mesh, {.period = period_of(row)});
}

struct Spread {
  double mean = 0, sigma = 0;
};
inline Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  const auto count = static_cast<double>(values.size());
  for (const double value : values) {
    spread.mean += value / count;
  }
  for (const double value : values) {
    spread.sigma += (value - spread.mean) * (value - spread.mean) / (count - 1);
  }
  spread.sigma = std::sqrt(spread.sigma);
  return spread;
}

// Within max(1 %, 3 sigma), sigma of one seed.
inline void expect_near(const char* what, const Spread& ours, double theirs) {
  EXPECT_NEAR(ours.mean, theirs, std::max(0.01 * theirs, 3 * ours.sigma)) << what;
}

// The mean of 8 seeds is the row's, as far as the row's one seed can tell.
inline void expect_row(const BooksimRow& row) {
  SCOPED_TRACE(::testing::Message() << row.router << " k=" << row.side << " " << row.traffic
                                    << " P=" << row.packet_flits << " " << row.offered);
  std::vector<double> packet, flit, routers, accepted;
  int saturated = 0;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const Measurement measured = measure(row, seed);
    saturated += measured.saturated ? 1 : 0;
    packet.push_back(measured.mean_packet_latency);
    flit.push_back(measured.mean_flit_latency);
    routers.push_back(measured.mean_routers_visited);
    accepted.push_back(measured.accepted);
  }
  if (row.unstable) {
    EXPECT_EQ(saturated, 8);
    return;
  }
  if (row.mode == "throughput") {
    expect_near("accepted", spread_of(accepted), row.accepted);
    return;
  }
  EXPECT_EQ(saturated, 0);
  // At light load the row's luck in distances is most of its error.
  const double luck =
      row.offered < 0.05 ? row.cycles_per_router() * (spread_of(routers).mean - row.routers) : 0.0;
  Spread packets = spread_of(packet);
  Spread flits = spread_of(flit);
  packets.mean -= luck;
  flits.mean -= luck;
  expect_near("packet latency", packets, row.packet_latency);
  expect_near("flit latency", flits, row.flit_latency);
  expect_near("routers visited", spread_of(routers), row.routers);
  // Below saturation what is offered is accepted; above, what BookSim2 accepted.
  expect_near("accepted", spread_of(accepted), row.is_saturated() ? row.accepted : row.offered);
}

}  // namespace dojo::mesh
