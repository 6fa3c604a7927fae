#include "dojo/tools/searching.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <utility>

#include "dojo/graph/text.h"
#include "dojo/tools/api_error.h"

namespace dojo::tools {
namespace {

std::atomic<bool> is_interrupted{false};

// Ctrl-C ends the search with the best so far; a second one ends the program.
void interrupt(int /*signal*/) {
  is_interrupted = true;
  std::signal(SIGINT, SIG_DFL);
}

}  // namespace

void add_search_options(CLI::App& command, SearchLimits& limits, const std::string& unless_given) {
  command
      .add_option(
          "--search-candidates", limits.candidates,
          "Look at the first N candidates: replicas that the step could have, then splits of its "
          "ops; 0: at all" +
              unless_given)
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--search-seconds", limits.seconds,
                  "Stop looking after that time, once something fits; 0: never")
      ->check(CLI::NonNegativeNumber);
}

SearchedStep searched_step(const StepOptions& options, const machine::Description& machine,
                           const SearchLimits& limits) {
  const machine::MachineModel model = machine::resolve(machine);
  const graph::Graph graph = with_recipe(options, model.name);
  search::SearchOptions how{.asked = options.asked,
                            .most_candidates = limits.candidates.value_or(0),
                            .stop = &is_interrupted};
  if (limits.seconds.value_or(0) > 0) {
    how.most_time = std::chrono::duration<double>(*limits.seconds);
  }
  std::signal(SIGINT, interrupt);
  search::Search found = value_of(search::search(graph, machine, how));
  std::signal(SIGINT, SIG_DFL);
  if (is_interrupted) {
    std::fprintf(stderr, "dojo: interrupted: this is the best of %zu candidates of %lld\n",
                 found.candidates.size(), static_cast<long long>(found.known));
  }
  if (found.candidates.empty()) {  // nothing to try: the rules say why
    value_of(place::place_by_rule(graph, model, options.asked));
  }
  if (!found.best.has_value()) {
    throw ApiError(Error{ErrorKind::DoesNotFit, fmt::format("no plan fits; of the last one: {}",
                                                            found.candidates.back().why)});
  }
  place::PlacedStep best = *std::exchange(found.placed, std::nullopt);
  return {std::move(found), std::move(best)};
}

ChosenStep chosen_step(const StepOptions& options, const machine::Description& machine,
                       const SearchLimits& limits) {
  const machine::MachineModel model = machine::resolve(machine);
  if (!limits.is_given() && !options.has_asked()) {
    graph::Graph graph = lowered_graph(options, model);
    program::Program program = value_of(place::place(graph, model));
    return {{std::move(graph), std::move(program)}};
  }
  if (!options.relower && value_of(graph::load_graph(options.file)).is_lowered()) {
    throw ApiError(Error{ErrorKind::InvalidInput,
                         fmt::format("{}: {} cuts sums anew, and values of a lowered Graph then "
                                     "differ; --relower allows that",
                                     options.file,
                                     limits.is_given()          ? "a search"
                                     : options.asked.stages > 1 ? "--stages"
                                                                : "--micro-batches")});
  }
  if (!limits.is_given()) {
    place::RuledStep ruled =
        value_of(place::place_by_rule(with_recipe(options, model.name), model, options.asked));
    return {std::move(ruled.step)};
  }
  SearchedStep searched = searched_step(options, machine, limits);
  return {std::move(searched.best), std::ssize(searched.found.candidates)};
}

}  // namespace dojo::tools
