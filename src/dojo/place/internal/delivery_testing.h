// What tests of Delivery have in common.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "dojo/graph/graph.h"
#include "dojo/graph/lower.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/internal/delivery.h"
#include "dojo/program/program.h"

namespace dojo::place::testing {

using Facts = std::vector<std::pair<std::string, std::string>>;

inline machine::MachineModel with_facts(const std::string& name, const Facts& facts) {
  machine::Description description = *machine::load_description(name);
  for (const auto& [path, value] : facts) {
    const auto changed = machine::with_fact(description, path, value);
    EXPECT_TRUE(changed.has_value()) << changed.error().to_string();
    description = *changed;
  }
  return machine::resolve(description);
}

// A Graph of tests/, lowered by a recipe, its sums not cut yet.
inline graph::Graph lowered(const std::string& file, const std::string& recipe,
                            const machine::MachineModel& machine) {
  const auto captured = graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/" + file);
  EXPECT_TRUE(captured.has_value()) << captured.error().to_string();
  return *graph::lower(*captured, *graph::recipe_named(recipe), machine.name);
}

struct Placed {
  graph::Graph graph;
  internal::Plan plan;
  program::Program program;
  machine::MachineModel machine;

  std::vector<std::string> breaches(std::size_t most) const {
    return internal::Delivery(graph, plan, program, machine).run(most);
  }
};

}  // namespace dojo::place::testing
