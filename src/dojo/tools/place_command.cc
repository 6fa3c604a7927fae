// dojo place FILE.graph --machine M
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/program/program_text.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/output.h"
#include "dojo/tools/placing.h"
#include "dojo/tools/searching.h"

namespace dojo::tools {
namespace {

struct PlaceOptions {
  StepOptions step;
  SearchLimits limits;
  std::string program_path = "-";
  std::string lowered_path;
};

void place_step(const PlaceOptions& options) {
  const ChosenStep chosen = chosen_step(
      options.step, value_of(machine::load_description(options.step.machine)), options.limits);
  const graph::Graph& graph = chosen.placed.graph;
  const program::Program& program = chosen.placed.program;
  if (!options.lowered_path.empty()) {
    write_text(options.lowered_path, graph::print_graph(graph));
  }
  if (options.program_path == "-") {
    fmt::print("{}", program::print_program(program));
    return;
  }
  write_text(options.program_path, program::print_program(program));
  fmt::print("{}: {}, {} of {} replicas of {} on {}, {} a node\n", options.program_path,
             counted(static_cast<std::int64_t>(program.phases.size()), "phase"),
             program.replicas.count, program.replicas.available,
             counted(program.replicas.dies.count(), "die"), program.machine,
             with_prefix(static_cast<double>(program.sram_peak().count()), "B"));
}

}  // namespace

void add_place_command(CLI::App& app) {
  const auto options = std::make_shared<PlaceOptions>();
  CLI::App* command =
      app.add_subcommand("place", "Lay one training step out on a machine, as a Program");
  command->add_option("graph", options->step.file, "The step's Graph, lowered or not")
      ->type_name("FILE")
      ->required();
  add_step_options(*command, options->step);
  add_search_options(*command, options->limits, ". Without: the replica that the rules choose");
  command->add_option("-o,--output", options->program_path, "Where the Program goes; - is stdout")
      ->type_name("FILE")
      ->capture_default_str();
  command->add_option("--lowered", options->lowered_path, "Write the lowered Graph's text")
      ->type_name("FILE");
  command->callback([options] { place_step(*options); });
}

}  // namespace dojo::tools
