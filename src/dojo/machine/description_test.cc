#include "dojo/machine/description.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "dojo/base/text.h"

namespace dojo::machine {
namespace {

Description description(std::string_view name) {
  auto loaded = load_description(name);
  EXPECT_TRUE(loaded.has_value()) << loaded.error().to_string();
  return *std::move(loaded);
}

std::string document(const std::string& name) {
  auto text = read_file(std::string(DOJO_SOURCE_DIR) + "/docs/" + name);
  EXPECT_TRUE(text.has_value()) << text.error().message;
  return *text;
}

FactLine fact(const Description& machine, std::string_view path) {
  for (FactLine& line : list_facts(machine)) {
    if (line.path == path) {
      return line;
    }
  }
  ADD_FAILURE() << "no fact " << path;
  return {};
}

TEST(Shipped, MachinesAreThoseOfTheFolder) {
  EXPECT_EQ(shipped_machines(),
            (std::vector<std::string>{"d1", "exapod", "system-tray", "tenstorrent-n150",
                                      "tenstorrent-p150", "training-tile"}));
  for (const std::string& name : shipped_machines()) {
    EXPECT_EQ(description(name).name(), name);
    EXPECT_FALSE(description(name).title().empty());
    EXPECT_TRUE(cautions(resolve(description(name))).empty());
  }
}

TEST(Shipped, TheSameMachineLoadsFromItsFile) {
  for (const std::string& name : shipped_machines()) {
    const auto file = load_machine(std::string(DOJO_SOURCE_DIR) + "/machines/" + name + ".toml");
    ASSERT_TRUE(file.has_value()) << file.error().to_string();
    EXPECT_EQ(file->digest, load_machine(name)->digest);
  }
}

TEST(Shipped, EachNumberStandsInOneFileAlone) {
  // A machine says only what differs from the one it includes.
  for (const auto& [name, inner] :
       {std::pair("training-tile", "d1"), std::pair("system-tray", "training-tile"),
        std::pair("exapod", "system-tray"), std::pair("tenstorrent-p150", "tenstorrent-n150")}) {
    const Description outer = description(name);
    for (const FactLine& line : list_facts(description(inner))) {
      const FactLine again = fact(outer, line.path);
      EXPECT_TRUE(again.source == line.source || again.value != line.value ||
                  again.path == "host.count")
          << name << " repeats " << line.path;
    }
  }
}

TEST(Load, NamesTheNearestOfAnUnknownMachine) {
  const auto loaded = load_machine("traning-tile");
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().kind, ErrorKind::NotFound);
  EXPECT_EQ(loaded.error().to_string(),
            "unknown machine \"traning-tile\" (nearest: training-tile); a file needs a '/' or "
            "\".toml\" in its path");
}

TEST(Load, ReportsAFileThatIsNotThere) {
  const auto loaded = load_machine("gone.toml");
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().to_string(), "cannot read gone.toml: No such file or directory");
}

TEST(Load, FollowsIncludesOnDisk) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "dojo_machine_include";
  fs::create_directories(folder / "parts");
  std::ofstream(folder / "parts" / "base.toml")
      << "include = \"d1\"\n[machine]\nname = \"base\"\ntitle = \"t\"\n"
         "[node]\nclock = { value = \"3 GHz\", status = \"inferred\", source = \"test\" }\n";
  std::ofstream(folder / "top.toml")
      << "include = \"parts/base.toml\"\n[machine]\nname = \"top\"\ntitle = \"t\"\n";
  const auto loaded = load_machine((folder / "top.toml").string());
  fs::remove_all(folder);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().to_string();
  EXPECT_EQ(loaded->clock.hertz(), 3'000'000'000);
}

TEST(Facts, SayWhatTheyAreAndWhereFrom) {
  const FactLine link = fact(description("d1"), "mesh.die.link");
  EXPECT_EQ(link.value, "64 B/cycle");
  EXPECT_EQ(link.provenance, Provenance::Published);
  EXPECT_TRUE(link.source.starts_with("NOTES"));
  EXPECT_EQ(link.alternatives, std::vector<std::string>{"256 B/cycle"});
  EXPECT_FALSE(link.meaning.empty());
  const FactLine alpha = fact(description("d1"), "mesh.die.alpha");
  ASSERT_TRUE(alpha.range.has_value());
  EXPECT_EQ(alpha.range->low, "4 cycles");
  EXPECT_EQ(alpha.range->high, "200 cycles");
}

TEST(Facts, EveryAssumedOneThatAffectsTimeCanBeSwept) {
  for (const std::string& name : shipped_machines()) {
    for (const FactLine& line : assumed_facts(description(name))) {
      EXPECT_EQ(line.provenance, Provenance::Assumed);
      if (line.affects == Affects::Time) {
        EXPECT_TRUE(line.range.has_value() || !line.alternatives.empty()) << line.path;
      }
    }
  }
}

TEST(Facts, EveryAlternativeAndEndOfARangeMakesAMachine) {
  for (const std::string& name : shipped_machines()) {
    const Description machine = description(name);
    for (const FactLine& line : list_facts(machine)) {
      std::vector<std::string> choices = line.alternatives;
      if (line.range.has_value()) {
        choices.push_back(line.range->low);
        choices.push_back(line.range->high);
      }
      for (const std::string& choice : choices) {
        const auto changed = with_fact(machine, line.path, choice);
        ASSERT_TRUE(changed.has_value()) << changed.error().to_string();
        EXPECT_EQ(fact(*changed, line.path).value, choice) << line.path;
        EXPECT_TRUE(cautions(resolve(*changed)).empty()) << line.path << " = " << choice;
      }
    }
  }
}

TEST(Facts, ValuesPrintAsTheyRead) {
  for (const std::string& name : shipped_machines()) {
    const Description machine = description(name);
    for (const FactLine& line : list_facts(machine)) {
      const auto same = with_fact(machine, line.path, line.value);
      ASSERT_TRUE(same.has_value()) << same.error().to_string();
      EXPECT_EQ(fact(*same, line.path).value, line.value);
      EXPECT_EQ(resolve(*same).digest, resolve(machine).digest) << line.path;
    }
  }
}

TEST(WithFact, ChangesOneFactAndSaysSo) {
  const Description before = description("training-tile");
  const auto after = with_fact(before, "node.t0", "16");
  ASSERT_TRUE(after.has_value()) << after.error().to_string();
  EXPECT_EQ(resolve(*after).node.t0, Cycles{16});
  EXPECT_EQ(resolve(before).node.t0, Cycles{4});
  const FactLine line = fact(*after, "node.t0");
  EXPECT_EQ(line.provenance, Provenance::Assumed);
  EXPECT_EQ(line.source,
            "set by hand; was 4 cycles (assumed, not public: drain and loop of an output tile)");
}

TEST(WithFact, ABareNumberHasTheUnitTheFactHasNow) {
  const auto after = with_fact(description("d1"), "die.edge", "4");
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(fact(*after, "die.edge").value, "4 TB/s");
  EXPECT_DOUBLE_EQ(resolve(*after).link(LinkClass::DieEdge).rate.value(), 2'000);
}

TEST(WithFact, APublishedFactBecomesAssumedAndCanBeSweptBack) {
  const auto after = with_fact(description("d1"), "node.clock", "3 GHz");
  ASSERT_TRUE(after.has_value());
  const FactLine clock = fact(*after, "node.clock");
  EXPECT_EQ(clock.provenance, Provenance::Assumed);
  ASSERT_TRUE(clock.range.has_value());
  EXPECT_EQ(clock.range->low, "2 GHz");
  EXPECT_EQ(clock.range->high, "3 GHz");
  const auto turned = with_fact(description("d1"), "node.matrix", "16x16x4");
  ASSERT_TRUE(turned.has_value());
  EXPECT_EQ(fact(*turned, "node.matrix").alternatives, std::vector<std::string>{"8x8x4"});
}

TEST(WithFact, IsCheckedLikeAFile) {
  const Description machine = description("d1");
  const auto error_of = [&](std::string_view path, std::string_view value) {
    const auto changed = with_fact(machine, path, value);
    return changed.has_value() ? "no error" : changed.error().to_string();
  };
  EXPECT_EQ(error_of("node.t", "1"),
            "machine d1 has no fact \"node.t\" (nearest: node.t0, node.sfu, node.sram)");
  EXPECT_EQ(error_of("node.t0", "soon"),
            "node.t0: found \"soon\", expected a number of cycles such as \"20 cycles\" (unit "
            "cycles, cycle)");
  EXPECT_EQ(error_of("mesh.die.pace", "1.5"),
            "mesh.die.pace: found \"1.5\", expected between 0.01 and 1");
  EXPECT_EQ(error_of("mesh.die.size", "2x2"),
            "with mesh.die.size = 2x2: mesh.die.dead: site 2,3 is outside of the die, expected "
            "rows 0..1 and columns 0..1");
  EXPECT_EQ(error_of("tile.dies", "3x3"), "machine d1 has no fact \"tile.dies\"");
}

TEST(Cautions, TellOfEnergyThatContradictsTheTotals) {
  const auto hot = with_fact(description("training-tile"), "node.clock", "4 GHz");
  ASSERT_TRUE(hot.has_value());
  const MachineModel machine = resolve(*hot);
  ASSERT_EQ(cautions(machine).size(), 1u);
  EXPECT_EQ(machine.power.static_per_die, Watts{0});
  const auto efficient = with_fact(description("training-tile"), "tile.supply_efficiency", "0.5");
  ASSERT_TRUE(efficient.has_value());
  EXPECT_EQ(cautions(resolve(*efficient)).size(), 1u);
}

TEST(Documents, ListEveryKeyWithItsValueInTheSmallestMachineThatHasIt) {
  const std::string text = document("machine.md");
  std::set<std::string> paths;
  for (const char* name : {"d1", "training-tile", "system-tray", "exapod", "tenstorrent-n150"}) {
    for (const FactLine& line : list_facts(description(name))) {
      if (paths.insert(line.path).second) {
        const std::string row =
            fmt::format("| `{}` | {} | {} |", line.path, line.value, line.meaning);
        EXPECT_NE(text.find(row), std::string::npos) << row;
      }
    }
  }
  const std::string row_start = "\n| `";
  for (std::size_t at = text.find(row_start); at != std::string::npos;
       at = text.find(row_start, at + 1)) {
    const std::size_t begin = at + row_start.size();
    const std::string path = text.substr(begin, text.find('`', begin) - begin);
    const bool is_part_of_a_fact = path.find('.') == std::string::npos;
    EXPECT_TRUE(is_part_of_a_fact || paths.contains(path)) << path << " is documented but no key";
  }
}

// The keys that a source starts with: "NOTES" and "ROM" of "NOTES, ROM: as the slide has it"; none
// if it starts otherwise.
std::vector<std::string> cited_keys(std::string source) {
  source = source.substr(0, source.find(':')) + ", ";
  std::vector<std::string> keys;
  for (std::size_t at = 0; at < source.size();) {
    const std::size_t end = source.find(", ", at);
    keys.push_back(source.substr(at, end - at));
    at = end + 2;
    const bool is_key = std::all_of(keys.back().begin(), keys.back().end(), [](char c) {
      return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    });
    if (!is_key) {
      return {};
    }
  }
  return keys;
}

TEST(Documents, ListEverySourceThatAMachineCites) {
  const std::string text = document("sources.md");
  for (const std::string& name : shipped_machines()) {
    for (const FactLine& line : list_facts(description(name))) {
      const std::vector<std::string> keys = cited_keys(line.source);
      EXPECT_TRUE(!keys.empty() || line.provenance != Provenance::Published)
          << line.path << " is published where? " << line.source;
      for (const std::string& key : keys) {
        EXPECT_NE(text.find("| " + key + " |"), std::string::npos) << line.path << ": " << key;
      }
    }
  }
}

}  // namespace
}  // namespace dojo::machine
