// dojo simulate FILE.graph|FILE.program --machine M
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>

#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/program/program_text.h"
#include "dojo/report/report.h"
#include "dojo/system/simulation.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/output.h"
#include "dojo/tools/placing.h"
#include "dojo/tools/searching.h"

namespace dojo::tools {
namespace {

struct SimulateOptions {
  StepOptions step;
  SearchLimits limits;
  std::string graph_path;
  std::vector<std::string> what_if;
  bool replan = false;
  std::string sharing = "stated";
  std::string json_path;
  std::string program_path;
  std::string trace_path;
  std::string lowered_path;
};

struct Placed {
  program::Program program;
  std::optional<graph::Graph> graph;  // lowered; none if only the Program was given
  std::int64_t candidates = 0;        // replicas that were looked at; a Program has its own
};

Placed placed_step(const SimulateOptions& options, const machine::Description& machine) {
  if (!is_program_file(options.step.file)) {
    if (!options.graph_path.empty()) {
      throw ApiError(
          Error{ErrorKind::InvalidInput, "--graph is the lowered Graph of a Program, and " +
                                             options.step.file + " is a Graph itself"});
    }
    ChosenStep chosen = chosen_step(options.step, machine, options.limits);
    return {std::move(chosen.placed.program), std::move(chosen.placed.graph), chosen.candidates};
  }
  if (options.limits.is_given()) {
    throw ApiError(
        Error{ErrorKind::InvalidInput,
              options.step.file + " is a Program, which says its replica: nothing to search"});
  }
  Placed placed{value_of(program::load_program(options.step.file, machine::resolve(machine))), {}};
  if (!options.graph_path.empty()) {
    placed.graph = value_of(graph::load_graph(options.graph_path));
    if (const Result<void> is_of = program::check_graph(placed.program, *placed.graph); !is_of) {
      throw ApiError(is_of.error());
    }
  }
  return placed;
}

// The same for a step that does not fit as JSON, if that is asked for: the error is still one.
Placed placed_or_said(const SimulateOptions& options, const machine::Description& machine) {
  try {
    return placed_step(options, machine);
  } catch (const ApiError& error) {
    if (error.kind() == ErrorKind::DoesNotFit && !options.json_path.empty()) {
      write_json(
          {{"machine", machine::resolve(machine).name}, {"fits", false}, {"why", error.what()}},
          options.json_path);
    }
    throw;
  }
}

std::string in_turns(const program::Program& program) {
  const std::int64_t micro_batches = program.micro.count;
  const std::string stages =
      program.stages.empty() ? "" : fmt::format(", {} stages each", program.stages.size());
  return (micro_batches > 1 ? fmt::format(" in {} micro-batches", micro_batches) : "") + stages;
}

void print_summary(const system::Simulation& simulation) {
  fmt::print("{} ({}) on {}\n", simulation.graph, simulation.recipe, simulation.machine);
  fmt::print("step {}, {:.3f} % of the matrix peak, {} a step\n", as_time(simulation.step_seconds),
             100 * simulation.utilisation,
             with_prefix(static_cast<double>(simulation.flops.count()), "FLOP"));
  const program::Replicas& replicas = simulation.program.replicas;
  fmt::print("{} of {} replicas of {} work, {} of {} samples each{}; peak SRAM {} of {} a node\n",
             replicas.count, replicas.available, counted(replicas.dies.count(), "die"),
             replicas.block, replicas.batch, in_turns(simulation.program),
             with_prefix(static_cast<double>(simulation.sram_peak_per_node.count()), "B"),
             with_prefix(static_cast<double>(simulation.sram_per_node.count()), "B"));
  const system::Energy& energy = simulation.energy;
  fmt::print("energy {} a step ({} .. {}), {} on average\n\n",
             with_prefix(energy.total().count(), "J"), with_prefix(energy.low.count(), "J"),
             with_prefix(energy.high.count(), "J"),
             with_prefix(energy.total().count() / simulation.step_seconds, "W"));
  Table causes({{"time goes to"}, {"", Align::Right}, {"share", Align::Right}});
  const auto add = [&](std::string_view cause, double value) {
    causes.add_row({std::string(cause), as_time(value),
                    fmt::format("{:.2f} %", 100 * value / simulation.step_seconds)});
  };
  add("ideal", simulation.losses.ideal_seconds);
  for (std::size_t i = 0; i < system::kCauseCount; ++i) {
    const auto cause = static_cast<system::Cause>(i);
    add(system::name(cause), simulation.losses[cause]);
  }
  causes.print();
  fmt::print("\nThe assumed facts that matter most:\n");
  Table facts({{"fact"}, {"value"}, {"range"}, {"step", Align::Right}});
  for (const system::FactEffect& effect : simulation.assumed) {
    if (effect.effect(simulation.step_seconds) > 0) {
      const double low = effect.seconds_low.value_or(simulation.step_seconds);
      const double high = effect.seconds_high.value_or(simulation.step_seconds);
      facts.add_row({effect.fact.path, effect.fact.value,
                     fmt::format("{} .. {}", effect.fact.range->low, effect.fact.range->high),
                     fmt::format("{} .. {}", as_time(low), as_time(high))});
    }
  }
  facts.print();
}

void simulate(const SimulateOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const machine::Description stated = value_of(machine::load_description(options.step.machine));
  const machine::Description machine = with_facts(stated, options.what_if);
  const Placed placed = placed_or_said(options, options.replan ? machine : stated);
  Result<system::Simulation> timed = system::simulate(
      placed.program, machine,
      options.sharing == "stated" ? system::Sharing::Stated : system::Sharing::MaxMin);
  if (!timed.has_value() && !options.what_if.empty() && !options.replan) {
    throw ApiError(Error{timed.error().kind,
                         timed.error().message + " with these facts; --replan places it anew"});
  }
  const system::Simulation simulation = value_of(std::move(timed));
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  if (!options.program_path.empty()) {
    write_text(options.program_path, program::print_program(placed.program));
  }
  if (!options.trace_path.empty()) {
    write_text(options.trace_path, report::trace_json(simulation));
  }
  if (!options.lowered_path.empty()) {
    if (!placed.graph.has_value()) {
      throw ApiError(Error{ErrorKind::InvalidInput,
                           "--lowered: a Program does not hold its Graph; give it with --graph"});
    }
    write_text(options.lowered_path, graph::print_graph(*placed.graph));
  }
  if (options.json_path.empty()) {
    print_summary(simulation);
    return;
  }
  auto json = nlohmann::ordered_json::parse(
      report::simulation_json(simulation, wall.count(), report::Detail::Summary));
  json["fits"] = true;
  json["search_candidates"] = placed.candidates;
  write_json(json, options.json_path);
}

}  // namespace

void add_simulate_command(CLI::App& app) {
  const auto options = std::make_shared<SimulateOptions>();
  CLI::App* command =
      app.add_subcommand("simulate", "How long one training step takes on a machine, and why");
  command->add_option("file", options->step.file, "The step's Graph, lowered or not, or a Program")
      ->type_name("FILE")
      ->required();
  add_step_options(*command, options->step);
  add_search_options(*command, options->limits, ". Without: the replica that the rules choose");
  command
      ->add_option("--graph", options->graph_path, "Of a Program: check that it is of this Graph")
      ->type_name("FILE");
  command->add_option("--what-if", options->what_if,
                      "FACT=VALUE of the machine: times the same Program with it; may repeat");
  command->add_flag("--replan", options->replan, "Place the step anew with the --what-if facts");
  command
      ->add_option("--sharing", options->sharing,
                   "Of the network by transfers of one moment: stated (one after the other) or "
                   "max-min")
      ->check(CLI::IsMember({"stated", "max-min"}))
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--json", options->json_path, "Write it as JSON; - is stdout")
      ->type_name("FILE");
  command->add_option("--program", options->program_path, "Write the Program's text")
      ->type_name("FILE");
  command->add_option("--trace", options->trace_path, "Write a trace for Perfetto")
      ->type_name("FILE");
  command->add_option("--lowered", options->lowered_path, "Write the lowered Graph's text")
      ->type_name("FILE");
  command->callback([options] { simulate(*options); });
}

}  // namespace dojo::tools
