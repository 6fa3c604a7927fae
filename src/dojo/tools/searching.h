// What `plan`, `place` and `simulate` share: the options of a search for the best replica, and the
// search itself, which Ctrl-C ends with the best so far.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "dojo/place/place.h"
#include "dojo/search/search.h"
#include "dojo/tools/placing.h"

namespace dojo::tools {

struct SearchLimits {
  std::optional<std::int64_t> candidates;  // 0: all
  std::optional<double> seconds;           // 0: no limit
  bool is_given() const { return candidates.has_value() || seconds.has_value(); }
};
// `unless_given`: what happens without either of the two options, for the help text.
void add_search_options(CLI::App& command, SearchLimits& limits, const std::string& unless_given);

struct SearchedStep {
  search::Search found;
  place::PlacedStep best;
};
// The Graph's sums are cut anew, as the best replica cuts them. Throws ApiError, like
// chosen_step(): no candidate fits.
SearchedStep searched_step(const StepOptions& options, const machine::Description& machine,
                           const SearchLimits& limits);

struct ChosenStep {
  place::PlacedStep placed;
  std::int64_t candidates = 1;  // replicas that were looked at
};
// By rule, or if a limit is given by a search, which only changes values that are not fixed yet: a
// Graph that is lowered already is refused there without --relower.
ChosenStep chosen_step(const StepOptions& options, const machine::Description& machine,
                       const SearchLimits& limits);

}  // namespace dojo::tools
