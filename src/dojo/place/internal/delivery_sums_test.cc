// Of Delivery: in which order the parts of sums are added.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "dojo/place/internal/delivery.h"

namespace dojo::place::internal {

using machine::PatternKind;
using program::Axis;
using program::kAxes;

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

}  // namespace

std::uint64_t hash_of_part(std::int64_t part) {
  return hash_of_sum(0x5851F42D4C957F2DULL, static_cast<std::uint64_t>(part) + 1);
}

bool is_sum(const graph::Stage& stage) {
  return std::all_of(stage.loops.begin(), stage.loops.end(), [](const graph::StageLoop& loop) {
    return loop.kind != graph::LoopKind::Reduce || loop.combine == graph::Combine::Sum;
  });
}

// The replica is outermost, then the group, as slices are cut.
std::vector<std::int64_t> Delivery::places_in_loops(const OpPlan& plan, const graph::Stage& stage,
                                                    Node node) const {
  const SplitNest::Place place = split_place(node);
  std::map<int, std::int64_t> by_loop;
  for (const Axis axis : kAxes) {
    if (plan.split.on(axis).has_value() &&
        graph::kind_of(stage, plan.split.on(axis)->loop) == graph::LoopKind::Reduce) {
      std::int64_t& at = by_loop[plan.split.on(axis)->loop];
      at = at * plan_.mesh.places(axis) + place[index_of(axis)];
    }
  }
  std::vector<std::int64_t> places;
  for (const auto& [loop, at] : by_loop) {
    places.push_back(at);
  }
  return places;
}

// What a move does to one element of a sum: a reduction adds what the nodes of the line have, in
// their order; others bring the most complete to all.
void Delivery::add_up(const program::Move& move, const std::vector<Node>& group, Pending& pending,
                      std::size_t element, const std::string& name, std::size_t index) {
  const PatternKind kind = move.pattern.kind;
  std::vector<std::uint64_t> terms;
  std::size_t most = 0;
  std::uint64_t most_complete = 0;
  for (const Node node : group) {
    const std::uint64_t term = pending.additions[node][element];
    if (term != 0) {
      terms.push_back(term);
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
    sum = hash_of_chain(terms);
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
  using Part = std::pair<std::vector<std::int64_t>, std::int64_t>;  // places, number
  // Of parts that differ from the loop `depth` on, in ascending order.
  const std::function<std::uint64_t(const std::vector<Part>&, std::size_t)> stated =
      [&](const std::vector<Part>& parts, std::size_t depth) {
        if (parts.size() == 1) {
          return hash_of_part(parts.front().second);
        }
        std::vector<std::uint64_t> terms;
        for (auto begin = parts.begin(); begin != parts.end();) {
          const auto end = std::find_if(begin, parts.end(), [&](const Part& part) {
            return part.first[depth] != begin->first[depth];
          });
          terms.push_back(stated({begin, end}, depth + 1));
          begin = end;
        }
        return hash_of_chain(terms);
      };
  std::map<std::set<std::int64_t>, std::uint64_t> known;
  for (std::size_t i = 0; i < pending.all.size(); ++i) {
    const auto [found, is_new] = known.try_emplace(pending.all[i]);
    if (is_new) {
      std::vector<Part> parts;
      for (const std::int64_t part : pending.all[i]) {
        parts.emplace_back(pending.places.at(part), part);
      }
      std::sort(parts.begin(), parts.end());
      found->second = stated(parts, 0);
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
