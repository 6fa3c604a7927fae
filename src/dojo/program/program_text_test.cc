#include "dojo/program/program_text.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"

namespace dojo::program {
namespace {

constexpr const char* kText = R"(program "steer \"1\"" {
  graph "ab12" recipe "cfloat8"
  machine "training-tile" "cd34"
  replicas 16 of 25 dies 1x1 batch 32 block 2
  reserved 64000
  phase 0 @die[0..0,0..0].logical[18x19] ingest [%x] bytes 1843200 each 115200 reads [] writes [%x] after []
  phase 1 @die[0..0,0..0].logical[18x19] transfer panels 2 moves [%w inside reach 1 @die[0..0,0..0].logical[18x19] all_gather both bytes=1800, %w across reach 1 @die[0..0,0..0].logical[18x19] all_reduce both order=chain bytes=64] reads [%w] writes [] after [0]
  phase 2 @die[0..0,0..0].logical[14x19] compute "aten.convolution+aten.relu" module "trunk.0" fwd ops [3, 4] split {n[128]: replica 16x8, y[28]: node.y 14x2, x[38]: node.x 19x2} matrix [32x24x75 batch 1 panel 75 bytes 1x1] vector 768 special 0 loaded 96 stored 768 rounded 768 macs 57600 of 245145600 points 2400 of 128 pipelined [1] reads [%x, %w] writes [%y] after [1]
  phase 3 @die[0..0,0..0].logical[18x19] transfer panels 1 fallback moves [%y inside reach 2 @die[0..0,0..0].logical[18x19] halo north=5 east=0 south=5 west=0] reads [%y] writes [] after [1, 2]
  phase 4 @die[0..0,0..0].logical[18x19] compute "aten.sort" module "" bwd ops [5] split {} matrix [16x16x16 batch 2 panel 16 bytes 4x4 vector] vector 0 special 3 loaded 0 stored 0 rounded 0 macs 0 of 0 points 1 of 1 whole recomputed reads [] writes [] after [3]
  memory "w:gathered" at 0 bytes 1800 phases 1..2
  memory "y" at 1856 bytes 768 phases 2..4
  remedy "recompute" "y" freed 100
}
)";

TEST(ProgramText, PrintsWhatItParsed) {
  const Result<Program> program = parse_program(kText, "a.program");
  ASSERT_TRUE(program.has_value()) << program.error().to_string();
  EXPECT_EQ(print_program(*program), kText);
  const Result<Program> again = parse_program(print_program(*program));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(*again, *program);
}

TEST(ProgramText, KeepsEveryField) {
  const Program program = *parse_program(kText);
  EXPECT_EQ(program.name, "steer \"1\"");
  EXPECT_EQ(program.recipe, "cfloat8");
  EXPECT_EQ(program.flops(), Flops(2 * 245145600));
  EXPECT_EQ(program.replicas.count, 16);
  const auto& compute = std::get<Compute>(program.phases[2].body);
  EXPECT_EQ(compute.pipelined, (std::vector<PhaseId>{{1}}));
  EXPECT_EQ(compute.split.parts(Axis::NodeX), 19);
  EXPECT_TRUE(std::get<Compute>(program.phases[4].body).work.is_whole);
  EXPECT_EQ(std::get<Transfer>(program.phases[1].body).moves[1].scope, Scope::Across);
  EXPECT_EQ(program.fallbacks(), 1);
  EXPECT_EQ(program.sram_peak(), Bytes(64000 + 1856 + 768));
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const auto at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

struct BadText {
  const char* what;
  const char* with;
  const char* message;
};

TEST(ProgramText, NamesThePlaceOfEveryError) {
  const std::vector<BadText> cases{
      {"program \"steer", "graph \"steer", "a.program:1:1: expected \"program\""},
      {"replicas 16 of", "replicas -16 of", "a.program:4:12: expected a whole number"},
      {"node.y 14x2", "node.z 14x2", "unknown axis \"node.z\""},
      {"node.y 14x2", "node.y 0x2", "expected a number above zero"},
      {"all_gather both", "all_gathr both", "a.program:7:"},
      {"@die[0..0,0..0].logical[14x19]", "@die[0..0,0..0]", "region"},
      {"inside reach", "outside reach", "unknown scope \"outside\""},
      {"phase 4", "phase 7", "phase 7 stands where phase 4 is expected"},
      {"fwd ops", "sideways ops", "a.program:8:"},
      {"freed 100\n}", "freed 100\n", "expected phase, memory, remedy or }, found the end"},
      {"freed 100\n}", "freed 100\n} x", "expected the end of the text"},
      {"\"cfloat8\"", "\"cfloat8", "expected \"\\\"\""},
  };
  for (const BadText& each : cases) {
    const Result<Program> program =
        parse_program(replaced(kText, each.what, each.with), "a.program");
    ASSERT_FALSE(program.has_value()) << each.with;
    EXPECT_NE(program.error().to_string().find(each.message), std::string::npos)
        << program.error().to_string();
    EXPECT_NE(program.error().to_string().find("a.program:"), std::string::npos);
  }
}

// The same, with phases 2 and 3 run for each of two micro-batches.
std::string in_micro_batches() {
  std::string text =
      replaced(kText, "  reserved 64000\n", "  reserved 64000\n  micro_batches 2 phases 2..3\n");
  text = replaced(text, "bytes 1800 phases 1..2", "bytes 1800 phases 1..3");
  text = replaced(text, "n[128]: replica 16x8,", "n[128]: replica 16x8 micro 2x4,");
  return replaced(text, "pipelined [1] reads [%x, %w] writes [%y] after [1]",
                  "pipelined [1] reads [%x, %w] writes [%y] after [1] previous [3]");
}

TEST(ProgramText, KeepsMicroBatches) {
  const std::string text = in_micro_batches();
  const Result<Program> program = parse_program(text);
  ASSERT_TRUE(program.has_value()) << program.error().to_string();
  EXPECT_EQ(print_program(*program), text);
  EXPECT_EQ(program->micro, (MicroBatches{.count = 2, .first = {2}, .end = {4}}));
  EXPECT_EQ(program->phases[2].previous, (std::vector<PhaseId>{{3}}));
  EXPECT_EQ(program->runs(1), 1);
  EXPECT_EQ(program->runs(2), 2);
  EXPECT_EQ(parse_program(kText)->micro.count, 1);
}

TEST(ProgramText, NamesThePlaceOfErrorsInMicroBatches) {
  const std::vector<BadText> cases{
      {"micro_batches 2", "micro_batches 1", "a.program:6:18: one micro-batch is none"},
      {"micro_batches 2", "micro_batches 0", "a.program:6:16: expected a number above zero"},
      {"micro_batches 2", "micro_batches many", "a.program:6:17: expected a whole number"},
      {"phases 2..3\n", "2..3\n", "a.program:6:19: expected \"phases\""},
      {"phases 2..3\n", "phases 2-3\n", "a.program:6:"},
      {"previous [3]", "previous [x]", "a.program:9:"},
  };
  for (const BadText& each : cases) {
    const Result<Program> program =
        parse_program(replaced(in_micro_batches(), each.what, each.with), "a.program");
    ASSERT_FALSE(program.has_value()) << each.with;
    EXPECT_NE(program.error().to_string().find(each.message), std::string::npos)
        << program.error().to_string();
  }
}

TEST(ProgramText, RefusesTextsBeyondTheLimit) {
  EXPECT_FALSE(parse_program(std::string(ProgramLimits::kBytes + 1, ' ')).has_value());
}

TEST(ProgramText, SurvivesTruncationAnywhere) {
  const std::string text = kText;
  for (std::size_t size = 0; size + 2 < text.size(); ++size) {
    EXPECT_FALSE(parse_program(text.substr(0, size)).has_value()) << size;
  }
}

Result<void> verify(const std::string& text) {
  const Result<Program> program = parse_program(text);
  if (!program) {
    return program.error();
  }
  return verify_program(*program, *machine::load_machine("training-tile"));
}

TEST(ReplicasInRun, AreThoseOfARowWhereThereAreSeveralRows) {
  const machine::MachineModel tile = *machine::load_machine("training-tile");
  const auto run = [&](machine::Shape dies, std::int64_t count) {
    return replicas_in_run(
        {.count = count, .available = 25, .dies = dies, .batch = count, .block = 1}, tile);
  };
  EXPECT_EQ(run({1, 1}, 5), std::nullopt);
  EXPECT_EQ(run({1, 1}, 6), std::nullopt);  // p0 + .. + p4, then p5: the chain
  EXPECT_EQ(run({1, 1}, 7), 5);
  EXPECT_EQ(run({1, 1}, 25), 5);
  EXPECT_EQ(run({1, 2}, 4), 2);
  EXPECT_EQ(run({1, 5}, 5), std::nullopt);  // rows of one
}

TEST(VerifyProgram, LetsSumsOverSeveralRowsOfReplicasBeNested) {
  const std::string nested = replaced(kText, "order=chain", "order=nested");
  EXPECT_TRUE(verify(nested).has_value());
  const Result<void> of_one_row = verify(replaced(nested, "replicas 16 of", "replicas 5 of"));
  ASSERT_FALSE(of_one_row.has_value());
  EXPECT_NE(of_one_row.error().message.find(
                "phase 1: its sum is nested, but all 5 replicas stand in one row"),
            std::string::npos);
}

TEST(VerifyProgram, AcceptsAWholeOne) {
  const Result<void> verified = verify(kText);
  EXPECT_TRUE(verified.has_value()) << verified.error().to_string();
}

TEST(VerifyProgram, NamesWhatDoesNotHold) {
  const std::vector<BadText> cases{
      {"after [1, 2]", "after [3]", "phase 3: it waits for phase 3"},
      {"pipelined [1]", "pipelined [0]", "pipelined on phase 0, which is no transfer"},
      {"node.y 14x2", "node.y 13x2", "13 parts of 2 do not cover 28 points"},
      {"x[38]: node.x 19x2", "x[38]: node.y 19x2", "axis node.y serves two loops"},
      {"@die[0..0,0..0].logical[14x19]", "@die[0..0,0..0].logical[20x19]", "phase 2"},
      {"@die[0..0,0..0].logical[14x19]", "@die[1..1,0..0].logical[14x19]",
       "leaves the first replica"},
      {"at 1856", "at 1792", "\"y\" and \"w:gathered\" hold the same bytes"},
      {"at 1856", "at 1300000", "a node of machine training-tile has 1250000"},
      {"phases 2..4", "phases 2..9", "are impossible"},
      {"reads [%w] writes [] after [0]", "reads [%w, %y] writes [] after [0]",
       "phase 1: it reads %y, which phase 2 is the first to write"},
      {"replicas 16 of 25", "replicas 26 of 26", "do not stand on machine"},
  };
  for (const BadText& each : cases) {
    const Result<void> verified = verify(replaced(kText, each.what, each.with));
    ASSERT_FALSE(verified.has_value()) << each.with;
    EXPECT_NE(verified.error().message.find(each.message), std::string::npos)
        << verified.error().message;
  }
}

TEST(VerifyProgram, NamesWhatDoesNotHoldOfMicroBatches) {
  EXPECT_TRUE(verify(in_micro_batches()).has_value());
  const std::vector<BadText> cases{
      {"phases 2..3\n", "phases 3..2\n", "2 micro-batches of phases 3..2, but it has phases 0..4"},
      {"phases 2..3\n", "phases 2..7\n", "2 micro-batches of phases 2..7, but it has phases 0..4"},
      {"previous [3]", "previous [4]",
       "phase 2: it waits for phase 4 of the micro-batch before, but not both run for each"},
      {"micro 2x4", "micro 4x2", "phase 2: its loops have 4 parts in time, but there are 2"},
      {"bytes 1800 phases 1..3", "bytes 1800 phases 1..2",
       "\"w:gathered\" is given up in phase 2, but the next micro-batch needs it again"},
  };
  for (const BadText& each : cases) {
    const Result<void> verified = verify(replaced(in_micro_batches(), each.what, each.with));
    ASSERT_FALSE(verified.has_value()) << each.with;
    EXPECT_NE(verified.error().message.find(each.message), std::string::npos)
        << verified.error().message;
  }
}

TEST(WriteOut, RepeatsPhasesAndWhatTheyWaitFor) {
  const Program program = *parse_program(in_micro_batches());
  const WrittenOut out = write_out(program, 2);
  EXPECT_EQ(out.of, (std::vector<PhaseId>{{0}, {1}, {2}, {3}, {2}, {3}, {4}}));
  EXPECT_EQ(out.micro_batch, (std::vector<std::int64_t>{0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(out.program.phases[2].after, (std::vector<PhaseId>{{1}}));
  EXPECT_EQ(out.program.phases[4].after, (std::vector<PhaseId>{{1}, {3}}));
  EXPECT_EQ(out.program.phases[5].after, (std::vector<PhaseId>{{1}, {4}}));
  EXPECT_EQ(out.program.phases[6].after, (std::vector<PhaseId>{{5}}));
  EXPECT_EQ(write_out(*parse_program(kText), 5).program, *parse_program(kText));
}

TEST(LoadProgram, NamesTheLineOfWhatDoesNotHold) {
  const machine::MachineModel machine = *machine::load_machine("training-tile");
  const std::string path = ::testing::TempDir() + "/load_program_test.program";
  const auto error_of = [&](const std::string& text) {
    EXPECT_TRUE(write_file_atomically(path, text).has_value());
    const Result<Program> loaded = load_program(path, machine);
    return loaded ? std::string("none") : loaded.error().to_string().substr(path.size());
  };
  const std::string right = replaced(kText, "cd34", machine.digest);
  EXPECT_EQ(error_of(right), "none");
  EXPECT_EQ(error_of(replaced(right, "after [1, 2]", "after [3]")),
            ":9:3: program phase 3: it waits for phase 3, which is not before it");
  EXPECT_EQ(
      error_of(replaced(right, "at 1856", "at 1792")),
      ":12:3: program memory: \"y\" and \"w:gathered\" hold the same bytes in the same phases");
  EXPECT_TRUE(error_of(replaced(right, "replicas 16 of 25", "replicas 26 of 26"))
                  .starts_with(":1:1: program: 26 of 26 replicas"));
  EXPECT_TRUE(
      error_of(kText).starts_with(":3: program \"steer \\\"1\\\"\" was placed for a machine "
                                  "\"training-tile\" with other facts"));
  EXPECT_TRUE(error_of(replaced(right, "machine \"training-tile\"", "machine \"d1\""))
                  .find("was placed for machine \"d1\", not \"training-tile\"") !=
              std::string::npos);
  std::remove(path.c_str());
  EXPECT_FALSE(load_program(path, machine).has_value());
}

TEST(VerifyProgram, LetsBytesBeReusedByLaterPhases) {
  EXPECT_TRUE(verify(replaced(replaced(kText, "at 1856", "at 0"), "phases 2..4", "phases 3..4"))
                  .has_value());
}

}  // namespace
}  // namespace dojo::program
