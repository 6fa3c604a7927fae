// For tests: small workloads of tests/golden/place, lowered and placed on shipped machines.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/place/place.h"

namespace dojo::e2e {

struct Step {
  machine::MachineModel machine;
  graph::Graph graph;
  program::Program program;
};

inline Step step_of(const std::string& name, machine::MachineModel machine) {
  auto graph =
      graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/golden/place/" + name + ".graph");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  if (!graph->is_lowered()) {
    graph = place::lower_for_machine(*graph, *graph::recipe_named("cfloat8"), machine);
    EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  }
  auto program = place::place(*graph, machine);
  EXPECT_TRUE(program.has_value()) << program.error().to_string();
  return {std::move(machine), *std::move(graph), *std::move(program)};
}

inline Step step_of(const std::string& name, const char* machine) {
  return step_of(name, *machine::load_machine(machine));
}

inline std::vector<Step> steps() {
  std::vector<Step> out;
  for (const char* machine : {"d1", "training-tile"}) {
    for (const char* name : {"cnn", "mlp", "gpt"}) {
      out.push_back(step_of(name, machine));
    }
  }
  return out;
}

}  // namespace dojo::e2e
