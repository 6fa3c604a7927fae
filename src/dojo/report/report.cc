#include "dojo/report/report.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "dojo/base/text.h"
#include "dojo/report/internal/template.h"

namespace dojo::report {
namespace {

using Json = nlohmann::ordered_json;
using program::Compute;
using program::Transfer;
using system::Cause;
using system::Simulation;

std::string_view word(graph::Phase part) {
  constexpr std::array<std::string_view, 3> kWords{"fwd", "bwd", "upd"};
  return kWords[static_cast<std::size_t>(part)];
}

// Names come from files: bytes that are no UTF-8 become U+FFFD instead of an exception.
std::string text_of(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

struct PhaseText {
  std::string name;
  graph::Phase part = graph::Phase::Forward;
};

std::vector<PhaseText> phase_texts(const Simulation& simulation) {
  std::vector<PhaseText> texts;
  graph::Phase part = graph::Phase::Forward;  // a transfer has the part of what it comes before
  for (auto phase = simulation.program.phases.rbegin(); phase != simulation.program.phases.rend();
       ++phase) {
    PhaseText text;
    if (const auto* compute = std::get_if<Compute>(&phase->body)) {
      part = compute->part;
      text.name = compute->module.empty() ? compute->kinds
                                          : fmt::format("{} {}", compute->module, compute->kinds);
    } else if (const auto* transfer = std::get_if<Transfer>(&phase->body)) {
      for (const program::Move& move : transfer->moves) {
        text.name += fmt::format("{}{} %{}", text.name.empty() ? "" : ", ",
                                 machine::name(move.pattern.kind), move.tensor);
      }
    } else {
      text.name = "ingest";
    }
    text.part = part;
    texts.push_back(std::move(text));
  }
  return {texts.rbegin(), texts.rend()};
}

Json causes(const Simulation& simulation) {
  Json json = Json::object();
  for (std::size_t i = 0; i < system::kCauseCount; ++i) {
    const auto cause = static_cast<Cause>(i);
    json[std::string(system::name(cause))] = simulation.losses[cause];
  }
  return json;
}

Json energy(const Simulation& simulation) {
  Json json = Json::object();
  for (std::size_t i = 0; i < system::kEnergyPartCount; ++i) {
    const auto part = static_cast<system::EnergyPart>(i);
    json[std::string(system::name(part))] = simulation.energy[part].count();
  }
  return json;
}

Json link_bytes(const Simulation& simulation) {
  Json json = Json::object();
  for (std::size_t i = 0; i < simulation.link_bytes.size(); ++i) {
    if (simulation.link_bytes[i] > 0) {
      json[std::string(machine::name(static_cast<machine::LinkClass>(i)))] =
          simulation.link_bytes[i];
    }
  }
  return json;
}

// How long the network works, by what bounds the transfer: a link class, or latency.
Json network_seconds(const Simulation& simulation) {
  std::map<std::string, Picoseconds> sums;
  for (std::size_t i = 0; i < simulation.timeline.phases.size(); ++i) {
    const system::PhaseTiming& phase = simulation.timeline.phases[i];
    if (phase.lane == system::Lane::Transfer) {
      sums[phase.bound_by] += phase.work * simulation.program.runs(i);
    }
  }
  Json json = Json::object();
  for (const auto& [bound, time] : sums) {
    json[bound] = to_seconds(time);
  }
  return json;
}

Json critical_path(const Simulation& simulation) {
  Json list = Json::array();
  for (const system::PathShare& share : simulation.critical_shares) {
    list.push_back({{"bound_by", share.bound_by}, {"seconds", share.seconds}});
  }
  return list;
}

Json by_sharing(const Simulation& simulation) {
  Json json = Json::object();
  for (std::size_t i = 0; i < system::kSharingCount; ++i) {
    json[std::string(system::name(static_cast<system::Sharing>(i)))] =
        simulation.seconds_by_sharing[i];
  }
  return json;
}

Json facts(const Simulation& simulation) {
  Json list = Json::array();
  for (const system::FactEffect& effect : simulation.assumed) {
    Json fact = {{"path", effect.fact.path},
                 {"value", effect.fact.value},
                 {"source", effect.fact.source},
                 {"meaning", effect.fact.meaning},
                 {"matters", effect.effect(simulation.step_seconds) > 0}};
    if (effect.fact.range.has_value()) {
      fact["low"] = effect.fact.range->low;
      fact["high"] = effect.fact.range->high;
    }
    if (effect.seconds_low.has_value()) {
      fact["step_seconds_low"] = *effect.seconds_low;
    }
    if (effect.seconds_high.has_value()) {
      fact["step_seconds_high"] = *effect.seconds_high;
    }
    list.push_back(std::move(fact));
  }
  return list;
}

Json operations(const Simulation& simulation) {
  Json list = Json::array();
  for (const system::OpTime& op : simulation.ops) {
    list.push_back({{"name", op.name},
                    {"module", op.module},
                    {"op", op.op},
                    {"part", word(op.part)},
                    {"seconds", op.seconds},
                    {"bound_by", op.bound_by},
                    {"cause", system::name(op.cause)},
                    {"utilisation", op.utilisation},
                    {"flops", op.flops.count()},
                    {"sram_bytes", op.sram_bytes}});
  }
  return list;
}

Json plane(const Simulation& simulation) {
  const system::Plane& plane = simulation.plane;
  return {{"machine_dies", {simulation.machine_dies.rows, simulation.machine_dies.columns}},
          {"replica_dies",
           {simulation.program.replicas.dies.rows, simulation.program.replicas.dies.columns}},
          {"rows", plane.rows},
          {"columns", plane.columns},
          {"cells", plane.cells_are_dies ? "dies" : "nodes"},
          {"busy_seconds", plane.busy_seconds},
          {"row_link_bytes", plane.row_link_bytes},
          {"column_link_bytes", plane.column_link_bytes}};
}

Json phases(const Simulation& simulation) {
  Json list = Json::array();
  const std::vector<PhaseText> texts = phase_texts(simulation);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const system::PhaseTiming& timing = simulation.timeline.phases[i];
    list.push_back({{"name", texts[i].name},
                    {"kind", system::name(timing.lane)},
                    {"part", word(texts[i].part)},
                    {"begin", to_seconds(timing.begin)},
                    {"end", to_seconds(timing.end)},
                    {"bound_by", timing.bound_by}});
    if (i < simulation.slack.size()) {
      list.back()["slack"] = to_seconds(simulation.slack[i]);
    }
    if (!simulation.program.stages.empty()) {
      list.back()["stage"] = simulation.program.stage_of(i);
    }
  }
  return list;
}

// What lies where in a node's SRAM, and from which phase to which: offsets count from the end of
// the reserved part.
Json memory(const Simulation& simulation) {
  Json list = Json::array();
  for (const program::MemoryEntry& entry : simulation.program.memory) {
    list.push_back({{"tensor", entry.tensor},
                    {"offset", (simulation.program.reserved + entry.offset).count()},
                    {"bytes", entry.bytes.count()},
                    {"first", entry.first.index},
                    {"last", entry.last.index}});
  }
  return list;
}

Json summary(const Simulation& simulation, double wall_seconds) {
  const program::Replicas& replicas = simulation.program.replicas;
  Json remedies = Json::array();
  for (const program::Remedy& remedy : simulation.program.remedies) {
    remedies.push_back({{"what", remedy.what},
                        {"tensor", remedy.tensor},
                        {"freed_bytes_per_node", remedy.freed.count()}});
  }
  return {{"graph", simulation.graph},
          {"recipe", simulation.recipe},
          {"machine", simulation.machine},
          {"lowered_graph_sha256", simulation.lowered_graph_sha256},
          {"step_seconds", simulation.step_seconds},
          {"utilisation", simulation.utilisation},
          {"flops", simulation.flops.count()},
          {"ideal_seconds", simulation.losses.ideal_seconds},
          {"seconds_by_cause", causes(simulation)},
          {"energy_joules", simulation.energy.total().count()},
          {"energy_range", {simulation.energy.low.count(), simulation.energy.high.count()}},
          {"energy_by_part", energy(simulation)},
          {"bytes_by_link_class", link_bytes(simulation)},
          {"sharing", system::name(simulation.sharing)},
          {"step_seconds_by_sharing", by_sharing(simulation)},
          {"critical_path", critical_path(simulation)},
          {"network_seconds_by_bound", network_seconds(simulation)},
          {"lower_bound_seconds", to_seconds(simulation.bounds.lower)},
          {"serial_seconds", to_seconds(simulation.bounds.serial)},
          {"sram_peak_bytes_per_node", simulation.sram_peak_per_node.count()},
          {"sram_bytes_per_node", simulation.sram_per_node.count()},
          {"hbm_bytes", simulation.program.hbm_bytes().count()},
          {"replicas", replicas.count},
          {"replicas_available", replicas.available},
          {"dies_per_replica", replicas.dies.count()},
          {"samples_per_replica", replicas.block},
          {"micro_batches", simulation.program.micro.count},
          {"stages", std::max<std::size_t>(1, simulation.program.stages.size())},
          {"phases_in_program", simulation.program.phases.size()},
          {"reshard_fallbacks", simulation.program.fallbacks()},
          {"memory_remedies", std::move(remedies)},
          {"ops", operations(simulation)},
          {"assumed_facts", facts(simulation)},
          {"wall_seconds", wall_seconds}};
}

// Inside <script>, "<" may begin a tag or a comment: as an escape it is the same JSON.
std::string without_angles(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string replaced(std::string_view text, std::string_view mark, std::string_view with) {
  const auto at = text.find(mark);
  DOJO_CHECK(at != std::string_view::npos);
  return fmt::format("{}{}{}", text.substr(0, at), with, text.substr(at + mark.size()));
}

}  // namespace

std::string simulation_json(const Simulation& simulation, double wall_seconds, Detail detail) {
  Json json = summary(simulation, wall_seconds);
  if (detail == Detail::Full) {
    json["phases"] = phases(simulation);
    json["memory"] = memory(simulation);
    json["plane"] = plane(simulation);
    json["roofs"] = {{"matrix_flops_per_second", simulation.peak_matrix.value()},
                     {"sram_bytes_per_second", simulation.sram_rate.value()}};
    json["reserved_bytes_per_node"] = simulation.program.reserved.count();
  }
  return text_of(json, detail == Detail::Summary ? 2 : -1);
}

Result<std::string> report_html(std::string_view data_json) {
  const Json data = Json::parse(data_json, nullptr, false);
  if (!data.is_object() || !data.contains("simulation") || !data["simulation"].contains("phases")) {
    return Error{ErrorKind::InvalidInput,
                 "report: expected a JSON object with a simulation and its phases"};
  }
  // The library first: it is trusted text; the data may hold any text, also a mark.
  const std::string page = replaced(kTemplate, "{{CHART_JS}}", kChartJs);
  return replaced(page, "{{DATA}}", without_angles(text_of(data)));
}

std::string trace_json(const Simulation& simulation) {
  Json events = Json::array();
  const program::Program& program = simulation.program;
  // A process for each stage of a pipeline.
  for (std::size_t stage = 0; stage < std::max<std::size_t>(1, program.stages.size()); ++stage) {
    for (std::size_t lane = 0; lane < 3; ++lane) {
      events.push_back({{"ph", "M"},
                        {"name", "thread_name"},
                        {"pid", stage + 1},
                        {"tid", lane + 1},
                        {"args", {{"name", system::name(static_cast<system::Lane>(lane))}}}});
    }
    const std::string of_stage = program.stages.empty() ? "" : fmt::format(", stage {}", stage);
    events.push_back(
        {{"ph", "M"},
         {"name", "process_name"},
         {"pid", stage + 1},
         {"args",
          {{"name", fmt::format("{} on {}{}", simulation.graph, simulation.machine, of_stage)}}}});
  }
  const std::vector<PhaseText> texts = phase_texts(simulation);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const system::PhaseTiming& timing = simulation.timeline.phases[i];
    events.push_back({{"ph", "X"},
                      {"name", texts[i].name},
                      {"cat", word(texts[i].part)},
                      {"pid", program.stages.empty() ? 1 : program.stage_of(i) + 1},
                      {"tid", static_cast<int>(timing.lane) + 1},
                      {"ts", static_cast<double>(timing.begin.count()) * 1e-6},
                      {"dur", static_cast<double>((timing.end - timing.begin).count()) * 1e-6},
                      {"args", {{"bound_by", timing.bound_by}}}});
  }
  return text_of({{"displayTimeUnit", "ns"}, {"traceEvents", std::move(events)}});
}

}  // namespace dojo::report
