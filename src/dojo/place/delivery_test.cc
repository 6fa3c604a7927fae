// Whether every element that a node reads was made there or sent there (delivery.h): small steps on
// small machines with holes, of one to three levels.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "dojo/graph/recipe.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/place/internal/delivery.h"
#include "dojo/place/internal/delivery_testing.h"
#include "dojo/place/lower_for_machine.h"
#include "dojo/place/place.h"
#include "dojo/program/program.h"

namespace dojo::place {
namespace {

using internal::Delivery;
using internal::Plan;
using program::Program;
using testing::Facts;
using testing::Placed;
using testing::with_facts;

// nullopt: it does not fit.
std::optional<Placed> placed(const std::string& file, const std::string& recipe,
                             const machine::MachineModel& machine) {
  const auto captured = graph::load_graph(std::string(DOJO_SOURCE_DIR) + "/tests/" + file);
  EXPECT_TRUE(captured.has_value()) << captured.error().to_string();
  const auto lowered = lower_for_machine(*captured, *graph::recipe_named(recipe), machine);
  if (!lowered.has_value()) {
    EXPECT_EQ(lowered.error().kind, ErrorKind::DoesNotFit) << lowered.error().to_string();
    return std::nullopt;
  }
  return Placed{*lowered, *internal::plan_step(*lowered, machine), *place(*lowered, machine),
                machine};
}

constexpr const char* kSteps[] = {"golden/run/small_step.graph", "conformance/small_cnn.graph",
                                  "conformance/small_transformer.graph"};
constexpr const char* kRecipes[] = {"fp32", "bf16", "cfloat8", "cfloat8_shp", "cfloat8_no_master"};

// A die of up to 6 x 7 sites with up to two dead ones, alone or 25 on a tile, with little SRAM or
// enough.
struct Drawn {
  std::string text;
  machine::MachineModel machine;
};

// `memory`: facts of the node, instead.
Drawn draw(std::mt19937& random, const Facts& memory = {}) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  const int rows = pick(2, 6);
  const int columns = pick(2, 7);
  std::string dead;
  for (int hole = pick(0, rows > 2 && columns > 2 ? 2 : 0); hole > 0; --hole) {
    const std::string site = fmt::format("{},{}", pick(0, rows - 1), pick(0, columns - 1));
    dead += dead.find(site) == std::string::npos ? " " + site : "";
  }
  // The dead sites of the shipped die need its size, so they go first.
  Facts facts{{"mesh.die.dead", dead.empty() ? "[]" : dead.substr(1)},
              {"mesh.die.size", fmt::format("{}x{}", rows, columns)},
              {"node.sram", pick(0, 2) == 0 ? "0.36 MB" : "1.25 MB"}};
  if (!memory.empty()) {
    facts.pop_back();
    facts.insert(facts.end(), memory.begin(), memory.end());
  }
  const char* const name = pick(0, 2) == 0 ? "training-tile" : "d1";
  return {fmt::format("{} of {}x{} sites, dead:{}, {}", name, rows, columns, dead, facts[2].second),
          with_facts(name, facts)};
}

class Delivered : public ::testing::TestWithParam<const char*> {};

TEST_P(Delivered, EveryElementThatANodeReadsItMadeOrWasSent) {
  std::mt19937 random(1);
  int done = 0;
  for (int trial = 0; trial < 8; ++trial) {
    const Drawn drawn = draw(random);
    const char* const recipe = kRecipes[trial % 5];
    const auto step = placed(GetParam(), recipe, drawn.machine);
    if (!step.has_value()) {
      continue;
    }
    Delivery delivery(step->graph, step->plan, step->program, step->machine);
    for (const std::string& breach : delivery.run(3)) {
      ADD_FAILURE() << drawn.text << ", " << recipe << ": " << breach;
    }
    EXPECT_GT(delivery.elements_checked(), 1000);
    EXPECT_GT(delivery.sizes_checked(), 100);
    ++done;
  }
  EXPECT_GE(done, 5);
}

// Nodes so small that ops are split for room and take what they read in pieces.
TEST_P(Delivered, AlsoWhereNodesHaveLittleRoom) {
  std::mt19937 random(3);
  int done = 0;
  int otherwise = 0;  // ops that are split otherwise than with room
  int pieces = 0;     // transfers in pieces
  int dealt = 0;      // operands dealt out by lines and gathered across them
  for (int trial = 0; trial < 3; ++trial) {
    const Drawn drawn =
        draw(random, {{"node.code", "0 KB"}, {"node.buffers", "1 KB"}, {"node.sram", "24 KB"}});
    const auto step = placed(GetParam(), kRecipes[trial % 5], drawn.machine);
    if (!step.has_value()) {
      continue;
    }
    Delivery delivery(step->graph, step->plan, step->program, step->machine);
    for (const std::string& breach : delivery.run(3)) {
      ADD_FAILURE() << drawn.text << ", " << kRecipes[trial % 5] << ": " << breach;
    }
    internal::Mesh roomy = step->plan.mesh;
    roomy.room = Bytes(1'000'000);
    const internal::LayoutPlan layouts = internal::plan_layouts(step->graph, roomy);
    for (std::size_t i = 0; i < layouts.ops.size(); ++i) {
      otherwise += layouts.ops[i].split.split() != step->plan.layouts.ops[i].split.split() ? 1 : 0;
    }
    for (const program::Phase& phase : step->program.phases) {
      const auto* transfer = std::get_if<program::Transfer>(&phase.body);
      pieces += transfer != nullptr && transfer->panels > 1 ? 1 : 0;
      for (std::size_t i = 1; transfer != nullptr && i < transfer->moves.size(); ++i) {
        dealt += transfer->moves[i - 1].pattern.kind == machine::PatternKind::AllToAll &&
                         transfer->moves[i].pattern.kind == machine::PatternKind::AllGather
                     ? 1
                     : 0;
      }
    }
    ++done;
  }
  EXPECT_GE(done, 1);
  EXPECT_TRUE(otherwise > 0 || std::string(GetParam()).find("step") != std::string::npos);
  EXPECT_GT(pieces, 0);
  EXPECT_TRUE(dealt > 0 || std::string(GetParam()).find("transformer") == std::string::npos);
}

// The step with every other kind of op split as chance has it, over groups of samples, free groups
// or none, in micro-batches or not; nullopt: it does not fit, or is not to be cut so.
std::optional<Placed> with_random_splits(const std::string& file, const std::string& recipe,
                                         const machine::MachineModel& machine,
                                         std::mt19937& random) {
  const auto ruled = placed(file, recipe, machine);
  if (!ruled.has_value()) {
    return std::nullopt;
  }
  Choice choice = place_by_rule(ruled->graph, machine)->choice;
  choice.panels = Bytes(0);
  choice.block <<= random() % 2;
  const std::vector<Choice> grouped = with_free_groups(machine, choice);
  const std::uint32_t groups = random() % 4;
  if (groups > 1 && !grouped.empty()) {
    choice = grouped[random() % grouped.size()];
  } else if (groups == 1) {
    choice.has_groups = true;
  }
  choice.micro_batches = 1 + random() % 2;
  const std::vector<int> kinds = op_kinds(ruled->graph);
  for (int kind = 0; kind <= *std::max_element(kinds.begin(), kinds.end()); ++kind) {
    const std::vector<Deal> deals = deals_of(ruled->graph, machine, choice, kind).all;
    const std::size_t drawn = random() % (2 * deals.size() + 1);
    if (drawn < deals.size()) {
      choice.deals.push_back(deals[drawn]);
    }
  }
  Result<PlacedStep> step = place_as(ruled->graph, machine, choice);
  if (!step.has_value()) {
    return std::nullopt;
  }
  Result<Plan> plan =
      internal::plan_on(step->graph, machine, *internal::mesh_for(choice, step->graph, machine));
  return Placed{std::move(step->graph), *std::move(plan), std::move(step->program), machine};
}

TEST_P(Delivered, AlsoWhateverASearchDeals) {
  std::mt19937 random(5);
  int done = 0;
  for (int trial = 0; trial < 5; ++trial) {
    const Drawn drawn = draw(random);
    const auto step = with_random_splits(GetParam(), kRecipes[trial % 5], drawn.machine, random);
    if (!step.has_value()) {
      continue;
    }
    const auto verified = program::verify_program(step->program, drawn.machine);
    EXPECT_TRUE(verified.has_value()) << verified.error().to_string();
    Delivery delivery(step->graph, step->plan, step->program, step->machine);
    for (const std::string& breach : delivery.run(3)) {
      ADD_FAILURE() << drawn.text << ", " << kRecipes[trial % 5] << ": " << breach;
    }
    ++done;
  }
  EXPECT_GE(done, 1);
}

// States that fit nowhere come from the interface processors for their update, and go back.
TEST(DeliveredFromMemory, StatesComeForTheirUpdateAndGoBack) {
  Facts facts{{"mesh.die.dead", "[]"},
              {"mesh.die.size", "2x2"},
              {"node.code", "0 KB"},
              {"node.buffers", "1 KB"},
              {"node.sram", "4 KB"}};
  const auto step =
      placed("golden/run/small_step.graph", "cfloat8", with_facts("system-tray", facts));
  ASSERT_TRUE(step.has_value());
  EXPECT_EQ(step->program.remedies[1].what, "hbm");
  Delivery delivery(step->graph, step->plan, step->program, step->machine);
  for (const std::string& breach : delivery.run(3)) {
    ADD_FAILURE() << breach;
  }
  Bytes states{};  // of all nodes
  for (std::size_t i = 0; i < step->graph.values.size(); ++i) {
    const graph::Value& value = step->graph.values[i];
    if (value.kind == graph::ValueKind::State && !value.shape.empty()) {
      states += program::slice_bytes(step->plan.layouts.held[i], value.shape, value.format) *
                step->plan.mesh.nodes();
    }
  }
  EXPECT_GT(states, Bytes(0));
  EXPECT_EQ(step->program.hbm_bytes(), states * (2 * step->program.replicas.count));
  for (const program::MemoryEntry& entry : step->program.memory) {
    const bool is_state = entry.tensor.starts_with("s.");
    EXPECT_TRUE(!is_state || entry.last.index - entry.first.index < 8) << entry.tensor;
  }
}

INSTANTIATE_TEST_SUITE_P(Steps, Delivered, ::testing::ValuesIn(kSteps), [](const auto& param) {
  const std::string path = param.param;
  const auto begin = path.rfind('/') + 1;
  return path.substr(begin, path.find('.') - begin);
});

// --- that it can fail ---
class DeliveryItself : public ::testing::Test {
 protected:
  DeliveryItself()
      : step(*placed("golden/run/small_step.graph", "cfloat8",
                     with_facts("d1", {{"mesh.die.dead", "1,2"}, {"mesh.die.size", "4x5"}}))) {}

  std::vector<std::string> breaches() const { return step.breaches(1000); }
  program::Transfer* transfer(program::Phase& phase) const {
    return std::get_if<program::Transfer>(&phase.body);
  }

  Placed step;
};

TEST_F(DeliveryItself, FindsNothingWhereNothingIsWrong) { EXPECT_EQ(breaches().size(), 0u); }

// But two: products that read two views of one tensor, where what is fetched for either is there
// for both.
TEST_F(DeliveryItself, MissesEveryTransferThatIsTakenAway) {
  int transfers = 0;
  int found = 0;
  const Program whole = step.program;
  for (std::size_t i = 0; i < whole.phases.size(); ++i) {
    step.program = whole;
    program::Transfer* const taken = transfer(step.program.phases[i]);
    if (taken != nullptr) {
      ++transfers;
      taken->moves.clear();
      found += breaches().empty() ? 0 : 1;
    }
  }
  EXPECT_GT(transfers, 20);
  EXPECT_EQ(found, transfers - 2);
}

TEST_F(DeliveryItself, SeesALineThatIsTooShort) {
  int shortened = 0;
  int found = 0;
  const Program whole = step.program;
  for (std::size_t i = 0; i < whole.phases.size(); ++i) {
    step.program = whole;
    program::Transfer* const cut = transfer(step.program.phases[i]);
    if (cut == nullptr || cut->moves.front().region.columns() < 2 ||
        cut->moves.front().pattern.axis != machine::Axis::Rows) {
      continue;
    }
    ++shortened;
    cut->moves.front().region.nodes_of_die.columns = 1;
    found += breaches().empty() ? 0 : 1;
  }
  EXPECT_GT(shortened, 5);
  EXPECT_EQ(found, shortened - 1);  // the same one
}

// But look-ups, whose size depends on data, and where a line's last nodes hold less than a share.
TEST_F(DeliveryItself, SeesAMessageThatIsTooSmall) {
  int transfers = 0;
  int halved = 0;
  int found = 0;
  const Program whole = step.program;
  for (std::size_t i = 0; i < whole.phases.size(); ++i) {
    step.program = whole;
    program::Transfer* const cut = transfer(step.program.phases[i]);
    if (cut == nullptr || ++transfers % 3 != 0) {
      continue;
    }
    for (program::Move& move : cut->moves) {
      const auto half = [](Bytes& bytes) { bytes = Bytes(bytes.count() / 2); };
      half(move.pattern.bytes);
      half(move.pattern.halo.north);
      half(move.pattern.halo.east);
      half(move.pattern.halo.south);
      half(move.pattern.halo.west);
    }
    ++halved;
    found += breaches().empty() ? 0 : 1;
  }
  EXPECT_GT(halved, 15);
  EXPECT_GT(found, halved * 9 / 10) << found << " of " << halved;
}

// Sums over two cut loops are added along the inner one first.
TEST_F(DeliveryItself, SeesSumsInAnotherOrder) {
  int swapped = 0;
  const Program whole = step.program;
  for (std::size_t i = 0; i < whole.phases.size(); ++i) {
    step.program = whole;
    program::Transfer* const sums = transfer(step.program.phases[i]);
    const auto adds = [](const program::Move& move) {
      return move.pattern.order == machine::Association::Chain &&
             move.pattern.axis != machine::Axis::Both;
    };
    if (sums == nullptr || sums->moves.size() != 2 || !adds(sums->moves[0]) ||
        !adds(sums->moves[1]) || sums->moves[0].tensor != sums->moves[1].tensor) {
      continue;
    }
    std::swap(sums->moves[0].pattern, sums->moves[1].pattern);
    std::swap(sums->moves[0].region, sums->moves[1].region);
    ++swapped;
    const std::vector<std::string> found = breaches();
    EXPECT_TRUE(std::any_of(found.begin(), found.end(),
                            [](const std::string& breach) {
                              return breach.find("in another order than its cuts say") !=
                                     std::string::npos;
                            }))
        << "phase " << i;
  }
  EXPECT_GT(swapped, 0);
}

// Replicas of a die in several rows, whose sums are nested: in runs of a row.
Placed in_rows_of_replicas(const char* dies, const char* recipe, bool has_groups = false) {
  const machine::MachineModel machine = with_facts(
      "training-tile", {{"mesh.die.dead", "0,1"}, {"mesh.die.size", "2x3"}, {"tile.dies", dies}});
  const Placed as_rules_say = *placed("golden/place/many_samples.graph", recipe, machine);
  const Choice choice{.dies = {1, 1}, .block = 2, .has_groups = has_groups};
  PlacedStep step = *place_as(as_rules_say.graph, machine, choice);
  const internal::Mesh mesh = internal::mesh_of(choice.dies, choice.block, machine, 24);
  Plan plan =
      *internal::plan_on(step.graph, machine, has_groups ? internal::with_groups(mesh) : mesh);
  return {std::move(step.graph), std::move(plan), std::move(step.program), machine};
}

std::vector<program::Move*> nested_sums(Program& program) {
  std::vector<program::Move*> found;
  for (program::Phase& phase : program.phases) {
    auto* const transfer = std::get_if<program::Transfer>(&phase.body);
    for (std::size_t i = 0; transfer != nullptr && i < transfer->moves.size(); ++i) {
      if (transfer->moves[i].pattern.order == machine::Association::Nested) {
        found.push_back(&transfer->moves[i]);
      }
    }
  }
  return found;
}

TEST(DeliveredOverRows, SumsAreAddedInRunsAsTheGraphSays) {
  int through = 0;  // lines of nodes, continued through all replicas
  for (const char* dies : {"4x3", "3x5"}) {
    for (const bool has_groups : {false, true}) {
      Placed step = in_rows_of_replicas(dies, has_groups ? "fp32" : "cfloat8", has_groups);
      for (const program::Move* const sum : nested_sums(step.program)) {
        through += sum->scope == program::Scope::Through ? 1 : 0;
      }
      EXPECT_GT(nested_sums(step.program).size(), 5u) << dies;
      Delivery delivery(step.graph, step.plan, step.program, step.machine);
      for (const std::string& breach : delivery.run(3)) {
        ADD_FAILURE() << dies << ", groups " << has_groups << ": " << breach;
      }
    }
  }
  EXPECT_GT(through, 0);
}

bool is_of_order(const std::string& breach) {
  return breach.find("in another order than its cuts say") != std::string::npos;
}

TEST(DeliveredOverRows, SeesASumThatIsOneChain) {
  Placed step = in_rows_of_replicas("4x3", "cfloat8");
  for (program::Move* const move : nested_sums(step.program)) {
    move->pattern.order = machine::Association::Chain;
    const auto breaches = step.breaches(1);
    EXPECT_TRUE(std::any_of(breaches.begin(), breaches.end(), is_of_order)) << move->tensor;
    move->pattern.order = machine::Association::Nested;
  }
}

// Each cut with runs in turn one part longer or one part shorter.
TEST(DeliveredOverRows, SeesRunsOfAnotherLength) {
  const Placed step = in_rows_of_replicas("4x3", "cfloat8");
  int changed = 0;
  graph::Graph other = step.graph;
  for (graph::Op& op : other.ops) {
    for (graph::ReduceCut& cut : op.k_parts) {
      if (cut.run.has_value()) {
        const std::int64_t by = changed % 2 == 0 ? 1 : -1;
        *cut.run += by;
        const auto breaches = Delivery(other, step.plan, step.program, step.machine).run(1);
        EXPECT_TRUE(std::any_of(breaches.begin(), breaches.end(), is_of_order)) << op.info->name;
        *cut.run -= by;
        ++changed;
      }
    }
  }
  EXPECT_GT(changed, 5);
}

// The same replicas in rows of another length.
TEST(DeliveredOverRows, SeesReplicasThatStandOtherwise) {
  const Placed step = in_rows_of_replicas("4x3", "cfloat8");
  const machine::MachineModel other = in_rows_of_replicas("3x4", "cfloat8").machine;
  const auto breaches = Delivery(step.graph, step.plan, step.program, other).run(1);
  EXPECT_TRUE(std::any_of(breaches.begin(), breaches.end(), is_of_order));
}

TEST_F(DeliveryItself, SeesAReaderThatDoesNotWait) {
  int found = 0;
  const Program whole = step.program;
  int tried = 0;
  for (std::size_t i = 0; i < whole.phases.size(); i += 3) {
    step.program = whole;
    step.program.phases[i].after.clear();
    ++tried;
    found += breaches().empty() ? 0 : 1;
  }
  // Those that wait for nothing but memory, or for nothing, are not missed.
  EXPECT_GT(found, tried / 2);
}

}  // namespace
}  // namespace dojo::place
