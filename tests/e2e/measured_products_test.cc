// Matrix products that were measured on meshes of SRAM cores (tests/data/mesh/ORIGIN.md), placed
// and timed as any Graph is. Constants that are not public were calibrated on every second row of
// each card (kCalibrated); the others are held out. docs/placement.md has the table of errors.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "../fidelity/csv.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/place.h"
#include "dojo/system/timeline.h"

namespace dojo {
namespace {

// By row of the table.
constexpr std::array kCalibrated{0, 2, 4, 5, 7, 9, 11};
// Its block of the result alone, 2 MB a core, is larger than a core's SRAM.
constexpr int kTooLarge = 12;

std::string machine_of(const CsvRow& row) {
  return row.at("board").starts_with("N150") ? "tenstorrent-n150" : "tenstorrent-p150";
}

// What lies in DRAM comes in, what lies in the cores' SRAM is there.
graph::Graph product_of(const CsvRow& row) {
  const auto leaf = [](const std::string& where) { return where == "DRAM" ? "input" : "buffer"; };
  const std::string text = fmt::format(
      "graph \"gemm\" recipe \"bf16\" machine \"{}\" {{bias=\"delayed\", bias_grid=1, "
      "bias_margin=1, bias_window=16, denormals=\"paper\", sum_order=\"sequential\"}} {{\n"
      "  %a = {} bf16[{},{}] \"a\"\n  %b = {} bf16[{},{}] \"b\"\n"
      "  %c = aten.mm(%a, %b) : bf16[{},{}] activation @\"\" fwd\n  output %c \"c\"\n}}\n",
      machine_of(row), leaf(row.at("in0")), row.at("M"), row.at("K"), leaf(row.at("in1")),
      row.at("K"), row.at("N"), row.at("M"), row.at("N"));
  auto graph = graph::parse_graph(text, "gemm.graph");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *std::move(graph);
}

// Placed and timed over measured, less one.
double error_of(const CsvRow& row, const machine::MachineModel& machine) {
  const auto program = place::place(product_of(row), machine);
  EXPECT_TRUE(program.has_value()) << program.error().to_string();
  const double seconds = to_seconds(system::time_program(*program, machine).step);
  return seconds * 1e9 / std::stod(row.at("time_ns")) - 1;
}

TEST(MeasuredProducts, AreWithinTwentyPercent) {
  const std::vector<CsvRow> rows = read_csv("tenstorrent_gemm_tflops.csv");
  ASSERT_EQ(rows.size(), 13u);
  for (int i = 0; i < kTooLarge; ++i) {
    const CsvRow& row = rows[static_cast<std::size_t>(i)];
    const double error = error_of(row, *machine::load_machine(machine_of(row)));
    const bool is_held_out =
        std::find(kCalibrated.begin(), kCalibrated.end(), i) == kCalibrated.end();
    fmt::print("{} {}x{}x{} {} {}: {:+.1f} %\n", machine_of(row), row.at("M"), row.at("K"),
               row.at("N"), row.at("in0"), is_held_out ? "held out" : "calibrated", 100 * error);
    EXPECT_LT(std::abs(error), is_held_out ? 0.2 : 0.05) << i;
  }
}

TEST(MeasuredProducts, AProductWhoseBlocksDoNotFitIsRefused) {
  const CsvRow row = read_csv("tenstorrent_gemm_tflops.csv").back();
  const machine::Description card = *machine::load_description(machine_of(row));
  const auto placed = place::place(product_of(row), machine::resolve(card));
  ASSERT_FALSE(placed.has_value());
  EXPECT_EQ(placed.error().kind, ErrorKind::DoesNotFit);
  // Were its cores twice as large, it would be timed as the others are.
  const auto larger = machine::with_fact(card, "node.sram", "3 MB");
  EXPECT_LT(std::abs(error_of(row, machine::resolve(*larger))), 0.2);
}

// Without any calibration the formulas are near what tuned software takes, and below it.
TEST(MeasuredProducts, TunedOnesComeNearUncalibratedFormulas) {
  for (const CsvRow& row : read_csv("tenstorrent_gemm_tflops.csv")) {
    machine::Description card = *machine::load_description(machine_of(row));
    for (const auto& [fact, value] :
         {std::pair("node.launch", "0"), std::pair("node.t0", "0"), std::pair("dram.overlap", "1"),
          std::pair("node.vector_load", "128"), std::pair("node.sram", "3 MB")}) {
      card = *machine::with_fact(card, fact, value);
    }
    const double error = error_of(row, machine::resolve(card));
    const bool is_tuned = row.at("config") == "tuned";
    EXPECT_GT(error, is_tuned ? -0.16 : -0.58) << row.at("M") << "x" << row.at("N");
    EXPECT_LT(error, is_tuned ? 0.05 : -0.34) << row.at("M") << "x" << row.at("N");
  }
}

}  // namespace
}  // namespace dojo
