// Pipelines in time.
#include "dojo/system/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <vector>

namespace dojo::system {
namespace {

using program::Part;
using program::Stage;

Picoseconds end_of(const std::vector<PartRun>& runs) {
  Picoseconds end{};
  for (const PartRun& run : runs) {
    end = std::max(end, run.end);
  }
  return end;
}

// Equal stages: filling and draining take as long as one micro-batch more for each stage but one.
TEST(Pipeline, OfEqualStagesTakesItsClosedForm) {
  for (const std::size_t stages : {2, 3, 8}) {
    for (const std::int64_t turns : {2, 3, 8, 20}) {
      const PartTimes times{Picoseconds(5), Picoseconds(20), Picoseconds(40), Picoseconds(7)};
      const auto runs =
          schedule(std::vector<Stage>(stages), turns, std::vector<PartTimes>(stages, times));
      EXPECT_EQ(runs.size(), stages * static_cast<std::size_t>(2 * turns + 2));
      const auto slots = turns + static_cast<std::int64_t>(stages) - 1;
      EXPECT_EQ(end_of(runs), Picoseconds(5 + 60 * slots + 7)) << stages << " " << turns;
    }
  }
}

// Every run begins when all that program.h has it wait for is over, and at once.
TEST(Pipeline, KeepsItsRulesWhateverItsStagesTake) {
  std::mt19937 random(5);
  for (int draw = 0; draw < 50; ++draw) {
    const std::size_t stages = 2 + random() % 5;
    const auto turns = static_cast<std::int64_t>(2 + random() % 9);
    std::vector<Stage> shape(stages);
    shape.front().after = {static_cast<std::int64_t>(stages) - 1};
    std::vector<PartTimes> times(stages);
    for (PartTimes& each : times) {
      for (Picoseconds& time : each) {
        time = Picoseconds(static_cast<std::int64_t>(random() % 50));
      }
    }
    std::map<std::tuple<std::size_t, Part, std::int64_t>, PartRun> of;
    std::map<std::size_t, Picoseconds> last;  // by stage, as its runs come
    const auto runs = schedule(shape, turns, times);
    std::map<std::size_t, std::vector<PartRun>> by_stage;
    Picoseconds before{};
    for (const PartRun& run : runs) {
      of[{run.stage, run.part, run.micro_batch}] = run;
      by_stage[run.stage].push_back(run);
      before = run.part == Part::Before ? std::max(before, run.end) : before;
    }
    const auto end = [&](std::size_t stage, Part part, std::int64_t m) {
      const auto found = of.find({stage, part, m});
      EXPECT_TRUE(m < 0 || found != of.end());
      return m < 0 ? Picoseconds{} : found->second.end;
    };
    for (const auto& [stage, list] : by_stage) {
      ASSERT_EQ(list.size(), static_cast<std::size_t>(2 * turns + 2));
      Picoseconds own{};
      std::int64_t under_way = 0;
      for (const PartRun& run : list) {
        Picoseconds earliest = run.part == Part::Before ? Picoseconds{} : std::max(own, before);
        if (run.part == Part::Forward || run.part == Part::Backward) {
          const bool is_forward = run.part == Part::Forward;
          under_way += is_forward ? 1 : -1;
          EXPECT_LE(under_way,
                    std::min<std::int64_t>(turns, static_cast<std::int64_t>(stages - stage)));
          EXPECT_GE(under_way, 0);
          if (is_forward ? stage > 0 : stage + 1 < stages) {
            earliest = std::max(earliest,
                                end(is_forward ? stage - 1 : stage + 1, run.part, run.micro_batch));
          }
          if (is_forward ? stage + 1 < stages : stage > 0) {
            earliest = std::max(
                earliest, end(is_forward ? stage + 1 : stage - 1, run.part, run.micro_batch - 2));
          }
        }
        if (run.part == Part::Behind && stage == 0) {
          earliest = std::max(earliest, end(stages - 1, Part::Behind, 0));
        }
        EXPECT_EQ(run.begin, earliest);
        EXPECT_EQ(run.end, run.begin + times[stage][static_cast<std::size_t>(run.part)]);
        if (run.released_by.has_value()) {
          EXPECT_EQ(runs[*run.released_by].end, run.begin);
        }
        own = run.end;
      }
    }
  }
}

// Nothing gets later when a part gets quicker.
TEST(Pipeline, IsMonotone) {
  std::mt19937 random(9);
  for (int draw = 0; draw < 200; ++draw) {
    const std::size_t stages = 2 + random() % 4;
    std::vector<PartTimes> times(stages);
    for (PartTimes& each : times) {
      for (Picoseconds& time : each) {
        time = Picoseconds(static_cast<std::int64_t>(1 + random() % 50));
      }
    }
    std::vector<PartTimes> quicker = times;
    Picoseconds& one = quicker[random() % stages][random() % program::kPartCount];
    one =
        Picoseconds(static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(one.count())));
    const std::vector<Stage> shape(stages);
    EXPECT_LE(end_of(schedule(shape, 6, quicker)), end_of(schedule(shape, 6, times)));
  }
}

}  // namespace
}  // namespace dojo::system
