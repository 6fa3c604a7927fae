// Bindings of place, system and report: lowering for a machine, simulation, the report's files.
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "dojo/base/text.h"
#include "dojo/bindings/bindings.h"
#include "dojo/graph/graph.h"
#include "dojo/graph/recipe.h"
#include "dojo/machine/description.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/place/place.h"
#include "dojo/program/program_text.h"
#include "dojo/report/report.h"
#include "dojo/system/simulation.h"

namespace dojo::bindings {
namespace {

struct TimedSimulation {
  system::Simulation simulation;
  double wall_seconds = 0;
};

graph::Graph lower(const graph::Graph& captured, std::string_view recipe_name,
                   const std::vector<std::string>& overrides, std::string_view machine) {
  graph::Recipe recipe = value_or_throw(graph::recipe_named(recipe_name));
  for (const std::string& text : overrides) {
    value_or_throw(graph::change(recipe, text));
  }
  const machine::MachineModel model = value_or_throw(machine::load_machine(machine));
  return value_or_throw(place::lower_for_machine(captured, recipe, model));
}

TimedSimulation simulate(const graph::Graph& lowered, std::string_view machine) {
  const auto begin = std::chrono::steady_clock::now();
  const machine::Description description = value_or_throw(machine::load_description(machine));
  const program::Program program =
      value_or_throw(place::place(lowered, machine::resolve(description)));
  TimedSimulation timed{value_or_throw(system::simulate(program, description))};
  timed.wall_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return timed;
}

}  // namespace

void bind_system(nb::module_& module) {
  module.def("machine_names", &machine::shipped_machines, "Machines that come with OpenDojo.");
  module.def("lower", &lower, nb::arg("graph"), nb::arg("recipe"), nb::arg("overrides"),
             nb::arg("machine"),
             "The Graph lowered with the recipe, its reductions cut for the machine.");

  nb::class_<TimedSimulation>(module, "Simulation", "One training step on a machine.")
      .def(
          "json",
          [](const TimedSimulation& self, bool phases) {
            return report::simulation_json(self.simulation, self.wall_seconds,
                                           phases ? report::Detail::Full : report::Detail::Summary);
          },
          nb::arg("phases") = false, "As `dojo simulate --json` prints it (docs/simulate.md).")
      .def(
          "trace", [](const TimedSimulation& self) { return report::trace_json(self.simulation); },
          "Trace events as JSON, for Perfetto.")
      .def(
          "program",
          [](const TimedSimulation& self) {
            return program::print_program(self.simulation.program);
          },
          "The text of the Program.");
  module.def("simulate", &simulate, nb::arg("graph"), nb::arg("machine"),
             nb::call_guard<nb::gil_scoped_release>(),
             "Places a lowered Graph on the machine it was lowered for, and times it.");
  module.def(
      "report_html",
      [](std::string_view data) { return value_or_throw(report::report_html(data)); },
      nb::arg("data_json"), "The report's page (docs/simulate.md has the data's keys).");
}

}  // namespace dojo::bindings
