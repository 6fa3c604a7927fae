// The commands of `dojo`, one file each. Each adds its subcommand to the parser; its callback does
// the work when parse() comes to it, prints to stdout, and throws ApiError.
#pragma once

#include <CLI/CLI.hpp>

namespace dojo::tools {

void add_eval_command(CLI::App& graph_command);
void add_graph_command(CLI::App& app);
void add_machine_command(CLI::App& app);
void add_mesh_command(CLI::App& app);
void add_mesh_pattern_command(CLI::App& mesh_command);
void add_place_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_simulate_command(CLI::App& app);

}  // namespace dojo::tools
