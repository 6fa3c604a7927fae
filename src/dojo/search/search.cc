#include "dojo/search/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>

#include "dojo/base/text.h"
#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/system/losses.h"
#include "dojo/system/timeline.h"

namespace dojo::search {
namespace {

using machine::MachineModel;
using Clock = std::chrono::steady_clock;

Flops matrix_flops(const graph::Graph& graph) {
  Flops sum{};
  for (const graph::Op& op : graph.ops) {
    if (op.info->group == graph::OpGroup::Matrix) {
      sum += graph::flops(graph::nest_of(graph, op));
    }
  }
  return sum;
}

// The matrix work on the logical nodes of the replicas that have samples, at peak; of a pipeline
// with the time in which it fills and drains, were its stages equal.
Picoseconds bound_of(Flops flops, const place::Choice& choice, std::int64_t replicas,
                     const MachineModel& machine) {
  const double nodes =
      static_cast<double>(replicas * choice.stages * choice.dies.count() * machine.logical.count());
  const double peak = machine.peak_matrix().value() / static_cast<double>(machine.live_nodes());
  const auto turns = static_cast<double>(choice.micro_batches);
  const double filling = (turns + static_cast<double>(choice.stages) - 1) / turns;
  const double seconds = static_cast<double>(flops.count()) / (peak * nodes) * filling;
  return Picoseconds{static_cast<std::int64_t>(seconds * 1e12)};
}

std::int64_t replicas_of(const graph::Graph& graph, const place::Choice& choice) {
  const std::int64_t batch = place::batch_of(graph);
  return (batch + choice.block - 1) / choice.block;
}

bool dominates(const Candidate& a, const Candidate& b) {
  const bool is_no_worse =
      a.step <= b.step && a.energy <= b.energy && a.sram_peak_per_node <= b.sram_peak_per_node;
  const bool is_better =
      a.step < b.step || a.energy < b.energy || a.sram_peak_per_node < b.sram_peak_per_node;
  return is_no_worse && is_better;
}

// Quicker; of equally quick ones that with less energy, then with less memory.
bool is_better(const Candidate& a, const Candidate& b) {
  return std::tie(a.step, a.energy, a.sram_peak_per_node) <
         std::tie(b.step, b.energy, b.sram_peak_per_node);
}

void mark_front(std::vector<Candidate>& candidates) {
  for (Candidate& one : candidates) {
    one.is_on_front =
        one.outcome == Outcome::Placed &&
        std::none_of(candidates.begin(), candidates.end(), [&](const Candidate& other) {
          return other.outcome == Outcome::Placed && dominates(other, one);
        });
  }
}

// Of a kind of op that takes less of the step than one in so many, nothing is tried.
constexpr std::int64_t kLeastShare = 500;
// Sketches of one kind of op that are placed, the most promising first.
constexpr std::size_t kPlacedOfAKind = 3;
// Replicas that fit and are placed before splits are searched.
constexpr std::ptrdiff_t kReplicasFirst = 8;

// Replicas whose node rows are dealt to free groups, too, those with the quickest sketches.
constexpr std::size_t kReplicasGrouped = 2;
// Pipelines that are placed of those with the quickest sketches.
constexpr std::size_t kPipelinesPlaced = 6;
// Numbers of groups of one of those, and of each way to make room, that are looked at.
constexpr std::size_t kGroupsOfAWay = 2;

class Searcher {
 public:
  Searcher(const graph::Graph& lowered, const MachineModel& machine, const SearchOptions& options)
      : graph_(lowered), machine_(machine), options_(options), flops_(matrix_flops(lowered)) {}

  Search run() {
    look_at_rules();
    if (options_.asked.stages == 1) {
      sketch_replicas();
      look_at_replicas(kReplicasFirst);
    }
    look_at_pipelines();
    if (out_.best.has_value() && best().choice.micro_batches > 1) {
      vary_micro_batches();  // of several there is a better number more often than not
    }
    search_splits();
    look_at_replicas(std::ssize(replicas_));
    search_splits();  // of another replica, if one of the rest is the best now
    vary_micro_batches();
    widen_panels();
    mark_front(out_.candidates);
    return std::move(out_);
  }

 private:
  const Candidate& best() const { return out_.candidates[*out_.best]; }

  // Time and a stop wait for something that fits.
  bool is_out_of_time() const {
    const bool is_late =
        options_.most_time.has_value() && Clock::now() - begin_ > *options_.most_time;
    const bool is_stopped = options_.stop != nullptr && options_.stop->load();
    return out_.best.has_value() && (is_late || is_stopped);
  }

  bool is_over() {
    const bool is_full =
        options_.most_candidates > 0 && std::ssize(out_.candidates) >= options_.most_candidates;
    out_.was_cut = out_.was_cut || is_out_of_time() || is_full;
    return out_.was_cut;
  }

  // What does not fit otherwise than in turns is most likely quicker as a pipeline, and the rules
  // look long for the number of turns: pipelines first.
  void look_at_rules() {
    place::Asked asked = options_.asked;
    if (asked.stages == 1 && !asked.micro_batches.has_value()) {
      asked.micro_batches = 1;
    }
    if (take_ruled(asked)) {
      return;
    }
    look_at_pipelines();
    if (!is_over() && asked.micro_batches != options_.asked.micro_batches) {
      take_ruled(options_.asked);
    }
  }

  bool take_ruled(const place::Asked& asked) {
    Result<place::RuledStep> ruled = place::place_by_rule(graph_, machine_, asked);
    if (ruled.has_value()) {
      ++out_.known;
      micro_batches_ = ruled->choice.micro_batches;
      take(ruled->choice, std::move(ruled->step));
    }
    return ruled.has_value();
  }

  // All replicas, those with the quickest sketches first; then those without one.
  void sketch_replicas() {
    replicas_ = place::choices(graph_, machine_);
    for (place::Choice& choice : replicas_) {
      choice.micro_batches = std::min(choice.block, micro_batches_);
    }
    out_.known += std::ssize(replicas_);
    if (is_over()) {
      return;  // none will be looked at
    }
    sketches_ = sketch(replicas_);
    sort_replicas();
    std::vector<place::Choice> bases;
    if (out_.best.has_value()) {
      bases.push_back(best().choice);
      bases.back().panels = Bytes(0);
    }
    for (std::size_t i = 0; i < std::min(kReplicasGrouped, replicas_.size()); ++i) {
      const auto is_same = [&](const place::Choice& base) {
        return base.dies == replicas_[i].dies && base.block == replicas_[i].block;
      };
      if (sketches_[i].has_value() && std::none_of(bases.begin(), bases.end(), is_same)) {
        bases.push_back(replicas_[i]);
      }
    }
    for (const place::Choice& base : bases) {
      for (const place::Choice& choice : ways_of(base)) {
        add_groups(choice);
      }
    }
    sort_replicas();
  }

  // The most promising ones by their sketches, as far as those are quicker than the best.
  void look_at_pipelines() {
    if (std::exchange(has_looked_at_pipelines_, true)) {
      return;
    }
    const std::int64_t asked = options_.asked.stages;
    std::vector<place::Choice> choices =
        place::pipelines(graph_, machine_, asked > 1 ? std::optional(asked) : std::nullopt);
    if (options_.asked.micro_batches.has_value()) {
      for (place::Choice& choice : choices) {
        choice.micro_batches = std::min(choice.block, *options_.asked.micro_batches);
      }
    }
    if (choices.empty() || is_over()) {
      return;
    }
    const std::vector<std::optional<Picoseconds>> times = sketch(choices);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      if (times[i].has_value() && (!out_.best.has_value() || *times[i] < best().step)) {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return *times[a] < *times[b]; });
    std::size_t placed = 0;
    for (std::size_t i = 0; i < order.size() && placed < kPipelinesPlaced && !is_over(); ++i) {
      ++out_.known;
      look_at(choices[order[i]], times[order[i]]);
      placed += out_.candidates.back().outcome == Outcome::Placed ? 1 : 0;
    }
  }

  // The same nodes with more room on each: weights in even shares, states in DRAM.
  std::vector<place::Choice> ways_of(const place::Choice& choice) const {
    std::vector<place::Choice> ways{choice};
    if (!choice.has_even_weights) {
      ways.push_back(choice);
      ways.back().has_even_weights = true;
    }
    if (!choice.streams_states && place::has_dram_for_states(graph_, machine_, choice)) {
      ways.push_back(choice);
      ways.back().streams_states = true;
    }
    return ways;
  }

  // The most promising numbers of free groups.
  void add_groups(const place::Choice& choice) {
    const std::vector<place::Choice> grouped = place::with_free_groups(machine_, choice);
    const std::vector<std::optional<Picoseconds>> times = sketch(grouped);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < grouped.size(); ++i) {
      if (times[i].has_value()) {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return *times[a] < *times[b]; });
    for (std::size_t i = 0; i < std::min(order.size(), kGroupsOfAWay); ++i) {
      ++out_.known;
      replicas_.push_back(grouped[order[i]]);
      sketches_.push_back(times[order[i]]);
    }
  }

  // The quickest sketch first; then those without one.
  void sort_replicas() {
    std::vector<std::size_t> order(replicas_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return sketches_[a].has_value() &&
             (!sketches_[b].has_value() || *sketches_[a] < *sketches_[b]);
    });
    std::vector<place::Choice> replicas;
    std::vector<std::optional<Picoseconds>> sketches;
    for (const std::size_t i : order) {
      replicas.push_back(replicas_[i]);
      sketches.push_back(sketches_[i]);
    }
    replicas_ = std::move(replicas);
    sketches_ = std::move(sketches);
  }

  // The next ones, up to so many of all that fit.
  void look_at_replicas(std::ptrdiff_t most) {
    for (; next_replica_ < replicas_.size() && fitting_ < most; ++next_replica_) {
      if (is_over()) {
        return;
      }
      const place::Choice& choice = replicas_[next_replica_];
      const Picoseconds bound = bound_of(flops_, choice, replicas_of(graph_, choice), machine_);
      if (out_.best.has_value() && bound > best().step) {
        out_.candidates.push_back({.choice = choice,
                                   .outcome = Outcome::PassedOver,
                                   .why = "its matrix work alone takes longer than the best step"});
        continue;
      }
      look_at(choice, sketches_[next_replica_]);
      fitting_ += out_.candidates.back().outcome == Outcome::Placed ? 1 : 0;
    }
  }

  // True if it is the best so far.
  bool look_at(const place::Choice& choice, std::optional<Picoseconds> sketched = {}) {
    Result<place::PlacedStep> placed = place::place_as(graph_, machine_, choice);
    if (!placed.has_value()) {
      out_.candidates.push_back(
          {.choice = choice, .outcome = Outcome::DoesNotFit, .why = placed.error().message});
      return false;
    }
    return take(choice, *std::move(placed), sketched);
  }

  bool take(const place::Choice& choice, place::PlacedStep placed,
            std::optional<Picoseconds> sketched = {}) {
    const program::Program& program = placed.program;
    system::Timeline timeline = system::time_program(program, machine_);
    const system::Bounds bounds = system::bounds_of(program, machine_);
    Candidate candidate{.choice = choice,
                        .replicas = program.replicas.count,
                        .step = timeline.step,
                        .sketched = sketched,
                        .lower = bounds.lower,
                        .serial = bounds.serial,
                        .sram_peak_per_node = program.sram_peak()};
    candidate.energy =
        system::energy_of(system::events_of(program, machine_), timeline.step, machine_).total();
    const bool is_best = !out_.best.has_value() || is_better(candidate, best());
    out_.candidates.push_back(std::move(candidate));
    if (is_best) {
      out_.best = out_.candidates.size() - 1;
      out_.placed = std::move(placed);
      timeline_ = std::move(timeline);
    }
    return is_best;
  }

  // --- splits ---
  // Round after round, as long as one gains; nothing if the best has been searched already.
  void search_splits() {
    if (!out_.best.has_value() || out_.best == searched_ || is_over()) {
      return;
    }
    kinds_ = place::op_kinds(graph_);
    while (improve_splits(Moves::Near) || improve_splits(Moves::All)) {
    }
    searched_ = out_.best;
  }

  // With free groups: either another loop over groups, or others over rows and columns; then all.
  enum class Moves : std::uint8_t { Near, All };
  static bool is_near(const place::Deal& a, const place::Deal& b) {
    return a.group_loop == b.group_loop ||
           (a.row_loop == b.row_loop && a.column_loop == b.column_loop);
  }

  // One round over the kinds of ops. True if the step got quicker and there is time left.
  bool improve_splits(Moves moves) {
    if (is_over() || (moves == Moves::All && best().choice.free_groups == 1)) {
      return false;  // without free groups all are near
    }
    const Picoseconds before = best().step;
    sketched_ = *step_of_sketch(best().choice);  // which fits
    for (const int kind : costly_kinds()) {
      if (is_over()) {
        return false;
      }
      improve(kind, moves);
    }
    return best().step < before;
  }

  // Those that take most of the best step first.
  std::vector<int> costly_kinds() const {
    const program::Program& program = out_.placed->program;
    const std::vector<Picoseconds> exposed = system::exposed_times(timeline_);
    const std::vector<std::size_t> payer = system::payers(program);
    std::vector<Picoseconds> cost(kinds_.size());  // by kind; there are no more than ops
    for (std::size_t i = 0; i < payer.size(); ++i) {
      const auto* compute = std::get_if<program::Compute>(&program.phases[payer[i]].body);
      if (compute != nullptr && !compute->ops.empty()) {
        Picoseconds& of_kind = cost[static_cast<std::size_t>(kinds_[compute->ops.front().index])];
        of_kind += exposed[i] * program.runs(i);
      }
    }
    std::vector<int> order;
    for (std::size_t kind = 0; kind < cost.size(); ++kind) {
      if (cost[kind] * kLeastShare > best().step) {
        order.push_back(static_cast<int>(kind));
      }
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return cost[static_cast<std::size_t>(a)] > cost[static_cast<std::size_t>(b)];
    });
    return order;
  }

  void improve(int kind, Moves moves) {
    const place::Choice base = best().choice;
    std::vector<place::Choice> choices;
    const place::Deals deals = place::deals_of(graph_, machine_, base, kind);
    for (const place::Deal& deal : deals.all) {
      if (moves == Moves::All || is_near(deals.now, deal)) {
        choices.push_back(with_deal(base, deal));
      }
    }
    const std::vector<std::optional<Picoseconds>> times = sketch(choices);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < times.size(); ++i) {
      if (times[i].has_value() && *times[i] < sketched_) {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return *times[a] < *times[b]; });
    for (std::size_t i = 0; i < std::min(order.size(), kPlacedOfAKind); ++i) {
      if (is_over()) {
        return;
      }
      ++out_.known;
      if (look_at(choices[order[i]], times[order[i]])) {
        sketched_ = *times[order[i]];
        return;
      }
    }
  }

  static place::Choice with_deal(place::Choice choice, const place::Deal& deal) {
    const auto at = std::lower_bound(
        choice.deals.begin(), choice.deals.end(), deal,
        [](const place::Deal& a, const place::Deal& b) { return a.kind < b.kind; });
    if (at != choice.deals.end() && at->kind == deal.kind) {
      *at = deal;
    } else {
      choice.deals.insert(at, deal);
    }
    return choice;
  }

  // nullopt: not even its states fit.
  std::optional<Picoseconds> step_of_sketch(const place::Choice& choice) const {
    const Result<program::Program> sketch = place::sketch_as(graph_, machine_, choice);
    return sketch.has_value() ? std::optional(system::time_program(*sketch, machine_).step)
                              : std::nullopt;
  }

  std::vector<std::optional<Picoseconds>> sketch(const std::vector<place::Choice>& choices) {
    std::vector<std::optional<Picoseconds>> times(choices.size());
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t i = next++; i < choices.size() && !is_out_of_time(); i = next++) {
        times[i] = step_of_sketch(choices[i]);
      }
    };
    std::vector<std::jthread> others(std::max(1U, std::thread::hardware_concurrency()) - 1);
    for (std::jthread& one : others) {
      one = std::jthread(work);
    }
    work();
    others.clear();
    out_.sketches += std::ssize(choices);
    return times;
  }

  // Half as many as the best has, then twice as many, as long as that gains.
  void vary_micro_batches() {
    for (const bool halves : {true, false}) {
      bool gains = !options_.asked.micro_batches.has_value();
      while (gains && out_.best.has_value() && !is_over()) {
        place::Choice choice = best().choice;
        const std::int64_t count = choice.micro_batches;
        choice.micro_batches = halves ? count / 2 : std::min(2 * count, choice.block);
        choice.panels = Bytes(0);
        if (choice.micro_batches == count || choice.micro_batches == 0) {
          break;
        }
        ++out_.known;
        gains = look_at(choice);
      }
    }
  }

  // What the splits leave free may hold wider panels.
  void widen_panels() {
    if (!out_.best.has_value() || is_over()) {
      return;
    }
    place::Choice choice = best().choice;
    if (choice.panels > Bytes(0) && !choice.deals.empty()) {
      choice.panels = Bytes(0);
      ++out_.known;
      look_at(choice);
    }
  }

  const graph::Graph& graph_;
  const MachineModel& machine_;
  const SearchOptions& options_;
  Flops flops_;
  Clock::time_point begin_ = Clock::now();
  Search out_;
  system::Timeline timeline_;                         // of the best
  std::vector<place::Choice> replicas_;               // in the order in which they are looked at
  std::vector<std::optional<Picoseconds>> sketches_;  // of these
  std::int64_t micro_batches_ = 1;                    // of the rules' choice
  bool has_looked_at_pipelines_ = false;
  std::size_t next_replica_ = 0;
  std::ptrdiff_t fitting_ = 0;             // replicas that fit
  std::vector<int> kinds_;                 // by op
  std::optional<std::size_t> searched_{};  // the candidate whose splits have been searched
  Picoseconds sketched_{};                 // the best, as if nodes had room for all
};

}  // namespace

Result<Search> search(const graph::Graph& lowered, const machine::Description& machine,
                      const SearchOptions& options) {
  if (!lowered.is_lowered()) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("graph {} is not lowered", quoted(lowered.name))};
  }
  const MachineModel model = machine::resolve(machine);
  return Searcher(lowered, model, options).run();
}

}  // namespace dojo::search
