// Each diagnostic of a machine file, as its user reads it: file:line, what was found, what was
// expected.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"

namespace dojo::machine {
namespace {

// A file that changes the d1; its own text starts in line 3.
std::string derived(const std::string& text) {
  return "include = \"d1\"\n[machine]\nname = \"mine\"\ntitle = \"a test\"\n" + text;
}

std::string error_of(const std::string& toml) {
  const auto parsed = parse_description(toml, "my.toml");
  return parsed.has_value() ? "no error" : parsed.error().to_string();
}

// The error of [node] with one line put in (line 6 of the file).
std::string error_of_node(const std::string& line) {
  return error_of(derived("[node]\n" + line + "\n"));
}

std::string fact(const std::string& value) {
  return "{ value = " + value + ", status = \"published\", source = \"TEST\" }";
}

TEST(MachineFile, ChangesWhatItIncludes) {
  const auto parsed =
      parse_description(derived("[node]\nclock = " + fact("\"1.5 GHz\"") + "\n"), "my.toml");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().to_string();
  const MachineModel machine = resolve(*parsed);
  EXPECT_EQ(machine.name, "mine");
  EXPECT_EQ(machine.title, "a test");
  EXPECT_EQ(machine.clock.hertz(), 1'500'000'000);
  EXPECT_EQ(machine.link(LinkClass::DieEdge).latency, Cycles{150});
  EXPECT_EQ(machine.node.sram, Bytes{1'250'000});
}

TEST(MachineFile, ReportsTextThatIsNoToml) {
  const std::string error = error_of("[node\nclock = 1\n");
  EXPECT_TRUE(error.starts_with("my.toml:1:6: not TOML: ")) << error;
}

TEST(MachineFile, ReportsAKeyGivenTwice) {
  const std::string error =
      error_of_node("sram = " + fact("\"1 MB\"") + "\nsram = " + fact("\"2 MB\""));
  EXPECT_TRUE(error.starts_with("my.toml:7:")) << error;
}

TEST(MachineFile, ReportsAnUnknownKeyWithTheNearest) {
  EXPECT_EQ(error_of_node("sramm = " + fact("\"1 MB\"")),
            "my.toml:6: node.sramm: unknown key (nearest: node.sram, node.sfu, node.clock)");
  EXPECT_EQ(error_of(derived("[mesh]\nlink = 1\n")),
            "my.toml:6: mesh.link: unknown key (nearest: mesh.die.link, mesh.die.hop)");
}

TEST(MachineFile, ReportsAnUnknownSectionWithTheNearest) {
  EXPECT_EQ(error_of(derived("[tyle]\n")), "my.toml:5: tyle: unknown section (nearest: tile)");
  EXPECT_EQ(error_of(derived("[machine.more]\n")),
            "my.toml:5: machine.more: unknown key, [machine] has name and title");
}

TEST(MachineFile, ReportsASectionThatIsNone) {
  EXPECT_EQ(error_of("tile = 5\n" + derived("")),
            "my.toml:1: tile: found 5, expected a section [tile]");
}

TEST(MachineFile, ReportsAWrongUnit) {
  EXPECT_EQ(error_of_node("clock = " + fact("\"2 MB\"")),
            "my.toml:6: node.clock: found \"2 MB\", expected a frequency such as \"2 GHz\" (unit "
            "Hz, kHz, MHz, GHz)");
  EXPECT_EQ(error_of(derived("[mesh.die]\nlink = " + fact("\"64 GB/s\""))),
            "my.toml:6: mesh.die.link: found \"64 GB/s\", expected a rate such as \"64 B/cycle\" "
            "(unit B/cycle)");
}

TEST(MachineFile, ReportsAMissingUnit) {
  EXPECT_EQ(error_of_node("sram = " + fact("1250000")),
            "my.toml:6: node.sram: found 1250000, expected a size such as \"1.25 MB\" (unit B, KB, "
            "MB, GB, TB, kB, KiB, MiB, GiB, TiB)");
}

TEST(MachineFile, ReportsAValueThatIsNoNumber) {
  EXPECT_EQ(error_of_node("t0 = " + fact("\"a few cycles\"")),
            "my.toml:6: node.t0: found \"a few cycles\", expected a number of cycles such as \"20 "
            "cycles\" (unit cycles, cycle)");
  EXPECT_EQ(error_of_node("kappa = " + fact("\"low\"")),
            "my.toml:6: node.kappa: found \"low\", expected a number such as 0.9, without a unit");
  EXPECT_EQ(error_of_node("kappa = " + fact("nan")),
            "my.toml:6: node.kappa: found nan, expected a number such as 0.9, without a unit");
  EXPECT_EQ(error_of_node("kappa = " + fact("true")),
            "my.toml:6: node.kappa: value is true, expected a text, a number or a list of texts");
}

TEST(MachineFile, ReportsPartsOfAByteOrCycle) {
  EXPECT_EQ(error_of_node("t0 = " + fact("\"1.5 cycles\"")),
            "my.toml:6: node.t0: found \"1.5 cycles\", expected a number of cycles such as \"20 "
            "cycles\" (unit cycles, cycle), a whole number of cycles");
}

TEST(MachineFile, ReportsAListWhereOneValueIsExpected) {
  EXPECT_EQ(error_of_node("clock = " + fact("[\"2 GHz\"]")),
            "my.toml:6: node.clock: found [\"2 GHz\"], expected a frequency such as \"2 GHz\" "
            "(unit Hz, kHz, MHz, GHz)");
}

TEST(MachineFile, ReportsAFactWithoutItsParts) {
  EXPECT_EQ(error_of_node("clock = \"2 GHz\""),
            "my.toml:6: node.clock: found \"2 GHz\", expected { value = ..., status = ..., source "
            "= ... }");
  EXPECT_EQ(error_of_node("clock = { value = \"2 GHz\", status = \"published\" }"),
            "my.toml:6: node.clock: missing source, expected { value = ..., status = ..., source = "
            "... }");
  EXPECT_EQ(error_of_node("clock = { value = \"2 GHz\", status = \"published\", source = \"\" }"),
            "my.toml:6: node.clock: source is \"\", expected a text of one line: where the value "
            "is from");
  EXPECT_EQ(error_of_node("clock = { value = \"2 GHz\", stats = \"published\", source = \"T\" }"),
            "my.toml:6: node.clock: unknown part \"stats\", expected value, status, source, "
            "alternatives, range");
}

TEST(MachineFile, ReportsABadStatusWord) {
  EXPECT_EQ(error_of_node("clock = { value = \"2 GHz\", status = \"known\", source = \"TEST\" }"),
            "my.toml:6: node.clock: status is \"known\", expected \"published\", \"inferred\" or "
            "\"assumed\"");
}

TEST(MachineFile, ReportsABadRange) {
  const auto t0 = [](const std::string& range) {
    return "t0 = { value = \"4 cycles\", status = \"assumed\", source = \"T\", range = " + range +
           " }";
  };
  EXPECT_EQ(error_of_node(t0("[\"1 cycle\"]")),
            "my.toml:6: node.t0: range has 1 values, expected [low, high]");
  EXPECT_EQ(error_of_node(t0("\"1 cycle\"")),
            "my.toml:6: node.t0: range is \"1 cycle\", expected a list in [ ]");
  EXPECT_EQ(error_of_node(t0("[\"5 cycles\", \"9 cycles\"]")),
            "my.toml:6: node.t0: value 4 cycles is outside of its range 5 cycles to 9 cycles");
  EXPECT_EQ(error_of(derived("[mesh.die]\nsize = { value = \"18x20\", status = \"assumed\", source "
                             "= \"T\", range = [\"1x1\", \"2x2\"] }")),
            "my.toml:6: mesh.die.size: a range needs numbers, expected alternatives = [...] for "
            "other choices");
}

TEST(MachineFile, ReportsAnAssumedFactThatCannotBeSwept) {
  EXPECT_EQ(error_of_node("t0 = { value = \"4 cycles\", status = \"assumed\", source = \"T\" }"),
            "my.toml:6: node.t0: is assumed and affects time: expected range = [low, high]");
  EXPECT_EQ(error_of(derived("[mesh.die]\nsize = { value = \"18x20\", status = \"assumed\", source "
                             "= \"T\" }")),
            "my.toml:6: mesh.die.size: is assumed and affects time: expected alternatives = "
            "[...]");
}

TEST(MachineFile, ReportsAMissingKey) {
  EXPECT_EQ(error_of(derived("[tray]\n")),
            "my.toml:5: missing tray.tiles (tiles of a tray, rows x columns), expected tiles = { "
            "value = ..., status = ..., source = ... }");
}

TEST(MachineFile, ReportsAMissingSection) {
  EXPECT_EQ(error_of("[machine]\nname = \"a\"\ntitle = \"b\"\n"),
            "my.toml:1: missing section [node], expected it here or in a file that include names, "
            "as in include = \"d1\"");
}

TEST(MachineFile, ReportsAMissingOrOddName) {
  EXPECT_EQ(error_of("include = \"d1\"\n"),
            "my.toml:1: missing machine.name, expected a section [machine] with name and title");
  EXPECT_EQ(error_of("include = \"d1\"\n[machine]\nname = \"a b\"\ntitle = \"t\"\n"),
            "my.toml:3: machine.name: found \"a b\", expected letters, digits, - _ and . only");
  EXPECT_EQ(error_of("include = \"d1\"\n[machine]\nname = 5\ntitle = \"t\"\n"),
            "my.toml:3: machine.name: found 5, expected a text of one line");
}

TEST(MachineFile, ReportsControlCharactersInWhatIsPrinted) {
  EXPECT_EQ(error_of("include = \"d1\"\n[machine]\nname = \"a\"\ntitle = \"a\\u001b[2J\"\n"),
            "my.toml:4: machine.title: found \"a\\u001b[2J\", expected a text of one line");
}

TEST(MachineFile, ReportsZeroAndAbsurdSizes) {
  EXPECT_EQ(error_of(derived("[mesh.die]\nsize = " + fact("\"0x20\""))),
            "my.toml:6: mesh.die.size: found \"0x20\", expected between 1x1 and 1024x1024");
  EXPECT_EQ(error_of(derived("[mesh.die]\nsize = " + fact("\"18x99999\""))),
            "my.toml:6: mesh.die.size: found \"18x99999\", expected between 1x1 and 1024x1024");
  EXPECT_EQ(error_of(derived("[mesh.die]\nsize = " + fact("\"18\""))),
            "my.toml:6: mesh.die.size: found \"18\", expected rows x columns such as \"18x20\"");
  EXPECT_EQ(error_of_node("clock = " + fact("\"0 GHz\"")),
            "my.toml:6: node.clock: found \"0 GHz\", expected between 1 MHz and 100 GHz");
  EXPECT_EQ(error_of_node("sram = " + fact("\"-1 MB\"")),
            "my.toml:6: node.sram: found \"-1 MB\", expected between 1 KB and 1 TB");
}

TEST(MachineFile, ReportsMoreDiesThanItCounts) {
  const std::string error = error_of(
      "include = \"training-tile\"\n[machine]\nname = \"big\"\ntitle = \"t\"\n[tray]\ntiles = " +
      fact("\"1024x1024\""));
  EXPECT_EQ(error,
            "my.toml:6: machine: 5120x5120 dies of 18x20 sites are more than this program counts: "
            "expected at most 1000000 dies and 100000000 sites along a side");
}

TEST(MachineFile, ReportsImpossibleDeadSites) {
  const auto dead = [](const std::string& sites) {
    return error_of(derived("[mesh.die]\ndead = " + fact(sites)));
  };
  EXPECT_EQ(dead("[\"18,3\"]"),
            "my.toml:6: mesh.die.dead: site 18,3 is outside of the die, expected rows 0..17 and "
            "columns 0..19");
  EXPECT_EQ(dead("[\"2,3\", \"2,3\"]"), "my.toml:6: mesh.die.dead: site 2,3 is given twice");
  EXPECT_EQ(dead("[\"2;3\"]"),
            "my.toml:6: mesh.die.dead: found [\"2;3\"], expected sites \"row,column\" such as "
            "[\"2,3\", \"4,15\"], or [] for none");
  std::string many = "[";
  for (int i = 0; i < 38; ++i) {
    many += fmt::format("\"{},{}\", ", i / 20, i % 20);
  }
  EXPECT_EQ(dead(many + "]"),
            "my.toml:6: mesh.die.dead: 38 dead sites of 360 leave 322 nodes: expected at least "
            "323, for a logical grid of 17x19");
  EXPECT_EQ(dead("[]"), "no error");
}

TEST(MachineFile, ReportsSramThatItsReservesUseUp) {
  EXPECT_EQ(error_of_node("sram = " + fact("\"320 KB\"")),
            "my.toml:6: node.sram: 320 KB leave nothing for tensors beside node.code and "
            "node.buffers, 320 KB together");
}

TEST(MachineFile, ReportsAVectorPipeOfBrokenLanes) {
  EXPECT_EQ(error_of_node("vector = " + fact("\"66 B\"")),
            "my.toml:6: node.vector: found 66 B, expected a multiple of 4 B, the size of an FP32 "
            "lane");
}

TEST(MachineFile, ReportsALevelWithoutTheOneBelow) {
  EXPECT_EQ(error_of(derived("[tray]\ntiles = " + fact("\"2x3\""))),
            "my.toml:6: tray.tiles: a tray is made of tiles: expected a section [tile]");
}

TEST(MachineFile, ReportsProcessorsThatTheRimHasNoRoomFor) {
  EXPECT_EQ(error_of(derived("[interface]\nprocessors = " + fact("5"))),
            "my.toml:6: interface.processors: found 5, but edges \"west\" have 1 rim dies with "
            "room for 4 each");
  EXPECT_EQ(error_of(derived("[interface]\nedges = " + fact("\"left\""))),
            "my.toml:6: interface.edges: found \"left\", expected sides out of north, east, south, "
            "west, such as \"west east\"");
  EXPECT_EQ(error_of(derived("[host]\ncount = " + fact("2"))),
            "my.toml:6: host.count: found 2, expected at most one host per interface processor, "
            "1");
}

TEST(MachineFile, ReportsTwoWaysIn) {
  EXPECT_EQ(
      error_of(derived("[dram]\nsize = " + fact("\"1 GB\"") + "\nrate = " + fact("\"1 GB/s\"") +
                       "\nlatency = " + fact("\"1 us\"") + "\noverlap = " + fact("1"))),
      "my.toml:7: dram.rate: inputs come either from [dram] or through [interface] and "
      "[host]: expected one of them");
}

TEST(MachineFile, ReportsProcessorsWhereTraysJoin) {
  EXPECT_EQ(error_of("include = \"exapod\"\n[machine]\nname = \"wide\"\ntitle = \"t\"\n[pod]\n"
                     "trays = " +
                     fact("\"10x2\"")),
            "machines/system-tray.toml:13: interface.edges: the west edge of a tray joins the next "
            "tray (pod.trays is 10x2), so no interface processor can be attached there");
}

// A folder of files in memory.
Result<Description> parse_folder(const std::map<std::string, std::string>& files,
                                 const std::string& top) {
  const IncludeReader reader = [&](const std::string& path) -> Result<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) {
      return Error{ErrorKind::Io, "cannot read " + path + ": no such file"};
    }
    return found->second;
  };
  return parse_description(files.at(top), top, reader);
}

TEST(Include, IsRelativeToTheFileThatNamesIt) {
  const auto parsed =
      parse_folder({{"lab/top.toml",
                     "include = \"parts/../base.toml\"\n[machine]\n"
                     "name = \"top\"\ntitle = \"t\"\n"},
                    {"lab/base.toml", derived("[node]\nt0 = " + fact("\"9 cycles\""))}},
                   "lab/top.toml");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().to_string();
  EXPECT_EQ(parsed->name(), "top");
  EXPECT_EQ(resolve(*parsed).node.t0, Cycles{9});
}

TEST(Include, RefusesACycle) {
  const auto parsed = parse_folder(
      {{"a.toml", "include = \"b.toml\"\n"}, {"b.toml", "\ninclude = \"a.toml\"\n"}}, "a.toml");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().to_string(),
            "b.toml:2: include: comes back to the file itself: a.toml -> b.toml -> a.toml");
}

TEST(Include, RefusesDeepNesting) {
  std::map<std::string, std::string> files;
  for (int i = 0; i < 9; ++i) {
    files[fmt::format("{}.toml", i)] = fmt::format("include = \"{}.toml\"\n", i + 1);
  }
  files["9.toml"] = "";
  const auto parsed = parse_folder(files, "0.toml");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().to_string(), "7.toml:1: include: more than 8 files deep");
}

TEST(Include, ReportsAFileThatIsNotThere) {
  const auto parsed = parse_folder({{"a.toml", "include = \"gone.toml\"\n"}}, "a.toml");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().to_string(), "a.toml:1: include: cannot read gone.toml: no such file");
  EXPECT_EQ(error_of("include = \"d2\"\n"),
            "my.toml:1: include: unknown machine \"d2\" (nearest: d1)");
  EXPECT_EQ(error_of("include = 5\n"),
            "my.toml:1: include: found 5, expected a file such as \"d1.toml\" or a shipped machine "
            "such as \"d1\"");
}

TEST(Include, PlacesAnErrorInTheFileThatMakesIt) {
  const auto parsed = parse_folder(
      {{"a.toml", "\n\ninclude = \"b.toml\"\n"}, {"b.toml", "\n[node]\nclok = 1\n"}}, "a.toml");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().to_string(),
            "b.toml:3: node.clok: unknown key (nearest: node.clock, node.code, node.vector)");
}

TEST(MachineFile, RefusesAFileOfManyMegabytes) {
  const std::string error = error_of(std::string(2'000'000, '#'));
  EXPECT_EQ(error, "my.toml has 2000000 bytes, expected at most 1000000");
}

TEST(MachineFile, SurvivesDamagedFiles) {
  // Every prefix and every file with one byte changed gives a machine or an error, nothing else.
  const auto shipped = read_file(std::string(DOJO_SOURCE_DIR) + "/machines/training-tile.toml");
  ASSERT_TRUE(shipped.has_value());
  std::uint32_t state = 1;
  for (std::size_t i = 0; i < shipped->size(); i += 3) {
    std::string text = shipped->substr(0, i);
    (void)parse_description(text, "damaged.toml").has_value();
    state = state * 1664525u + 1013904223u;
    text = *shipped;
    text[i] = static_cast<char>(state >> 24);
    const auto parsed = parse_description(text, "damaged.toml");
    if (!parsed.has_value()) {
      EXPECT_FALSE(parsed.error().message.empty());
    }
  }
}

}  // namespace
}  // namespace dojo::machine
