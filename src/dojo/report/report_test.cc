#include "dojo/report/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace dojo::report {
namespace {

using nlohmann::json;

// A product and a transfer before it, in a module whose name tries to leave the script element.
system::Simulation hostile_simulation() {
  const machine::MachineModel machine = *machine::load_machine("d1");
  program::Compute compute;
  compute.kinds = "aten.mm";
  compute.module = "</script><script>alert(1)</script>\xff";
  compute.part = graph::Phase::Backward;
  compute.work.matrix.push_back({.m = 8,
                                 .n = 8,
                                 .k = 64,
                                 .batch = 1,
                                 .panel = 64,
                                 .left_bytes = 1,
                                 .right_bytes = 1,
                                 .on_vector_pipe = false});
  compute.work.points = compute.work.macs = compute.work.total_macs = 8 * 8 * 64;
  program::Transfer transfer;
  transfer.moves.push_back({.tensor = "w",
                            .region = machine::whole_machine(machine),
                            .pattern = machine::all_gather(machine::Axis::Rows, Bytes(6400))});
  system::Simulation simulation;
  simulation.graph = "{{DATA}}";
  simulation.recipe = "cfloat8";
  simulation.machine = machine.name;
  simulation.program.phases.push_back(
      {.region = machine::whole_machine(machine), .body = transfer});
  simulation.program.phases.push_back(
      {.region = machine::whole_machine(machine), .body = compute, .after = {PhaseId{0}}});
  simulation.timeline = system::time_program(simulation.program, machine);
  simulation.losses = system::losses_of(simulation.program, simulation.timeline, machine);
  simulation.step_seconds = to_seconds(simulation.timeline.step);
  simulation.ops.push_back({.module = compute.module, .op = compute.kinds});
  return simulation;
}

TEST(SimulationJson, HasTheKeysThatOthersReadAndTheCausesOfTheArchitecture) {
  const json summary = json::parse(simulation_json(hostile_simulation(), 0.5, Detail::Summary));
  for (const char* key :
       {"step_seconds", "utilisation", "flops", "seconds_by_cause", "sram_peak_bytes_per_node",
        "assumed_facts", "lowered_graph_sha256", "wall_seconds"}) {
    EXPECT_TRUE(summary.contains(key)) << key;
  }
  EXPECT_FALSE(summary.contains("phases"));
  for (const char* cause : {"idle_nodes", "shape_rounding", "panel_loop", "fill_drain",
                            "operand_feed", "vector_bound", "transfer", "waiting"}) {
    EXPECT_TRUE(summary["seconds_by_cause"].contains(cause)) << cause;
  }
  EXPECT_EQ(summary["wall_seconds"], 0.5);
}

TEST(SimulationJson, OfAPageHasThePlaneAndTheRoofs) {
  system::Simulation simulation = hostile_simulation();
  const machine::MachineModel machine = *machine::load_machine("d1");
  simulation.program.replicas.dies = machine.dies();
  simulation.plane = system::plane_of(simulation.program, simulation.timeline, machine);
  simulation.slack = system::slack_of(simulation.program, simulation.timeline);
  const json full = json::parse(simulation_json(simulation, 0, Detail::Full));
  EXPECT_EQ(full["plane"]["rows"], 18);
  EXPECT_EQ(full["plane"]["busy_seconds"].size(), 18u * 19);
  EXPECT_EQ(full["plane"]["row_link_bytes"].size(), 18u * 18);
  EXPECT_EQ(full["plane"]["column_link_bytes"].size(), 17u * 19);
  EXPECT_TRUE(full["roofs"].contains("sram_bytes_per_second"));
  EXPECT_EQ(full["phases"][1]["slack"], 0);
  EXPECT_FALSE(json::parse(simulation_json(simulation, 0, Detail::Summary)).contains("plane"));
}

TEST(ReportHtml, NamesCannotLeaveTheData) {
  const std::string data = R"({"version": "0", "simulation": )" +
                           simulation_json(hostile_simulation(), 0, Detail::Full) + "}";
  const Result<std::string> page = report_html(data);
  ASSERT_TRUE(page.has_value()) << page.error().to_string();
  EXPECT_EQ(page->find("<script>alert"), std::string::npos);
  const std::string open = R"(<script id="data" type="application/json">)";
  const std::size_t begin = page->find(open) + open.size();
  const json embedded = json::parse(page->substr(begin, page->find("</script>", begin) - begin));
  EXPECT_EQ(embedded["simulation"]["graph"], "{{DATA}}");
  EXPECT_EQ(embedded["simulation"]["ops"][0]["module"],
            "</script><script>alert(1)</script>\xef\xbf\xbd");
}

TEST(ReportHtml, FetchesNothing) {
  const std::string data = R"({"version": "0", "simulation": )" +
                           simulation_json(hostile_simulation(), 0, Detail::Full) + "}";
  const std::string page = *report_html(data);
  EXPECT_EQ(page.find("src="), std::string::npos);
  EXPECT_EQ(page.find("<link"), std::string::npos);
  EXPECT_NE(page.find("Chart.js v"), std::string::npos);
}

TEST(ReportHtml, RefusesWhatIsNoSimulation) {
  for (const char* text : {"", "[]", "{}", R"({"simulation": {}})"}) {
    EXPECT_FALSE(report_html(text).has_value()) << text;
  }
}

TEST(TraceJson, HasOneSliceAPhaseInMicroseconds) {
  const system::Simulation simulation = hostile_simulation();
  const json trace = json::parse(trace_json(simulation));
  std::vector<json> slices;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") {
      slices.push_back(event);
    }
  }
  ASSERT_EQ(slices.size(), 2);
  EXPECT_EQ(slices[0]["name"], "all_gather %w");
  EXPECT_EQ(slices[0]["cat"], "bwd");
  EXPECT_NEAR(slices[1]["ts"].get<double>(),
              static_cast<double>(simulation.timeline.phases[1].begin.count()) * 1e-6, 1e-9);
}

}  // namespace
}  // namespace dojo::report
