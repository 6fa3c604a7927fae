// Of Delivery: in which order the parts of sums are added.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <span>

#include "dojo/place/internal/delivery.h"

namespace dojo::place::internal {

using machine::PatternKind;

namespace {

// Of a + b, where the order matters. Any mixing does that tells different terms apart.
std::uint64_t hash_of_sum(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9E3779B97F4A7C15ULL + b;
  x ^= x >> 31U;
  x *= 0xD6E8FEB86659FD93ULL;
  return x ^ (x >> 29U);
}

// (((a + b) + c) + ...), 0 being nothing.
std::uint64_t hash_of_chain(const std::vector<std::uint64_t>& terms) {
  std::uint64_t sum = 0;
  for (const std::uint64_t term : terms) {
    sum = sum == 0 ? term : term == 0 ? sum : hash_of_sum(sum, term);
  }
  return sum;
}

using Part = std::pair<std::vector<std::int64_t>, std::int64_t>;  // places, number

// What the cuts say of some parts, which are sorted.
struct StatedSum {
  const std::vector<graph::ReduceCut>& cuts;

  // Of parts whose places differ from loop `depth` on.
  std::uint64_t of(std::span<const Part> parts, std::size_t depth) const {
    if (parts.size() == 1) {
      return hash_of_part(parts.front().second);
    }
    const std::int64_t run = cuts.at(depth).run.value_or(cuts.at(depth).parts);
    return hash_of_pieces(
        parts, [&](const Part& part) { return part.first[depth] / run; },
        [&](std::span<const Part> of_run) {
          return hash_of_pieces(
              of_run, [&](const Part& part) { return part.first[depth]; },
              [&](std::span<const Part> same) { return of(same, depth + 1); });
        });
  }

 private:
  // Pieces with the same key, one after the other.
  template <class Key, class Hash>
  static std::uint64_t hash_of_pieces(std::span<const Part> parts, const Key& key,
                                      const Hash& hash) {
    std::vector<std::uint64_t> terms;
    while (!parts.empty()) {
      std::size_t end = 1;
      while (end < parts.size() && key(parts[end]) == key(parts.front())) {
        ++end;
      }
      terms.push_back(hash(parts.first(end)));
      parts = parts.subspan(end);
    }
    return hash_of_chain(terms);
  }
};

}  // namespace

std::uint64_t hash_of_part(std::int64_t part) {
  return hash_of_sum(0x5851F42D4C957F2DULL, static_cast<std::uint64_t>(part) + 1);
}

bool is_sum(const graph::Stage& stage) {
  return std::all_of(stage.loops.begin(), stage.loops.end(), [](const graph::StageLoop& loop) {
    return loop.kind != graph::LoopKind::Reduce || loop.combine == graph::Combine::Sum;
  });
}

// Those of the loops that the stage reduces.
std::vector<graph::ReduceCut> Delivery::cuts_of(OpId id, const graph::Stage& stage) const {
  const graph::LoopNest& nest = plan_.layouts.ops[id.index].split.nest();
  std::vector<graph::ReduceCut> cuts;
  for (const graph::ReduceCut& cut : graph_.ops[id.index].k_parts) {
    if (graph::kind_of(stage, *nest.loop_named(cut.loop)) == graph::LoopKind::Reduce) {
      cuts.push_back(cut);
    }
  }
  return cuts;
}

std::vector<std::int64_t> Delivery::places_in_loops(const SplitNest& split,
                                                    const std::vector<graph::ReduceCut>& cuts,
                                                    Node node) const {
  const graph::Slice slice = slice_of(split, node);
  std::vector<std::int64_t> places;
  for (const graph::ReduceCut& cut : cuts) {
    places.push_back(slice[size_of(*split.nest().loop_named(cut.loop))].begin / cut.block);
  }
  return places;
}

// What a move does to one element of a sum: a reduction adds what the nodes of the line have, in
// their order, nested ones those of each row of replicas first; others bring the most complete to
// all.
void Delivery::add_up(const program::Move& move, const std::vector<Node>& group, Pending& pending,
                      std::size_t element, const std::string& name, std::size_t index) {
  const PatternKind kind = move.pattern.kind;
  const bool is_nested = move.pattern.order == machine::Association::Nested;
  std::vector<std::uint64_t> terms;
  std::map<std::int64_t, std::vector<std::uint64_t>> terms_of_run;
  std::size_t most = 0;
  std::uint64_t most_complete = 0;
  for (const Node node : group) {
    const std::uint64_t term = pending.additions[node][element];
    if (term != 0) {
      terms.push_back(term);
      terms_of_run[is_nested ? place_of(node).replica / replicas_per_row_ : 0].push_back(term);
    }
    if (pending.parts[node][element].size() > most) {
      most = pending.parts[node][element].size();
      most_complete = term;
    }
  }
  const bool is_alike =
      std::adjacent_find(terms.begin(), terms.end(), std::not_equal_to<>()) == terms.end();
  std::uint64_t sum = most_complete;
  if (!is_alike && (kind == PatternKind::AllReduce || kind == PatternKind::ReduceScatter ||
                    kind == PatternKind::Reduce)) {
    std::vector<std::uint64_t> runs;
    for (const auto& [run, of_run] : terms_of_run) {
      runs.push_back(hash_of_chain(of_run));
    }
    sum = hash_of_chain(runs);
    std::sort(terms.begin(), terms.end());
    if (std::adjacent_find(terms.begin(), terms.end()) != terms.end()) {
      report(fmt::format("phase {} adds a part of element {} of %{} twice", index, element, name));
    }
  }
  for (const Node node : group) {
    pending.additions[node][element] = sum;
  }
}

void Delivery::check_order(const std::string& name, const Pending& pending,
                           const std::vector<Elements>& whole, std::size_t index) {
  const StatedSum stated{pending.cuts};
  std::map<std::set<std::int64_t>, std::uint64_t> known;
  for (std::size_t i = 0; i < pending.all.size(); ++i) {
    const auto [found, is_new] = known.try_emplace(pending.all[i]);
    if (is_new) {
      std::vector<Part> parts;
      for (const std::int64_t part : pending.all[i]) {
        parts.emplace_back(pending.places.at(part), part);
      }
      std::sort(parts.begin(), parts.end());
      found->second = stated.of(parts, 0);
    }
    for (Node node = 0; node < nodes_; ++node) {
      if (whole[node][i] != 0 && pending.additions[node][i] != found->second) {
        report(
            fmt::format("phase {}: the sum %{} is added in another order than its cuts say, "
                        "element {} on node {}",
                        index, name, i, node));
        return;
      }
    }
  }
}

}  // namespace dojo::place::internal
