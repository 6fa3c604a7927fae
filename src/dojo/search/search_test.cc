#include "dojo/search/search.h"

#include <gtest/gtest.h>

#include "dojo/graph/lower.h"
#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/system/timeline.h"

namespace dojo::search {
namespace {

machine::Description tile() { return *machine::load_description("training-tile"); }

graph::Graph step(const std::string& name = "golden/place/mlp") {
  const auto graph = graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/" + name + ".graph");
  EXPECT_TRUE(graph.has_value()) << graph.error().to_string();
  return *graph::lower(*graph, *graph::recipe_named("cfloat8"), "training-tile");
}

Search searched(const SearchOptions& options = {}) { return *search(step(), tile(), options); }

TEST(Search, FindsTheQuickestOfAllChoices) {
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
  EXPECT_EQ(found.candidates[*found.best].step, *quickest);
  EXPECT_EQ(std::ssize(found.candidates), found.known);
  EXPECT_FALSE(found.was_cut);
}

TEST(Search, IsNeverSlowerThanTheRules) {
  const machine::MachineModel machine = machine::resolve(tile());
  for (const char* name : {"golden/place/mlp", "golden/place/cnn", "golden/place/gpt"}) {
    graph::Graph graph = step(name);
    const Search found = *search(graph, tile(), {});
    ASSERT_TRUE(place::cut_reductions(graph, machine).has_value()) << name;
    const program::Program by_rule = *place::place(graph, machine);
    EXPECT_LE(found.candidates[*found.best].step, system::time_program(by_rule, machine).step)
        << name;
  }
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
  const Search found = *search(step("golden/place/gpt"), small, {});
  ASSERT_FALSE(found.candidates.empty());
  EXPECT_EQ(found.candidates.front().outcome, Outcome::DoesNotFit);
  EXPECT_NE(found.candidates.front().why.find("fit"), std::string::npos);
}

TEST(Search, NeedsALoweredGraph) {
  graph::Graph captured = step();
  captured.lowering.reset();
  EXPECT_FALSE(search(captured, tile(), {}).has_value());
}

}  // namespace
}  // namespace dojo::search
