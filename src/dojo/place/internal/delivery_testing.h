// What tests of Delivery have in common.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "dojo/graph/graph.h"
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
