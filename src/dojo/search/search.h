// search: which replica a step should have on a machine. Every choice of library place is placed by
// rule and timed by library system; the quickest is the best; of equally quick ones that with less
// energy, then with less memory, then the earlier one.
//
// Deterministic: choices come in a fixed order, and the result depends on how many were tried, not
// on how long that took. A choice that cannot beat the best is passed over without being placed:
// its bound is the step's matrix work on the nodes that would work at all, at peak.
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
  Picoseconds lower{};  // no schedule of this Program is quicker
  Picoseconds serial{};
  Joules energy{};
  Bytes sram_peak_per_node{};
  bool is_on_front =
      false;  // no other is better in one of step, energy, memory and no worse in all
};

struct Search {
  std::int64_t known = 0;             // choices that there are
  std::vector<Candidate> candidates;  // that were looked at, in order
  std::optional<std::size_t> best;    // none: nothing fits
  bool was_cut = false;               // by a limit or a stop, before all were looked at
};

// `lowered`: with a recipe; its k_parts and machine are not looked at. Errors: it is not lowered.
Result<Search> search(const graph::Graph& lowered, const machine::Description& machine,
                      const SearchOptions& options);

}  // namespace dojo::search
