#include "dojo/tools/placing.h"

#include <fmt/format.h>

#include "dojo/base/text.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/place/place.h"
#include "dojo/tools/api_error.h"

namespace dojo::tools {
namespace {

graph::Recipe recipe_of(const StepOptions& options) {
  graph::Recipe recipe = value_of(graph::recipe_named(options.recipe));
  for (const std::string& text : options.overrides) {
    value_of(graph::change(recipe, text));
  }
  if (!options.sum_order.empty()) {
    value_of(graph::change(recipe, "sum_order=" + options.sum_order));
  }
  return recipe;
}

}  // namespace

void add_step_options(CLI::App& command, StepOptions& options) {
  command.add_option("--machine", options.machine, "A shipped machine or a machine file")
      ->type_name("NAME|FILE")
      ->required();
  command.add_option("--recipe", options.recipe, "For a Graph that is not lowered")
      ->capture_default_str();
  command.add_option("--override", options.overrides,
                     "MODULE=ROLE:FORMAT, or a setting such as bias=learnt; may repeat");
  command.add_option("--sum-order", options.sum_order,
                     "Of products and convolutions: sequential, tile4, w21 or exact");
  command.add_flag("--relower", options.relower,
                   "Cut the reductions of a lowered Graph anew for this machine");
  command
      .add_option("--micro-batches", options.asked.micro_batches,
                  "Work on a replica's samples in N turns; without: one, or the fewest that fit; "
                  "with --stages four for each")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--stages", options.asked.stages,
                  "Make each replica a pipeline of N stages, each with its part of the network")
      ->check(CLI::PositiveNumber);
}

machine::Description with_facts(const machine::Description& machine,
                                const std::vector<std::string>& changes) {
  machine::Description changed = machine;
  for (const std::string& change : changes) {
    const auto equals = change.find('=');
    if (equals == std::string::npos) {
      throw ApiError(Error{ErrorKind::InvalidInput,
                           fmt::format("--what-if {}: expected FACT=VALUE, for example "
                                       "mesh.die.link=\"256 B/cycle\"",
                                       dojo::quoted(change))});
    }
    changed =
        value_of(machine::with_fact(changed, change.substr(0, equals), change.substr(equals + 1)));
  }
  return changed;
}

graph::Graph lowered_graph(const StepOptions& options, const machine::MachineModel& machine) {
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

graph::Graph with_recipe(const StepOptions& options, std::string_view machine) {
  graph::Graph graph = value_of(graph::load_graph(options.file));
  return graph.is_lowered() ? graph : value_of(graph::lower(graph, recipe_of(options), machine));
}

bool is_program_file(const std::string& path) {
  const std::string text = value_of(read_file(path));
  const auto begin = text.find_first_not_of(" \t\r\n");
  return begin != std::string::npos && text.compare(begin, 8, "program ") == 0;
}

void write_text(const std::string& path, std::string_view text) {
  const Result<void> written = write_file_atomically(path, text);
  if (!written.has_value()) {
    throw ApiError(written.error());
  }
}

}  // namespace dojo::tools
