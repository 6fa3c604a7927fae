// What the step's length hangs on, and how much room the rest has.
#pragma once

#include <string>
#include <vector>

#include "dojo/system/timeline.h"

namespace dojo::system {

// From the first phase to the last that ended: each phase with the one that let it begin (the last
// of those it came after to end, or the one that held its lane).
std::vector<PhaseId> critical_path(const program::Program& program, const Timeline& timeline);

// Time of the critical path by what bounds its phases ("matrix", "port_in", "latency", ...), the
// largest first. A phase has the time from the end of the one before it to its own: their sum is
// `computed`, or the ingest's end if that is later.
struct PathShare {
  std::string bound_by{};
  double seconds = 0;
};
// `times`: by phase, how many its time stands for; empty: one.
std::vector<PathShare> path_shares(const Timeline& timeline, const std::vector<PhaseId>& path,
                                   const std::vector<double>& times = {});

// How much later each phase could end without the step getting longer, every phase keeping its own
// duration. With stated shares; zero for all of the critical path but feeds of a pipelined phase.
std::vector<Picoseconds> slack_of(const program::Program& program, const Timeline& timeline);

}  // namespace dojo::system
