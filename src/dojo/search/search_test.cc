#include "dojo/search/search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "dojo/graph/lower.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/program/program_text.h"
#include "dojo/system/timeline.h"

namespace dojo::search {
namespace {

machine::Description tile() { return *machine::load_description("training-tile"); }

graph::Graph step(const std::string& name = "golden/place/mlp") {
  const auto graph = graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/" + name + ".graph");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *graph::lower(*graph, *graph::recipe_named("cfloat8"), "training-tile");
}

// The rules' choice and all replicas, without splits; of the best two numbers of free groups in
// each of three ways (as it is, with even weights, with states in DRAM).
Search searched(SearchOptions options = {}) {
  const graph::Graph graph = step();
  const machine::MachineModel machine = machine::resolve(tile());
  if (options.most_candidates == 0) {
    options.most_candidates = std::ssize(place::choices(graph, machine)) + 1 + 2 * 3;
  }
  return *search(graph, tile(), options);
}

TEST(Search, FindsTheQuickestOfAllReplicas) {
  const machine::MachineModel machine = machine::resolve(tile());
  const graph::Graph graph = step();
  std::optional<Picoseconds> quickest;
  for (const place::Choice& choice : place::choices(graph, machine)) {
    const auto placed = place::place_as(graph, machine, choice);
    if (placed.has_value()) {
      const Picoseconds time = system::time_program(placed->program, machine).step;
      quickest = std::min(quickest.value_or(time), time);
    }
  }
  const Search found = searched();
  ASSERT_TRUE(found.best.has_value());
  int grouped = 0;
  for (const Candidate& one : found.candidates) {
    if (one.choice.free_groups > 1 && one.outcome == Outcome::Placed) {
      ++grouped;
      const auto placed = place::place_as(graph, machine, one.choice);
      quickest = std::min(*quickest, system::time_program(placed->program, machine).step);
    }
  }
  EXPECT_GT(grouped, 0);
  EXPECT_EQ(found.candidates[*found.best].step, *quickest);
  EXPECT_EQ(std::ssize(found.candidates), found.known);
}

TEST(Search, BeginsWithWhatTheRulesChoose) {
  const machine::MachineModel machine = machine::resolve(tile());
  for (const char* name : {"golden/place/mlp", "golden/place/cnn", "golden/place/gpt"}) {
    graph::Graph graph = step(name);
    const Search found = *search(graph, tile(), {.most_candidates = 1});
    ASSERT_TRUE(place::cut_reductions(graph, machine).has_value()) << name;
    const program::Program by_rule = *place::place(graph, machine);
    EXPECT_EQ(program::print_program(found.placed->program), program::print_program(by_rule))
        << name;
    EXPECT_EQ(found.candidates.front().step, system::time_program(by_rule, machine).step) << name;
  }
}

// --- pipelines ---
TEST(Search, LooksAtPipelines) {
  const machine::MachineModel machine = machine::resolve(tile());
  const graph::Graph graph = step("golden/place/without_norm");
  const std::vector<place::Choice> choices = place::pipelines(graph, machine);
  ASSERT_FALSE(choices.empty());
  std::optional<Picoseconds> quickest;
  for (const place::Choice& choice : choices) {
    EXPECT_GT(choice.stages, 1);
    EXPECT_LE(choice.stages * choice.dies.count(), machine.dies().count());
    if (const auto placed = place::place_as(graph, machine, choice); placed.has_value()) {
      EXPECT_EQ(placed->program.stages.size(), static_cast<std::size_t>(choice.stages));
      const Picoseconds time = system::time_program(placed->program, machine).step;
      quickest = std::min(quickest.value_or(time), time);
    }
  }
  const Search found = *search(graph, tile(), {.asked = {.stages = 2}, .most_candidates = 12});
  ASSERT_TRUE(found.best.has_value());
  for (const Candidate& one : found.candidates) {
    EXPECT_EQ(one.choice.stages, 2);
  }
  EXPECT_EQ(found.candidates[*found.best].step,
            system::time_program(found.placed->program, machine).step);
  // Of all the search is at least as quick as the quickest pipeline.
  const Search whole = *search(graph, tile(), {.most_candidates = 60});
  ASSERT_TRUE(quickest.has_value());
  EXPECT_LE(whole.candidates[*whole.best].step, *quickest);
}

TEST(Search, SaysWhyNoPipelineOfSoManyStagesFits) {
  const graph::Graph graph = step("golden/place/without_norm");
  const Search found = *search(graph, tile(), {.asked = {.stages = 23}});
  EXPECT_FALSE(found.best.has_value());
}

// --- splits ---
machine::Description die() { return *machine::load_description("d1"); }

graph::Graph lowered(const std::string& text) {
  const auto graph = graph::parse_graph(text, "test");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *graph::lower(*graph, *graph::recipe_named("cfloat8"), "d1");
}

// Few samples and large weights: the rules, which gather weights, are far from the best.
graph::Graph chain() {
  return lowered(
      "graph \"chain\" {\n"
      "  %x = input f32[32,2048] \"x\"\n"
      "  %a = weight f32[2048,1024] \"a.weight\"\n"
      "  %b = weight f32[1024,4096] \"b.weight\"\n"
      "  %h = aten.mm(%x, %a) : f32[32,1024] @\"a\" fwd\n"
      "  %y = aten.mm(%h, %b) : f32[32,4096] @\"b\" fwd\n"
      "  output %y \"y\"\n}\n");
}

TEST(SearchOfSplits, FindsTheBestOfAllPairsOfAChain) {
  const machine::MachineModel machine = machine::resolve(die());
  const graph::Graph graph = chain();
  const Search found = *search(graph, die(), {});
  ASSERT_TRUE(found.best.has_value());
  place::Choice base = found.candidates[*found.best].choice;
  base.deals.clear();
  base.panels = Bytes(0);
  std::vector<int> products;
  const std::vector<int> kinds = place::op_kinds(graph);
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    if (graph.ops[i].info->name == "aten.mm") {
      products.push_back(kinds[i]);
    }
  }
  ASSERT_EQ(products.size(), 2u);
  Picoseconds best = found.candidates.front().step;
  for (const place::Deal& first : place::deals_of(graph, machine, base, products[0]).all) {
    for (const place::Deal& second : place::deals_of(graph, machine, base, products[1]).all) {
      place::Choice choice = base;
      choice.deals = {first, second};
      const auto placed = place::place_as(graph, machine, choice);
      if (placed.has_value()) {
        best = std::min(best, system::time_program(placed->program, machine).step);
      }
    }
  }
  EXPECT_EQ(found.candidates[*found.best].step, best);
  EXPECT_LT(best * 10, found.candidates.front().step * 9);  // than the rules' own
}

TEST(SearchOfSplits, KeepsWhatIsQuickerAndWritesWhatItTimed) {
  const machine::MachineModel machine = machine::resolve(die());
  const graph::Graph graph = step("golden/place/gpt");
  const std::int64_t replicas = std::ssize(place::choices(graph, machine)) + 2 * 3;
  const Search found = *search(graph, die(), {.most_candidates = replicas + 3});
  ASSERT_TRUE(found.best.has_value());
  const Candidate& best = found.candidates[*found.best];
  EXPECT_FALSE(best.choice.deals.empty());
  EXPECT_GT(found.sketches, 20);
  Picoseconds so_far = found.candidates.front().step;
  std::size_t splits = 0;  // of the best so far
  for (const Candidate& one : found.candidates) {
    if (one.outcome == Outcome::Placed && one.step < so_far) {
      so_far = one.step;
      EXPECT_GE(one.choice.deals.size(), splits);  // none is taken back
      splits = one.choice.deals.size();
    }
  }
  EXPECT_EQ(so_far, best.step);
  const auto verified = program::verify_program(found.placed->program, machine);
  EXPECT_TRUE(verified.has_value()) << verified.error().to_string();
  EXPECT_EQ(system::time_program(found.placed->program, machine).step, best.step);
  const auto again = place::place_as(graph, machine, best.choice);
  EXPECT_EQ(program::print_program(again->program), program::print_program(found.placed->program));
  EXPECT_EQ(again->program.graph_sha256, graph::graph_sha256(found.placed->graph));
}

TEST(SearchOfSplits, IsTheSameEveryTime) {
  const graph::Graph graph = chain();
  const Search once = *search(graph, die(), {});
  const Search again = *search(graph, die(), {});
  ASSERT_EQ(once.candidates.size(), again.candidates.size());
  for (std::size_t i = 0; i < once.candidates.size(); ++i) {
    EXPECT_EQ(once.candidates[i].choice, again.candidates[i].choice);
    EXPECT_EQ(once.candidates[i].step, again.candidates[i].step);
  }
}

TEST(SearchOfSplits, SaysHowWellSketchesForetold) {
  std::vector<Candidate> candidates(4);
  EXPECT_FALSE(foresight(candidates).has_value());  // none was sketched
  const std::int64_t sketched[] = {100, 200, 300, 300};
  const std::int64_t timed[] = {110, 210, 390, 330};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    candidates[i].sketched = Picoseconds(sketched[i]);
    candidates[i].step = Picoseconds(timed[i]);
  }
  const Foresight how = *foresight(candidates);
  EXPECT_NEAR(how.least_ratio, 1.05, 1e-12);
  EXPECT_NEAR(how.largest_ratio, 1.3, 1e-12);
  EXPECT_NEAR(how.rank_correlation, 4.5 / std::sqrt(4.5 * 5), 1e-12);  // ranks 1 2 3.5 3.5; 1 2 4 3
}

TEST(Search, MarksWhatNothingElseBeatsInTimeEnergyAndMemory) {
  const Search found = searched();
  for (const Candidate& one : found.candidates) {
    bool is_beaten = one.outcome != Outcome::Placed;
    for (const Candidate& other : found.candidates) {
      is_beaten = is_beaten ||
                  (other.outcome == Outcome::Placed && other.step < one.step &&
                   other.energy < one.energy && other.sram_peak_per_node < one.sram_peak_per_node);
    }
    EXPECT_FALSE(one.is_on_front && is_beaten);
  }
  EXPECT_TRUE(found.candidates[*found.best].is_on_front);
}

TEST(Search, StaysWithinItsBounds) {
  for (const Candidate& one : searched().candidates) {
    if (one.outcome == Outcome::Placed) {
      EXPECT_LE(one.lower, one.step);
      EXPECT_LE(one.step, one.serial);
      EXPECT_GT(one.energy, Joules{});
    }
  }
}

TEST(Search, OfTheFirstFewIsThatOfAllCutShort) {
  const Search all = searched();
  const Search few = searched({.most_candidates = 3});
  ASSERT_EQ(few.candidates.size(), 3u);
  EXPECT_TRUE(few.was_cut);
  for (std::size_t i = 0; i < few.candidates.size(); ++i) {
    EXPECT_EQ(few.candidates[i].choice, all.candidates[i].choice);
    EXPECT_EQ(few.candidates[i].step, all.candidates[i].step);
  }
}

TEST(Search, KeepsTheBestSoFarWhenStopped) {
  const std::atomic<bool> stop{true};
  for (const SearchOptions& options :
       {SearchOptions{.stop = &stop},
        SearchOptions{.most_time = std::chrono::duration<double>(0)}}) {
    const Search one = searched(options);
    EXPECT_TRUE(one.was_cut);
    EXPECT_EQ(one.candidates.size(), 1u);
    EXPECT_TRUE(one.best.has_value());
  }
}

TEST(Search, SaysWhatDoesNotFit) {
  machine::Description small = *machine::with_fact(tile(), "node.buffers", "8 KB");
  small = *machine::with_fact(small, "node.sram", "0.1 MB");
  const Search found = *search(step("golden/place/gpt"), small, {.most_candidates = 4});
  const auto refused =
      std::find_if(found.candidates.begin(), found.candidates.end(),
                   [](const auto& one) { return one.outcome == Outcome::DoesNotFit; });
  ASSERT_NE(refused, found.candidates.end());
  EXPECT_NE(refused->why.find("fit"), std::string::npos);
}

TEST(Search, NeedsALoweredGraph) {
  graph::Graph captured = step();
  captured.lowering.reset();
  EXPECT_FALSE(search(captured, tile(), {}).has_value());
}

}  // namespace
}  // namespace dojo::search
