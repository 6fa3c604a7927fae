// A matrix product that keeps its block of the result on every node ("SUMMA": panels of A along
// rows, of B along columns), and where its time goes, cause by cause, against closed forms that are
// written out here: n_y x n_x nodes, m x n of the result each, panels of kb, s = 22 cycles.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "dojo/machine/description.h"
#include "dojo/system/losses.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Move;
using program::Phase;
using program::Program;
using program::Transfer;

struct Gemm {
  const char* machine;
  std::int64_t size;  // of each side
  std::int64_t panel;
  int bytes;  // per operand element
  std::int64_t vector_ops_per_result = 0;
};

struct Placed {
  machine::MachineModel machine;
  Program program;
  std::int64_t m = 0;
  std::int64_t n = 0;
  double panels = 0;
};

std::int64_t parts(std::int64_t extent, std::int64_t places) {
  return (extent + places - 1) / places;
}

machine::MachineModel machine_with(
    const char* name, const std::vector<std::pair<const char*, std::string>>& changes) {
  machine::Description description = *machine::load_description(name);
  for (const auto& [fact, value] : changes) {
    const auto changed = machine::with_fact(description, fact, value);
    EXPECT_TRUE(changed.has_value()) << changed.error().to_string();
    description = *changed;
  }
  return machine::resolve(description);
}

Placed placed(const Gemm& gemm, machine::MachineModel machine) {
  Placed out{.machine = std::move(machine), .program = {}};
  const machine::Region all = machine::whole_machine(out.machine);
  out.m = parts(gemm.size, all.rows());
  out.n = parts(gemm.size, all.columns());
  out.panels = static_cast<double>(parts(gemm.size, gemm.panel));
  Transfer feed;
  feed.panels = parts(gemm.size, gemm.panel);
  feed.moves = {Move{.tensor = "a",
                     .region = all,
                     .pattern = machine::all_gather(machine::Axis::Rows,
                                                    Bytes(out.m * gemm.size * gemm.bytes))},
                Move{.tensor = "b",
                     .region = all,
                     .pattern = machine::all_gather(machine::Axis::Columns,
                                                    Bytes(out.n * gemm.size * gemm.bytes))}};
  Compute product;
  product.kinds = "aten.mm";
  product.pipelined = {PhaseId{0}};
  product.work.matrix = {{.m = out.m,
                          .n = out.n,
                          .k = gemm.size,
                          .panel = gemm.panel,
                          .left_bytes = gemm.bytes,
                          .right_bytes = gemm.bytes}};
  product.work.vector_ops = gemm.vector_ops_per_result * out.m * out.n;
  product.work.macs = product.work.points = out.m * out.n * gemm.size;
  product.work.total_macs = product.work.total_points = gemm.size * gemm.size * gemm.size;
  out.program.name = "gemm";
  out.program.replicas.dies = out.machine.dies();
  out.program.phases = {Phase{.region = all, .body = feed, .after = {}},
                        Phase{.region = all, .body = product, .after = {PhaseId{0}}}};
  return out;
}

double tiles(const Placed& gemm) {
  return static_cast<double>(parts(gemm.m, 8) * parts(gemm.n, 8));
}

// Cycles until the first panels of both operands are everywhere.
double fill(const Gemm& gemm, const Placed& at) {
  const machine::Region all = machine::whole_machine(at.machine);
  double crossings = 0;  // of a tile: 4 die edges each way, 200 cycles less the hop
  if (all.dies.count() > 1) {
    crossings = 2 * 4 * (200 - 1);
  }
  const auto line = [&](double nodes, std::int64_t side) {
    const auto packets = static_cast<double>(parts(side * gemm.size * gemm.bytes, 64));
    return (nodes - 2) * 22 + 2 + packets * (nodes + 1) / nodes / 0.9 / at.panels;
  };
  return crossings + line(all.columns(), at.m) + line(all.rows(), at.n);
}

// The table counts (R + C) s, crossings and a panel of A alone, no launch, and a reload for the
// first panel, too (C accumulates).
double table_fill(const Gemm& gemm, const Placed& at) {
  const machine::Region all = machine::whole_machine(at.machine);
  const double crossings = all.dies.count() > 1 ? 1600 : 0;
  return (all.rows() + all.columns()) * 22 + crossings +
         static_cast<double>(at.m * gemm.panel * gemm.bytes) / 64 + 2 * tiles(at);
}

void expect_near(double seconds, double cycles, const std::string& what) {
  EXPECT_NEAR(seconds * 2e9, cycles, 0.01 * cycles + 1.5) << what;
}

// Every cause of a product that its matrix units bound.
Losses expect_closed_form(const Gemm& gemm, const Placed& at, double t0) {
  const Losses losses = losses_of(at.program, time_program(at.program, at.machine), at.machine);
  const double size = static_cast<double>(gemm.size);
  const double ideal = size * size * size / 256 / static_cast<double>(at.machine.live_nodes());
  const double slice = static_cast<double>(at.m * at.n) * size / 256;
  const double steps = size / 4;
  const std::string name = fmt::format("{}^3 on {}, t0 = {}", gemm.size, gemm.machine, t0);
  expect_near(losses.ideal_seconds, ideal, name + " ideal");
  expect_near(losses[Cause::IdleNodes], slice - ideal, name + " idle_nodes");
  expect_near(losses[Cause::ShapeRounding], tiles(at) * steps - slice, name + " shape_rounding");
  expect_near(losses[Cause::OperandFeed], tiles(at) * steps * (std::max(1.0, gemm.bytes / 2.0) - 1),
              name + " operand_feed");
  expect_near(losses[Cause::PanelLoop], tiles(at) * (t0 * at.panels + 2 * (at.panels - 1)),
              name + " panel_loop");
  expect_near(losses[Cause::FillDrain], 100 + fill(gemm, at), name + " fill_drain");
  expect_near(losses[Cause::VectorBound], 0, name + " vector_bound");
  expect_near(losses[Cause::Transfer], 0, name + " transfer");
  expect_near(losses[Cause::Waiting], 0, name + " waiting");
  return losses;
}

// The table of docs/placement.md ("A node"): each row at the default t0 = 4 and at the ends of its
// range, with all causes in percent of the step.
TEST(GemmLosses, EachCauseIsItsClosedForm) {
  struct Row {
    Gemm gemm;
    std::array<double, 3> table;  // utilisation at t0 = 0, 4, 16; 0 where the table has none
  };
  const std::vector<Row> rows{
      {{"d1", 4096, 256, 2}, {91.4, 86.2, 73.6}},
      {{"d1", 4096, 512, 1}, {92.8, 90.1, 0}},
      {{"training-tile", 16384, 512, 2}, {91.8, 89.1, 81.8}},
      {{"training-tile", 4096, 512, 2}, {0, 67.4, 0}},
      {{"d1", 1024, 512, 2}, {0, 70.8, 0}},
      {{"d1", 4096, 256, 4}, {0, 0, 0}},  // operands of 4 B: half of the unit's rate
  };
  for (const Row& row : rows) {
    const std::array<int, 3> band{0, 4, 16};
    for (std::size_t i = 0; i < band.size(); ++i) {
      const Placed at =
          placed(row.gemm,
                 machine_with(row.gemm.machine, {{"node.t0", fmt::format("{} cycles", band[i])}}));
      const Losses losses = expect_closed_form(row.gemm, at, band[i]);
      const double utilisation = 100 * losses.ideal_seconds / losses.total();
      fmt::print("{:>5}^3 {:<13} {} B t0 = {:>2}: {:.1f} % of peak", row.gemm.size,
                 row.gemm.machine, row.gemm.bytes, band[i], utilisation);
      for (std::size_t cause = 0; cause < kCauseCount; ++cause) {
        const double share = 100 * losses.seconds[cause] / losses.total();
        if (share >= 0.05) {
          fmt::print(", {} {:.1f}", name(static_cast<Cause>(cause)), share);
        }
      }
      fmt::print("\n");
      if (row.table[i] > 0) {
        const double cycles =
            (losses.total() - losses[Cause::FillDrain]) * 2e9 + table_fill(row.gemm, at);
        EXPECT_NEAR(100 * losses.ideal_seconds * 2e9 / cycles, row.table[i], 0.15)
            << row.gemm.size << " t0 " << band[i];
      }
    }
  }
}

// Links so slow that panels come later than they are multiplied: the rest of the step is transfer.
TEST(GemmLosses, OfAProductThatTheMeshBoundsAreTransfer) {
  const Gemm gemm{"d1", 1024, 512, 2};
  const Placed at = placed(gemm, machine_with("d1", {{"mesh.die.link", "8 B/cycle"},
                                                     {"mesh.die.port_in", "8 B/cycle"},
                                                     {"mesh.die.port_out", "8 B/cycle"}}));
  const Timeline timeline = time_program(at.program, at.machine);
  const Losses losses = losses_of(at.program, timeline, at.machine);
  // 57 and 54 lines of 1,024 BF16, 8 B a cycle at 0.9 of it; the unit has one panel left to do.
  const double busy = 8 * (57 * 32 * 20.0 / 19 + 54 * 32 * 19.0 / 18) / 0.9;
  const double latency = (17 + 16) * 22 + 2 * 2;
  const double body = tiles(at) * (256 + 2 * 4 + 2) + 100;
  expect_near(to_seconds(timeline.step), latency + busy + body / 2, "step");
  expect_near(losses[Cause::FillDrain], 100 + latency + busy / 2, "fill_drain");
  expect_near(losses[Cause::Transfer], busy / 2 + body / 2 - body, "transfer");
}

// An epilogue of so many operations that the vector pipe has more to do than the matrix unit.
TEST(GemmLosses, OfAProductWithALongEpilogueAreVectorBound) {
  const Gemm gemm{"d1", 4096, 256, 2, 800};
  const Placed at = placed(gemm, machine_with("d1", {}));
  const Losses losses = losses_of(at.program, time_program(at.program, at.machine), at.machine);
  const double matrix = tiles(at) * (1024 + 16 * 4 + 15 * 2);
  const double vector = 800.0 * 228 * 216 / 16;
  const double spread = 4096.0 * 4096 / (354.0 * 228 * 216);
  expect_near(losses[Cause::VectorBound], (vector - matrix) * spread, "vector_bound");
}

}  // namespace
}  // namespace dojo::system
