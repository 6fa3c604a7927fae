// What a Simulation looks like from outside: JSON, a trace, a page. The page is one file that opens
// offline: a static template with the charting library inlined (Chart.js, MIT licence), which takes
// the JSON. No library of this project writes HTML.
#pragma once

#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/system/simulation.h"

namespace dojo::report {

enum class Detail : std::uint8_t {
  Summary,  // what `dojo simulate --json` prints
  Full,     // and all phases and the memory map, for the page
};

// One JSON object, keys as docs/simulate.md lists them. `wall_seconds`: what the simulation itself
// took.
std::string simulation_json(const system::Simulation& simulation, double wall_seconds,
                            Detail detail);

// The page. `data_json` is an object with `version`, `simulation` (simulation_json with all phases)
// and, if there are, `samples_per_step`, `sample_name` and `training` (docs/simulate.md). An Error
// if it is no JSON object with a simulation.
Result<std::string> report_html(std::string_view data_json);

// Trace events (the format that Perfetto and chrome://tracing open): one track a lane, one slice a
// phase, times in microseconds.
std::string trace_json(const system::Simulation& simulation);

}  // namespace dojo::report
