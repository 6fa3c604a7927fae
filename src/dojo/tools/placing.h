// What `place` and `simulate` share: the options that say which step on which machine, and how a
// file becomes a placed Program.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/machine/description.h"
#include "dojo/place/place.h"
#include "dojo/program/program.h"

namespace dojo::tools {

struct StepOptions {
  std::string file;  // a Graph, or for `simulate` a Program
  std::string machine;
  std::string recipe = "cfloat8";
  std::vector<std::string> overrides;
  std::string sum_order;
  bool relower = false;
  place::Asked asked;
  bool has_asked() const { return asked.micro_batches.has_value() || asked.stages > 1; }
};
void add_step_options(CLI::App& command, StepOptions& options);

// The machine with facts changed, each "FACT=VALUE".
machine::Description with_facts(const machine::Description& machine,
                                const std::vector<std::string>& changes);

// The Graph of the file, lowered for the machine. One that is lowered already stays as it is (or
// the answer would be for another one), unless --relower. Throws ApiError, like all of these.
graph::Graph lowered_graph(const StepOptions& options, const machine::MachineModel& machine);

// The Graph of the file with its formats: of a Graph that is lowered only the cuts of sums and the
// machine are still to be chosen.
graph::Graph with_recipe(const StepOptions& options, std::string_view machine);

// Whether the file's text begins as a Program's.
bool is_program_file(const std::string& path);

void write_text(const std::string& path, std::string_view text);

}  // namespace dojo::tools
