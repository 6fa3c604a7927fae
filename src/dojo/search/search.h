// search: which replica a step should have on a machine, and which splits its ops. Every candidate
// is placed by library place and timed by library system, as a step that is really to run; the
// quickest is the best; of equally quick ones that with less energy, then with less memory, then
// the earlier one.
//
// First what the rules choose. Then replicas: all are sketched (placed as if nodes had room for
// all) and timed, those with the quickest sketches also with free groups, and those that promise
// most placed. Then splits of the best of those: kind of op by kind of op, the one that costs most
// time first, all pairs of loops over node.y and node.x; with free groups also all loops over
// those, and where nothing gains any more all triples. Each is sketched, and the most promising
// become candidates; what is quicker stays. That is repeated until no kind of op gains any more.
// Then the rest of the replicas. Replicas have as many micro-batches as the rules take; of the
// best, fewer and more are tried.
//
// Deterministic: candidates come in a fixed order, and the result depends on how many were looked
// at, not on how long that took, nor on how many threads sketch. A replica that cannot beat the
// best is passed over without being placed: its bound is the step's matrix work on the nodes that
// would work at all, at peak.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/machine/description.h"
#include "dojo/place/place.h"
#include "dojo/system/energy.h"

namespace dojo::search {

struct SearchOptions {
  place::Asked asked{};  // micro-batches, none: the rules' number, then half and twice it
  std::int64_t most_candidates = 0;  // 0: all
  // Both are looked at between candidates, and only once one fits.
  std::optional<std::chrono::duration<double>> most_time{};
  const std::atomic<bool>* stop = nullptr;
};

enum class Outcome : std::uint8_t {
  Placed,      // and timed
  DoesNotFit,  // `why` says what it needs
  PassedOver,  // could not beat the best
};

struct Candidate {
  place::Choice choice;
  Outcome outcome = Outcome::Placed;
  std::string why{};
  std::int64_t replicas = 0;  // that work
  Picoseconds step{};
  std::optional<Picoseconds> sketched{};  // what its sketch took, if it had one
  Picoseconds lower{};                    // no schedule of this Program is quicker
  Picoseconds serial{};
  Joules energy{};
  Bytes sram_peak_per_node{};
  bool is_on_front =
      false;  // no other is better in one of step, energy, memory and no worse in all
};

struct Search {
  std::int64_t known = 0;                   // replicas there are, and what else was looked at
  std::int64_t sketches = 0;                // splits that were sketched
  std::vector<Candidate> candidates;        // that were looked at, in order
  std::optional<std::size_t> best;          // none: nothing fits
  std::optional<place::PlacedStep> placed;  // the best
  bool was_cut = false;                     // by a limit or a stop, before all were looked at
};

// `lowered`: with a recipe; its k_parts and machine are not looked at. Errors: it is not lowered.
Result<Search> search(const graph::Graph& lowered, const machine::Description& machine,
                      const SearchOptions& options);

// How well sketches foretold: Spearman's rank correlation of sketched and timed steps (equal ones
// share their ranks), and the least and largest of timed / sketched. nullopt: fewer than three
// candidates had both.
struct Foresight {
  double rank_correlation = 0;
  double least_ratio = 0;
  double largest_ratio = 0;
};
std::optional<Foresight> foresight(const std::vector<Candidate>& candidates);

}  // namespace dojo::search
