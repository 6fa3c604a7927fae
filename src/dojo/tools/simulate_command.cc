// dojo simulate FILE.graph --machine M
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>

#include "dojo/base/text.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/place/place.h"
#include "dojo/program/program_text.h"
#include "dojo/report/report.h"
#include "dojo/system/simulation.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/output.h"

namespace dojo::tools {
namespace {

struct SimulateOptions {
  std::string file;
  std::string machine;
  std::string recipe = "cfloat8";
  std::vector<std::string> overrides;
  std::string sum_order;
  std::vector<std::string> what_if;
  bool relower = false;
  std::string json_path;
  std::string program_path;
  std::string trace_path;
  std::string lowered_path;
};

graph::Recipe recipe_of(const SimulateOptions& options) {
  graph::Recipe recipe = value_of(graph::recipe_named(options.recipe));
  for (const std::string& text : options.overrides) {
    value_of(graph::change(recipe, text));
  }
  if (!options.sum_order.empty()) {
    value_of(graph::change(recipe, "sum_order=" + options.sum_order));
  }
  return recipe;
}

machine::Description machine_of(const SimulateOptions& options) {
  machine::Description machine = value_of(machine::load_description(options.machine));
  for (const std::string& change : options.what_if) {
    const auto equals = change.find('=');
    if (equals == std::string::npos) {
      throw ApiError(Error{ErrorKind::InvalidInput,
                           fmt::format("--what-if {}: expected FACT=VALUE, for example "
                                       "mesh.die.link=\"256 B/cycle\"",
                                       dojo::quoted(change))});
    }
    machine =
        value_of(machine::with_fact(machine, change.substr(0, equals), change.substr(equals + 1)));
  }
  return machine;
}

// A Graph that is lowered stays as it is, or the answer would be for another one.
graph::Graph lowered_graph(const SimulateOptions& options, const machine::MachineModel& machine) {
  graph::Graph graph = value_of(graph::load_graph(options.file));
  if (!graph.is_lowered()) {
    return value_of(place::lower_for_machine(graph, recipe_of(options), machine));
  }
  if (options.relower) {
    const auto changed = place::cut_reductions(graph, machine);
    if (!changed.has_value()) {
      throw ApiError(changed.error());
    }
    return graph;
  }
  if (graph.lowering->machine != machine.name) {
    throw ApiError(
        Error{ErrorKind::InvalidInput,
              fmt::format("{}: lowered for machine {}, not {}; --relower cuts its reductions anew, "
                          "and its values then differ",
                          options.file, dojo::quoted(graph.lowering->machine),
                          dojo::quoted(machine.name))});
  }
  return graph;
}

void write_text(const std::string& path, std::string_view text) {
  const Result<void> written = write_file_atomically(path, text);
  if (!written.has_value()) {
    throw ApiError(written.error());
  }
}

void print_summary(const system::Simulation& simulation) {
  const auto seconds = [](double value) {
    return value < 1e-3 ? fmt::format("{:.3f} us", value * 1e6)
                        : fmt::format("{:.3f} ms", value * 1e3);
  };
  fmt::print("{} ({}) on {}\n", simulation.graph, simulation.recipe, simulation.machine);
  fmt::print("step {}, {:.3f} % of the matrix peak, {} a step\n", seconds(simulation.step_seconds),
             100 * simulation.utilisation,
             with_prefix(static_cast<double>(simulation.flops.count()), "FLOP"));
  const program::Replicas& replicas = simulation.program.replicas;
  fmt::print("{} of {} replicas of {} work, {} of {} samples each; peak SRAM {} of {} a node\n\n",
             replicas.count, replicas.available, counted(replicas.dies.count(), "die"),
             replicas.block, replicas.batch,
             with_prefix(static_cast<double>(simulation.sram_peak_per_node.count()), "B"),
             with_prefix(static_cast<double>(simulation.sram_per_node.count()), "B"));
  Table causes({{"time goes to"}, {"", Align::Right}, {"share", Align::Right}});
  const auto add = [&](std::string_view cause, double value) {
    causes.add_row({std::string(cause), seconds(value),
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
                     fmt::format("{} .. {}", seconds(low), seconds(high))});
    }
  }
  facts.print();
}

void simulate(const SimulateOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const machine::Description machine = machine_of(options);
  const machine::MachineModel model = machine::resolve(machine);
  const graph::Graph graph = lowered_graph(options, model);
  const program::Program program = value_of(place::place(graph, model));
  const system::Simulation simulation = value_of(system::simulate(graph, program, machine));
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  if (!options.program_path.empty()) {
    write_text(options.program_path, program::print_program(program));
  }
  if (!options.trace_path.empty()) {
    write_text(options.trace_path, report::trace_json(simulation));
  }
  if (!options.lowered_path.empty()) {
    write_text(options.lowered_path, graph::print_graph(graph));
  }
  if (options.json_path.empty()) {
    print_summary(simulation);
    return;
  }
  write_json(nlohmann::ordered_json::parse(
                 report::simulation_json(simulation, wall.count(), report::Detail::Summary)),
             options.json_path);
}

}  // namespace

void add_simulate_command(CLI::App& app) {
  const auto options = std::make_shared<SimulateOptions>();
  CLI::App* command =
      app.add_subcommand("simulate", "How long one training step takes on a machine, and why");
  command->add_option("graph", options->file, "The step's Graph, lowered or not")
      ->type_name("FILE")
      ->required();
  command->add_option("--machine", options->machine, "A shipped machine or a machine file")
      ->type_name("NAME|FILE")
      ->required();
  command->add_option("--recipe", options->recipe, "For a Graph that is not lowered")
      ->capture_default_str();
  command->add_option("--override", options->overrides,
                      "MODULE=ROLE:FORMAT, or a setting such as bias=learnt; may repeat");
  command->add_option("--sum-order", options->sum_order,
                      "Of products and convolutions: sequential, tile4, w21 or exact");
  command->add_option("--what-if", options->what_if, "FACT=VALUE of the machine, may repeat");
  command->add_flag("--relower", options->relower,
                    "Cut the reductions of a lowered Graph anew for this machine");
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
